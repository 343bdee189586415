"""Normalisation within an image, against ONNX and against the formula."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.layers.base import from_public, to_public
from cnnspec.layers.group_norm import GroupNorm, InstanceNorm
from cnnspec.layers.layer_norm import LayerNorm, RmsNorm
from cnnspec.shapes import Shape, ShapeError
from tests.layers.harness import Bench
from tests.layers.onnx_oracle import evaluate


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_normalises_every_group_of_every_image(groups: int) -> None:
    bench = Bench(GroupNorm(groups=groups), [(6, 4, 5)])
    images = to_public(bench.inputs[0]).reshape(3, groups, -1)
    normalised = (images - images.mean(-1, keepdims=True)) / np.sqrt(images.var(-1, keepdims=True) + 1e-5)
    weight, bias = (bench.params[name].reshape(6, 1, 1) for name in ("weight", "bias"))
    expected = normalised.reshape(3, 6, 4, 5) * weight + bias
    np.testing.assert_allclose(bench.forward(), from_public(expected), rtol=1e-10, atol=1e-12)


def test_instance_norm_agrees_with_onnx() -> None:
    bench = Bench(InstanceNorm(), [(3, 4, 5)])
    expected = evaluate("InstanceNormalization", bench.inputs[0], *bench.params.values(), epsilon=1e-5)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-6)


def test_layer_norm_of_vectors_agrees_with_onnx() -> None:
    bench = Bench(LayerNorm(), [(6,)])
    expected = evaluate("LayerNormalization", bench.inputs[0], *bench.params.values(), epsilon=1e-5)
    np.testing.assert_allclose(bench.forward(), expected, rtol=1e-6, atol=1e-6)


def test_layer_norm_normalises_each_pixel_or_the_map() -> None:
    for over, axes in (("channels", 1), ("map", (1, 2, 3))):
        bench = Bench(LayerNorm.of(over=over), [(6, 4, 5)])
        images = to_public(bench.inputs[0])
        mean, variance = images.mean(axes, keepdims=True), images.var(axes, keepdims=True)
        weight, bias = (bench.params[name].reshape(6, 1, 1) for name in ("weight", "bias"))
        expected = (images - mean) / np.sqrt(variance + 1e-5) * weight + bias
        np.testing.assert_allclose(bench.forward(), from_public(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4, 5), (6,)])
def test_rms_norm_divides_by_the_root_of_the_mean_square(shape: Shape) -> None:
    bench = Bench(RmsNorm(epsilon=0.5), [shape])
    x = to_public(bench.inputs[0])
    weight = bench.params["weight"].reshape(6, *[1] * (len(shape) - 1))
    expected = x / np.sqrt((x**2).mean(1, keepdims=True) + 0.5) * weight
    np.testing.assert_allclose(bench.forward(), from_public(expected), rtol=1e-12)


def test_layer_norm_of_a_map_asks_what_it_is_over() -> None:
    with pytest.raises(ShapeError, match="expected over: channels or over: map") as caught:
        LayerNorm().infer_shape((6, 2, 2))
    assert caught.value.field == "over"
    assert caught.value.help is not None
    assert "each pixel" in caught.value.help
    assert "group_norm with groups: 1" in caught.value.help


def test_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="expected a number of groups that divides 6 channels, got 4") as caught:
        GroupNorm(groups=4).infer_shape((6, 2, 2))
    assert caught.value.field == "groups"
    with pytest.raises(ShapeError, match="expected a map of more than one pixel, got 1x1"):
        InstanceNorm().infer_shape((6, 1, 1))
