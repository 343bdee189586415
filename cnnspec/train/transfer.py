"""The start of a network from trained weights: read from a run or a file, matched by names and shapes of layers."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.files import user_path
from cnnspec.graph import Node
from cnnspec.graph.identifiers import module_names
from cnnspec.kernels.step import Array
from cnnspec.listing import first_and_more
from cnnspec.optim.settings import Init
from cnnspec.plan.state.training import AVERAGE
from cnnspec.shapes import text
from cnnspec.spec.suggest import did_you_mean
from cnnspec.train.checkpoint import LAST, read_checkpoint
from cnnspec.train.fingerprint import fingerprint
from cnnspec.train.network import Network

MOST_NAMES = 8  # the most names that a message lists
PYTORCH = {  # the ends of other names in PyTorch; layers of two convolutions are a Sequential there
    "running_variance": ".running_var",
    "depthwise": ".0.weight",
    "pointwise": ".1.weight",
    "bias": ".1.bias",
    "weight": "",
}
CONVERT = "`cnnspec convert` makes a spec and an .npz file of it: write from: that .npz file"
STATE = "write its state_dict with safetensors.torch.save_file, and name that file"
OTHERS = dict.fromkeys((".onnx", ".keras", ".h5", ".weights", ".caffemodel"), CONVERT)  # cures by the end of a name
OTHERS |= dict.fromkeys((".pt", ".pth"), STATE)


@dataclass(frozen=True, slots=True)
class Transfer:
    """The result of a transfer: the layers that got trained weights, and the reasons why others start fresh.

    `taken` maps layers to their names in the source; `fresh` maps layers to the reason; `unused` are the layers of the
    source that nothing was taken from. `weights` is the fingerprint of the arrays that were taken.
    """

    source: str
    taken: Mapping[str, str]
    fresh: Mapping[str, str]
    unused: Sequence[str]
    weights: str

    def record(self) -> dict[str, Any]:
        """Return the result in a form that JSON can hold."""
        return {"from": self.source, "weights": self.weights, "taken": dict(self.taken), "fresh": dict(self.fresh)}

    def lines(self) -> list[str]:
        """Return the result as text: one line for the layers that were taken, one for each layer that was not."""
        renamed = [f"{own} from {theirs}" for own, theirs in self.taken.items() if own != theirs]
        count = len(self.taken) + len(self.fresh)
        lines = [f"init: {len(self.taken)} of {count} layers with weights from {self.source}"]
        lines[0] += f" ({first_and_more(renamed, MOST_NAMES)})" if renamed else ""
        lines += [f"init: {layer} starts fresh: {why}" for layer, why in self.fresh.items()]
        if self.unused:
            lines.append(f"init: not used from there: {first_and_more(self.unused, MOST_NAMES)}")
        return lines


def transfer(network: Network) -> Transfer | None:
    """Copy the weights that `train.init` names into a network; None if the spec has no such section.

    RunError if they cannot be read, if none of them fits, if a name leads to no layer, and, unless `missing: keep`, if
    a layer is missing in the source or has another shape there.
    """
    init = network.spec.train.init if network.spec.train is not None else None
    if init is None:
        return None
    path = network.spec.folder_of("train.init", "from") / user_path(init.source)
    there = _arrays(path, init.source)
    nodes = {node.name: node for node in network.graph.nodes if (node.params or node.state) and not node.share}
    chosen = _chosen(init, nodes)
    sources: dict[str, str] = {}
    fresh = {name: "init.layers leaves it out" for name in nodes if name not in chosen}
    values: dict[str, Array] = {}
    renamed = {name: _renamed(name, init.rename) for name in chosen}
    attributes = module_names(network.graph, *renamed.values())
    for name, theirs in renamed.items():
        found, why = _found(nodes[name], theirs, attributes[theirs], there)
        if why is None:
            sources[name] = theirs
            values |= found
        else:
            fresh[name] = why
    lost = {name: fresh[name] for name in chosen if name in fresh}
    layers = sorted({key.rpartition(".")[0] for key in there})
    if not sources:
        help = f"layers there: {first_and_more(layers, MOST_NAMES)}"
        raise RunError(f"init: nothing in {init.source} fits this network", help)
    if lost and init.missing == "error":
        shown = first_and_more([f"{name} ({why})" for name, why in lost.items()], MOST_NAMES)
        raise RunError(f"init: {shown}", "name it under rename, or let it start fresh with missing: keep")
    for key, array in network.weights.arrays():
        if key in values:
            array[...] = values[key]
    network.weights.version += 1
    unused = [name for name in layers if name not in sources.values()]
    return Transfer(init.source, sources, fresh, unused, fingerprint(values, {}))


def _chosen(init: Init, own: Mapping[str, Node]) -> list[str]:
    """The layers that `layers` names; RunError for a name there, or under `rename`, that matches none."""
    for key, patterns in (("layers", init.layers), ("rename", tuple(init.rename))):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in own):
                raise RunError(
                    f"init: {key}: no layer with weights is called '{pattern}'",
                    did_you_mean(pattern, own, "layers with weights"),
                )
    return [name for name in own if any(fnmatchcase(name, pattern) for pattern in init.layers)]


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    """The name of a layer in the source by `rename`; the letters that `*` stands for are kept."""
    for pattern, theirs in rename.items():
        match = re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), name)
        if match is not None:
            for letters in match.groups():
                theirs = theirs.replace("*", letters, 1)
            return theirs
    return name


def _found(node: Node, theirs: str, attribute: str, there: Mapping[str, Array]) -> tuple[dict[str, Array], str | None]:
    """A layer's arrays by this network's names, or the reason why they do not fit; `attribute` is its PyTorch name."""
    tensors: dict[str, Array] = {}
    shapes = {part: parameter.shape for part, parameter in node.params.items()}
    shapes |= {part: state.shape for part, state in node.state.items()}
    for part, shape in shapes.items():
        array = next((there[key] for key in _keys(theirs, attribute, part) if key in there), None)
        if array is None:
            has_layer = any(key.rpartition(".")[0] == theirs for key in there)
            return {}, f"no {part} of {theirs} there" if has_layer else f"no layer {theirs} there"
        if array.shape != shape:
            return {}, f"{part} is {text(array.shape)} there, {text(shape)} here"
        tensors[f"{node.name}.{part}"] = array
    return tensors, None


def _keys(layer: str, attribute: str, part: str) -> list[str]:
    """The possible names of an array in the source: cnnspec's and PyTorch's."""
    ends = [f".{part}", PYTORCH.get(part, f".{part}")]
    return [f"{name}{end}" for name in (layer, attribute) for end in ends]


def _arrays(path: Path, shown: str) -> dict[str, Array]:
    """Read the arrays of a run (its moving averages if it has any) or of a file, by layer and name."""
    if path.suffix == ".safetensors":
        return _tensors(path, shown)
    file = path / LAST if path.is_dir() else path
    if not file.is_file():
        raise RunError(f"init: there is no run or file of weights at {shown}", "the path is relative to the spec")
    if cure := OTHERS.get(file.suffix):
        raise RunError(f"init: {shown} is a file of another program", cure)
    checkpoint = read_checkpoint(file)
    averages = checkpoint.averages if checkpoint.progress["updates"] else {}
    return {**checkpoint.network, **{name.removeprefix(AVERAGE): array for name, array in averages.items()}}


def _tensors(path: Path, shown: str) -> dict[str, Array]:
    try:
        library: Any = importlib.import_module("safetensors")
    except ImportError as error:
        raise RunError("safetensors is not installed", "python -m pip install 'cnnspec[safetensors]'") from error
    if not path.is_file():
        raise RunError(f"init: there is no file at {shown}", "the path is relative to the spec")
    try:
        with library.safe_open(path, "np") as file:
            tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # no mapping
    except Exception as error:  # the library's exceptions have no public base class
        raise RunError(f"init: {shown} is damaged or no file of safetensors: {error}", "write it anew") from error
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RunError(f"init: {shown}: {name} is not finite", "use weights of a training that went well")
    return tensors
