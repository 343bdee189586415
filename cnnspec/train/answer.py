"""The output of a network for one image as an answer in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.optim import Loss
from cnnspec.target import Kind
from cnnspec.train.network import Network

ANSWERS = frozenset({"classes", "labels", "values", "areas", "shape"})  # the keys of answers, of which each has one
LEAST = 0.5  # the probability from which on a label applies


def answers(
    network: Network, outputs: Mapping[str, Array], names: Sequence[str] = (), top: int = 3
) -> dict[str, dict[str, Any]]:
    """The answers of several outputs for one image, by the names of the outputs."""
    assert network.heads is not None
    result = {}
    for name, output in outputs.items():
        part = network.heads.parts[name]
        result[name] = _answer(part.target.kind, part.loss, output, part.target.names or names, top)
    return result


def answer(network: Network, output: Array, names: Sequence[str] = (), top: int = 3) -> dict[str, Any]:
    """The answer of an output for one image; `names` are those of classes, if they are not the target's.

    It has one of these keys: `classes`, the likeliest ones with their scores; `labels`, all that apply; `values`, in
    the data's units; `areas`, the portion of the pixels of each class; or `shape` and mean of an output without target.
    """
    return _answer(network.learned.kind, network.loss, output, names or network.target.names, top)


def _answer(kind: Kind, loss: Loss | None, output: Array, names: Sequence[str], top: int) -> dict[str, Any]:
    if kind == "values":
        return {"values": {_name(names, i): float(value) for i, value in enumerate(output.tolist())}}
    if kind == "mask":
        counts = np.bincount(_class_map(loss, output).ravel(), minlength=max(len(output), 2))
        return {"areas": {_name(names, i): count / counts.sum() for i, count in enumerate(counts.tolist()) if count}}
    if output.ndim != 1:
        return {"shape": list(output.shape), "mean": float(output.mean())}
    scores = loss.probabilities(output) if loss is not None else output
    if kind == "classes":
        chosen = [i for i in np.argsort(-scores, kind="stable").tolist() if scores[i] >= LEAST]
        return {"labels": [{"label": _name(names, i), "score": float(scores[i])} for i in chosen]}
    if len(scores) == 1 and kind == "class" and loss is not None and loss.one_output:
        scores = np.array([1 - scores[0], scores[0]])
    best = np.argsort(-scores, kind="stable")[:top].tolist()
    return {"classes": [{"class": _name(names, i), "score": float(scores[i])} for i in best]}


def class_map(network: Network, output: Array) -> Array:
    """The likeliest class of each pixel, (h, w) of bytes, from an output (classes, h, w)."""
    return _class_map(network.loss, output)


def _class_map(loss: Loss | None, output: Array) -> Array:
    if len(output) > 1:
        return np.asarray(output.argmax(axis=0), np.uint8)
    threshold = 0.5 if loss is None else loss.threshold
    return np.asarray(output[0] > threshold, np.uint8)


def spoken(found: dict[str, Any]) -> str:
    """An answer, or the answers of several outputs by name, as one line of text."""
    if found and all(isinstance(of, dict) and of.keys() & ANSWERS for of in found.values()):
        return "; ".join(f"{name}: {spoken(of)}" for name, of in found.items())
    if "values" in found:
        return "  ".join(f"{name} {value:.6g}" for name, value in found["values"].items())
    if "areas" in found:
        return "  ".join(f"{name} {portion:.2%}" for name, portion in found["areas"].items())
    if "labels" in found:
        return "  ".join(f"{item['label']} {item['score']:.2%}" for item in found["labels"]) or "no label"
    if "shape" in found:
        return f"output of shape {tuple(found['shape'])}, mean {found['mean']:.4g}"
    return "  ".join(f"{item['class']} {item['score']:.2%}" for item in found["classes"])


def _name(names: Sequence[str], position: int) -> str:
    return names[position] if position < len(names) else str(position)
