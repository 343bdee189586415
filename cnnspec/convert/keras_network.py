"""Converts a model of Keras to a spec: maps (n, h, w, c) become (n, c, h, w), and weights are transposed to match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.convert.converted import Converted, finished, refused, whole_lengths
from cnnspec.convert.keras_file import KerasFile, KerasLayer, read
from cnnspec.convert.keras_layers import NEAREST, RANDOM, TRANSLATORS
from cnnspec.convert.keras_run import run_file
from cnnspec.convert.keras_use import Tensor, Use
from cnnspec.convert.network import Network
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.refusal import MALFORMED, ConversionError, Refusal, Unknown, Unsaid, unknown_end
from cnnspec.convert.simplify import Lengths, Simplified
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

OUTPUT = "output"


def convert(path: Path, *, until: str | None = None, input_shape: Shape | None = None) -> Converted:
    """Convert a .keras, .h5 or .json file; ConversionError with everything that a spec cannot express.

    `until` is the layer that the network ends with; OSError where there is no file.
    """
    file = read(path)
    output = _output(file, until)
    needed = _needed(file, output)
    entries = {layer.name for layer, _ in needed if layer.kind == "InputLayer"}
    lengths = _lengths([layer for layer in file.layers if layer.name in entries], input_shape)
    made, refusals = _translated(file, needed, lengths, output)
    if refusals:
        raise refused(refusals)
    run = _code if file.names_code else partial(run_file, path, output, tuple(lengths))
    version = f" {file.version}" if file.version else ""
    header = [f"Converted from {path.name} (Keras{version}" + ("), without weights." if file.arrays is None else ").")]
    header.append("Maps (n, h, w, c) are (n, c, h, w) here, and weights are turned so.")
    if random := sorted({layer.kind for layer in file.layers if layer.kind in RANDOM}):
        header.append(f"{', '.join(random)} left out: they change images in training alone, see data.augment.")
    return finished(made, path.name, header, run)


def _code(arrays: Sequence[Array]) -> str:
    return "it names code beside Keras's, which is not run"


def _lengths(entries: Sequence[KerasLayer], given: Shape | None) -> dict[str, Lengths]:
    """Return the shapes of the inputs, with the number of images and the channels first.

    `given` are the lengths of the only input, or of those that the file leaves open.
    """
    if not entries:
        raise ConversionError(["the model has no input"], "give it one")
    if len(entries) == 1:
        return {entries[0].name: whole_lengths(_axes(entries[0].config, "its input"), given)}
    found = {}
    for layer in entries:
        subject = f"its input '{layer.name}'"
        axes = _axes(layer.config, subject)
        found[layer.name] = whole_lengths(axes, given if None in axes[1:] else None, subject)
    return found


def _axes(config: Mapping[str, Any], subject: str) -> list[int | None]:
    axes = config.get("batch_shape") or config.get("batch_input_shape")
    if not isinstance(axes, list) or not all(axis is None or isinstance(axis, int) for axis in axes):
        axes = [None, None, None, None]
    if len(axes) not in (2, 4) or any(axis is not None and axis < 1 for axis in axes):
        raise ConversionError(
            [f"{subject} is {str(axes)[:60]}, neither a vector nor a map (h, w, c)"], "use images or vectors"
        )
    inner = [axes[3], axes[1], axes[2]] if len(axes) == 4 else axes[1:]
    return [None, *inner]


def _translated(
    file: KerasFile,
    needed: Sequence[tuple[KerasLayer, int]],
    lengths: Mapping[str, Lengths],
    output: tuple[str, int],
) -> tuple[Network, list[Refusal]]:
    """Return the translated layers, and those that cannot be expressed in a spec."""
    origins = {layer.name: np.empty(0) for layer in file.layers}
    batch = next(iter(lengths.values()))[0]
    made = Network(Simplified(tuple(lengths), [], origins, dict(lengths), OUTPUT, batch, 0))
    tensors: dict[tuple[str, int], Tensor] = {}
    refusals = []
    for layer, number in needed:
        operator = Operator(layer.kind, layer.name, (layer.name,), ("",))
        try:
            if layer.kind == "InputLayer":
                tensors[layer.name, number] = Tensor(made.values[layer.name])
                continue
            if any(name not in tensors for name in layer.calls[number].inputs):
                raise Unknown("it reads what is refused")
            if layer.kind not in TRANSLATORS:
                raise Unsaid(f"no layer computes {layer.kind}", NEAREST.get(layer.kind, ""))
            call = layer.calls[number]
            inputs = [tensors[name] for name in call.inputs]
            arrays = None if file.arrays is None else [*file.arrays.get(layer.name, ())]
            use = Use(made, operator, layer.config, inputs, call.others, arrays)
            tensors[layer.name, number] = TRANSLATORS[layer.kind](use)
        except Unknown:
            pass
        except Unsaid as unsaid:
            refusals.append(Refusal(layer.name, layer.kind, str(unsaid), unsaid.nearest))
        except MALFORMED as error:
            reason = f"its settings or weights are not those of the layer: {' '.join(str(error).split())[:200]}"
            refusals.append(Refusal(layer.name, layer.kind, reason, ""))
    if output in tensors and not refusals:
        last = Use(made, Operator("Output", "", (), ("",)), {}, [tensors[output]], (), None)
        made.values[OUTPUT] = last.here(0)
        if made.values[OUTPUT].layer in made.inputs:
            refusals.append(Refusal(output[0], "InputLayer", "the network has no layers", ""))
    return made, refusals


def _output(file: KerasFile, until: str | None) -> tuple[str, int]:
    if until is None:
        return file.output
    for layer in file.layers:
        if layer.name == until:
            return (until, len(layer.calls) - 1)
    raise unknown_end(until, [layer.name for layer in file.layers])


def _needed(file: KerasFile, output: tuple[str, int]) -> list[tuple[KerasLayer, int]]:
    """Return the layers and call numbers that the output needs, each after its inputs."""
    layers = {layer.name: layer for layer in file.layers}
    needed: dict[tuple[str, int], None] = {}
    open_uses: set[tuple[str, int]] = set()
    waiting = [output]
    while waiting:
        name, number = waiting[-1]
        if name not in layers or not 0 <= number < len(layers[name].calls):
            raise ConversionError([f"the file is damaged: it reads {name!r}, use {number}, which is not there"], "")
        unmade = [use for use in layers[name].calls[number].inputs if use not in needed]
        if (name, number) in needed or not unmade:
            needed[waiting.pop()] = None
            continue
        if (name, number) in open_uses:
            raise ConversionError([f"the file is damaged: {name!r} depends on itself"], "write it anew")
        open_uses.add((name, number))
        waiting += unmade
    return [(layers[name], number) for name, number in needed]
