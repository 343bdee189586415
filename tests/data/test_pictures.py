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
