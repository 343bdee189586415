"""Transforms against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.data.transforms import Normalize, Pad, Resize, Scale, affine
from cnnspec.kernels.step import Array
from cnnspec.shapes import ShapeError


def averaged(image: Array, height: int, width: int) -> Array:
    """One pixel at a time: the mean of the image under a triangle, which is as wide as two output pixels."""
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            weights = []
            for place, source, target in ((i, image.shape[0], height), (j, image.shape[1], width)):
                scale = source / target
                distance = np.abs(np.arange(source) + 0.5 - (place + 0.5) * scale) / max(scale, 1)
                weights.append(np.maximum(0, 1 - distance))
            both = np.outer(*weights)
            out[i, j] = (both * image).sum() / both.sum()
    return out


@pytest.mark.parametrize("size", [(28, 28), (5, 11), (8, 8), (1, 1), (16, 3)])
def test_resize_is_bilinear_and_averages_where_it_shrinks(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8)).astype(np.uint8)
    resized = Resize(size=size).apply(pixels)
    assert resized.dtype == np.uint8
    for n in range(3):
        for c in range(2):
            expected = averaged(pixels[n, c].astype(float), *size)
            assert np.abs(resized[n, c] - expected).max() <= 1.01  # each pass rounds
    assert Resize(size=size).infer_shape((2, 8, 8)) == (2, *size)


def test_pad() -> None:
    pixels = np.ones((1, 1, 2, 3), np.uint8)
    pad = Pad.of(padding=[1, 0, 2, 1], value=7)
    padded = pad.apply(pixels)
    assert padded.shape[1:] == pad.infer_shape((1, 2, 3)) == (1, 3, 6)
    assert padded[0, 0].tolist() == [[7] * 6, [7, 7, 1, 1, 1, 7], [7, 7, 1, 1, 1, 7]]


def test_pixels_enter_as_0_to_1() -> None:
    scale, shift = affine([], 1)
    np.testing.assert_allclose(np.array([0, 255]) * scale[0] + shift[0], [0, 1], rtol=1e-6)


def test_scale_and_normalize_compose_in_their_order() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    scale, shift = affine([Scale(minimum=-1, maximum=1), Normalize(mean=mean, std=std)], 3)
    byte = 100
    for c in range(3):
        assert byte * scale[c] + shift[c] == pytest.approx((byte / 255 * 2 - 1 - mean[c]) / std[c], rel=1e-5)


def test_normalize_wants_one_number_or_one_a_channel() -> None:
    with pytest.raises(ShapeError, match="expected 1 or 3 numbers in mean, got 2"):
        Normalize(mean=(0.1, 0.2), std=(1.0,)).infer_shape((3, 8, 8))
