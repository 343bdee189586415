"""The formats of export: how to write the files of each, and how to run them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.export import jax_source, keras_source, numpy_program, onnx, pytorch_source
from cnnspec.export.exported_network import labels
from cnnspec.kernels.step import Array
from cnnspec.train.network import Network

BACKENDS = ("jax", "tensorflow", "torch")  # backends of Keras
BATCH = 7  # images at once: no power of two, so that the last batch differs in size
Given = Array | Mapping[str, Array]  # images, or numbers without a data section; of several inputs by name
Run = Callable[[Given], Given]  # from what is given to the output, or to several by name


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an export."""

    raw: bool = False  # export without the preprocessing
    opset: int | None = None  # opset of ONNX; the lowest possible one unless given
    text: str = ""  # the text of the spec


@dataclass(frozen=True, slots=True)
class Format:
    """One file for each suffix, with a common name: `write` writes them to a folder, `runner` returns how to run them.

    The runner is None if the files cannot be run here, and `unrun` is the reason; `options` are those that the format
    takes.
    """

    suffixes: tuple[str, ...]
    write: Callable[[Network, Path, str, Options], None]
    runner: Callable[[Path, str, Options], Run | None]
    unrun: str = ""
    options: tuple[str, ...] = ()


def _write_numpy(network: Network, folder: Path, name: str, options: Options) -> None:
    _save_program(folder, name, *numpy_program.program(network, name))


def _run_numpy(folder: Path, name: str, options: Options) -> Run:
    module = imported(folder / f"{name}.py")

    def run(images: Given) -> Given:
        return _joined([module.network(module.prepare(part)) for part in _parts(images, 1)])

    return run


def _write_onnx(network: Network, folder: Path, name: str, options: Options) -> None:
    made = onnx.network_model(network, options.text, options.opset, raw=options.raw)
    (folder / f"{name}.onnx").write_bytes(made.SerializeToString())


def _run_onnx(folder: Path, name: str, options: Options) -> Run | None:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    try:
        session = runtime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"onnxruntime does not take this network: {reason}") from error
    entry = session.get_inputs()[0].name
    names = [output.name.removesuffix(".output") for output in session.get_outputs()]

    def run(images: Given) -> Given:
        feeds = [part if isinstance(part, Mapping) else {entry: part} for part in _parts(images)]
        outputs = [session.run(None, feed) for feed in feeds]
        return _joined([dict(zip(names, of, strict=True)) if len(names) > 1 else of[0] for of in outputs])

    return run


def _write_pytorch(network: Network, folder: Path, name: str, options: Options) -> None:
    text, arrays = pytorch_source.source(network, name, raw=options.raw)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    _save_tensors(network, arrays, folder / f"{name}.safetensors", options)


def _run_pytorch(folder: Path, name: str, options: Options) -> Run | None:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return None
    module = imported(folder / f"{name}.py")
    network = module.load()

    def run(images: Given) -> Given:
        with torch.inference_mode():
            parts = [_each(torch.from_numpy, part) for part in _parts(images)]
            raw = options.raw or not hasattr(network, "prepare")
            outputs = [network(part if raw else network.prepare(part)) for part in parts]
            return _joined([_each(np.asarray, output) for output in outputs])

    return run


def _write_jax(network: Network, folder: Path, name: str, options: Options) -> None:
    _save_program(folder, name, *jax_source.source(network, name, raw=options.raw))


def _run_jax(folder: Path, name: str, options: Options) -> Run | None:
    try:
        jax: Any = importlib.import_module("jax")
    except ImportError:
        return None
    module = imported(folder / f"{name}.py")
    compiled = jax.jit(module.network)

    def run(images: Given) -> Given:
        entering = images if options.raw or not hasattr(module, "prepare") else module.prepare(images)
        return _joined([_each(np.asarray, compiled(part)) for part in _parts(entering)])

    return run


def _write_keras(network: Network, folder: Path, name: str, options: Options) -> None:
    _save_program(folder, name, *keras_source.source(network, name, raw=options.raw))


def _run_keras(folder: Path, name: str, options: Options) -> Run | None:
    """Return a function that runs the files in Keras; if no backend is configured, the first installed one is used."""
    backend = next((name for name in BACKENDS if importlib.util.find_spec(name) is not None), None)
    if backend is None or importlib.util.find_spec("keras") is None:
        return None
    os.environ.setdefault("KERAS_BACKEND", backend)  # read when Keras starts
    module = imported(folder / f"{name}.py")
    model = module.load()

    def run(images: Given) -> Given:
        entering = _each(lambda array: array if array.ndim != 4 else np.moveaxis(array, 1, -1), images)
        if not options.raw and hasattr(module, "prepare"):
            entering = module.prepare(entering)
        outputs = _each(np.asarray, model.predict(entering, batch_size=BATCH, verbose=0))
        turned: Given = _each(lambda array: array if array.ndim != 4 else np.moveaxis(array, -1, 1), outputs)
        return turned

    return run


def _each(change: Callable[[Any], Any], given: Any) -> Any:
    """Change an array, or each of several by name."""
    return {name: change(array) for name, array in given.items()} if isinstance(given, Mapping) else change(given)


def _parts(given: Given, size: int = BATCH) -> Iterator[Given]:
    """Yield some images at a time."""
    count = len(next(iter(given.values()))) if isinstance(given, Mapping) else len(given)
    for start in range(0, count, size):
        yield _each(lambda array, start=start: array[start : start + size], given)  # type: ignore[misc]


def _joined(parts: Sequence[Any]) -> Given:
    """Concatenate outputs of some images at a time, or each of several by name."""
    if isinstance(parts[0], Mapping):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _save_program(folder: Path, name: str, text: str, arrays: Mapping[str, Array]) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def _write_safetensors(network: Network, folder: Path, name: str, options: Options) -> None:
    _save_tensors(network, pytorch_source.state(network), folder / f"{name}.safetensors", options)


def _save_tensors(network: Network, arrays: Mapping[str, Array], path: Path, options: Options) -> None:
    try:
        library: Any = importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise RunError("safetensors is not installed", "python -m pip install 'cnnspec[safetensors]'") from error
    metadata = {"format": "pt", "spec": options.text, "labels": json.dumps(labels(network))}
    path.write_bytes(library.save(dict(arrays), metadata))  # its save_file makes a file that its owner alone may read


def imported(path: Path) -> Any:
    """Import a Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RunError(f"{path} is no Python file", "name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FORMATS: Mapping[str, Format] = {
    "onnx": Format((".onnx",), _write_onnx, _run_onnx, "onnxruntime is not installed", ("raw", "opset")),
    "numpy": Format((".py", ".npz"), _write_numpy, _run_numpy),
    "pytorch": Format((".py", ".safetensors"), _write_pytorch, _run_pytorch, "PyTorch is not installed", ("raw",)),
    "keras": Format((".py", ".npz"), _write_keras, _run_keras, "Keras, or a backend of it, is not installed", ("raw",)),
    "jax": Format((".py", ".npz"), _write_jax, _run_jax, "JAX is not installed", ("raw",)),
    "safetensors": Format(
        (".safetensors",), _write_safetensors, lambda folder, name, options: None, "weights alone are no program"
    ),
}
