"""A person's own data: archives, tables, and what is made up."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import DataSettings, open_data
from cnnspec.data.npz import Npz
from cnnspec.data.source import Source
from cnnspec.data.synthetic import Synthetic
from cnnspec.data.tables import Csv
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 4, 5)).astype(np.uint8)
LABELS = np.arange(20) % 4


def fails(source: Source, root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source.read(root, False)


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_npz_holds_out_a_share_where_there_is_no_test_file(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "train.npz", **{names[0]: PIXELS, names[1]: LABELS})  # type: ignore[arg-type]
    found = Npz(held_out=0.25).read(tmp_path, False)
    assert len(found.splits["train"].labels) == 15
    assert np.bincount(found.splits["test"].labels).tolist() == [2, 1, 1, 1]
    assert found.splits["train"].pixels.shape == (15, 1, 4, 5)
    assert found.class_names == ("0", "1", "2", "3")
    again = Npz(held_out=0.25).read(tmp_path, False)
    np.testing.assert_array_equal(found.splits["test"].pixels, again.splits["test"].pixels)


def test_npz_of_both_splits_in_one_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:8], y_test=LABELS[:8])
    found = Npz(train="all.npz", test="all.npz").read(tmp_path, False)
    np.testing.assert_array_equal(found.splits["train"].pixels[:, 0], PIXELS)
    np.testing.assert_array_equal(found.splits["test"].labels, LABELS[:8])


def test_npz_with_channels_in_either_place(tmp_path: Path) -> None:
    colour = RANDOM.integers(0, 256, (20, 4, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", x=colour, y=LABELS)
    np.savez(tmp_path / "first.npz", x=colour.transpose(0, 3, 1, 2), y=LABELS)
    last = Npz(layout="nhwc", shape=(3, 4, 5)).read(tmp_path, False)
    first = Npz(train="first.npz").read(tmp_path, False)
    np.testing.assert_array_equal(last.splits["train"].pixels, first.splits["train"].pixels)


def test_an_archive_of_pictures_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        for number in range(30):
            archive.writestr(f"pets/cat/{number}.JPG", b"")
    with pytest.raises(DataError, match="expected arrays, got an archive of pictures") as caught:
        Npz().read(tmp_path, False)
    assert caught.value.help == "unpack it, and write source: image_folder"


def damaged_npz(path: Path, **arrays: Any) -> None:
    np.savez(path / "train.npz", **{"x": PIXELS, "y": LABELS, **arrays})


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": PIXELS * 1000.0}, {}, r"train.npz: x: expected values from 0 to 255, got float64 from 0 to 255000"),
        ({"x": PIXELS[0]}, {}, r"train.npz: x: expected images .*, got \(4, 5\)"),
        ({"y": LABELS[:5]}, {}, "train.npz: expected one label for each of the 20 images, got 5"),
        ({"y": LABELS / 2}, {"target": "class"}, r"train.npz: y: expected classes, got 0.5 as the label of image 1"),
        ({"y": LABELS - 1}, {"classes": 3}, "train.npz: label -1 of image 0 is none of the 3 classes"),
        ({}, {"classes": 3}, r"train.npz: label 3 of image 3 is none of the 3 classes \(0 to 2\)"),
        ({"y": np.array([{}] * 20, object)}, {}, "train.npz: y holds pickled objects, which are refused"),
        ({"x": np.array([None] * 20, object)}, {}, "train.npz: x holds pickled objects, which are refused"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, {}, "train.npz: expected images, got none"),
        ({}, {"shape": (1, 5, 4)}, "train.npz: x: expected images of 1x5x4, which is the source's shape, got 1x4x5"),
        ({}, {"held_out": 0}, "train.npz: expected to hold out 1 to 19 of 20 images, got 0"),
        ({}, {"test": "test.npz"}, "test.npz: no such file"),
    ],
)
def test_what_is_wrong_with_an_npz_is_named(
    tmp_path: Path, arrays: dict[str, Array], options: dict[str, Any], message: str
) -> None:
    damaged_npz(tmp_path, **arrays)
    fails(Npz(**options), tmp_path, message)


def test_an_npz_that_is_broken_or_holds_other_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", pictures=PIXELS)
    fails(Npz(), tmp_path, "train.npz: expected arrays x_train and y_train, x and y, or .*, got pictures")
    np.savez(tmp_path / "train.npz", x=PIXELS, y=LABELS)
    content = (tmp_path / "train.npz").read_bytes()
    for damage in (content[:300], b"", b"text", content[:150] + bytes(20) + content[170:]):
        (tmp_path / "train.npz").write_bytes(damage)
        fails(Npz(), tmp_path, "train.npz: cannot be read as an .npz archive")
    np.save(tmp_path / "plain.npy", PIXELS)
    fails(Npz(train="plain.npy"), tmp_path, "plain.npy: cannot be read as an .npz archive")


def test_test_images_of_another_size(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=PIXELS, y=LABELS)
    np.savez(tmp_path / "test.npz", x=PIXELS[:, :3], y=LABELS)
    with pytest.raises(DataError, match=r"test.npz: expected images of 1x4x5, as in train.npz, got 1x3x5"):
        open_data(DataSettings.of(source={"type": "npz", "test": "test.npz"}), seed=0, data_dir=tmp_path)


def table(label: str = "first", header: bool = False) -> list[str]:
    lines = []
    for image, number in zip(PIXELS, LABELS.tolist(), strict=True):
        pixels = [str(value) for value in image.ravel().tolist()]
        lines.append(",".join([str(number), *pixels] if label == "first" else [*pixels, str(number)]))
    names = [f"p{i}" for i in range(20)]
    return [",".join(["label", *names] if label == "first" else [*names, "label"]), *lines] if header else lines


@pytest.mark.parametrize("label", ["first", "last"])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_csv(tmp_path: Path, label: str, header: bool, packed: bool) -> None:
    text = "\n".join(table(label, header)) + "\n"
    name = "train.csv.gz" if packed else "train.csv"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    source = Csv.of(train=name, test=name, shape=[1, 4, 5], label=label, header=header)
    found = source.read(tmp_path, False)
    np.testing.assert_array_equal(found.splits["train"].pixels[:, 0], PIXELS)
    np.testing.assert_array_equal(found.splits["test"].labels, LABELS)


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (3, "1,2,3", r"train.csv:3: expected 21 values, a label and 1x4x5 pixels, got 3"),
        (5, ",".join(["2"] * 22), r"train.csv:5: expected 21 values, .* got 22"),
        (4, ",".join(["1", "x"] + ["0"] * 19), r"train.csv:4: column 2: expected a pixel, 0 to 255, got 'x'"),
        (4, ",".join(["1", "256"] + ["0"] * 19), r"train.csv:4: column 2: expected a pixel, 0 to 255, got '256'"),
        (4, ",".join(["1", "-7"] + ["0"] * 19), r"train.csv:4: column 2: expected a pixel, 0 to 255, got '-7'"),
        (4, ",".join(["1", ""] + ["0"] * 19), r"train.csv:4: column 2: expected a pixel, 0 to 255, got ''"),
        (4, ",".join(["1", "nan"] + ["0"] * 19), r"train.csv:4: column 2: expected a pixel, 0 to 255, got 'nan'"),
        (1, ",".join(["1", "x"] + ["0"] * 19), r"train.csv:1: column 2: expected a pixel, 0 to 255, got 'x'"),
        (2, ",".join(["cat"] + ["0"] * 20), r"train.csv: label 'cat' of image 1 is no number"),
        (6, ",".join(["9"] + ["0"] * 20), r"train.csv: label 9 of image 5 is none of the 4 classes \(0 to 3\)"),
    ],
)
def test_the_faulty_line_of_a_table_is_named(tmp_path: Path, number: int, line: str, message: str) -> None:
    lines = table()
    lines[number - 1] = line
    (tmp_path / "train.csv").write_text("\n".join(lines))
    fails(Csv(shape=(1, 4, 5), classes=4), tmp_path, message)


def test_a_table_is_unpacked_by_its_content(tmp_path: Path) -> None:
    text = "\n".join(table()).encode()
    for name, content in (("plain.csv.gz", text), ("packed.csv", gzip.compress(text))):
        (tmp_path / name).write_bytes(content)
        found = Csv(train=name, test=name, shape=(1, 4, 5)).read(tmp_path, False)
        np.testing.assert_array_equal(found.splits["train"].pixels[:, 0], PIXELS)


def test_numbered_rows_and_other_separators_are_told(tmp_path: Path) -> None:
    numbered = [f"{number - 1 if number else ''},{line}" for number, line in enumerate(table(header=True))]
    for lines, message, cure in (
        (numbered, "train.csv:1: the first column holds the numbers of the rows", "without its index"),
        ([line.replace(",", " ") for line in table()], "train.csv:1: .* got 1", "commas, semicolons or tabs"),
        (table()[:1], "train.csv: expected two images or more, to hold one out, got 1", "add images"),
    ):
        (tmp_path / "train.csv").write_text("\n".join(lines))
        with pytest.raises(DataError, match=message) as caught:
            Csv(shape=(1, 4, 5)).read(tmp_path, False)
        assert cure in (caught.value.help or "")


def test_pixels_taken_for_labels_are_told_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(table("last")))
    settings = DataSettings.of(source={"type": "csv", "shape": [1, 4, 5], "test": "train.csv"})
    with pytest.raises(DataError, match="expected at most 4 classes, one for each output") as caught:
        open_data(settings, seed=0, data_dir=tmp_path, input=(1, 4, 5), output=(4,))
    assert "or write data.source.label: last where the labels are in the last column" in (caught.value.help or "")


def test_tables_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"PK\x03\x04" + bytes(60))
    fails(Csv(shape=(1, 4, 5)), tmp_path, "train.csv: is an archive or a spreadsheet, not a table of text")
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress("\n".join(table()).encode())[:200])
    fails(Csv(train="train.csv.gz", shape=(1, 4, 5)), tmp_path, "train.csv.gz: cannot be read")
    (tmp_path / "train.csv").write_bytes(bytes(range(128, 256)))
    fails(Csv(shape=(1, 4, 5)), tmp_path, "train.csv: is not UTF-8")
    (tmp_path / "train.csv").write_text("")
    fails(Csv(shape=(1, 4, 5)), tmp_path, "train.csv: expected images, got none")


def test_synthetic_images_are_of_the_seed_and_can_be_learned() -> None:
    source = Synthetic(shape=(3, 9, 7), classes=5, train=50, test=23, seed=4)
    first, again = source.read(None, False), source.read(None, False)
    np.testing.assert_array_equal(first.splits["train"].pixels, again.splits["train"].pixels)
    other = Synthetic(shape=(3, 9, 7), classes=5, train=50, test=23, seed=5).read(None, False)
    assert not np.array_equal(first.splits["train"].pixels, other.splits["train"].pixels)
    train, test = first.splits["train"], first.splits["test"]
    assert np.bincount(train.labels).tolist() == [10] * 5
    assert (test.pixels.shape, len(test.labels)) == ((23, 3, 9, 7), 23)
    means = np.stack([train.pixels[train.labels == label].mean(axis=0) for label in range(5)])
    distances = ((test.pixels[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == test.labels).all()


def test_what_is_known_before_a_file_is_read() -> None:
    def known(source: dict[str, Any]) -> tuple[Any, Any, Any]:
        given = DataSettings.of(source=source, preprocess=[{"type": "pad", "padding": 1}])
        return given.image_shape(), given.class_count, given.class_names

    assert known({"type": "synthetic", "shape": [2, 6, 6], "classes": 3}) == ((2, 8, 8), 3, ("0", "1", "2"))
    assert known({"type": "npz"}) == (None, None, ())
    assert known({"type": "npz", "shape": [1, 4, 5], "classes": 2}) == ((1, 6, 7), 2, ("0", "1"))
    assert known({"type": "csv", "shape": [1, 4, 5]}) == ((1, 6, 7), None, ())
    assert known({"type": "image_folder"}) == (None, None, ())
    folder = {"type": "image_folder", "size": 8, "mode": "rgb", "classes": ["cat", "dog"]}
    assert known(folder) == ((3, 10, 10), 2, ("cat", "dog"))


def test_what_only_the_files_tell_is_checked_against_the_network(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=PIXELS, y=LABELS)
    given = DataSettings.of(source="npz")
    assert len(open_data(given, seed=0, data_dir=tmp_path, input=(1, 4, 5), output=(4,)).train) == 16
    with pytest.raises(DataError, match="data: expected images of 1x8x8, which is the spec's input, got 1x4x5"):
        open_data(given, seed=0, data_dir=tmp_path, input=(1, 8, 8))
    with pytest.raises(DataError, match="expected at most 3 classes, one for each output of the network, got 4"):
        open_data(given, seed=0, data_dir=tmp_path, output=(3,))
    odd = DataSettings.of(source="npz", preprocess=[{"type": "normalize", "mean": [0, 0], "std": [1, 1]}])
    with pytest.raises(DataError, match=r"data\.preprocess: normalize: expected 1 number in mean, got 2"):
        open_data(odd, seed=0, data_dir=tmp_path)
