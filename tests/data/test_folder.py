"""Pictures in folders: what is read, and what is said of those that differ or cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import Data, DataSettings, open_data
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
    assert np.asarray(train.labels).tolist() == [0] * 5 + [1] * 5
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
    fails(tmp_path, r"expected pictures of one size, got 6x5 \(.*cat/0.png\), 6x9 \(.*dog/wide.png\)")
    sized = ImageFolder.of(size=[8, 4]).read(tmp_path, False)
    assert sized.splits["train"].pixels.shape[1:] == (1, 8, 4)
    save(tmp_path / "train" / "dog" / "colour.png", np.zeros((8, 4, 3), np.uint8))
    fails(tmp_path, r"expected pictures of one mode, got grey \(.*\), rgb \(.*dog/colour.png\)", size=[8, 4])
    for mode, channels in (("grey", 1), ("rgb", 3)):
        found = ImageFolder.of(size=[8, 4], mode=mode).read(tmp_path, False)
        assert found.splits["train"].pixels.shape[1:] == (channels, 8, 4)


@pytest.mark.parametrize("mode", ["P", "RGBA", "I;16"])
def test_other_modes_are_grey_or_colour(tmp_path: Path, mode: str) -> None:
    for number in range(3):
        if mode == "I;16":
            save(tmp_path / "train" / "a" / f"{number}.png", np.full((4, 4), 51 * 257, np.uint16))
        else:
            save(tmp_path / "train" / "a" / f"{number}.png", np.full((4, 4, 3), 51, np.uint8), mode)
    pixels = np.asarray(ImageFolder().read(tmp_path, False).splits["train"].pixels)
    assert pixels.shape[1:] == (1 if mode == "I;16" else 3, 4, 4)
    assert (pixels == 51).all()


def test_what_is_converted_is_told_once_and_the_background_is_the_specs(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "train" / "a" / f"{number}.png", np.zeros((4, 4, 4), np.uint8))
    for background, value, where in ((None, 255, "white"), (9, 9, r"the background [9, 9, 9]")):
        source = ImageFolder() if background is None else ImageFolder.of(background=background)
        found = source.read(tmp_path, False)
        assert (np.asarray(found.splits["train"].pixels) == value).all()
        assert found.notes == (f"{tmp_path / 'train'}: 4 pictures had transparency: laid on {where}",)


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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    fails(tmp_path, "bomb.png: expected at most 1,400 pixels, got more")


def test_folders_that_are_not_there_or_empty(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere: no such folder")
    fails(tmp_path, "expected train/ or a folder for each class, with pictures, got none")
    (tmp_path / "train").mkdir()
    fails(tmp_path, "train: expected one folder for each class, got none")
    (tmp_path / "train" / "cat").mkdir()
    fails(tmp_path, "train: expected pictures in the classes' folders, got none")
    fill(tmp_path)
    fails(tmp_path, "train/bird: no such folder", classes=["cat", "bird"])
    fails(tmp_path, "test: no such folder", test="test")


def opened(root: Path, classes: tuple[str, ...] = (), **source: Any) -> Data:
    settings = DataSettings.of(source={"type": "image_folder", **source})
    return open_data(settings, seed=0, data_dir=root, classes=classes)


def test_folders_of_splits_are_used_where_they_are_there(tmp_path: Path) -> None:
    for split, count in (("Train", 5), ("valid", 3), ("test", 2)):
        fill(tmp_path, split=split, count=count)
    data = opened(tmp_path)
    assert data.summary() == "10 training images (Train/), 6 validation (valid/), 4 test (test/), 2 classes"
    assert data.notes == ()
    fill(tmp_path, split="val")
    with pytest.raises(DataError, match="expected one validation folder, got val/ and valid/") as caught:
        opened(tmp_path)
    assert caught.value.help == "name one: data.source.validation"
    assert "15" not in opened(tmp_path, validation="val").summary()
    assert opened(tmp_path, validation="val").summary().startswith("10 training images (Train/), 10 validation (val/)")


def test_a_share_set_apart_by_the_spec_comes_before_a_folder(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill(tmp_path, split=split)
    settings = DataSettings.of(source="image_folder", validation={"limit": 2})
    data = open_data(settings, seed=0, data_dir=tmp_path)
    assert data.summary() == "8 training images (train/), 2 validation, 10 test (test/), 2 classes"
    assert data.notes == ("val/ is not read: data.validation sets training images apart",)


def test_a_folder_of_classes_without_folders_of_splits(tmp_path: Path) -> None:
    fill(tmp_path, split=".")
    data = opened(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.summary() == f"8 training images ({tmp_path.name}/), 2 test (held out of {tmp_path.name}/), 2 classes"
    fill(tmp_path, split="test", count=3)
    assert opened(tmp_path).summary() == f"10 training images ({tmp_path.name}/), 6 test (test/), 2 classes"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, split=".")
    save(tmp_path / "train" / "1.png", np.zeros((6, 5), np.uint8))
    assert opened(tmp_path).class_names == ("cat", "dog", "train")


def test_pictures_in_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "train" / "cat" / "day1" / "camera").mkdir(parents=True)
    for number in range(5):
        path = tmp_path / "train" / "cat" / f"{number}.png"
        path.rename(tmp_path / "train" / "cat" / ("day1" if number < 3 else "day1/camera") / path.name)
    (tmp_path / "train" / "cat" / "day1" / "loop").symlink_to(tmp_path / "train" / "cat")
    data = opened(tmp_path, held_out=0.2)
    assert np.bincount(data.train.labels).tolist() == [4, 4]


def test_links_are_what_they_show(tmp_path: Path) -> None:
    made = fill(tmp_path / "elsewhere")
    (tmp_path / "pics" / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        (tmp_path / "pics" / "train" / name).symlink_to(tmp_path / "elsewhere" / "train" / name)
    found = ImageFolder(held_out=0.2).read(tmp_path / "pics", False)
    np.testing.assert_array_equal(found.splits["train"].pixels[0, 0], made["cat/0"])


@pytest.mark.parametrize(
    "name", ["._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "0.xmp", "__MACOSX/0.png", "@eaDir/0.png", ".x/0.png"]
)
def test_hidden_and_system_files_are_skipped(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    for folder in (tmp_path, tmp_path / "train", tmp_path / "train" / "cat"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7 no picture")
    data = opened(tmp_path)
    assert (data.class_names, data.notes, len(data.train) + len(data.test)) == (("cat", "dog"), (), 10)


def test_a_class_without_pictures_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "train" / "fox").mkdir()
    fails(tmp_path, "train/fox: no picture of this class$")
    (tmp_path / "train" / "fox" / "1.heic").write_bytes(b"")
    fails(tmp_path, "train/fox: no picture of this class, but other files: .*1.heic")
    save(tmp_path / "train" / "fox" / "1.png", np.zeros((6, 5), np.uint8))  # as the help says
    assert opened(tmp_path).class_names == ("cat", "dog", "fox")


def test_classes_that_only_one_split_has_are_told(tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, split="test", count=3)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "Cats")
    save(tmp_path / "test" / "owl" / "1.png", np.zeros((6, 5), np.uint8))
    data = opened(tmp_path)
    assert data.notes == (
        "test/: Cats is no class of train/: 3 images of it are left out; is it cat?",
        "test/: owl is no class of train/: 1 image of it is left out",
        "test/: no image of cat",
    )
    assert np.asarray(data.test.labels).tolist() == [1] * 3
    part = opened(tmp_path, classes=("dog",))
    assert part.class_names == ("dog",)
    assert part.notes[0] == "train/: cat is no class of the network: 5 images of it are left out"


def test_labels_follow_the_names_that_a_network_was_trained_with(tmp_path: Path) -> None:
    made = fill(tmp_path)
    data = opened(tmp_path, ("ant", "dog", "cat"), held_out=0.2)
    assert data.class_names == ("ant", "dog", "cat")
    assert np.asarray(data.train.labels).tolist() == [2] * 4 + [1] * 4
    np.testing.assert_array_equal(data.train.pixels[-1, 0], made["dog/4"])
    assert data.notes == ("train/: no image of ant", "held out of train/: no image of ant")
    with pytest.raises(DataError, match="train/: expected images of the classes ant, bee, got cat, dog"):
        opened(tmp_path, ("ant", "bee"))


def test_numbers_are_in_their_order(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "-1"):
        for number in range(2):
            save(tmp_path / "train" / name / f"{number}.png", np.zeros((4, 4), np.uint8))
    assert opened(tmp_path, held_out=0.5).class_names == ("-1", "1", "9", "10")


def test_the_only_picture_of_a_class_is_trained_on(tmp_path: Path) -> None:
    for name, count in (("common", 40), ("few", 2), ("rare", 1)):
        for number in range(count):
            save(tmp_path / "train" / name / f"{number}.png", np.zeros((4, 4), np.uint8))
    data = opened(tmp_path, held_out=0.5)
    assert np.bincount(data.train.labels).tolist() == [19, 1, 1]
    assert np.bincount(data.test.labels, minlength=3).tolist() == [21, 1, 0]
    assert data.notes == ("held out of train/: no image of rare",)
    settings = DataSettings.of(source={"type": "image_folder", "test": "train"}, validation={"fraction": 0.5})
    halves = open_data(settings, seed=0, data_dir=tmp_path)
    assert halves.validation is not None
    assert (np.asarray(halves.train.labels) == 2).sum() == 1
    assert not (np.asarray(halves.validation.labels) == 2).any()


def test_a_table_of_files_takes_the_place_of_folders(tmp_path: Path) -> None:
    made = fill(tmp_path)
    lines = [f"train/{name}.png;{name[:3]}" for name in made]
    (tmp_path / "list.csv").write_text("\n".join(["File;Label", *lines]), encoding="utf-8-sig")
    data = opened(tmp_path, train="list.csv", held_out=0.2)
    assert data.summary() == "8 training images (list.csv), 2 test (held out of list.csv), 2 classes"
    np.testing.assert_array_equal(data.train.pixels[0, 0], made["cat/0"])
    (tmp_path / "plain.csv").write_text("\n".join(line.replace(";", ",") for line in lines))
    both = opened(tmp_path, train="list.csv", test="plain.csv")
    np.testing.assert_array_equal(both.train.pixels, both.test.pixels)


def test_a_table_may_name_files_anywhere(tmp_path: Path) -> None:
    made = fill(tmp_path / "far")
    far = tmp_path / "far" / "train"
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "all.csv").write_text(
        "\n".join(
            f"{far / name}.png,{name[:3]}" if name < "d" else f"../far/train/{name}.png,{name[:3]}" for name in made
        )
    )
    data = opened(lists, train="all.csv", test="all.csv")
    np.testing.assert_array_equal(data.train.pixels[0, 0], made["cat/0"])
    assert len(data.train) == 10


def test_links_upwards_are_not_followed_and_links_to_nothing_are_named(tmp_path: Path) -> None:
    made = fill(tmp_path)
    (tmp_path / "train" / "cat" / "up").symlink_to("..", target_is_directory=True)
    assert sum(len(split) for split in opened(tmp_path).splits.values()) == len(made)
    (tmp_path / "train" / "cat" / "gone.png").symlink_to("nowhere.png")
    fails(tmp_path, "gone.png: a link to a file that is not there")
    assert sum(len(split) for split in opened(tmp_path, on_error="skip").splits.values()) == len(made)


def test_a_trained_network_has_the_images_in_the_order_of_its_training(tmp_path: Path) -> None:
    fill(tmp_path)
    settings = DataSettings.of(source={"type": "image_folder", "classes": ["dog", "cat"]})
    trained = open_data(settings, seed=0, data_dir=tmp_path)
    again = open_data(settings, seed=0, data_dir=tmp_path, classes=("dog", "cat"))
    np.testing.assert_array_equal(again.train.pixels, trained.train.pixels)
    assert again.checksums == trained.checksums
    settings = DataSettings.of(source={"type": "image_folder", "classes": ["cat", "dog", "cat"]})
    with pytest.raises(DataError, match=r"data.source.classes: cat is named twice"):
        open_data(settings, seed=0, data_dir=tmp_path)


def test_many_pictures_stay_in_their_order(tmp_path: Path) -> None:
    for number in range(150):
        save(tmp_path / "train" / "a" / f"{number:03}.png", np.full((4, 4), number, np.uint8))
        save(tmp_path / "train" / "b" / f"{number:03}.png", np.full((4, 4), 100 + number, np.uint8))
    data = opened(tmp_path, test="train")
    assert data.train.pixels[:, 0, 0, 0].tolist() == [*range(150), *range(100, 250)]
    assert data.checksums == opened(tmp_path, test="train").checksums


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train/cat/0.png", "list.csv:2: expected a file and a label, got 'train/cat/0.png'"),
        ("train/cat/0.png,", "list.csv:2: the label is empty"),
        ("train/cat/77.png,cat", "list.csv:2: .*train/cat/77.png: no such file"),
    ],
)
def test_what_is_wrong_with_a_table_of_files_is_named(tmp_path: Path, line: str, message: str) -> None:
    fill(tmp_path)
    (tmp_path / "list.csv").write_text(f"train/dog/0.png,dog\n{line}\n")
    fails(tmp_path, message, train="list.csv")


def test_test_images_of_another_size_are_an_error(tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, shape=(3, 3), split="test")
    with pytest.raises(DataError, match="test/: expected images of 1x6x5, as in train/, got 1x3x3"):
        opened(tmp_path)


def test_pictures_to_test_with_are_enough_for_a_trained_network(tmp_path: Path) -> None:
    fill(tmp_path, split="test", count=3)
    fails(tmp_path, "expected train/ or a folder for each class, with pictures, got test/")
    data = opened(tmp_path, ("dog", "cat"))
    assert np.asarray(data.test.labels).tolist() == [1] * 3 + [0] * 3


def test_files_of_other_formats_and_pictures_without_a_class_are_told(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(3):
        (tmp_path / "cat" / f"{number}.HEIC").write_bytes(b"no picture that is read")
    fails(tmp_path, "with pictures, got files: 3 of .heic")
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    fails(tmp_path, "with pictures, got pictures without such a folder")
