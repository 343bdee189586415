"""How verbs open what `train` left, and how they know that it belongs together."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

from cnnspec.api import Model
from cnnspec.api import load as load_model
from cnnspec.cli.output import note as tell
from cnnspec.data import Data, root_of
from cnnspec.diagnostics import RunError
from cnnspec.files import user_path
from cnnspec.graph import Graph, build
from cnnspec.graph.render import render
from cnnspec.kernels.portable import obstacle, require_level
from cnnspec.plugins import check_kept
from cnnspec.spec import Spec, load, loads
from cnnspec.train.checkpoint import read_checkpoint
from cnnspec.train.records import read_about, read_spec
from cnnspec.train.run import ABOUT, SPEC


def open_run(path: Path, checkpoint: str, threads: int | None = None) -> Model:
    """The trained network of a run directory, of one checkpoint file in it, or of weights that say what they are of.

    RunError where there is none.
    """
    if own_spec(path) is not None:
        return _saved(path, threads)
    directory, file = (path.parent, path) if path.suffix == ".npz" else (path, path / f"{checkpoint}.npz")
    if not (directory / SPEC).is_file():
        raise RunError(f"{directory} is no run directory: it has no {SPEC}", "name a directory made by `cnnspec train`")
    spec = load_spec(directory)
    what = obstacle() if spec.portable else None
    if what is None:
        computable(spec)
    else:
        tell(f"the run is portable, but {what}: figures may differ in their last digits")
    model = Model(spec, build(spec), threads=threads)
    model.load(file)
    if model.pipeline is not None:
        model.pipeline = model.pipeline.restored(_about(directory), directory / ABOUT)
    return model


def own_spec(path: Path) -> str | None:
    """The spec in a file that `convert` or `Model.save` wrote; None for runs and their checkpoints."""
    if path.suffix != ".npz" or not path.is_file():
        return None
    said = read_checkpoint(path).progress.get("network")
    return None if said is None else str(said)


def _saved(path: Path, threads: int | None) -> Model:
    """The network of such a file: by the spec of the same name beside it, which may have data, or by that in it."""
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        return load_model(path, threads=threads)
    spec = load(beside, allow_plugins=True)
    model = Model(spec, build(spec), threads=threads)
    model.load(path)
    return model


def computable(spec: Spec) -> Spec:
    """The spec, where this process can train it: a portable one is computed at the portable level alone.

    StartError where the process has to be started anew for that, RunError where this machine has not that level.
    """
    if spec.portable:
        require_level()
    return spec


def load_spec(directory: Path) -> Spec:
    """The spec of a run, with the plugins that the run has kept; RunError where one of them was changed.

    A plugin whose original has changed since is told on standard error.
    """
    for note in check_kept(directory, _about(directory)):
        tell(note)
    return loads(read_spec(directory / SPEC), str(directory / SPEC), allow_plugins=True)


def origin(spec: Spec, graph: Graph, data: Data) -> dict[str, Any]:
    """What a run's checkpoints were made from: the SHA-256 of the resolved spec but for its epochs, and the data's."""
    text = comparable(spec, graph)
    return {"spec": hashlib.sha256(text.encode()).hexdigest(), "data": dict(data.checksums)}


def comparable(spec: Spec, graph: Graph) -> str:
    """The resolved spec, but for its epochs, with the checksums of its plugins instead of their names."""
    named = tuple(dataclasses.replace(plugin, name=plugin.sha256) for plugin in spec.plugins)
    data = spec.data and spec.data.but(root=None)  # where the data lies does not matter: its checksums say what it is
    spec = dataclasses.replace(with_epochs(spec, 1), plugins=named, data=data)
    return render(_with_origin(spec, ""), graph)  # nor does where weights to start from lie: the run has theirs


def with_epochs(spec: Spec, epochs: float) -> Spec:
    """The spec with another number of epochs, which is all that a training that goes on may change."""
    return dataclasses.replace(spec, train=spec.train.but(epochs=epochs)) if spec.train else spec


def folder_of(spec: Spec, arguments: argparse.Namespace) -> Path | None:
    """The folder with the data's files: that of --data, or of the spec; None where the source needs none."""
    folder: Path | None = arguments.data
    if folder is None and spec.data is not None:
        folder = root_of(spec.data, spec.base)
    return folder and folder.parent.resolve() / folder.name


def with_root(spec: Spec, folder: Path | None, run: Path) -> Spec:
    """The spec with its data, and the weights that it starts from, as seen from a run directory, where it will lie."""
    if spec.train is not None and spec.train.init is not None:
        path = spec.folder_of("train.init", "from") / user_path(spec.train.init.source)
        spec = _with_origin(spec, _seen_from(path.parent.resolve() / path.name, run))
    if spec.data is None:
        return spec
    return dataclasses.replace(spec, data=spec.data.but(root=folder and _seen_from(folder, run)))


def _with_origin(spec: Spec, path: str) -> Spec:
    """The spec with another path of the weights that it starts from, if it starts from some."""
    if spec.train is None or spec.train.init is None:
        return spec
    return dataclasses.replace(spec, train=spec.train.but(init=spec.train.init.but(**{"from": path})))


def _seen_from(folder: Path, run: Path) -> str:
    try:
        return Path(os.path.relpath(folder, run.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return str(folder)


def data_folder(path: Path) -> Path | None:
    """The folder with the data of a run: where it lies as seen from the run, else where it was when the run began.

    None where the source needs none.
    """
    directory = path.parent if path.suffix == ".npz" else path
    about = _about(path)
    near, folder = (about.get(key) for key in ("folder_from_run", "folder"))
    if isinstance(near, str) and (directory.resolve() / near).exists():
        return directory.resolve() / near
    return Path(folder) if isinstance(folder, str) else None


def folders(folder: Path | None, run: Path) -> dict[str, str | None]:
    """What run.json says of the folder with the data: the whole path, and that from the run directory."""
    if folder is None:
        return {"folder": None, "folder_from_run": None}
    return {"folder": str(folder), "folder_from_run": _seen_from(folder, run)}


def trained_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes that a run was trained on, as its run.json has them; none where it has not."""
    return tuple(map(str, _about(path).get("classes", ())))


def _about(path: Path) -> dict[str, Any]:
    """What run.json of a run directory, or beside a checkpoint, says; nothing where there is none."""
    directory = path.parent if path.suffix == ".npz" else path
    return read_about(directory / ABOUT) if (directory / ABOUT).exists() else {}
