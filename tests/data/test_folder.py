"""Pictures in folders: what is read, and what is said of those that differ or cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data.folder import ImageFolder
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

Image = pytest.importorskip("PIL.Image")


def save(path: Path, pixels: Array, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)


def fill(root: Path, shape: tuple[int, ...] = (6, 5), split: str = "train", count: int = 5) -> dict[str, Array]:
    random = np.random.default_rng(0)
    made = {}
    for name in ("dog", "cat"):
        for number in range(count):
            path = root / split / name / f"{number}.png"
            made[f"{name}/{number}"] = random.integers(0, 256, shape).astype(np.uint8)
            save(path, made[f"{name}/{number}"])
    return made


def fails(root: Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message):
        ImageFolder.of(**options).read(root, False)


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    made = fill(tmp_path)
    fill(tmp_path, split="test", count=2)
    found = ImageFolder(test="test").read(tmp_path, False)
    assert found.class_names == ("cat", "dog")
    train = found.splits["train"]
    assert train.labels.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(train.pixels[0, 0], made["cat/0"])
    np.testing.assert_array_equal(train.pixels[7, 0], made["dog/2"])
    assert len(found.splits["test"].labels) == 4
    assert found.notes == ()
    before = found.checksums["train"]
    save(tmp_path / "train" / "cat" / "0.png", np.zeros((6, 5), np.uint8))
    assert ImageFolder().read(tmp_path, False).checksums["train"] != before


def test_a_share_is_held_out_and_classes_can_be_named(tmp_path: Path) -> None:
    fill(tmp_path, shape=(6, 5, 3))
    found = ImageFolder.of(held_out=0.4, classes=["dog", "cat"]).read(tmp_path, False)
    assert found.class_names == ("dog", "cat")
    assert found.splits["train"].pixels.shape == (6, 3, 6, 5)
    assert np.bincount(found.splits["test"].labels).tolist() == [2, 2]


def test_several_sizes_and_modes_are_named_and_can_be_brought_to_one(tmp_path: Path) -> None:
    fill(tmp_path)
    save(tmp_path / "train" / "dog" / "wide.png", np.zeros((6, 9), np.uint8))
    fails(tmp_path, r"expected pictures of one size got 6x5 \(.*cat/0.png\), 6x9 \(.*dog/wide.png\)")
    sized = ImageFolder.of(size=[8, 4]).read(tmp_path, False)
    assert sized.splits["train"].pixels.shape[1:] == (1, 8, 4)
    save(tmp_path / "train" / "dog" / "colour.png", np.zeros((8, 4, 3), np.uint8))
    fails(tmp_path, r"expected pictures of one mode, L or RGB, got L \(.*\), RGB \(.*dog/colour.png\)", size=[8, 4])
    for mode, channels in (("grey", 1), ("rgb", 3)):
        found = ImageFolder.of(size=[8, 4], mode=mode).read(tmp_path, False)
        assert found.splits["train"].pixels.shape[1:] == (channels, 8, 4)


@pytest.mark.parametrize("mode", ["P", "RGBA", "I;16"])
def test_modes_that_are_neither_grey_nor_colour_are_named(tmp_path: Path, mode: str) -> None:
    for number in range(3):
        if mode == "I;16":
            save(tmp_path / "train" / "a" / f"{number}.png", np.zeros((4, 4), np.uint16))
        else:
            save(tmp_path / "train" / "a" / f"{number}.png", np.zeros((4, 4, 3), np.uint8), mode)
    fails(tmp_path, rf"expected pictures of one mode, L or RGB, got {mode} \(.*0.png\)")


def test_unreadable_pictures_stop_or_are_skipped_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, count=10)
    whole = (tmp_path / "train" / "cat" / "1.png").read_bytes()
    for number, content in enumerate([b"", b"no picture", whole[:60], whole[:-30]]):
        (tmp_path / "train" / "cat" / f"{number}.png").write_bytes(content)
    (tmp_path / "train" / "dog" / "notes.txt").write_text("ignored")
    (tmp_path / "train" / "dog" / ".DS_Store").write_text("hidden")
    fails(tmp_path, r"cat/0.png: cannot be read as a picture")
    found = ImageFolder(on_error="skip").read(tmp_path, False)
    assert sum(len(images.labels) for images in found.splits.values()) == 16
    skipped, ignored = found.notes
    names = ", ".join(str(tmp_path / "train" / "cat" / f"{number}.png") for number in range(3))
    assert skipped == f"{tmp_path / 'train'}: skipped unreadable files, 4 in all: {names}, ..."
    assert ignored == f"{tmp_path / 'train'}: ignored other files, 1 in all: {tmp_path / 'train' / 'dog' / 'notes.txt'}"


def test_a_picture_that_would_fill_the_memory_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    save(tmp_path / "train" / "cat" / "bomb.png", np.zeros((40, 40), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    fails(tmp_path, "bomb.png: cannot be read as a picture")


def test_folders_that_are_not_there_or_empty(tmp_path: Path) -> None:
    fails(tmp_path, "train: no such folder")
    (tmp_path / "train").mkdir()
    fails(tmp_path, "train: expected one folder for each class, got none")
    (tmp_path / "train" / "cat").mkdir()
    fails(tmp_path, "train: expected pictures in the classes' folders, got none")
    fill(tmp_path)
    fails(tmp_path, "train/bird: no such folder", classes=["cat", "bird"])
    fails(tmp_path, "test: no such folder|test/cat: no such folder", test="test")
    fill(tmp_path, shape=(3, 3), split="test")
    fails(tmp_path, "train: expected test images of 1x6x5, as these are, got 1x3x3", test="test")
