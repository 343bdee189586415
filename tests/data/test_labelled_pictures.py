"""Pictures with masks, several labels or values, in folders and tables as people keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.data import DataSettings, open_data
from cnnspec.data.picture_masks import ImageMasks, read_mask
from cnnspec.data.picture_table import ImageTable
from cnnspec.data.rows import FileRows
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.target import VOID

Image = pytest.importorskip("PIL.Image")


def picture(path: Path, array: Array, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(array)
    if palette:
        made = Image.fromarray(array, "L").convert("P")
        made.putdata(array.ravel().tolist())
    made.save(path)


def shapes(
    folder: Path, count: int = 12, *, levels: tuple[int, ...] = (0, 1, 2), **options: Any
) -> tuple[Array, Array]:
    """Pictures as bright as the classes of their masks."""
    random = np.random.default_rng(0)
    maps = np.repeat(np.repeat(random.integers(0, len(levels), (count, 4, 4)), 2, axis=1), 2, axis=2)
    pixels = (maps * 100 + random.integers(0, 50, maps.shape)).astype(np.uint8)
    for i in range(count):
        picture(folder / "images" / f"{i:02}.png", pixels[i])
        picture(folder / "masks" / f"{i:02}.png", np.array(levels, np.uint8)[maps[i]], **options)
    return pixels, maps


@pytest.mark.parametrize(("levels", "palette"), [((0, 1, 2), False), ((0, 1, 2), True), ((0, 255), False)])
def test_masks_are_paired_by_name(tmp_path: Path, levels: tuple[int, ...], palette: bool) -> None:
    pixels, maps = shapes(tmp_path / "train", levels=levels, palette=palette)
    found = ImageMasks(held_out=0.25).read(tmp_path, download=False)
    assert found.kind == "mask"
    assert found.class_names == tuple(map(str, range(len(levels))))
    both = [
        (np.asarray(found.splits[split].pixels), np.asarray(found.splits[split].labels)) for split in ("train", "test")
    ]
    assert [len(images) for images, _ in both] == [9, 3]
    for images, labels in both:
        for image, label in zip(images, labels, strict=True):
            number = next(i for i in range(12) if np.array_equal(pixels[i], image[0]))
            np.testing.assert_array_equal(label, maps[number])


def test_folders_of_masks_beside_train_are_the_other_splits(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        shapes(tmp_path / split, count)
    found = ImageMasks().read(tmp_path, download=False)
    assert found.places == {"train": "train", "validation": "val", "test": "test"}
    assert {split: len(images.labels) for split, images in found.splits.items()} == {
        "train": 6,
        "validation": 3,
        "test": 2,
    }
    (tmp_path / "test" / "masks").rename(tmp_path / "test" / "others")
    found = ImageMasks().read(tmp_path, download=False)
    assert found.places["test"] == "held out of train"
    assert found.notes == (f"{tmp_path / 'test'}: is not read: it has no labels",)


@pytest.mark.parametrize(
    ("levels", "ignore"), [((0, 1, 255), 255), ((1, 2, 0), 0), ((0, 255, 128), 128), ((0, 3, 7), 7)]
)
def test_pixels_of_no_class_are_said_by_their_number(tmp_path: Path, levels: tuple[int, ...], ignore: int) -> None:
    shapes(tmp_path / "train", levels=levels)
    found = ImageMasks(ignore=ignore).read(tmp_path, download=False)
    labels = np.concatenate([found.splits[split].labels for split in ("train", "test")])
    classes = {0, 1} if set(levels) <= {0, 128, 255} else set(levels) - {ignore}
    assert set(np.unique(labels).tolist()) == {*classes, VOID}
    assert found.class_names == tuple(map(str, range(max(classes) + 1)))


def test_a_class_without_a_pixel_is_told_and_jpeg_masks_are_refused(tmp_path: Path) -> None:
    shapes(tmp_path / "train", levels=(1, 3))
    assert ImageMasks().read(tmp_path, download=False).notes == ("masks: no pixel is of class 0, 2",)
    noise = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(np.uint8)
    picture(tmp_path / "mask.jpg", noise * 255)
    with pytest.raises(DataError, match="is a JPEG file, which changes the numbers of classes") as caught:
        read_mask(tmp_path / "mask.jpg")
    assert "save the masks anew as PNG" in (caught.value.help or "")
    picture(tmp_path / "flat.jpg", np.full((8, 8), 255, np.uint8))
    assert (read_mask(tmp_path / "flat.jpg") == 255).all()


def test_a_border_of_255_is_asked_about(tmp_path: Path) -> None:
    shapes(tmp_path / "train", levels=(0, 1, 255))
    with pytest.raises(DataError, match="expected classes 0 to 254, got 255") as caught:
        ImageMasks().read(tmp_path, download=False)
    assert "write data.source.ignore: 255" in (caught.value.help or "")
    shapes(tmp_path / "void" / "train", levels=(9, 9, 9))
    with pytest.raises(DataError, match="expected pixels of a class, got none"):
        ImageMasks(ignore=9).read(tmp_path / "void", download=False)


def test_masks_of_another_size_mix_no_classes(tmp_path: Path) -> None:
    _, maps = shapes(tmp_path / "train")
    found = ImageMasks.of(size=[4, 4], held_out=0.25).read(tmp_path, download=False)
    labels = np.concatenate([found.splits[split].labels for split in ("train", "test")])
    assert labels.shape[1:] == (4, 4)
    expected = {maps[i, ::2, ::2].tobytes() for i in range(12)}
    assert {label.astype(maps.dtype).tobytes() for label in labels} == expected


def test_what_is_wrong_with_masks_is_named(tmp_path: Path) -> None:
    shapes(tmp_path / "train")
    (tmp_path / "train" / "masks" / "03.png").unlink()
    with pytest.raises(DataError, match=r"03.png: no mask of the same name in .*masks"):
        ImageMasks().read(tmp_path, download=False)
    picture(tmp_path / "train" / "masks" / "03.png", np.full((8, 8), 7, np.uint8))
    with pytest.raises(DataError, match=r"03.png: expected classes 0 to 2, got 7"):
        ImageMasks(classes=3).read(tmp_path, download=False)
    picture(tmp_path / "train" / "masks" / "03.png", np.zeros((4, 8), np.uint8))
    with pytest.raises(DataError, match="expected masks of one size"):
        ImageMasks().read(tmp_path, download=False)
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[0, 0] = 255, 0, 0
    picture(tmp_path / "red.png", colours)
    with pytest.raises(DataError, match="expected the number of a class"):
        read_mask(tmp_path / "red.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"sparse\.png: cannot be read as a picture: expected at most"):
        read_mask(tmp_path / "sparse.png")


def test_a_network_learns_masks_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, maps = shapes(tmp_path / "data" / "train", 40)
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "cnnspec: 1\ninput: [1, 8, 8]\nname: net\nlayers:\n"
        "  - {type: conv2d, filters: 16, kernel_size: 1, activation: relu}\n"
        "  - {type: conv2d, filters: 3, kernel_size: 1}\n"
        "data: {source: image_masks, root: data, validation: {fraction: 0.2}, augment: [flip]}\n"
        "train: {epochs: 60, batch_size: 8, optimizer: {type: adam, learning_rate: 0.02}}\n"
        'require: {test.mean_iou: ">= 0.95"}\n'
    )
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "runs")]) == 0
    capsys.readouterr()
    asked = str(tmp_path / "data" / "train" / "images" / "05.png")
    run = str(tmp_path / "runs" / "net")
    assert main(["predict", run, asked, "-o", str(tmp_path / "mask.png")]) == 0
    drawn = read_mask(tmp_path / "mask.png")
    assert (drawn == maps[5]).mean() > 0.95
    assert main(["predict", run, asked, "--json"]) == 0
    areas = json.loads(capsys.readouterr().out)["areas"]
    assert areas == {str(k): pytest.approx((drawn == k).mean()) for k in range(3) if (drawn == k).any()}


def table(folder: Path, lines: list[str], count: int = 10) -> None:
    for i in range(count):
        picture(folder / f"{i}.png", np.full((4, 4), 20 * i, np.uint8))
    (folder / "train.csv").write_text("\n".join(lines))


def test_a_table_of_values(tmp_path: Path) -> None:
    table(tmp_path, ["file,age,weight", *(f"{i}.png,{i / 2},{-i}" for i in range(10))])
    found = ImageTable(target="values").read(tmp_path, download=False)
    assert found.class_names == ("age", "weight")
    for images in found.splits.values():
        brightness = images.pixels[:, 0, 0, 0] / 20
        np.testing.assert_allclose(images.labels, np.stack((brightness / 2, -brightness), axis=1))


def test_a_table_of_values_with_decimal_commas_and_the_file_last(tmp_path: Path) -> None:
    table(tmp_path, ["age;path", *(f"{i // 2},{5 * (i % 2)};.\\{i}.png" for i in range(10))])
    (tmp_path / "test.csv").write_text("age;path\n1,5;3.png\n")
    found = ImageTable(target="values").read(tmp_path, download=False)
    assert found.places == {"train": "train.csv", "test": "test.csv"}
    brightness = np.asarray(found.splits["train"].pixels)[:, 0, 0, 0] / 20
    np.testing.assert_allclose(np.asarray(found.splits["train"].labels)[:, 0], brightness / 2)
    assert np.asarray(found.splits["test"].labels).tolist() == [[1.5]]


@pytest.mark.parametrize("separator", ["|", "; ", ","])
def test_a_table_of_several_labels(tmp_path: Path, separator: str) -> None:
    labels = [["cat"], ["dog", "cat"], [], ["bird"], ["dog"]] * 2
    table(tmp_path, ["file,labels", *(f'{i}.png,"{separator.join(names)}"' for i, names in enumerate(labels))])
    found = ImageTable(target="classes").read(tmp_path, download=False)
    assert found.class_names == ("bird", "cat", "dog")
    for images in found.splits.values():
        for image, row in zip(np.asarray(images.pixels), np.asarray(images.labels), strict=True):
            names = labels[image[0, 0, 0] // 20]
            assert row.tolist() == [float(name in names) for name in found.class_names]


def test_a_table_of_a_column_for_each_label(tmp_path: Path) -> None:
    table(tmp_path, ["file;cat;dog", *(f"{i}.png;{i % 2};1" for i in range(10))])
    found = ImageTable(target="classes").read(tmp_path, download=False)
    assert found.class_names == ("cat", "dog")
    assert found.splits["train"].labels[:, 1].min() == 1


@pytest.mark.parametrize(
    ("lines", "target", "said"),
    [
        (["file,age", "0.png,old"], "values", "train.csv:2: column 'age': expected a number, got 'old'"),
        (["file,age", "0.png,nan"], "values", "train.csv:2: column 'age': expected a number, got 'nan'"),
        (["file,age", "77.png,3"], "values", "train.csv:2: .*77.png: no such file"),
        (["0.png,3", "1.png,4"], "values", "train.csv:1: expected the names of the columns, got a picture"),
        (["file,age", "0.png,3,4"], "values", "train.csv:2: expected 2 columns, got 3"),
        (["file"], "values", "expected columns of files and labels"),
        (["file,a,b", "0.png,0.5,0.4"], "shares", "expected probabilities with a sum of 1"),
        (["file,a,b", "0.png,1,3"], "classes", "expected 0 or 1 for each class, got 3"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, lines: list[str], target: str, said: str) -> None:
    table(tmp_path, lines)
    with pytest.raises(DataError, match=said):
        ImageTable.of(target=target).read(tmp_path, download=False)


def test_a_picture_that_cannot_be_read_takes_its_mask_with_it(tmp_path: Path) -> None:
    _, maps = shapes(tmp_path / "train")
    (tmp_path / "train" / "images" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"03.png: cannot be read as a picture") as caught:
        ImageMasks().read(tmp_path, download=False)
    assert "data.source.on_error: skip" in (caught.value.help or "")
    found = ImageMasks(on_error="skip", test="train").read(tmp_path, download=False)
    np.testing.assert_array_equal(found.splits["train"].labels, np.delete(maps, 3, axis=0))
    assert found.notes[0].startswith(f"{tmp_path / 'train'}: skipped unreadable files, 1 in all")


@pytest.mark.parametrize(("levels", "ignore"), [((0, 1, 2), None), ((0, 1, 2), 2), ((0, 255), None), ((0, 255), 0)])
def test_masks_in_files_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: tuple[int, ...], ignore: int | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shapes(tmp_path / "train", levels=levels)
    source = {"type": "image_masks", "ignore": ignore, "size": [6, 7]}
    more = {"preprocess": [{"type": "pad", "padding": [1, 0, 2, 0]}], "validation": {"fraction": 0.3}}
    opened = [
        open_data(DataSettings.of(source=source, cache=cache, **more), seed=0, data_dir=tmp_path)
        for cache in (False, True, True)
    ]
    plain = opened[0]
    for other in opened[1:]:
        assert other.target == plain.target
        assert other.checksums == plain.checksums
        assert other.class_names == plain.class_names
        for split, dataset in plain.splits.items():
            assert isinstance(other.splits[split].labels, FileRows)
            np.testing.assert_array_equal(other.splits[split].labels, dataset.labels)
            np.testing.assert_array_equal(other.splits[split].pixels, dataset.pixels)
    maps = np.asarray(plain.train.labels)
    assert plain.target.counts == tuple(np.bincount(maps[maps != VOID], minlength=len(plain.class_names)).tolist())


def test_a_network_learns_masks_in_files_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shapes(tmp_path / "train", levels=(0, 1, 2))
    found = []
    for cache in ("false", "true"):
        (tmp_path / "net.yaml").write_text(
            "cnnspec: 1\nname: net\ninput: [1, 8, 8]\n"
            "layers: [{type: conv2d, filters: 3, kernel_size: 3, padding: same}]\n"
            f"data: {{source: {{type: image_masks, size: [8, 8], mode: grey}}, cache: {cache}, augment: [flip]}}\n"
            "train: {epochs: 2, batch_size: 4, loss: {type: softmax_cross_entropy, class_weights: balanced}}\n"
        )
        model = cnnspec.compile(tmp_path / "net.yaml")
        model.fit()
        found.append((model.fingerprint(), model.loss))
    assert found[0] == found[1]
