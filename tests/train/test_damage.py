"""Damaged runs: whatever byte, type or file is wrong, each verb gives the right result or says what is wrong."""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model, load
from cnnspec.cli import main
from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.spec import loads
from cnnspec.train import Epoch
from cnnspec.train.checkpoint import BEST, LAST, read_checkpoint, write_checkpoint
from cnnspec.train.network import Network
from cnnspec.train.records import about_text, read_about
from cnnspec.train.run import ABOUT, EPOCHS, METRICS_CSV, METRICS_JSONL, SPEC, Run

TEXT = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 16}, batch_norm, relu, {type: dense, units: 10}]
data: {source: {type: synthetic, shape: [1, 8, 8], train: 96, test: 20}, validation: {fraction: 0.1}}
train:
  epochs: 6
  batch_size: 16
  optimizer: {type: adam, learning_rate: 0.01}
  schedule: {type: plateau, metric: train.loss, patience: 1, threshold: 0.9}
  ema: 0.9
  early_stopping: {metric: validation.loss, patience: 6}
"""
Captured = pytest.CaptureFixture[str]
MORE = ["--quiet", "--threads", "1", "--set", "train.epochs=8"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six epochs."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "net.yaml").write_text(TEXT)
    assert main(["train", str(folder / "net.yaml"), "--out", str(folder), "--quiet", "--threads", "1"]) == 0
    return folder / "net"


@pytest.fixture(scope="module")
def later(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights after two more epochs."""
    run = tmp_path_factory.mktemp("later") / "net"
    shutil.copytree(whole, run)
    assert main(["train", "--resume", str(run), *MORE]) == 0
    return weights(run)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "net"))


def weights(run: Path) -> dict[str, bytes]:
    found = read_checkpoint(run / LAST)
    return {name: array.tobytes() for name, array in {**found.network, **found.slots}.items()}


def timeless(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")} for row in rows
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], b"{" + lines[1][5:], *lines[2:]],
        lambda lines: [lines[0], b"\xff\xfe", *lines[2:]],
        lambda lines: [*lines[:3], b"[1, 2]", *lines[3:]],
        lambda lines: [lines[0], lines[1].replace(b'"train.loss": ', b'"train.loss": 1'), *lines[2:]],
        lambda lines: [lines[0].replace(b'"train.loss": ', b'"train.loss": 1e305, "before": '), *lines[1:]],
        lambda lines: lines[:2],
        lambda lines: [],
    ],
    ids=["cut", "bytes", "list", "figure", "huge", "fewer", "none"],
)
def test_a_damaged_log_changes_nothing_that_is_trained(
    damage: Callable[[list[bytes]], list[bytes]], run: Path, later: dict[str, bytes], capsys: Captured
) -> None:
    """A schedule that watches the loss has its history from the checkpoint, and the log is written anew."""
    log = run / METRICS_JSONL
    before = timeless(log)
    log.write_bytes(b"".join(line + b"\n" for line in damage(log.read_bytes().splitlines())))
    damaged = log.read_bytes() != b""
    assert main(["verify", str(run), "--all", "--threads", "1"]) == 4
    assert METRICS_JSONL in capsys.readouterr().err
    assert main(["train", "--resume", str(run), *MORE]) == 0
    assert not damaged or "note: " in capsys.readouterr().err
    assert weights(run) == later
    assert timeless(log)[: len(before)] == before
    assert len((run / METRICS_CSV).read_text().splitlines()) == 1 + 8
    assert main(["verify", str(run), "--all", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 8


def test_a_log_that_is_damaged_meanwhile_ends_no_training(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Run.record

    def recorded(run: Run, model: Network, epoch: Epoch) -> bool:
        best = record(run, model, epoch)
        (run.path / METRICS_JSONL).write_bytes(b"\xff\n")
        return best

    monkeypatch.setattr(Run, "record", recorded)
    (tmp_path / "net.yaml").write_text(TEXT.replace("epochs: 6", "epochs: 1"))
    assert main(["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path), "--quiet", "--threads", "1"]) == 0
    assert "note: no curves: " in capsys.readouterr().err


def test_rows_that_a_checkpoint_relies_on_are_checked(run: Path, later: dict[str, bytes], capsys: Captured) -> None:
    """What stands behind its own lines a training wrote that was killed before the next checkpoint."""
    path = run / EPOCHS
    kept = path.read_bytes()
    lines = kept.splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == timeless(run / METRICS_JSONL)
    damaged = [kept.replace(b'"epoch": 2', b'"epoch": 3'), kept[:-1], b"".join(lines[1:]), b"", None]
    for content in damaged:
        path.unlink() if content is None else path.write_bytes(content)
        for words in (["train", "--resume", str(run), *MORE], ["verify", str(run), "--threads", "1"]):
            assert main(words) == 4
            assert f"cannot read {path}: " in capsys.readouterr().err
        assert main(["eval", str(run), "--threads", "1"]) == 0
    path.write_bytes(kept + lines[0] + b'{"epoch": ')
    assert main(["verify", str(run), "--all", "--threads", "1"]) == 0
    assert main(["train", "--resume", str(run), *MORE]) == 0
    assert weights(run) == later
    assert [json.loads(line)["epoch"] for line in path.read_bytes().splitlines()] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lines_that_git_has_converted_are_told(run: Path, capsys: Captured) -> None:
    for name in (SPEC, EPOCHS):
        kept = (run / name).read_bytes()
        (run / name).write_bytes(kept.replace(b"\n", b"\r\n"))
        assert main(["verify", str(run), "--threads", "1"]) == 4
        assert "its lines end as on Windows" in capsys.readouterr().err
        (run / name).write_bytes(kept)


def test_verify_says_what_it_could_not_compare(run: Path, capsys: Captured) -> None:
    about = read_about(run / ABOUT)
    del about["trace"]["20"], about["trace"]["weights"]
    (run / ABOUT).write_text(about_text(about))
    assert main(["verify", str(run), "--threads", "1"]) == 4
    assert "of 20 steps, 19 could be compared" in capsys.readouterr().err
    assert main(["verify", str(run), "--all", "--threads", "1"]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("versions", 3),
        ("versions", {"numpy": 2}),
        ("classes", "abc"),
        ("classes", [1]),
        ("folder", ["a"]),
        ("trace", {"1": "soon"}),
        ("trace", []),
        ("seed", "x"),
        ("started", 7),
        ("parts", [{"step": "x"}]),
        ("results", {"epoch": "x"}),
        ("results", {"train.loss": 10**400}),
        ("plugins", 1.5),
        ("init", ["x"]),
    ],
)
def test_a_wrong_type_in_run_json_is_one_line(key: str, value: object, run: Path, capsys: Captured) -> None:
    about = read_about(run / ABOUT)
    about[key] = value
    (run / ABOUT).write_text(about_text(about))
    for words in (["train", "--resume", str(run), *MORE], ["verify", str(run)], ["eval", str(run)]):
        assert main(words) == 4
        error = capsys.readouterr().err
        assert f"cannot read {run / ABOUT}: {key}" in error
        assert len(error.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (ABOUT, '"seed": 0', '"seed": 1'),
        (ABOUT, '"8",', '"7",'),
        (ABOUT, '"checksum": "', '"checksum": "0'),
        (SPEC, "epochs: 6", "epochs: 7"),
        (SPEC, "momentum: 0.9", "momentum: 0.8"),
        (SPEC, "data:", "#data:"),
        (SPEC, "# the SHA-256", "# SHA-256"),
    ],
)
def test_a_run_that_was_changed_by_hand_is_told(
    name: str, before: str, after: str, run: Path, capsys: Captured
) -> None:
    text = (run / name).read_text()
    assert before in text
    (run / name).write_text(text.replace(before, after, 1))
    for words in (
        ["train", "--resume", str(run)],
        ["verify", str(run)],
        ["eval", str(run)],
        ["export", str(run), "--format", "numpy"],
    ):
        assert main(words) == 4
        error = capsys.readouterr().err
        assert f"cannot read {run / name}: its checksum is that of another content" in error
        assert len(error.splitlines()) == 2
    with pytest.raises(RunError, match="its checksum is that of another content"):
        load(run)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same spec with another seed."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "net.yaml").write_text(TEXT)
    words = ["train", str(folder / "net.yaml"), "--out", str(folder), "--quiet", "--threads", "1", "--set", "seed=1"]
    assert main(words) == 0
    return folder / "net"


@pytest.mark.parametrize(
    ("swapped", "told"),
    [
        ((METRICS_JSONL,), METRICS_JSONL),
        ((METRICS_JSONL, EPOCHS), EPOCHS),
        ((ABOUT,), LAST),
        ((ABOUT, METRICS_JSONL, EPOCHS), LAST),
    ],
)
def test_figures_of_another_run_are_shown_by_no_verb(
    swapped: tuple[str, ...], told: str, run: Path, other: Path, capsys: Captured
) -> None:
    for name in swapped:
        shutil.copy(other / name, run / name)
    for words in (
        ["runs", "compare", str(run), str(other)],
        ["report", str(run), "--threads", "1"],
        ["export", str(run), "--format", "csv", "-o", "-"],
    ):
        assert main(words) == 4
        assert str(run / told) in capsys.readouterr().err
    assert main(["runs", "list", str(run.parent), "--json"]) == 0
    assert str(run / told) in json.loads(capsys.readouterr().out)["runs"][0]["error"]


def test_an_older_checkpoint_of_the_same_run_is_told(
    run: Path, later: dict[str, bytes], tmp_path: Path, capsys: Captured
) -> None:
    """A crash leaves none: run.json is written behind the checkpoint that it names."""
    (tmp_path / "net.yaml").write_text(TEXT)
    words = ["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "cut"), "--quiet", "--threads", "1"]
    assert main([*words, "--max-steps", "18", "--no-test"]) == 0
    shutil.copy(tmp_path / "cut" / "net" / LAST, run / LAST)
    told = f"note: {run / LAST} is the checkpoint behind step 18; the training had written one behind step 36"
    capsys.readouterr()
    for verb in ("eval", "verify", "report"):
        assert main([verb, str(run), "--threads", "1"]) == 0
        assert told in capsys.readouterr().err
    with pytest.warns(UserWarning, match="is the checkpoint behind step 18"):
        load(run)
    metrics = (run / METRICS_JSONL).read_bytes()
    shutil.copy(tmp_path / "cut" / "net" / METRICS_JSONL, run / METRICS_JSONL)
    for words in (["report", str(run), "--threads", "1"], ["export", str(run), "--format", "csv", "-o", "-"]):
        assert main(words) == 4
        assert "ends at step 18; the training had written a checkpoint behind step 36" in capsys.readouterr().err
    assert main(["runs", "list", str(run.parent), "--json"]) == 0
    assert "ends at step 18" in json.loads(capsys.readouterr().out)["runs"][0]["error"]
    (run / METRICS_JSONL).write_bytes(metrics)
    assert main(["train", "--resume", str(run), *MORE]) == 0
    assert f"{told}; it goes on from the older one" in capsys.readouterr().err
    assert weights(run) == later
    assert main(["eval", str(run), "--threads", "1"]) == 0
    assert "note: " not in capsys.readouterr().err


def test_the_best_checkpoint_of_a_part_of_an_earlier_epoch_is_told(run: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "net.yaml").write_text(TEXT)
    words = ["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "cut"), "--quiet", "--threads", "1"]
    assert main([*words, "--max-steps", "8"]) == 0
    cut = tmp_path / "cut" / "net"
    assert main(["eval", str(cut), "--checkpoint", "best", "--threads", "1"]) == 0
    shutil.copy(cut / BEST, run / BEST)
    assert main(["eval", str(run), "--checkpoint", "best", "--threads", "1"]) == 4
    assert "best.npz is the checkpoint behind step 8, the best one was behind step " in capsys.readouterr().err


def test_the_best_checkpoint_of_another_training_is_told(run: Path, other: Path, capsys: Captured) -> None:
    for name in (SPEC, ABOUT, BEST):
        shutil.copy(other / name, run / name)
    assert main(["eval", str(run), "--checkpoint", "best", "--threads", "1"]) == 4
    assert "best.npz and last.npz beside it are of two trainings" in capsys.readouterr().err


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def pipe(path: Path) -> None:
    (path / ABOUT).unlink()
    os.mkfifo(path / ABOUT)


def folder(path: Path) -> None:
    (path / METRICS_JSONL).unlink()
    (path / METRICS_JSONL).mkdir()


DAMAGES: tuple[Callable[[Path], object], ...] = (
    put(METRICS_JSONL, b"\xff\n"),
    put(ABOUT, b"[" * 100_000),
    put(ABOUT, b"[1]"),
    pipe if hasattr(os, "mkfifo") else put(ABOUT, b""),
    folder,
    lambda path: (path / SPEC).unlink(),
    lambda path: (path / ABOUT).unlink(),
)


def test_one_bad_run_is_one_line_and_the_others_are_listed(run: Path, capsys: Captured) -> None:
    for number, damage in enumerate(DAMAGES, 2):
        damage(Path(shutil.copytree(run, run.with_name(f"net-{number}"))))
    assert main(["runs", "list", str(run.parent), "--json"]) == 0
    found = {Path(entry["run"]).name: entry for entry in json.loads(capsys.readouterr().out)["runs"]}
    assert {name for name, entry in found.items() if "error" not in entry} == {"net"}
    assert len(found) == 1 + len(DAMAGES)
    assert main(["runs", "list", str(run.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("net")] == ["net"]
    assert len([line for line in lines if line.startswith(str(run.parent))]) == len(DAMAGES)


def model(dtype: str = "float32") -> Model:
    spec = loads(TEXT)
    return Model(spec, build(spec), threads=1, dtype=dtype)


def test_types_and_finiteness_are_checked_on_every_load(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    model("float64").save(path)
    with pytest.raises(RunError, match="expected float32, got float64"):
        model().load(path)
    broken = model()
    broken.weights.state["batch_norm_1.running_variance"][0] = np.nan
    write_checkpoint(path, broken.weights, None, {})
    with pytest.raises(RunError, match=r"batch_norm_1\.running_variance is not finite"):
        model().load(path)


def test_arrays_that_somebody_else_wrote_are_told(run: Path, capsys: Captured) -> None:
    with np.load(run / LAST) as file:
        arrays = dict(file)
    for name, change in (
        ("network/batch_norm_1.running_variance", np.negative),
        ("network/dense_1.weight", lambda array: array.astype(np.float64)),
        ("optimizer/average", lambda array: array * np.nan),
    ):
        changed = next(key for key in arrays if key.startswith(name))
        np.savez(run / LAST, allow_pickle=False, **{**arrays, changed: change(arrays[changed])})
        for words in (["eval", str(run)], ["train", "--resume", str(run), *MORE], ["verify", str(run)]):
            assert main(words) == 4
            assert "last.npz is damaged or no checkpoint: its checksum" in capsys.readouterr().err


def test_other_versions_are_told_and_recorded_as_a_part(run: Path, capsys: Captured) -> None:
    about = read_about(run / ABOUT)
    about["versions"] |= {"instructions": "SSE OLD", "numpy": "1.0"}
    (run / ABOUT).write_text(about_text(about))
    assert main(["train", "--resume", str(run), *MORE]) == 0
    error = capsys.readouterr().err
    assert "note: instructions was SSE OLD, is " in error
    assert "from step 37 on, other bits may come out" in error
    (part,) = read_about(run / ABOUT)["parts"]
    assert part["step"] == 36
    assert part["versions"]["numpy"] == np.__version__
    assert main(["train", "--resume", str(run), *MORE[:-1], "train.epochs=9"]) == 0
    assert "other bits" not in capsys.readouterr().err
    about = read_about(run / ABOUT)
    about["trace"]["4"] = (1.5).hex()
    (run / ABOUT).write_text(about_text(about))
    assert main(["verify", str(run)]) == 4
    assert "note: from step 37 on: numpy was 1.0, is " in capsys.readouterr().err


def corrupt(run: Path, chances: random.Random, donor: Path) -> str:
    """Damage one file of a run in one of many ways; what was done.

    Times are written into files, so that their lengths differ: places are drawn as parts of the length, and a seed
    stands for the same damages each time.
    """
    name = chances.choice((SPEC, ABOUT, METRICS_JSONL, METRICS_CSV, LAST, BEST, EPOCHS, "loss.png"))
    path = run / name
    if not path.is_file():
        return f"{name} is not there"
    content = bytearray(path.read_bytes())
    way = chances.choice(("flip", "cut", "zeros", "grow", "remove", "swap", "json", "digit"))
    at = int(chances.random() * len(content))
    if way == "flip" and content:
        content[at] ^= 1 << chances.randrange(8)
    elif way == "cut":
        del content[at:]
    elif way == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif way == "grow":
        content[at:at] = chances.randbytes(chances.choice((1, 100, 5000)))
    elif way == "swap":
        content = bytearray(chances.choice((donor / name, run / LAST, run / SPEC, run / BEST)).read_bytes())
    elif way == "json" and name in (ABOUT, METRICS_JSONL, EPOCHS):
        line = chances.randrange(max(1, content.count(b"\n"))) if name != ABOUT else 0
        lines = content.decode(errors="replace").splitlines()
        found = json.loads(lines[line] if name != ABOUT else content)
        found[chances.choice([*found, "new"])] = chances.choice((None, [], {}, "x", -1, 1e400, True, [[[]]], 10**30))
        text = json.dumps(found)
        lines[line] = text
        content = bytearray(("\n".join(lines) + "\n" if name != ABOUT else text).encode())
    elif way == "digit":
        digits = [place for place, byte in enumerate(content) if 48 <= byte < 58]
        if digits:
            content[digits[int(chances.random() * len(digits))]] = 48 + chances.randrange(10)
    if way == "remove":
        path.unlink()
    else:
        path.write_bytes(content)
    return f"{way} {name} at {at}"


def corruptions(whole: Path, later: dict[str, bytes], folder: Path, count: int, seed: int, capsys: Captured) -> None:
    """After each, every verb ends as it may, and a training that goes on has the right weights or says why not."""
    chances, refused = random.Random(seed), 0
    donor = folder / "donor"
    shutil.copytree(whole, donor)
    for number in range(count):
        run = folder / f"net-{number}"
        shutil.copytree(whole, run)
        done = corrupt(run, chances, donor)
        for words in (
            ["runs", "list", str(folder)],
            ["eval", str(run), "--threads", "1"],
            ["verify", str(run), "--threads", "1"],
        ):
            capsys.readouterr()
            status = main(words)
            error = capsys.readouterr().err
            assert status in (0, 1, 4), (done, words, status, error)
            assert "Traceback" not in error
        status = main(["train", "--resume", str(run), *MORE])
        said = capsys.readouterr()
        assert status in (0, 1, 2, 4), (done, status, said)
        refused += status != 0
        if status == 0:
            assert weights(run) == later, done
        shutil.rmtree(run)
    assert 0 < refused < count


def test_corruptions_of_a_run(whole: Path, later: dict[str, bytes], tmp_path: Path, capsys: Captured) -> None:
    corruptions(whole, later, tmp_path, 12, 0, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_thousands_of_corruptions_of_a_run(
    seed: int, whole: Path, later: dict[str, bytes], tmp_path: Path, capsys: Captured
) -> None:
    corruptions(whole, later, tmp_path, 500, seed, capsys)


class Fault:
    """Fails the n-th of the calls that write, put in place or make lasting."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, at: int) -> None:
        self.calls, self.at = 0, at
        for owner, name in (
            (os, "fsync"),
            (os, "replace"),
            (os, "link"),
            (Path, "replace"),
            (Path, "open"),
            (Path, "mkdir"),
        ):
            patch.setattr(owner, name, self.faulty(getattr(owner, name), folder))

    def faulty(self, call: Callable[..., Any], folder: Path) -> Callable[..., Any]:
        def counted(*words: Any, **options: Any) -> Any:
            where = words[0] if words and isinstance(words[0], Path) else None
            reads = call.__name__ == "open" and not set("wax+") & set(
                str(options.get("mode", words[1] if len(words) > 1 else "r"))
            )
            if not reads and (where is None or where.is_relative_to(folder)):
                self.calls += 1
                if self.calls == self.at:
                    raise OSError(28, "No space left on device", str(where or folder))
            return call(*words, **options)

        return counted


@pytest.mark.slow
def test_every_write_fails_once(tmp_path: Path, capsys: Captured) -> None:
    """The run is whole or goes on to the same weights, or there is none; each fault is told."""
    path = tmp_path / "net.yaml"
    path.write_text(TEXT.replace("epochs: 6", "epochs: 1"))
    words = ["train", str(path), "--quiet", "--threads", "1", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    right, resumed = weights(tmp_path / "whole" / "net"), 0
    for at in range(1, 200):
        folder = tmp_path / f"at-{at}"
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, folder, at)
            status = main([*words, str(folder)])
        error = capsys.readouterr().err
        if fault.calls < at:
            assert status == 0
            break
        run = folder / "net"
        if status == 0:  # what failed is a picture, which is told
            assert "note: " in error
            assert weights(run) == right
            continue
        assert status == 4
        assert "No space left on device" in error
        if (run / LAST).is_file():
            resumed += 1
            assert main(["train", "--resume", str(run), "--quiet", "--threads", "1"]) == 0
            assert weights(run) == right
            assert main(["verify", str(run), "--all", "--threads", "1"]) == 0
    else:
        raise AssertionError("a training of one epoch writes fewer files")
    assert resumed > 3


@pytest.mark.slow
def test_every_mapping_fails_once(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that workers share is refused at the n-th call: the run goes on to the same weights, or there is none."""
    path, calls, fails = tmp_path / "net.yaml", 0, 0
    path.write_text(TEXT.replace("epochs: 6", "epochs: 1"))

    def refused(*words: Any) -> mmap.mmap:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return mmap.mmap(*words)

    monkeypatch.setattr("cnnspec.workers.shared_memory.mmap", refused)
    words = ["train", str(path), "--quiet", "--threads", "2", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    right, count, ended = weights(tmp_path / "whole" / "net"), calls, 0
    for at in range(1, count + 1):
        calls, fails = 0, at
        run = tmp_path / f"at-{at}" / "net"
        status = main([*words, str(run.parent)])
        error, fails = capsys.readouterr().err, 0
        ended += status == 4
        assert status == 0 or "out of memory" in error
        if (run / LAST).is_file():
            assert status == 0 or main(["train", "--resume", str(run), "--quiet", "--threads", "2"]) == 0
            assert weights(run) == right
    assert ended or not count


@pytest.mark.skipif(not Path("/proc/kmsg").is_file(), reason="there is no file that waits")
@pytest.mark.parametrize("name", [SPEC, ABOUT, EPOCHS, METRICS_JSONL, LAST])
def test_a_file_that_waits_for_content_is_not_waited_for(name: str, run: Path, capsys: Captured) -> None:
    (run / name).unlink()
    (run / name).symlink_to("/proc/kmsg")
    assert main(["verify", str(run), "--threads", "1"]) == 4
    assert name in capsys.readouterr().err
    assert main(["runs", "list", str(run.parent)]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_what_is_no_file_is_refused_before_it_is_read(run: Path, tmp_path: Path, capsys: Captured) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (str(tmp_path / "pipe.yaml"), "/dev/zero", "/dev/tty", str(tmp_path)):
        assert main(["summary", path]) == 2
        assert "cannot read" in capsys.readouterr().err
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert main(["validate", str(tmp_path / "sparse.yaml")]) == 1
    assert "expected at most" in capsys.readouterr().out
    for name in ("pipe.yaml", "sparse.yaml"):
        (tmp_path / "heir.yaml").write_text(f"extends: {name}\n")
        assert main(["validate", str(tmp_path / "heir.yaml")]) == 1
        said = capsys.readouterr().out
        assert "extends: cannot read" in said or "expected at most 524,288 bytes" in said
    for name in (ABOUT, METRICS_JSONL, LAST, SPEC, EPOCHS):
        kept = (run / name).read_bytes()
        with (run / name).open("r+b") as file:
            file.truncate(1 << 40)
        assert main(["train", "--resume", str(run), *MORE]) in ((0,) if name == METRICS_JSONL else (1, 2, 4))
        (run / name).write_bytes(kept) if name != METRICS_JSONL else None
        assert "internal error" not in capsys.readouterr().err
