"""How verbs open what `train` left."""

from __future__ import annotations

import json
from pathlib import Path

from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.spec import load
from cnnspec.train import Model
from cnnspec.train.run import ABOUT, SPEC


def open_run(path: Path, checkpoint: str, threads: int | None = None) -> Model:
    """The trained network of a run directory, or of one checkpoint file in it; RunError where there is none."""
    directory, file = (path.parent, path) if path.suffix == ".npz" else (path, path / f"{checkpoint}.npz")
    if not (directory / SPEC).is_file():
        raise RunError(f"{directory} is no run directory: it has no {SPEC}", "name a directory made by `cnnspec train`")
    spec = load(directory / SPEC)
    model = Model(spec, build(spec), threads=threads)
    model.load(file)
    return model


def trained_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes that a run was trained on, as its run.json has them; none where it has not."""
    directory = path.parent if path.suffix == ".npz" else path
    try:
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    names = about.get("classes", ()) if isinstance(about, dict) else ()
    return tuple(map(str, names))
