"""Reads Keras's `.keras`, `.json` and `.h5` files: the layers as they are written, and each layer's arrays."""

from __future__ import annotations

import importlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.convert.keras_run import names_code
from cnnspec.convert.refusal import MALFORMED, ConversionError
from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded
from cnnspec.kernels.step import Array

MOST_BYTES = 2 << 30  # bytes of a file, and of the arrays in it
MOST_TEXT = 64 << 20  # bytes of a model's description
MOST_LAYERS = 10_000
SIGNATURE = b"\x89HDF\r\n\x1a\n"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
DAMAGED = (*MALFORMED, EOFError, NotImplementedError, OSError, RecursionError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: its inputs, each as a layer and the number of that layer's call, and the other arguments."""

    inputs: tuple[tuple[str, int], ...]
    others: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """One layer or operation of a model: its class, its settings and its calls."""

    name: str
    kind: str
    config: Mapping[str, Any]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class KerasFile:
    """The content of a file: layers in an order in which they can run, the output, and arrays by layer.

    `names_code` says whether it refers to code, besides Keras's own, that Keras would run.
    """

    layers: tuple[KerasLayer, ...]
    output: tuple[str, int]
    arrays: Mapping[str, Sequence[Array]] | None
    version: str
    names_code: bool


def read(path: Path) -> KerasFile:
    """Read a file; ConversionError if it is damaged or holds no model, OSError if there is no file.

    No code in it is run: a custom layer is only a class name and settings.
    """
    content = read_bounded(path, MOST_BYTES)
    try:
        if content.startswith(SIGNATURE):
            return _hdf5(content)
        if zipfile.is_zipfile(io.BytesIO(content)):
            return _archive(content)
        if len(content) > MOST_TEXT:
            raise ValueError(f"it is longer than {MOST_TEXT:,} bytes")
        return _model(json.loads(content), None)
    except RunError:
        raise
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConversionError(
            [f"{path} is damaged or no model of Keras: {reason}"], "write it with model.save(...) or model.to_json()"
        ) from error


def _archive(content: bytes) -> KerasFile:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if sizes.get(CONFIG, MOST_TEXT + 1) > MOST_TEXT or sizes.get(WEIGHTS, 0) > MOST_BYTES:
            raise ValueError(f"it has no {CONFIG}, or one that is too long")
        if sizes.get(WEIGHTS, 0) > len(content):
            raise ValueError(f"{WEIGHTS} is compressed, and longer than the file")
        with archive.open(CONFIG) as member:
            model = json.loads(member.read(MOST_TEXT))
        with archive.open(WEIGHTS) as member:
            stored = member.read(len(content))
    named = _by_class(_entries(model))
    with _opened(stored) as file:
        groups = {_text(_group(file["layers"], key)["vars"].attrs.get("name", "")): key for key in file["layers"]}
        arrays = {}
        for entry in _entries(model):
            name = str(entry["config"]["name"])
            key = groups.get(name, named[name])
            group = _group(_group(file["layers"], key), "vars") if key in file["layers"] else {}
            arrays[name] = [_array(group, str(place)) for place in range(len(group))]
    return _model(model, arrays)


def _by_class(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the name of each layer's arrays in files that store them by class and number, such as conv2d_1."""
    counts: Counter[str] = Counter()
    result = {}
    for entry in entries:
        snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", entry["class_name"]))
        count = counts[snake.lower()]
        counts[snake.lower()] += 1
        result[str(entry["config"]["name"])] = f"{snake.lower()}_{count}" if count else snake.lower()
    return result


def _hdf5(content: bytes) -> KerasFile:
    with _opened(content) as file:
        if "model_config" not in file.attrs:
            raise ValueError("it has weights alone: give the whole model")
        model = json.loads(_text(file.attrs["model_config"]))
        arrays = {}
        root = _group(file, "model_weights")
        for name in root:
            group = _group(root, name)
            arrays[name] = [_array(group, _text(key)) for key in group.attrs.get("weight_names", ())]
    return _model(model, arrays)


def _opened(content: bytes) -> Any:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise RunError("h5py is not installed", "python -m pip install 'cnnspec[h5]'") from error
    return h5py.File(io.BytesIO(content), "r")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _group(parent: Any, name: str) -> Any:
    """Return a member of the same file; links, which may lead to other files, are refused."""
    place = parent
    for part in name.split("/"):
        if type(place.get(part, getlink=True)).__name__ != "HardLink":
            raise ValueError(f"{name} is a link")
        place = place[part]
    return place


def _array(group: Any, name: str) -> Array:
    """Return an array whose numbers are all in the file itself."""
    dataset = _group(group, name)
    if dataset.external or dataset.is_virtual or dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"the numbers of {name} are not in the file, or compressed")
    if dataset.dtype.kind not in "fiu" or dataset.ndim > 4:
        raise ValueError(f"{name} is no array of numbers of a layer")
    return np.asarray(dataset[()])


def _entries(model: Any) -> list[Mapping[str, Any]]:
    layers = model["config"]["layers"] if isinstance(model["config"], Mapping) else model["config"]
    entries = [entry for entry in layers if isinstance(entry, Mapping) and isinstance(entry["config"], Mapping)]
    if not 0 < len(entries) <= MOST_LAYERS or len(entries) != len(layers):
        raise ValueError(f"expected 1 to {MOST_LAYERS:,} layers, got {len(layers)}")
    return [
        entry if "name" in entry["config"] else {**entry, "config": {**entry["config"], "name": entry["name"]}}
        for entry in entries
    ]


def _model(model: Any, arrays: Mapping[str, Sequence[Array]] | None) -> KerasFile:
    kind, entries, version = model["class_name"], _entries(model), str(model.get("keras_version", ""))
    if kind == "Sequential":
        entries = _with_input(model["config"], entries)
        above, layers = "", list[KerasLayer]()
        for entry in entries:
            calls = (Call(((above, 0),) if above else (), ()),)
            above = str(entry["config"]["name"])
            layers.append(KerasLayer(above, str(entry["class_name"]), entry["config"], calls))
        return KerasFile(tuple(layers), (above, 0), arrays, version, names_code(model))
    if kind not in ("Functional", "Model"):
        raise ValueError(f"it is of the class {str(kind)[:60]}, whose layers only Python knows")
    outputs = _ends(model["config"]["output_layers"])
    if len(outputs) != 1:
        raise ValueError(f"it has {len(outputs)} outputs, a converted spec has one")
    layers = [
        KerasLayer(
            str(entry["config"]["name"]),
            str(entry["class_name"]),
            entry["config"],
            tuple(_call(node) for node in entry.get("inbound_nodes", ())) or (Call((), ()),),
        )
        for entry in entries
    ]
    return KerasFile(tuple(layers), outputs[0], arrays, version, names_code(model))


def _with_input(config: Any, entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if entries[0]["class_name"] == "InputLayer":
        return entries
    shape = entries[0]["config"].get("batch_input_shape") or entries[0]["config"].get("batch_shape")
    if shape is None and isinstance(config, Mapping):
        shape = config.get("build_input_shape")
    return [{"class_name": "InputLayer", "config": {"name": ":input", "batch_shape": shape}}, *entries]


def _ends(ends: Any) -> list[tuple[str, int]]:
    listed = [ends] if ends and not isinstance(ends[0], Sequence | str) else ends
    listed = [listed] if listed and isinstance(listed[0], str) else listed
    return [(str(name), int(use)) for name, use, *_ in listed]


def _call(node: Any) -> Call:
    """Return one call: Keras 3 writes the arguments, older versions write names and numbers of calls."""
    if not isinstance(node, Mapping):
        return Call(tuple((str(name), int(use)) for name, use, *_ in node), ())
    inputs: list[tuple[str, int]] = []
    others: list[Any] = []
    waiting = list(node["args"])
    while waiting:
        given = waiting.pop(0)
        if isinstance(given, list) and any(isinstance(item, Mapping) for item in given):
            waiting = [*given, *waiting]
        elif isinstance(given, Mapping) and given.get("class_name") == "__keras_tensor__":
            name, use, *_ = given["config"]["keras_history"]
            inputs.append((str(name), int(use)))
        else:
            others.append(given)
    others += [value for key, value in node.get("kwargs", {}).items() if key not in ("mask", "training")]
    return Call(tuple(inputs), tuple(others))
