"""The run directory: the results of one training, and all that is needed to continue it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import numpy as np

from cnnspec.diagnostics import RunError, printable
from cnnspec.files import replacing
from cnnspec.lock import locked
from cnnspec.train.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    most_bytes,
    progress_of,
    read_checkpoint,
    restore,
    superseded,
    write_checkpoint,
)
from cnnspec.train.epochs import EpochFile
from cnnspec.train.fit import Epoch, Position
from cnnspec.train.network import Network
from cnnspec.train.norms import as_text, norms, read_norms
from cnnspec.train.origin import require_origin
from cnnspec.train.records import TIMES, about_text, read_about, read_rows, read_spec, spec_text, timeless

SPEC, METRICS_CSV, METRICS_JSONL, ABOUT, EPOCHS = (
    "spec.yaml",
    "metrics.csv",
    "metrics.jsonl",
    "run.json",
    "epochs.jsonl",
)
NORMS = "norms.csv"  # norms of each layer's weights and gradient, a line for each epoch
ORIGINS = "origins.yaml"  # the resolved spec with the place of each value


def no_run(path: Path) -> RunError:
    """Return the error of a path that is no run directory; its help names runs within it, such as a sweep's best."""
    missing = ABOUT if (path / SPEC).is_file() else SPEC
    within = []
    with suppress(OSError):
        within = sorted(folder.name for folder in path.iterdir() if (folder / SPEC).is_file())
    named = f"name a run in it: {', '.join(printable(name) for name in within[:5])}"
    cure = named if within else "name a directory made by `cnnspec train`"
    return RunError(f"{path} is no run directory: it has no {missing}", cure)


class Run:
    """A directory `runs/NAME`, or `NAME-2`, `NAME-3`... if that exists: nothing is ever overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep, self.epochs = 1, 1  # how many checkpoints stay, and epochs between two of them
        self.origin: Mapping[str, Any] = {}  # checksums of spec and data, which every checkpoint contains
        self.latest: dict[str, Any] | None = None  # the row of the last epoch
        self.notes: list[str] = []  # remarks on harmless damage that resuming has found
        self._epochs = EpochFile(path / EPOCHS)
        self._part: dict[str, Any] | None = None  # the row of an epoch that was cut short, stored in checkpoints
        self._saved: Position | None = None
        self._best: tuple[float, float, int] | None = None  # the rank of the best epoch, and the step behind it

    @classmethod
    def new(cls, parent: Path, name: str) -> Self:
        """Claim a directory that does not exist yet."""
        return cls(_claim(parent, name))

    @classmethod
    def existing(cls, path: Path) -> Self:
        """Open the directory of an earlier training; RunError if it is not a run directory."""
        if not (path / SPEC).is_file() or not (path / ABOUT).is_file():
            raise no_run(path)
        return cls(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the directory against other trainings, at most until this process ends; RunError if it is locked."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, wait=False))
            except BlockingIOError as error:
                raise RunError(f"another process is training in {self.path}", "wait for it, or stop it") from error
            yield

    def begin(self, model: Network, spec: str, about: Mapping[str, Any]) -> None:
        """Write the resolved spec, run.json with `about`, and the initial weights as checkpoint `last`."""
        self._write(SPEC, spec_text(spec))
        self.describe(about)
        self.checkpoint(model, Position())

    def remove(self) -> None:
        """Remove the directory of a training without any step done: another one begins in a new directory."""
        shutil.rmtree(self.path, ignore_errors=True)

    def resume(self, model: Network, steps: int) -> Position:
        """Restore the last checkpoint, and drop epochs that were recorded after it; return where training continues.

        An epoch that was cut short continues and is recorded again, unless the training ends there, after `steps`.

        RunError if it was written with another spec or other data.
        """
        for leftover in self.path.glob(".*.[0-9]*"):
            leftover.unlink(missing_ok=True)
        checkpoint = read_checkpoint(self.path / LAST, most_bytes(model.weights, model.training))
        require_origin(checkpoint, self.origin)
        if older := superseded(checkpoint.path, self.about()):
            self.notes.append(f"{older}; it goes on from the older one")
        restore(checkpoint, model.weights, model.training)
        try:
            position = Position(**checkpoint.progress["position"])
            best, claim, part = (checkpoint.progress[name] for name in ("best", "epochs", "part"))
            self._best = None if best is None else (best[0], best[1], best[2])
            self._part = part if position.step >= steps else None
            rows = self._with_times([*self._epochs.go_on(claim), *([self._part] if self._part else [])])
        except (IndexError, KeyError, TypeError) as error:
            raise RunError(
                f"{checkpoint.path} does not say where training stood", "start a new run, or use another checkpoint"
            ) from error
        self._saved, self.latest = position, rows[-1] if rows else None
        self._write(METRICS_JSONL, "".join(json.dumps(row) + "\n" for row in rows))
        self._write(METRICS_CSV, _table(rows))
        if (self.path / NORMS).exists():
            self._write(NORMS, as_text(read_norms(self.path / NORMS)[: len(rows)]))
        return position

    def rows(self, checkpoint: Checkpoint) -> list[dict[str, Any]]:
        """Read the rows of all epochs up to a checkpoint, without times; RunError if they are missing."""
        part = checkpoint.progress["part"]
        return [*self._epochs.rows(checkpoint.progress["epochs"]), *([part] if part else [])]

    def _with_times(self, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Complete the rows of a checkpoint by the times in the log; add a note if the log disagrees with the rows."""
        try:
            logged = {row["epoch"]: row for row in self.history()}
        except RunError as error:
            logged = {}
            self.notes.append(f"{error}; it is written anew from {EPOCHS}")
        rows, is_noted = [], False
        for row in history:
            logged_row = logged.get(row["epoch"])
            agrees = logged_row is not None and timeless(logged_row) == row
            rows.append(logged_row if agrees and logged_row is not None else {**row, **dict.fromkeys(TIMES)})
            if logged and not agrees and not is_noted:
                is_noted = True
                message = f"{METRICS_JSONL} says otherwise of epoch {row['epoch']} than {EPOCHS}"
                self.notes.append(f"{message}, and is written anew from that")
        return rows

    def keep_origins(self, origins: str) -> None:
        """Write the file that tells where each value of the resolved spec comes from."""
        self._write(ORIGINS, origins)

    def rewrite(self, spec: str) -> None:
        """Write the resolved spec of a continued training, whose number of epochs may have grown."""
        self._write(SPEC, spec_text(spec))

    def history(self) -> list[dict[str, Any]]:
        """Read the rows of metrics.jsonl; a last line that was cut off is left out, RunError for any other damage."""
        return read_rows(self.path / METRICS_JSONL)

    def checked(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Read run.json and the rows of metrics.jsonl; RunError if the last checkpoint is of another training.

        RunError too if both the rows and that checkpoint are older than the one that run.json names.
        The checkpoint is read first: a training that runs adds rows to the log before it writes the next checkpoint.
        """
        last = Checkpoint(self.path / LAST, {}, {}, progress_of(self.path / LAST))
        about = self.about()
        if last.progress and "origin" in about:
            require_origin(last, {"spec": about["origin"], "data": about.get("data", {})})
        expected = self._epochs.rows(last.progress["epochs"]) if "epochs" in last.progress else []
        rows = self.history()
        self.require_same(rows, expected)
        written = about.get("checkpoint", 0)
        if rows and last.progress and max(rows[-1]["step"], last.progress["step"]) < written:
            raise RunError(
                f"{self.path / METRICS_JSONL} ends at step {rows[-1]['step']:,}; the training had written a checkpoint "
                f"behind step {written:,}",
                "put back what the training wrote, or `cnnspec train --resume` goes on from the older one",
            )
        return about, rows

    def require_same(self, rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
        """Raise RunError if rows of metrics.jsonl do not begin with those that a checkpoint refers to."""
        for row, logged in zip_longest(expected, map(timeless, rows[: len(expected)])):
            if row != logged:
                raise RunError(
                    f"{self.path / METRICS_JSONL} says otherwise of epoch {row['epoch']} than {EPOCHS}",
                    "`cnnspec train --resume` writes it anew from that",
                )

    def about(self) -> dict[str, Any]:
        """Read run.json; RunError if it cannot be read, or was changed."""
        return read_about(self.path / ABOUT)

    def spec(self) -> str:
        """Read the resolved spec; RunError if it cannot be read, or was changed."""
        return read_spec(self.path / SPEC)

    def record(self, model: Network, epoch: Epoch) -> bool:
        """Add an epoch to the metrics and write its checkpoints; return whether it was the best so far.

        The best epoch has the highest validation accuracy (for masks, mean IoU; for values, the lowest validation
        loss), or the lowest training loss if there are no validation images.
        """
        self.latest = row = epoch.metrics()
        self._part = None if epoch.whole else timeless(row)
        try:
            if epoch.whole:
                self._epochs.add(row)
            with (self.path / METRICS_CSV).open("a", newline="", encoding="utf-8") as file:
                file.write(_table([row], heading=file.tell() == 0))
            with (self.path / METRICS_JSONL).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            with (self.path / NORMS).open("a", newline="", encoding="utf-8") as file:
                file.write(as_text([norms(model, epoch.epoch)], heading=file.tell() == 0))
        except OSError as error:
            raise RunError(f"cannot write {error.filename or self.path}: {error.strerror}") from error
        rank = _rank(epoch)
        better = self._best is None or rank > self._best[:2]
        if better:
            if epoch.whole:  # an epoch that was cut short is recorded again when training continues
                self._best = *rank, epoch.step
            self._save(self.path / BEST, model, epoch.position)
        if epoch.whole and epoch.epoch % self.epochs == 0:
            self.checkpoint(model, epoch.position)
        return better

    def finish(self, model: Network, position: Position) -> None:
        """Write the state at the end, unless the last checkpoint already holds it."""
        if self._saved != position:
            self.checkpoint(model, position)

    def checkpoint(self, model: Network, position: Position) -> None:
        """Write checkpoint `last`; the previous one becomes step-N.npz if several are kept."""
        last = self.path / LAST
        if self.keep > 1 and self._saved is not None:
            earlier = self.path / f"step-{self._saved.step:08d}.npz"
            try:
                if not earlier.exists():
                    os.link(last, earlier)  # so that there is a checkpoint at every moment
            except OSError as error:
                raise RunError(f"cannot write {earlier}: {error.strerror}") from error
        self._save(last, model, position)
        self._saved = position
        checkpoints = sorted(self.path.glob("step-*.npz"))
        for old in checkpoints[: len(checkpoints) - self.keep + 1]:
            old.unlink(missing_ok=True)

    def _save(self, path: Path, model: Network, position: Position) -> None:
        overflown = next((name for name, array in model.weights.arrays() if not np.isfinite(array).all()), None)
        if overflown is not None:
            raise RunError(
                f"training diverged: at step {position.step} {overflown} is not finite",
                f"lower the learning rate, or add warm-up; the last good checkpoint is {self.path / LAST}",
            )
        progress = {"position": asdict(position), "best": self._best, "step": position.step, **self.origin}
        progress["target"] = model.target.record()
        try:
            progress |= {"epochs": self._epochs.claim(), "part": self._part}
        except OSError as error:
            raise RunError(f"cannot write {self.path / EPOCHS}: {error.strerror}") from error
        write_checkpoint(path, model.weights, model.training, progress)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write run.json: versions, data, command, timings, results; and the step of the last checkpoint."""
        saved = {} if self._saved is None else {"checkpoint": self._saved.step}
        self._write(ABOUT, about_text({**about, **saved}))

    def _write(self, name: str, content: str) -> None:
        try:
            with replacing(self.path / name) as file:
                file.write(content.encode())
        except OSError as error:
            raise RunError(f"cannot write {self.path / name}: {error.strerror}") from error


def _table(rows: list[dict[str, Any]], *, heading: bool = True) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        if heading:
            writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _rank(epoch: Epoch) -> tuple[float, float]:
    score = epoch.validation or epoch.train
    loss = -(score.loss or 0.0)
    return (score.best or 0.0, loss) if epoch.validation else (loss, 0.0)


def _claim(parent: Path, name: str) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = parent / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path
    except OSError as error:
        raise RunError(
            f"cannot make a run directory in {parent}: {error.strerror}", "choose another with --out"
        ) from error
