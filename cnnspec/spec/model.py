"""The typed spec: the content of a file after expansion, with the place of every value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnspec.diagnostics import Diagnostic
from cnnspec.files import real_path
from cnnspec.period import ALWAYS, Period
from cnnspec.plugins import Plugin
from cnnspec.shapes import Shape
from cnnspec.spec.place import Place

if TYPE_CHECKING:  # lazy imports: these packages are not needed to read a spec
    from cnnspec.data.settings import DataSettings
    from cnnspec.layers.base import Layer
    from cnnspec.optim.settings import TrainSettings
    from cnnspec.spec.sweep import Sweep


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One layer; `inputs` are names of layers or `input`, None if it reads the entry above."""

    name: str
    layer: Layer
    place: Place
    inputs: tuple[str, ...] | None = None
    named: bool = False  # whether the file gave the id
    weight_decay: float | None = None
    period: Period = ALWAYS  # when it is trained
    rate_factor: float = 1.0  # factor of its learning rate
    share: str | None = None  # the layer whose parameters it uses
    as_block: bool = False  # whether a whole block is tied, of which some layers have no parameters


@dataclass(frozen=True, slots=True)
class ResidualEntry:
    """y = body(x) + shortcut(x): the identity where shapes agree; else `auto` is a 1x1 projection, `if_same` none."""

    name: str
    body: tuple[Entry, ...]
    shortcut: str
    place: Place
    inputs: tuple[str, ...] | None = None
    named: bool = False
    period: Period = ALWAYS  # when the projection is trained; the layers of the body have their own
    rate_factor: float = 1.0  # factor of the projection's learning rate
    share: str | None = None  # the residual whose projection it uses


@dataclass(frozen=True, slots=True)
class ParallelEntry:
    """Branches that read the same input and are merged by `concat`, `add`, ...; an empty branch is the identity."""

    name: str
    branches: tuple[tuple[Entry, ...], ...]
    merge: str
    place: Place
    inputs: tuple[str, ...] | None = None
    named: bool = False


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """One instance of a block: its layers in a scope of their own, its inputs and its outputs."""

    name: str
    body: tuple[Entry, ...]
    place: Place
    inputs: tuple[str, ...] | None = None
    named: bool = False
    alias: str | None = None  # its number if it is the last repetition, whose name stands for all
    ports: tuple[str, ...] = ()  # the names of its inputs inside the block, if it declares them
    outputs: tuple[tuple[str, str], ...] = ()  # name and layer of each declared output; the first is the block's value


Entry = LayerEntry | ResidualEntry | ParallelEntry | BlockEntry


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit in `expect` on one figure: an exact value or a range; sizes are in bytes."""

    exact: int | tuple[int, ...] | None = None
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """A limit in `require` on one metric, such as test.accuracy >= 0.98."""

    metric: str
    comparison: str
    bound: float


@dataclass(frozen=True, slots=True)
class Variant:
    """The spec with one of the values that its sweep tries."""

    path: str
    value: Any
    spec: Spec


def written(value: Any) -> str:
    """Write a value of a sweep in a form that a spec can have too."""
    return value if isinstance(value, str) else json.dumps(value)


def with_value(path: str, value: Any, diagnostic: Diagnostic) -> Diagnostic:
    """Return the finding of a variant, with the path and value of the sweep put before its message."""
    return replace(diagnostic, message=f"with {path}: {written(value)}: {diagnostic.message}")


@dataclass(frozen=True, slots=True)
class Spec:
    """The content of a spec file, checked and expanded."""

    name: str
    seed: int
    input: Shape  # for several inputs, the number of elements of all together
    layers: tuple[Entry, ...]
    place: Place
    sections: Mapping[str, Place] = field(default_factory=dict)  # `train`, `train.schedule`, `data`, `expect`...
    data: DataSettings | None = None
    train: TrainSettings | None = None
    expect: Mapping[str, Budget] = field(default_factory=dict)
    require: tuple[Requirement, ...] = ()
    portable: bool = False
    sweep: Sweep | None = None
    variants: tuple[Variant, ...] = ()  # one for each choice, each bound and a number between bounds of the sweep
    inputs: Mapping[str, Shape] = field(default_factory=dict)  # the shapes of several inputs by name
    path: str = ""
    plugins: tuple[Plugin, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def base(self) -> Path:
        """The folder to which the paths of the data are relative: that of the file where `data.root` was written.

        For a spec that comes from no file it is the working directory.
        """
        return self.folder_of("data", "root")

    def folder_of(self, section: str, key: str) -> Path:
        """Return the folder of the file where a section's key was written; the spec's own folder for a default."""
        place = self.sections.get(section)
        files = [self.path] if place is None else [place.of(key).file, self.path]
        file = next((path for path in map(Path, files) if path.is_file()), None)
        return Path() if file is None else real_path(file).parent
