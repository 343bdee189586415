"""The one resampling against Pillow's: pass by pass the same bits, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.data.resize import resize, resize_picture

Image = pytest.importorskip("PIL.Image")


def sizes(count: int) -> list[tuple[int, int, int, int]]:
    random = np.random.default_rng(0)
    drawn = random.integers(1, [90, 90, 70, 70], (count, 4)).tolist()
    return [(1, 1, 5, 7), (3, 700, 9, 2), (640, 480, 32, 32), *map(tuple, drawn)]


def test_columns_and_rows_are_those_of_pillow() -> None:
    for h, w, height, width in sizes(60):
        pixels = np.random.default_rng(h).integers(0, 256, (2, 3, h, w)).astype(np.uint8)
        expected = np.empty((2, 3, height, width), np.uint8)
        for image, channel in np.ndindex(2, 3):
            columns = Image.fromarray(pixels[image, channel]).resize((width, h), Image.Resampling.BILINEAR)
            expected[image, channel] = columns.resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resize(pixels, (height, width)), expected)


def test_pictures_are_resized_to_the_same_bits_as_arrays() -> None:
    for h, w, height, width in sizes(60):
        pixels = np.random.default_rng(h).integers(0, 256, (h, w, 3)).astype(np.uint8)
        picture = np.asarray(resize_picture(Image.fromarray(pixels), (height, width)))
        array = resize(pixels.transpose(2, 0, 1)[None], (height, width))[0]
        np.testing.assert_array_equal(picture.transpose(2, 0, 1), array)


def test_shrinking_averages_and_a_constant_stays() -> None:
    fine = np.indices((64, 64)).sum(axis=0) % 2 * 255
    shrunk = resize(fine.astype(np.uint8)[None, None], (8, 8))
    assert np.abs(shrunk.astype(int) - 127.5).max() < 2
    for value in (0, 1, 254, 255):
        constant = np.full((1, 1, 37, 53), value, np.uint8)
        assert (resize(constant, (5, 61)) == value).all()
