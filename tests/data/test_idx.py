"""Data sets in MNIST's format, under the names and in the folders that people have them in."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import DataSettings, Source, open_data
from cnnspec.data.idx import Emnist, Idx, Kmnist, Kuzushiji49
from cnnspec.data.mnist import Mnist
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 28, 28)).astype(np.uint8)
LABELS = (np.arange(20) % 4).astype(np.uint8)


def packed(array: Array) -> bytes:
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    header = bytes([0, 0, codes[array.dtype.str[1:]], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder: Path, names: str, pixels: Array = PIXELS, labels: Array = LABELS) -> None:
    """Images and labels under a name with `*` for images or labels and `#` for the axes."""
    for what, axes, array in (("images", 3, pixels), ("labels", 1, labels)):
        path = folder / names.replace("*", what).replace("#", str(axes))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(packed(array)) if path.suffix == ".gz" else packed(array))


@pytest.mark.parametrize(
    "names",
    [
        "train-*-idx#-ubyte",
        "train-*-idx#-ubyte.gz",
        "train-*.idx#-ubyte",
        "raw/train-*-idx#-ubyte.gz",
        "MNIST/raw/train-*-idx#-ubyte.gz",
        "train-*.idx#-ubyte/train-*.idx#-ubyte",
    ],
)
def test_any_spelling_of_the_names(tmp_path: Path, names: str) -> None:
    write(tmp_path, names)
    write(tmp_path, names.replace("train", "t10k"), PIXELS[:8], LABELS[:8])
    found = Idx().read(tmp_path, False)
    np.testing.assert_array_equal(found.splits["train"].pixels[:, 0], PIXELS)
    np.testing.assert_array_equal(found.splits["test"].labels, LABELS[:8])
    assert len(found.checksums) == 4


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_any_type_of_values(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "set-train-*-idx#-ubyte", PIXELS.astype(kind), LABELS.astype("i4"))
    found = Idx(train="set-train-images-idx3-ubyte", held_out=0.2).read(tmp_path, False)
    assert sorted(map(bytes, np.concatenate([s.pixels for s in found.splits.values()]))) == sorted(map(bytes, PIXELS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "truncated, expected 15,696 bytes, got 15,695"),
        (lambda content: content[:6], "truncated, expected"),
        (lambda content: b"\1" + content[1:], "expected an IDX file"),
        (lambda content: b"", "expected an IDX file"),
        (lambda content: packed(LABELS), r"expected images \(n, h, w\) or \(n, c, h, w\), got \(20,\)"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    write(tmp_path, "train-*-idx#-ubyte")
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte: {message}"):
        Idx().read(tmp_path, False)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte: no such file"):
        Idx().read(tmp_path, False)
    write(tmp_path, "train-*-idx#-ubyte")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no labels beside it, expected train-labels-idx1-ubyte"):
        Idx().read(tmp_path, False)


def test_letters_stand_upright_and_have_their_names(tmp_path: Path) -> None:
    names = "emnist/gzip/emnist-letters-{}-*-idx#-ubyte.gz"
    write(tmp_path, names.format("train"), PIXELS, LABELS + 23)
    write(tmp_path, names.format("test"), PIXELS[:8], LABELS[:8] + 23)
    data = open_data(DataSettings.of(source={"type": "emnist", "part": "letters"}), seed=0, data_dir=tmp_path)
    np.testing.assert_array_equal(data.train.pixels[:, 0], PIXELS.swapaxes(1, 2))
    assert [data.class_names[label] for label in data.train.labels[:4]] == ["W", "X", "Y", "Z"]
    assert len(data.class_names) == 26
    write(tmp_path, names.format("train"), PIXELS, LABELS + 24)
    with pytest.raises(DataError, match="emnist: label 27 is none of the 26 classes"):
        Emnist(part="letters").read(tmp_path, False)


@pytest.mark.parametrize(("part", "count"), [("balanced", 47), ("bymerge", 47), ("byclass", 62), ("digits", 10)])
def test_the_published_numbers_of_classes(part: str, count: int) -> None:
    assert len(set(Emnist.of(part=part).class_names)) == count
    assert len(set(Kmnist().class_names)) == 10
    assert len(set(Kuzushiji49().class_names)) == 49


def named(source: Source, folder: Path) -> list[str]:
    found = source.read(folder, False)
    return [found.class_names[label] for label in found.splits["train"].labels[:4]]


def test_hiragana(tmp_path: Path) -> None:
    write(tmp_path, "KMNIST/raw/train-*-idx#-ubyte.gz")
    write(tmp_path, "KMNIST/raw/t10k-*-idx#-ubyte.gz")
    assert named(Kmnist(), tmp_path) == ["お", "き", "す", "つ"]
    notes = Kmnist().read(tmp_path, False).notes
    assert len(notes) == 4
    assert notes[0] == "train-images-idx3-ubyte.gz: is not the published file: changed, or packed anew"
    for split in ("train", "test"):
        np.savez(tmp_path / f"k49-{split}-imgs.npz", PIXELS)
        np.savez(tmp_path / f"k49-{split}-labels.npz", LABELS + np.uint8(44))
    assert named(Kuzushiji49(), tmp_path) == ["ゐ", "ゑ", "を", "ん"]


def test_mnist_as_other_libraries_keep_it(tmp_path: Path) -> None:
    for split in ("train", "t10k"):
        write(tmp_path, f"MNIST/raw/{split}-*-idx#-ubyte")
    assert {path.parent for path in Mnist().locate(tmp_path)} == {tmp_path / "MNIST" / "raw"}
