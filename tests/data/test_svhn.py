"""House numbers in MATLAB's files, as SciPy writes them: read whole and in parts, refused where they are damaged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import DataSettings, open_data
from cnnspec.data.matlab import numbers_in, part_of
from cnnspec.data.rows import FileRows
from cnnspec.data.svhn import Svhn
from cnnspec.diagnostics import DataError

matlab = pytest.importorskip("scipy.io")

RANDOM = np.random.default_rng(0)
COUNT = 130
PIXELS = RANDOM.integers(0, 256, (32, 32, 3, COUNT)).astype(np.uint8)
LABELS = (1 + np.arange(COUNT) % 10).astype(np.uint8)[:, None]


def write(folder: Path, name: str = "train_32x32.mat", *, packed: bool = True, **arrays: Any) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    matlab.savemat(path, {"X": PIXELS, "y": LABELS, **arrays}, do_compression=packed)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["", "SVHN/"])
@pytest.mark.parametrize("kind", ["u1", "f8"])  # of the labels
def test_images_and_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, place: str, kind: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, f"{place}train_32x32.mat", packed=packed, y=LABELS.astype(kind))
    write(tmp_path, f"{place}test_32x32.mat", packed=packed, X=PIXELS[..., :3], y=LABELS[:3].astype(kind))
    for cache in (False, True, True):
        data = open_data(DataSettings.of(source="svhn", cache=cache), seed=0, data_dir=tmp_path)
        assert isinstance(data.train.pixels, FileRows) == cache
        np.testing.assert_array_equal(np.asarray(data.train.pixels), PIXELS.transpose(3, 2, 0, 1))
        assert [data.class_names[label] for label in np.asarray(data.train.labels)[:11]] == list("12345678901")
        assert len(data.test) == 3


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "i4", "f4", "f8"])
def test_arrays_of_any_type_are_those_of_scipy(tmp_path: Path, packed: bool, kind: str) -> None:
    values = RANDOM.integers(0, 100, (3, 4, 5)).astype(kind)
    small = np.array([[7]], kind)  # which lies in its tag
    path = write(tmp_path, packed=packed, values=values, small=small)
    for name, array in (("values", values), ("small", small), ("y", LABELS)):
        with numbers_in(path, name) as found:
            assert found.shape == array.shape
            content = part_of(path, found, int(np.prod(found.shape)) * found.dtype.itemsize)
            read = np.frombuffer(content, found.dtype).reshape(found.shape, order="F")
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"y": LABELS[:-1]},
            r"X: expected 129 images of 32x32x3 bytes, one for each label, got uint8 \(32, 32, 3, 130\)",
        ),
        ({"X": PIXELS.astype("f4")}, r"X: expected 130 images of 32x32x3 bytes, one for each label, got float32"),
        ({"y": LABELS + np.uint8(1)}, r"label 11 of image 9 is none of the 10 classes"),
        ({"y": "text"}, "y: expected an array of real numbers"),
        ({"y": LABELS * 1j}, "y: expected an array of real numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    write(tmp_path, **arrays)
    write(tmp_path, "test_32x32.mat")
    with pytest.raises(DataError, match=rf"train_32x32\.mat: {message}"):
        Svhn().read(tmp_path, False)


@pytest.mark.parametrize("packed", [False, True])
def test_files_that_are_damaged_or_none(tmp_path: Path, packed: bool) -> None:
    with pytest.raises(DataError, match=r"train_32x32\.mat: no such file, nor in svhn/ or SVHN/"):
        Svhn().read(tmp_path, False)
    path = write(tmp_path, packed=packed)
    write(tmp_path, "test_32x32.mat")
    content = path.read_bytes()
    for length in (0, 100, 130, 200, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            Svhn().read(tmp_path, False)
    for place in RANDOM.integers(0, 400, 100):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with suppress(DataError):
            Svhn().read(tmp_path, False)
