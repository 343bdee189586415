"""Pictures and arrays from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.data import DataSettings, read_pictures
from cnnspec.diagnostics import DataError

Image = pytest.importorskip("PIL.Image")


def test_pictures_and_arrays_come_out_in_the_networks_shape(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / "colour.png")
    np.save(tmp_path / "several.npy", np.stack([pixels, pixels]))
    paths = [tmp_path / name for name in ("grey.png", "colour.png", "several.npy")]
    read = read_pictures(paths, None, (1, 28, 28))
    assert read.shape == (4, 1, 28, 28)
    for image in read:
        np.testing.assert_array_equal(image[0], pixels)


def test_a_picture_of_the_datas_own_size_takes_the_datas_way(tmp_path: Path) -> None:
    np.save(tmp_path / "digit.npy", np.full((8, 8), 9, np.uint8))
    settings = DataSettings.of(source="digits", preprocess=[{"type": "pad", "padding": 1}])
    read = read_pictures([tmp_path / "digit.npy"], settings, (1, 10, 10))
    assert read[0, 0, 0].tolist() == [0] * 10
    assert read[0, 0, 1].tolist() == [0, *[9] * 8, 0]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "floats.npy", np.zeros((8, 8)))
    for name, message in (
        ("text.png", "cannot be read as a picture"),
        ("floats.npy", "expected bytes"),
        ("missing.png", "no such file"),
    ):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_pictures([tmp_path / name], None, (1, 8, 8))


def test_grey_arrays_and_pictures_enter_colour_networks_in_all_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "grey.npy", pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "grey.png")
    read = read_pictures([tmp_path / "grey.npy", tmp_path / "grey.png"], None, (3, 8, 8))
    assert read.shape == (3, 3, 8, 8)
    for channel in range(3):
        np.testing.assert_array_equal(read[:2, channel], pixels)
        np.testing.assert_array_equal(read[2, channel], pixels[0])


def test_what_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    np.save(tmp_path / "colour.npy", np.zeros((1, 3, 8, 8), np.uint8))
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8), np.uint8))
    np.save(tmp_path / "grey.npy", np.zeros((8, 8), np.uint8))
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    for name, shape, message in (
        ("colour.npy", (1, 8, 8), "colour.npy: expected 1 channels, got 3"),
        ("empty.npy", (1, 8, 8), "empty.npy: expected images, got none"),
        ("grey.npy", (2, 8, 8), "grey.npy: expected 2 channels, got 1"),
        ("grey.png", (2, 8, 8), "grey.png: pictures have 1 or 3 channels, the network wants 2"),
    ):
        with pytest.raises(DataError, match=message):
            read_pictures([tmp_path / name], None, shape)
    with pytest.raises(DataError, match="expected pictures or arrays, got none"):
        read_pictures([], None, (1, 8, 8))
