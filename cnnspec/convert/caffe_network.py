"""Converts a network of Caffe to a spec: `.prototxt`, with weights in `.caffemodel` beside it or in another place."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.convert.caffe_layers import NEAREST, TRANSLATORS, Use
from cnnspec.convert.caffe_schema import net_parameter
from cnnspec.convert.converted import Converted, finished, refused, whole_lengths
from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import MALFORMED, ConversionError, Refusal, Unknown, Unsaid, unknown_end
from cnnspec.convert.simplify import Lengths, Simplified
from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

UNRUN = "no program here runs Caffe's files"
MOST_TEXT = 8 << 20  # bytes of a .prototxt
MOST_WEIGHTS = 2 << 30  # bytes of a .caffemodel: protobuf's own limit
MOST_LAYERS = 20_000
DATA = {"Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData", "Python", "WindowData"}
TRAINING = {  # types of layers that only training uses
    "Accuracy",
    "ContrastiveLoss",
    "EuclideanLoss",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "Silence",
    "SoftmaxWithLoss",
}
TEST = 1  # Caffe's number of the test phase


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer at inference; a value that layers overwrite in place gets a numbered name for each time it is written."""

    message: Any
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def convert(
    path: Path, weights: Path | None = None, *, until: str | None = None, input_shape: Shape | None = None
) -> Converted:
    """Convert a .prototxt; ConversionError with everything that a spec cannot express, OSError if there is no file.

    The weights are those of the .caffemodel that is named, or has the same name in the same folder; without one, the
    spec has none. `until` is the layer, or the value, that the network ends with.
    """
    net = _parsed(path)
    beside = path.with_suffix(".caffemodel")
    weights = weights or (beside if beside.is_file() else None)
    blobs = None if weights is None else _blobs(weights)
    layers = _layers(net, path)
    entry, axes = _entry(net, layers)
    lengths = whole_lengths([None, *axes[1:]], input_shape)
    layers = [layer for layer in layers if layer.message.type not in DATA]
    left_out = sorted({layer.message.type for layer in layers if layer.message.type in TRAINING})
    layers = [layer for layer in layers if layer.message.type not in TRAINING]
    output, layers = _layers_up_to(layers, until)
    made, refusals = _translated(layers, entry, output, lengths, blobs)
    if refusals:
        raise refused(refusals)
    header = [f"Converted from {path.name} (Caffe)" + (", without weights." if weights is None else ".")]
    header += [] if weights is None else [f"Its weights are those of {weights.name}."]
    header += [f"{', '.join(left_out)} left out: training alone has them."] if left_out else []
    return finished(made, path.name, header, _unrun)


def _unrun(arrays: Sequence[Array]) -> str:
    return UNRUN


def _parsed(path: Path) -> Any:
    """Parse the text of the network; layers of unsupported types keep only their names."""
    content = read_bounded(path, MOST_TEXT)
    kind = net_parameter()
    text_format: Any = importlib.import_module("google.protobuf.text_format")
    try:
        net = text_format.Parse(content.decode("utf-8", "replace"), kind(), allow_unknown_field=True)
    except (text_format.ParseError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConversionError([f"{path} is damaged or no .prototxt: {reason}"], "name a .prototxt of Caffe") from error
    if net.layers and not net.layer:
        raise ConversionError(
            [f"{path} is of the first version of the format, with `layers` instead of `layer`"],
            "rewrite it with Caffe's upgrade_net_proto_text",
        )
    if not 0 < len(net.layer) <= MOST_LAYERS:
        raise ConversionError([f"{path} has {len(net.layer):,} layers"], "name a .prototxt with a network in it")
    return net


def _blobs(path: Path) -> dict[str, list[Array]]:
    """Return the arrays of each layer by its name, from files of either version."""
    content = read_bounded(path, MOST_WEIGHTS)
    try:
        net = net_parameter().FromString(content)
        return {
            layer.name: [_array(blob) for blob in layer.blobs] for layer in (*net.layers, *net.layer) if layer.blobs
        }
    except RunError:
        raise
    except Exception as error:  # protobuf has no common base for what it raises
        reason = " ".join(str(error).split())[:200]
        raise ConversionError([f"{path} is damaged or no .caffemodel: {reason}"], "name a .caffemodel") from error


def _array(blob: Any) -> Array:
    numbers = blob.data or blob.double_data
    lengths = list(blob.shape.dim) if blob.HasField("shape") else [blob.num, blob.channels, blob.height, blob.width]
    array = np.fromiter(numbers, np.float32, len(numbers))
    if any(length < 0 for length in lengths) or int(np.prod(np.array(lengths, object))) != len(array):
        raise ValueError(f"an array of shape {lengths} holds {len(array):,} numbers")
    return array.reshape(lengths)


def _layers(net: Any, path: Path) -> list[Layer]:
    versions: Counter[str] = Counter()
    layers = []

    def current(name: str) -> str:
        return f"{name}:{versions[name]}"

    for message in net.layer:
        phases = {rule.phase for rule in message.include if rule.HasField("phase")}
        barred = {rule.phase for rule in message.exclude if rule.HasField("phase")}
        if (phases and TEST not in phases) or TEST in barred:
            continue
        inputs = tuple(current(name) for name in message.bottom)
        for name in message.top:
            versions[name] += 1
        layers.append(Layer(message, message.name, inputs, tuple(current(name) for name in message.top)))
    return layers


def _entry(net: Any, layers: Sequence[Layer]) -> tuple[str, list[int | None]]:
    """Return the name of the input and its shape, with the number of images first."""
    if net.input:
        names = [f"{name}:0" for name in net.input]
        axes = list(net.input_shape[0].dim) if net.input_shape else list(net.input_dim)[:4]
    else:
        entries = [layer for layer in layers if layer.message.type in DATA and not layer.inputs]
        names = [layer.outputs[0] for layer in entries if layer.outputs]
        shapes = entries[0].message.input_param.shape if entries else ()
        axes = list(shapes[0].dim) if shapes else []
    if len(names) != 1:
        listed = ", ".join(name.rpartition(":")[0] for name in names) or "none"
        raise ConversionError([f"one input is read, the file has {len(names)}: {listed}"], "give it one input")
    if not axes:
        return names[0], [None, None, None, None]  # given by --input
    if len(axes) not in (2, 4) or min(axes) < 1:
        raise ConversionError([f"its input has the lengths {axes}"], "vectors (n, features) or maps (n, c, h, w)")
    return names[0], [int(axis) for axis in axes]


def _layers_up_to(layers: Sequence[Layer], until: str | None) -> tuple[str, list[Layer]]:
    """Return the value with which the network ends, and the layers up to it."""
    if until is not None:
        for place in reversed(range(len(layers))):
            layer = layers[place]
            tops = [name.rpartition(":")[0] for name in layer.outputs]
            if layer.outputs and until in (layer.name, *tops):
                return layer.outputs[tops.index(until) if until in tops else 0], list(layers[: place + 1])
        raise unknown_end(until, [layer.name for layer in layers])
    read = {name for layer in layers for name in layer.inputs}
    ends = [name for layer in layers for name in layer.outputs if name not in read]
    if len(ends) != 1:
        names = ", ".join(name.rpartition(":")[0] for name in ends) or "none"
        raise ConversionError(
            [f"a converted spec has one output, the file has {len(ends)}: {names}"], "name one: --until NAME"
        )
    return ends[0], list(layers)


def _translated(
    layers: Sequence[Layer], entry: str, output: str, lengths: Lengths, blobs: Mapping[str, Sequence[Array]] | None
) -> tuple[Network, list[Refusal]]:
    """Return the translated layers, and those that cannot be expressed in a spec."""
    origins = {layer.name: np.empty(0) for layer in layers}
    made = Network(Simplified((entry,), [], origins, {entry: lengths}, output, lengths[0], 0))
    readers = Counter(name for layer in layers for name in layer.inputs)
    refusals, unknown = list[Refusal](), set[str]()
    for layer in layers:
        kind = layer.message.type
        operator = Operator(kind, layer.name, (layer.name,), ("",))
        try:
            if unknown.intersection(layer.inputs):
                raise Unknown("it reads what is refused")
            missing = [name for name in layer.inputs if name not in made.values]
            if missing or not layer.inputs:
                raise Unsaid(f"it reads {', '.join(missing) or 'nothing'}, which no layer above it makes")
            if kind not in TRANSLATORS:
                raise Unsaid(f"no layer computes {kind}", NEAREST.get(kind, ""))
            inputs = [made.values[name] for name in layer.inputs]
            blobs_of_layer = None if blobs is None else blobs.get(layer.name, ())
            use = Use(
                made, operator, layer.message, inputs, blobs_of_layer, len(layer.outputs), readers[layer.inputs[0]] == 1
            )
            values = TRANSLATORS[kind](use)
            if len(values) != len(layer.outputs):
                raise Unsaid(f"it has {len(layer.outputs)} outputs, expected {len(values)}")
            made.values.update(zip(layer.outputs, values, strict=True))
        except Unknown:
            unknown.update(layer.outputs)
        except Unsaid as unsaid:
            refusals.append(Refusal(layer.name, kind, str(unsaid), unsaid.nearest))
            unknown.update(layer.outputs)
        except MALFORMED as error:
            reason = f"its settings or weights are not those of the layer: {' '.join(str(error).split())[:200]}"
            refusals.append(Refusal(layer.name, kind, reason, ""))
            unknown.update(layer.outputs)
    if not refusals and made.values[output].layer == "input":
        refusals.append(Refusal(output, "output", "the network has no layers", ""))
    return made, refusals
