"""Layers that are computed by rows: two parts give what the whole layer gives, also what it keeps for the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnspec import registry
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer, Mode, Operands, Part, Reduce, batch_shape
from cnnspec.layers.conv import Conv2d
from cnnspec.layers.norm import BatchNorm
from cnnspec.layers.pool import AvgPool2d, LpPool2d, MaxPool2d
from cnnspec.shapes import Shape, ShapeError
from tests.layers.draws import paddings, pairs
from tests.layers.examples import EXAMPLES
from tests.layers.harness import Bench, poison

LAYERS = [
    pytest.param(registry.find("layer", name)(**fields), shapes, id=f"{name}-{number}")
    for name, examples in EXAMPLES.items()
    for number, (fields, shapes) in enumerate(examples)
]
margins: st.SearchStrategy[Any] = st.sampled_from(["valid", "same", 1, (0, 2, 1, 0)])
modes = pytest.mark.parametrize("mode", get_args(Mode))


def compare(layer: Layer, shapes: Sequence[Shape], mode: Mode) -> int:
    """Cut the layer at every row that it can be cut at, compare with the whole, and count the cuts."""
    count, cuts = layer.height(*shapes), 0
    for first in range(1, count):
        rows = slice(0, first), slice(first, count)
        parts = [layer.part(part, *shapes, n=3, mode=mode) for part in rows]
        if None in parts:
            continue
        cuts += 1
        whole, halves = (Bench(layer, shapes, mode=mode, dtype=np.float64) for _ in range(2))
        whole.forward()
        for own, part in zip(rows, parts, strict=True):
            assert part is not None
            for step in [*halves.prepare, *part.layer.forward(of_part(halves, own, part))]:
                assert not isinstance(step, Reduce)
                step()
        np.testing.assert_allclose(halves.y, whole.y, rtol=1e-10, atol=1e-11)
        if mode == "train":
            halves.forget()
            for bench in (whole, halves):
                bench.backward()
            for found, expected in zip(halves.input_grads, whole.input_grads, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    return cuts


def of_part(bench: Bench, rows: slice, part: Part) -> Operands:
    """What the part shares with the whole, its rows of what is kept, and buffers of its own, which hold NaN."""
    (shard,) = bench.shards
    buffers = dict[str, Array]()
    for name, buffer in bench.layer.scratch(*bench.shapes, n=3, mode=bench.mode).items():
        if buffer.lifetime in ("prepare", "kept"):
            buffers[name] = shard.operands.buffers[name][rows if buffer.lifetime == "kept" else slice(None)]
    for name, buffer in part.layer.scratch(*part.shapes(*bench.shapes), n=3, mode=bench.mode).items():
        if buffer.lifetime == "forward":
            buffers[name] = np.empty(buffer.shape, buffer.dtype or bench.dtype)
            poison(buffers[name])
    return shard.operands.of_part(rows, part, buffers)


@pytest.mark.parametrize(("layer", "shapes"), LAYERS)
@modes
def test_parts_equal_the_whole(layer: Layer, shapes: Sequence[Shape], mode: Mode) -> None:
    cuts = compare(layer, shapes, mode)
    if not (layer.by_row or type(layer).part is not Layer.part) or getattr(layer, "kernel", None) == "dft":
        assert not cuts
    elif not getattr(layer, "ceil_mode", False) and not isinstance(layer, BatchNorm):
        assert cuts or batch_shape(layer.infer_shape(*shapes), 1)[0] == 1 or len(shapes[0]) == 1 or len(shapes) > 1


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(get_args(Mode)))
def test_random_convolutions(data: st.DataObject, mode: Mode) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 2))
    layer = Conv2d(
        filters=groups * draw(st.integers(1, 3)),
        kernel_size=draw(st.sampled_from([(1, 1), (2, 3), (3, 3), (5, 5)])),
        stride=draw(st.sampled_from([(1, 1), (2, 2), (3, 1)])),
        padding=draw(margins),
        dilation=draw(st.sampled_from([(1, 1), (2, 1)])),
        groups=groups,
        bias=draw(st.sampled_from(["channel", "none", "untied"])),
        kernel=draw(st.sampled_from([None, "direct", "winograd2", "winograd4", "depthwise", "patches", "dft"])),
    )
    shape = (groups * draw(st.integers(1, 3)), draw(st.integers(2, 13)), draw(st.integers(2, 7)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    compare(layer, [shape], mode)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(get_args(Mode)), st.sampled_from([MaxPool2d, AvgPool2d, LpPool2d]))
def test_random_pooling(data: st.DataObject, mode: Mode, kind: Any) -> None:
    draw = data.draw
    more = {"count_include_pad": draw(st.booleans())} if kind is AvgPool2d else {}
    some = st.sampled_from(["same", "same_lower", "half", (0, 1, 0, 0), (1, 0, 0, 0)])
    kernel_size = draw(st.just((2, 2)) | pairs)
    layer = kind(kernel_size=kernel_size, stride=draw(st.none() | pairs), padding=draw(paddings | some), **more)
    shape = (2, draw(st.integers(2, 9)), draw(st.integers(2, 6)))
    try:
        layer.infer_shape(shape)
    except ShapeError:
        assume(False)
    compare(layer, [shape], mode)
