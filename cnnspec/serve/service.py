"""The answers of a trained network to requests, as values for JSON; one request is computed at a time."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from cnnspec.api import Model
from cnnspec.data import Data
from cnnspec.data.decode import tell
from cnnspec.diagnostics import RunError
from cnnspec.graph import Node
from cnnspec.graph.render import render
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.kernels.step import Array
from cnnspec.layers.base import to_public
from cnnspec.report.png import picture
from cnnspec.serve.bodies import asked
from cnnspec.serve.request_error import RequestError
from cnnspec.spec.suggest import did_you_mean
from cnnspec.train.answer import answer, answers
from cnnspec.train.diagnose import values

SECONDS = 60.0  # seconds that a request may wait for others, and that it may compute
MOST_VALUES = 1 << 21  # layer values in one answer: 8 MiB, and a third more as text
SHOWN = 24  # most test images in one answer
Query = Mapping[str, str]


class Service:
    """The answers of one network; RunError if its spec does not say how images enter it, or if it has several inputs.

    `data` gives the test images to pick from; without it, all else works.
    """

    def __init__(self, model: Model, data: Data | None, name: str) -> None:
        if model.pipeline is None:
            raise RunError(f"{name}: its spec has no data section", "train a spec that has one")
        if model.pipeline.inputs:
            several = ", ".join(model.spec.inputs)
            message = f"{name}: the network has several inputs, {several}, and a page shows one image"
            raise RunError(message, "`cnnspec predict RUN FILE.npz` and `Model.predict` take all of them")
        self.model, self.name = model, name
        self.pipeline = model.pipeline
        self.test = data.test if data is not None and len(data.test) else None
        self.classes = model.class_names
        self._lock = threading.Lock()

    def health(self) -> dict[str, Any]:
        """Return that the server is ready, and which network it serves."""
        return {"status": "ok", "name": self.name, "weights": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> str:
        return self.model.fingerprint()

    def predict(self, query: Query, body: bytes) -> dict[str, Any]:
        """Return an answer for each image, like `cnnspec predict --json`, and a sentence on each conversion."""
        top = number(query, "top", 3, 1, 100_000)
        request = asked(body, self.pipeline, self.test)
        model, batch, until = self.model, self.model.inference_batch, time.monotonic() + 2 * SECONDS
        results: list[dict[str, Any]] = []
        for start in range(0, len(request.images), batch):
            if time.monotonic() > until:
                raise RequestError(
                    503, f"{start} of {len(request.images)} images took too long", "send fewer at a time"
                )
            part = request.images[start : start + batch]
            with self._computing():
                if model.output_names:
                    named = model.outputs_by_name(part)
                    each = [{name: outputs[i] for name, outputs in named.items()} for i in range(len(part))]
                    results += [answers(model, outputs, self.classes, top) for outputs in each]
                else:
                    results += [answer(model, output, self.classes, top) for output in model.outputs(part)]
        return {"answers": results, "notes": self._notes(request.conversions)}

    def activations(self, query: Query, body: bytes) -> dict[str, Any]:
        """Return the values of one layer or all for one image, and the network's input after normalisation."""
        layer = query.get("layer")
        wanted = [self._node(layer)] if layer is not None else list(self.model.graph.nodes)
        request = asked(body, self.pipeline, self.test)
        if len(request.images) != 1:
            raise RequestError(400, f"expected one image, got {len(request.images)}", "send one at a time")
        size = sum(int(np.prod(node.shape)) for node in wanted)
        if size > MOST_VALUES:
            raise RequestError(
                413, f"expected at most {MOST_VALUES:,} values, these are {size:,}", "ask with ?layer=NAME"
            )
        names, last, layers = {node.name for node in wanted}, wanted[-1].name, []
        entering: Array | None = None
        with self._computing(), one_blas_thread:
            for node, inputs, output in values(self.model, request.images, "infer"):
                entering = to_public(inputs[0])[0] if entering is None else entering
                if node.name in names:
                    layers.append({"name": node.name, **encoded(to_public(output)[0])})
                if node.name == last:
                    break
        assert entering is not None
        return {"input": encoded(entering), "layers": layers, "notes": self._notes(request.conversions)}

    def weights(self, query: Query) -> dict[str, Any]:
        """Return a layer's parameters by name, in the form in which it computes with them."""
        if "layer" not in query:
            raise RequestError(400, "expected ?layer=NAME", "GET /spec lists the layers")
        node = self._node(query["layer"])
        arrays = {name: np.asarray(self.model.weights.params[key]) for name, key in node.keys.items()}
        size = sum(array.size for array in arrays.values())
        if size > MOST_VALUES:
            raise RequestError(
                413, f"expected at most {MOST_VALUES:,} values, these are {size:,}", "read the run's last.npz"
            )
        return {"name": node.name, "weights": {name: encoded(array) for name, array in arrays.items()}}

    def spec(self) -> dict[str, Any]:
        """Return the network's spec, without the location of its data, its layers, its inputs and its outputs."""
        model, graph = self.model, self.model.graph
        return {
            "name": self.name,
            "input": list(graph.input_shape),
            "image": list(self.pipeline.shape or self.pipeline.input),
            "output": list(graph.output.shape),
            "answers": model.learned.kind,
            "classes": list(self.classes),
            "parameters": graph.parameter_count,
            "macs": graph.macs,
            "layers": [_described(node) for node in graph.nodes],
            "test_images": 0 if self.test is None else len(self.test),
            "dark_background": self._is_dark,
            "most_values": MOST_VALUES,
            "spec": self._text,
        }

    def test_images(self, query: Query) -> dict[str, Any]:
        """Return some test images as pictures (data URIs), each with its number and label."""
        count = 0 if self.test is None else len(self.test)
        start = number(query, "start", 0, 0, max(count - 1, 0))
        shown = []
        if self.test is not None:
            rows = np.arange(start, min(start + SHOWN, count))
            pixels, labels = self.test.pixels[rows], self.test.labels[rows]
            for row, image, label in zip(rows.tolist(), pixels, labels, strict=True):
                shown.append({"number": row, "picture": picture(np.asarray(image)), "label": self._label(label)})
        return {"count": count, "images": shown}

    def _label(self, label: Any) -> str:
        value = np.asarray(label)
        if self.model.learned.kind != "class" or value.ndim:
            return ""
        return self.classes[int(value)] if int(value) < len(self.classes) else str(int(value))

    @cached_property
    def _text(self) -> str:
        spec = self.model.spec
        data = spec.data and spec.data.but(root=None)
        plugins = tuple(replace(plugin, name=plugin.name.replace("\\", "/").split("/")[-1]) for plugin in spec.plugins)
        return render(replace(spec, data=data, plugins=plugins), self.model.graph)

    @cached_property
    def _is_dark(self) -> bool:
        """Whether images consist mostly of dark pixels, like white digits on black."""
        if self.test is None:
            return True
        return float(self.test.pixels[np.arange(min(len(self.test), 64))].mean()) < 128

    def _node(self, name: str) -> Node:
        names = [node.name for node in self.model.graph.nodes]
        if name not in names:
            raise RequestError(404, f"no layer '{name[:80]}'", did_you_mean(name[:80], names, "layers"))
        return self.model.graph.node(name)

    def _notes(self, conversions: tuple[str, ...]) -> list[str]:
        return list(tell(conversions, self.pipeline.rules_of(self.pipeline.shape or self.pipeline.input)))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Let one request compute while others wait, because a plan has a single set of arrays."""
        if not self._lock.acquire(timeout=SECONDS):
            raise RequestError(503, "other requests take too long", "ask again later")
        try:
            yield
        finally:
            self._lock.release()


def encoded(array: Array) -> dict[str, Any]:
    """Return an array as its shape and its numbers in base64: float32, little-endian, the last axis fastest."""
    return {"shape": list(array.shape), "float32": b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()}


def number(query: Query, key: str, default: int, low: int, high: int) -> int:
    """Return a whole number of the query; RequestError if it is none, or out of range."""
    text = query.get(key, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 15 or not low <= int(text) <= high:
        raise RequestError(400, f"{key}: expected a whole number from {low} to {high:,}, got '{text[:40]}'")
    return int(text)


def _described(node: Node) -> dict[str, Any]:
    """Return a layer as the page shows it; for a convolution, with its windows."""
    description: dict[str, Any] = {
        "name": node.name,
        "type": node.layer.type_name,
        "inputs": list(node.inputs),
        "shape": list(node.shape),
        "parameters": node.parameter_count,
    }
    problem = node.layer.convolution(*node.input_shapes)
    if problem is not None and "weight" in node.params:
        windows = problem.windows
        description["window"] = {
            "kernel": windows.kernel,
            "stride": windows.stride,
            "dilation": windows.dilation,
            "padding": [windows.padding[0], windows.padding[2]],
            "groups": problem.groups,
        }
    return description
