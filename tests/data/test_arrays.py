"""Arrays as people save them: which axis is which, which numbers are pixels, and what is refused with a cure."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.data.arrays import as_images, as_pixels
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

Image = pytest.importorskip("PIL.Image")


def pixels(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64"])
def test_whole_numbers_of_bytes_are_pixels_in_any_type(dtype: str) -> None:
    values = pixels(2, 3, 4, 5) // 2  # which fit int8
    found = as_pixels(values.astype(dtype), "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)
    assert as_pixels(np.zeros((0, 3), dtype), "x").shape == (0, 3)


@pytest.mark.parametrize(
    ("values", "got", "cure"),
    [
        (np.array([0.0, 0.25, 1.0]), "float64 from 0 to 1", "rint"),
        (np.array([0.0, 1.0], np.float32), "float32 from 0 to 1", "rint"),
        (np.array([-1.5, 1.5]), "float64 from -1.5 to 1.5", "range"),
        (np.array([0, 4095], np.uint16), "uint16 from 0 to 4095", "257"),
        (np.array([-1, 3]), "int64 from -1 to 3", "range"),
        (np.array([True, False]), "true and false", "255"),
        (np.array([1j]), "complex128", "uint8"),
        (np.array(["1"]), "<U1", "uint8"),
    ],
)
def test_other_numbers_are_refused_with_their_cure(values: Array, got: str, cure: str) -> None:
    with pytest.raises(DataError, match=f"x: expected .*got {got}") as caught:
        as_pixels(values, "x")
    assert cure in str(caught.value.help)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_finite_number_is_no_pixel(value: float) -> None:
    with pytest.raises(DataError, match="x: holds a value that is no finite number"):
        as_pixels(np.array([value, 1.5]), "x")


def test_rows_are_read_in_the_order_of_the_data() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4)
    for layout, rows in (("nchw", image), ("nhwc", image.transpose(0, 2, 3, 1))):
        found, _ = as_images(rows.reshape(1, -1), (3, 2, 4), layout, "x")
        np.testing.assert_array_equal(found, image)


def test_numbers_from_0_to_1_are_pixels_where_training_had_such() -> None:
    values = pixels(2, 3, 4, 5)
    for array in (values / 255, (values / 255).astype(np.float32), values // 255, values // 255 > 0, values):
        expected = values if array.dtype.kind == "f" or array is values else array.astype(np.uint8) * 255
        np.testing.assert_array_equal(as_pixels(array, "x", "none"), expected)
    with pytest.raises(DataError, match="x: expected pixels from 0 to 1, got float64 from 0 to 255"):
        as_pixels(values.astype(float), "x", "none")


def test_fractions_of_pixels_are_rounded() -> None:
    assert as_pixels(np.array([0.4, 127.6, 254.9]), "x").tolist() == [0, 128, 255]


def test_colour_and_grey_in_every_layout_that_is_certain() -> None:
    colour, grey = pixels(4, 3, 6, 5), pixels(4, 1, 6, 5)
    last = colour.transpose(0, 2, 3, 1)
    rgb, one = (3, 6, 5), (1, 6, 5)
    for array, shape, expected, told in (
        (colour, rgb, colour, set()),
        (last, rgb, colour, {"layout"}),
        (last[0], rgb, colour[:1], set()),
        (colour.reshape(4, -1), rgb, colour, set()),
        (grey, one, grey, set()),
        (grey[:, 0], one, grey, set()),
        (grey[0, 0], one, grey[:1], set()),
        (grey.transpose(0, 2, 3, 1), one, grey, {"layout"}),
        (grey[0].transpose(1, 2, 0), one, grey[:1], set()),
        (grey.reshape(4, -1), one, grey, set()),
        (grey, rgb, grey.repeat(3, 1), {"rgb"}),
        (grey[:, 0], rgb, grey.repeat(3, 1), {"rgb"}),
    ):
        found, conversions = as_images(array, shape, "nchw", "x")
        np.testing.assert_array_equal(found, expected)
        assert set(conversions) == told


def test_colour_becomes_grey_as_in_picture_files() -> None:
    colour = pixels(9, 8, 3)
    for array in (colour, colour[None], colour.transpose(2, 0, 1)[None]):
        found, conversions = as_images(array, (1, 9, 8), "nchw", "x")
        np.testing.assert_array_equal(found[0, 0], np.asarray(Image.fromarray(colour).convert("L")))
        assert "grey" in conversions


def test_the_layout_of_the_data_decides_where_both_fit() -> None:
    cube = pixels(2, 3, 3, 3)
    np.testing.assert_array_equal(as_images(cube, (3, 3, 3), "nchw", "x")[0], cube)
    np.testing.assert_array_equal(as_images(cube, (3, 3, 3), "nhwc", "x")[0], cube.transpose(0, 3, 1, 2))
    flat = pixels(2, 3, 8, 3)  # as the images of training are channels first, not last
    np.testing.assert_array_equal(as_images(flat, (3, 8, 3), "nchw", "x")[0], flat)


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (pixels(3, 6, 5), (3, 6, 5), "may be one picture or several"),
        (pixels(6, 5, 3), (3, 6, 3), "may be one picture or several"),
        (pixels(3, 6, 3), (3, 6, 5), "may be one picture or several"),
        (pixels(6, 5, 4), (3, 6, 5), "expected 3 channels, got 4"),  # colour with transparency, not six grey pictures
        (pixels(6, 5, 2), (1, 6, 5), "expected 1 channel, got 2"),
        (pixels(2, 6, 5, 4), (3, 6, 5), "expected 3 channels, got 4"),
        (pixels(2, 2, 6, 5), (3, 6, 5), "expected 3 channels, got 2"),
        (pixels(2, 6, 5), (4, 6, 5), "expected 4 channels, got 1"),
        (pixels(0, 3, 6, 5), (3, 6, 5), "expected images, got none"),
        (pixels(7), (3, 6, 5), r"expected images \(n, 3, 6, 5\), got \(7,\)"),
        (pixels(1, 1, 3, 6, 5), (3, 6, 5), r"expected images \(n, 3, 6, 5\), got \(1, 1, 3, 6, 5\)"),
    ],
)
def test_what_is_not_certain_is_refused(array: Array, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=f"x: .*{message}"):
        as_images(array, shape, "nchw", "x")
