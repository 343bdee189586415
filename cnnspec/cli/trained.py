"""Opens runs and weights for verbs, and checks that a run's files belong together."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnspec.api import Model, trained
from cnnspec.api import load as load_model
from cnnspec.cli.output import note as tell
from cnnspec.data import root_of
from cnnspec.files import real_path, user_path
from cnnspec.graph import build
from cnnspec.kernels.portable import obstacle, require_level
from cnnspec.plugins import check_kept
from cnnspec.spec import Spec, load, loads
from cnnspec.train.checkpoint import BEST, LAST, read_checkpoint, superseded
from cnnspec.train.origin import with_init
from cnnspec.train.records import read_about, read_spec
from cnnspec.train.run import ABOUT, EPOCHS, METRICS_CSV, METRICS_JSONL, SPEC, Run, no_run


def open_run(path: Path, checkpoint: str, threads: int | None = None) -> Model:
    """Return the trained network of a run directory, of a checkpoint in it, or of weights that contain their spec.

    RunError if there is none.
    """
    if own_spec(path) is not None:
        return _saved(path, threads)
    directory, file = (path.parent, path) if path.suffix == ".npz" else (path, path / f"{checkpoint}.npz")
    if not (directory / SPEC).is_file():
        raise no_run(directory)
    spec = load_spec(directory)
    what = obstacle() if spec.portable else None
    if what is None:
        computable(spec)
    else:
        tell(f"the run is portable, but {what}: figures may differ in their last digits")
    record = _run_record(directory)
    if older := superseded(file, record):
        tell(older)
    return trained(spec, build(spec), file, record, threads)


def files_of(run: Path) -> list[Path]:
    """Return the files that verbs read of a run, of a checkpoint in it, or of weights that contain their spec."""
    folder = run.parent if run.suffix == ".npz" else run
    names = (SPEC, ABOUT, EPOCHS, METRICS_CSV, METRICS_JSONL, BEST, LAST) if (folder / SPEC).is_file() else ()
    return [run, *(folder / name for name in names)]


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs' folders, or their paths if two folders have the same name."""
    names = [real_path(run.path).name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def own_spec(path: Path) -> str | None:
    """Return the spec in a file that `convert` or `Model.save` wrote; None for runs and their checkpoints."""
    if path.suffix != ".npz" or not path.is_file():
        return None
    said = read_checkpoint(path).progress.get("network")
    return None if said is None else str(said)


def _saved(path: Path, threads: int | None) -> Model:
    """Return the network of such a file, by the spec in it or that of the same name beside it, which may name data."""
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        return load_model(path, threads=threads)
    spec = load(beside, allow_plugins=True)
    model = Model(spec, build(spec), threads=threads)
    model.load(path)
    return model


def computable(spec: Spec) -> Spec:
    """Return the spec if this process can train it: a portable one needs the portable level.

    StartError if the process has to be restarted for that, RunError if this machine does not have the level.
    """
    if spec.portable:
        require_level()
    return spec


def load_spec(directory: Path) -> Spec:
    """Return the spec of a run, with the plugins stored in the run; RunError if a stored plugin was changed.

    A note on standard error tells of a plugin whose original has changed since.
    """
    for note in check_kept(directory, _run_record(directory)):
        tell(note)
    return loads(read_spec(directory / SPEC), str(directory / SPEC), allow_plugins=True)


def folder_of(spec: Spec, arguments: argparse.Namespace) -> Path | None:
    """Return the folder of the data's files: that of --data, or of the spec; None if the source needs none."""
    folder: Path | None = arguments.data
    if folder is None and spec.data is not None:
        folder = root_of(spec.data, spec.base)
    return folder and real_path(folder.parent) / folder.name


def with_root(spec: Spec, folder: Path | None, run: Path) -> Spec:
    """Return the spec with the paths of its data and initial weights relative to a run directory."""
    if spec.train is not None and spec.train.init is not None:
        path = spec.folder_of("train.init", "from") / user_path(spec.train.init.source)
        spec = with_init(spec, _seen_from(real_path(path.parent) / path.name, run))
    if spec.data is None:
        return spec
    return dataclasses.replace(spec, data=spec.data.but(root=folder and _seen_from(folder, run)))


def _seen_from(folder: Path, run: Path) -> str:
    try:
        return Path(os.path.relpath(folder, real_path(run))).as_posix()
    except ValueError:  # on another drive of Windows
        return str(folder)


def data_folder(path: Path) -> Path | None:
    """Return the folder of a run's data: where its relative path leads, else where the absolute one leads.

    None if the source needs none.
    """
    directory = path.parent if path.suffix == ".npz" else path
    about = _run_record(path)
    near, folder = (about.get(key) for key in ("folder_from_run", "folder"))
    if isinstance(near, str) and (real_path(directory) / near).exists():
        return real_path(directory) / near
    return Path(folder) if isinstance(folder, str) else None


def is_same(folder: Path | None, other: Path | None) -> bool:
    """Tell whether two paths lead to one folder, or there is none of either."""
    if folder is None or other is None:
        return folder is other
    return real_path(folder) == real_path(other)


def folders(folder: Path | None, run: Path) -> dict[str, str | None]:
    """Return the entries of run.json for the data's folder: its whole path, and that relative to the run directory."""
    if folder is None:
        return {"folder": None, "folder_from_run": None}
    return {"folder": str(folder), "folder_from_run": _seen_from(folder, run)}


def trained_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes that a run was trained on, from its run.json; empty if it has none."""
    return tuple(map(str, _run_record(path).get("classes", ())))


def trained_checksums(path: Path, otherwise: Mapping[str, str]) -> Mapping[str, str]:
    """Return the SHA-256 of each file that a run was trained on, from its run.json; `otherwise` if it has none."""
    checksums = _run_record(path).get("data")
    return checksums if isinstance(checksums, dict) else otherwise


def _run_record(path: Path) -> dict[str, Any]:
    """Return the content of run.json in a run directory, or beside a checkpoint; empty if there is none."""
    directory = path.parent if path.suffix == ".npz" else path
    return read_about(directory / ABOUT) if (directory / ABOUT).exists() else {}
