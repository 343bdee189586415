"""Gradients through pooling in the plan that trains, at any batch size, against loops over windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec.api import Model
from cnnspec.diagnostics import SpecError
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.shapes import Windows
from cnnspec.spec import loads

SPEC = """
cnnspec: 1
name: pool
input: [2, {height}, {width}]
layers:
  - {{id: first, type: conv2d, filters: 3, kernel_size: 1, bias: none}}
  - {{id: pool, type: {kind}, kernel_size: {kernel}, stride: {stride}, padding: {padding}}}
  - flatten
  - {{id: last, type: dense, units: 4, bias: none}}
train: {{epochs: 1, batch_size: {batch}, optimizer: {{type: sgd, learning_rate: 1.0}}}}
"""


def pooled(windows: Windows, x: Array, kind: str) -> tuple[Array, list[tuple[int, int, Array, Array, Array]]]:
    """The pooled maps (n, c, oh, ow), and for each element of each window what it contributes to it."""
    (oh, ow), (kh, kw), (sh, sw) = windows.output, windows.kernel, windows.stride
    top, _, left, _ = windows.padding
    y, parts = np.empty((*x.shape[:2], oh, ow)), []
    for i, j in np.ndindex(oh, ow):
        rows = [r for r in range(i * sh - top, i * sh - top + kh) if 0 <= r < x.shape[2]]
        columns = [c for c in range(j * sw - left, j * sw - left + kw) if 0 <= c < x.shape[3]]
        window = x[:, :, rows][..., columns].reshape(*x.shape[:2], -1)
        if kind == "max_pool2d":
            share = np.eye(window.shape[-1])[window.argmax(axis=-1)]
        else:
            share = np.full(window.shape, 1 / window.shape[-1])
        y[:, :, i, j] = (window * share).sum(axis=-1)
        parts.append((i, j, np.repeat(rows, len(columns)), np.tile(columns, len(rows)), share))
    return y, parts


def gradients(windows: Windows, images: Array, labels: Array, first: Array, last: Array, kind: str) -> list[Array]:
    """The gradients of both weights for the mean cross-entropy, by the definition."""
    x = np.einsum("fc,nchw->nfhw", first[:, :, 0, 0], images)
    y, parts = pooled(windows, x, kind)
    features = y.reshape(len(y), -1)
    logits = features @ last.T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    dlogits = (odds / odds.sum(axis=1, keepdims=True) - np.eye(4)[labels]) / len(images)
    dy, dx = (dlogits @ last).reshape(y.shape), np.zeros_like(x)
    for i, j, rows, columns, share in parts:
        dx[:, :, rows, columns] += dy[:, :, i, j, None] * share
    return [np.einsum("nfhw,nchw->fc", dx, images)[..., None, None], dlogits.T @ features]


def check(
    kind: str, size: tuple[int, int], kernel: object, stride: object, padding: object, batch: int, threads: int
) -> None:
    height, width = size
    text = SPEC.format(
        kind=kind, height=height, width=width, kernel=kernel, stride=stride, padding=padding, batch=batch
    )
    try:
        spec = loads(text, "pool.yaml")
        graph = build(spec)
    except SpecError:
        assume(False)
    model = Model(spec, graph, threads=threads, dtype="float64")
    plan = model.plan(batch, "train", "float64")
    random = np.random.default_rng(0)
    plan.images[...] = random.standard_normal(plan.images.shape)
    plan.labels[...] = random.integers(0, 4, batch)
    first, last = model.params["first.weight"].copy(), model.params["last.weight"].copy()
    layer = next(node.layer for node in graph.nodes if node.name == "pool")
    windows: Windows = layer.windows((3, *size))  # type: ignore[attr-defined]
    expected = gradients(windows, plan.images.copy(), plan.labels.copy(), first, last, kind)
    plan.step(1.0)
    for name, before, gradient in zip(("first", "last"), (first, last), expected, strict=True):
        np.testing.assert_allclose(before - model.params[f"{name}.weight"], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 4, 16, 31, 32])
@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_max_pooling_of_odd_maps_pads_one_end(padding: str, batch: int, threads: int) -> None:
    """Half of the rows has no padding where the whole map has some: both mark the winners in one way."""
    check("max_pool2d", (33, 20), 2, 2, padding, batch, threads)


@given(
    kind=st.sampled_from(["max_pool2d", "avg_pool2d"]),
    size=st.tuples(st.integers(12, 34), st.integers(6, 20)),
    kernel=st.sampled_from([2, 3, [2, 3], [3, 1]]),
    stride=st.sampled_from([1, 2, 3, [2, 1]]),
    padding=st.sampled_from(["valid", "same", "same_lower", "half", 1, [0, 1, 0, 0], [1, 0, 0, 0]]),
    batch=st.integers(1, 40),
    threads=st.sampled_from([1, 2]),
)
@settings(max_examples=20, deadline=None)
def test_random_pooling_at_any_batch(
    kind: str, size: tuple[int, int], kernel: object, stride: object, padding: object, batch: int, threads: int
) -> None:
    check(kind, size, kernel, stride, padding, batch, threads)
