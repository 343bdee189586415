"""Arrays and tables as other programs save them: each form gives the same images and labels, and each help leads on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import Data, DataSettings, Inputs, Pipeline, open_data
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

RANDOM = np.random.default_rng(0)
Y = np.arange(20) % 2
X = (RANDOM.random((20, 8, 8)) * 80 + Y[:, None, None] * 120).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (20, 3, 8, 6)).astype(np.uint8)


def opened(folder: Path, type: str = "npz", /, input: tuple[int, ...] | None = None, **source: Any) -> Data:
    return open_data(DataSettings.of(source={"type": type, **source}), seed=0, data_dir=folder, input=input)


def all_of(data: Data) -> tuple[Array, Array]:
    """All images and labels, in an order of their own."""
    pixels = np.concatenate([data.train.pixels, data.test.pixels]).reshape(20, -1)
    order = np.lexsort(pixels.T)
    return pixels[order], np.concatenate([data.train.labels, data.test.labels])[order]


def same(data: Data, x: Array = X, y: Array = Y) -> bool:
    pixels = x.reshape(20, -1)
    order = np.lexsort(pixels.T)
    got = all_of(data)
    return bool(np.array_equal(got[0], pixels[order]) and np.array_equal(got[1], y[order]))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y[:, None], ("0", "1")),
        (Y[None], ("0", "1")),
        (np.eye(2, dtype=int)[Y], ("0", "1")),
        (np.eye(2)[Y], ("0", "1")),
        (Y.astype(float), ("0", "1")),
        (Y.astype(bool), ("0", "1")),
        (np.array(["cat", "dog"])[Y], ("cat", "dog")),
        (np.array([b"cat", b"dog"])[Y], ("cat", "dog")),
        (np.array(["9", "10"])[Y], ("9", "10")),
        (2 * Y - 1, ("-1", "1")),
        (Y + 1, ("1", "2")),
        (7 * Y, ("0", "7")),
    ],
)
def test_labels_of_every_form(tmp_path: Path, labels: Array, names: tuple[str, ...]) -> None:
    np.savez(tmp_path / "train.npz", x=X, y=labels)
    data = opened(tmp_path)
    assert data.class_names == names
    assert same(data)


def test_labels_that_do_not_start_at_0_are_told_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X, y=Y + 1)
    (note,) = opened(tmp_path).notes
    assert "y: labels are 1, 2: no image has label 0; the outputs are these 2 classes in this order" in note
    numbered = opened(tmp_path, classes=3)  # as the note says
    assert numbered.class_names == ("0", "1", "2")
    assert sorted(set(np.asarray(numbered.train.labels).tolist())) == [1, 2]
    assert numbered.notes == ("train.npz: no image of 0", "held out of train.npz: no image of 0")


def test_each_split_has_its_own_scale_and_the_run_that_of_training(tmp_path: Path) -> None:
    split: dict[str, Any] = {"x_train": X[:15] / 255, "y_train": Y[:15], "x_test": X[15:], "y_test": Y[15:]}
    np.savez(tmp_path / "train.npz", **split)
    data = opened(tmp_path)
    assert same(data)
    assert data.pipeline.scale == "none"
    np.savez(tmp_path / "train.npz", **{**split, "x_train": X[:15], "x_test": X[15:] / 255})
    with pytest.raises(DataError, match=r"x_test: expected values from 0 to 255, got float64 .* which is black"):
        opened(tmp_path)


def test_rows_of_colour_are_read_by_the_layout(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=COLOUR.transpose(0, 2, 3, 1).reshape(20, -1), y=Y)
    assert same(opened(tmp_path, shape=[3, 8, 6], layout="nhwc"), COLOUR)
    np.savez(tmp_path / "train.npz", x=COLOUR.reshape(20, -1), y=Y)
    data = opened(tmp_path, shape=[3, 8, 6])
    assert same(data, COLOUR)
    assert "rows of 144 values are read as 3x8x6, channel by channel" in data.notes[0]


def test_an_image_with_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    pixels = X / 255
    pixels[7, 2, 2] = np.inf
    np.savez(tmp_path / "train.npz", x=pixels, y=Y)
    with pytest.raises(DataError, match="x: image 7 holds a value that is no finite number"):
        opened(tmp_path)


def test_the_help_of_labels_says_which_target_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X, y=np.ones((20, 2)))
    with pytest.raises(DataError, match="expected one class an image, got 2 for image 0") as caught:
        opened(tmp_path)
    assert "write data.source.target: classes" in (caught.value.help or "")
    assert opened(tmp_path, target="classes").target.kind == "classes"
    np.savez(tmp_path / "train.npz", x=X, y=np.full((20, 2), 0.5))
    assert "write data.source.target: shares" in opened(tmp_path).notes[0]
    np.savez(tmp_path / "train.npz", x=X, y=Y + 1)
    with pytest.raises(
        DataError, match=r"label 2 of image 1 is none of the 2 classes \(0 to 1\); labels are 1 to 2"
    ) as caught:
        opened(tmp_path, classes=2)
    assert "leave data.source.classes out" in (caught.value.help or "")
    assert same(opened(tmp_path))


def test_numbers_can_be_given_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X, y=Y)
    data = opened(tmp_path, classes=["cat", "dog"])
    assert (data.class_names, same(data)) == (("cat", "dog"), True)
    with pytest.raises(
        DataError, match=r"train.npz: label 1 of image 1 has no name: data.source.classes names the labels 0 to 0"
    ):
        opened(tmp_path, classes=["cat"])


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (X.astype(int), ""),
        (X.astype(np.uint16), ""),
        (X.astype(np.float64), ""),
        ((X / 255).astype(np.float32), "float32 from 0 to 0.780392 is read as 0 to 1 (data.source.scale: none)"),
        (X / 255, "float64 from 0 to 0.780392 is read as 0 to 1 (data.source.scale: none)"),
        ((X / 255).astype(np.float16), "rounded to 256 steps"),
    ],
)
def test_pixels_of_every_type(tmp_path: Path, pixels: Array, told: str) -> None:
    np.savez(tmp_path / "train.npz", x=pixels, y=Y)
    data = opened(tmp_path)
    assert same(data)
    assert told in " ".join(data.notes)
    assert bool(data.notes) == bool(told)


def test_the_training_images_say_what_the_others_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X / 255, y=Y)
    np.savez(tmp_path / "test.npz", x=X / 510, y=Y)
    data = opened(tmp_path)
    np.testing.assert_array_equal(data.test.pixels[:, 0], np.rint(X / 2))
    assert data.pipeline.scale == "none"
    record = data.pipeline.record()
    record = {"pipeline": {**record["pipeline"], "shape": [1, 8, 8]}, "classes": ["0", "1"]}
    settings = DataSettings.of(source="npz")
    restored = Pipeline.of(settings, (1, 8, 8)).restored(record, "run.json")
    np.testing.assert_array_equal(restored.array(X / 255, "x")[0][:, 0], X)
    np.testing.assert_array_equal(restored.images((X / 255)[:, None])[:, 0], X)
    np.savez(tmp_path / "test.npz", x=X.astype(float), y=Y)
    with pytest.raises(DataError, match=r"test.npz: x: expected values from 0 to 1, got float64 from 0 to 199"):
        opened(tmp_path)
    np.savez(tmp_path / "test.npz", x=X, y=Y)  # bytes need no scale
    np.testing.assert_array_equal(opened(tmp_path).test.pixels[:, 0], X)
    again = open_data(settings, seed=0, data_dir=tmp_path, classes=("0", "1"), scale="none")
    np.testing.assert_array_equal(again.train.pixels[:, 0], X)


@pytest.mark.parametrize(
    "names", ["X y", "images labels", "arr_0 arr_1", "x_train y_train", "X_train Y_train", "data target"]
)
def test_arrays_by_their_usual_names(tmp_path: Path, names: str) -> None:
    images, labels = names.split()
    arrays: dict[str, Any] = {images: X, labels: Y}
    np.savez(tmp_path / "train.npz", **arrays)
    assert same(opened(tmp_path))


def test_one_archive_of_all_splits(tmp_path: Path) -> None:
    parts = {"train": slice(0, 20), "val": slice(2, 6), "test": slice(4, 12)}
    arrays: dict[str, Any] = {f"{split}_images": X[part] for split, part in parts.items()}
    arrays |= {f"{split}_labels": Y[part, None] for split, part in parts.items()}
    np.savez(tmp_path / "medical.npz", **arrays)
    data = opened(tmp_path, train="medical.npz")
    assert data.validation is not None
    np.testing.assert_array_equal(data.train.pixels[:, 0], X)
    np.testing.assert_array_equal(data.validation.pixels[:, 0], X[2:6])
    np.testing.assert_array_equal(data.test.labels, Y[4:12])


def test_files_beside_that_of_the_training_images(tmp_path: Path) -> None:
    for name, count in (("my-train", 20), ("my-val", 4), ("my-test", 6)):
        np.savez(tmp_path / f"{name}.npz", x=X[:count], y=Y[:count])
    summary = opened(tmp_path, train="my-train.npz").summary()
    assert summary == "20 training images (my-train.npz), 4 validation (my-val.npz), 6 test (my-test.npz), 2 classes"


def test_single_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x_train.npy", X)
    with pytest.raises(DataError, match=r"x_train.npy: no labels beside it, such as y_train.npy"):
        opened(tmp_path, "npy")
    np.save(tmp_path / "y_train.npy", Y)
    data = opened(tmp_path, "npy")
    assert same(data)
    assert set(data.checksums) == {"x_train.npy", "y_train.npy"}
    np.save(tmp_path / "classes.npy", np.array(["a", "b"])[Y])
    assert opened(tmp_path, "npy", labels="classes.npy").class_names == ("a", "b")
    np.save(tmp_path / "x_train.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(DataError, match=r"x_train.npy: holds pickled objects, which are refused"):
        opened(tmp_path, "npy")


@pytest.mark.parametrize(
    ("pixels", "options", "nhwc"),
    [
        (COLOUR, {}, False),
        (COLOUR.transpose(0, 2, 3, 1), {}, True),
        (COLOUR.transpose(0, 2, 3, 1), {"layout": "nhwc"}, False),
        (COLOUR.transpose(0, 2, 3, 1), {"shape": [3, 8, 6]}, True),
    ],
)
def test_channels_first_or_last(tmp_path: Path, pixels: Array, options: dict[str, Any], nhwc: bool) -> None:
    np.savez(tmp_path / "train.npz", x=pixels, y=Y)
    data = opened(tmp_path, **options)
    assert data.train.pixels.shape[1:] == (3, 8, 6)
    assert same(data, COLOUR)
    assert any("(20, 8, 6, 3) is read with channels last" in note for note in data.notes) == nhwc


def test_channels_that_may_be_either_are_asked_for(tmp_path: Path) -> None:
    several = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 7)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", x=several, y=Y)
    with pytest.raises(DataError, match="x: 5x6x7 may be channels first or last") as caught:
        opened(tmp_path)
    assert "layout: nchw" in (caught.value.help or "")
    assert opened(tmp_path, layout="nchw").train.pixels.shape[1:] == (5, 6, 7)
    assert opened(tmp_path, layout="nhwc").train.pixels.shape[1:] == (7, 5, 6)


def test_the_help_for_channels_last_names_the_shape_of_the_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=COLOUR.transpose(0, 2, 3, 1), y=Y)
    with pytest.raises(DataError, match="expected images of 8x6x3, which is the spec's input, got 3x8x6") as caught:
        opened(tmp_path, input=(8, 6, 3))
    assert (caught.value.help or "").startswith("write input: [3, 8, 6]")
    assert opened(tmp_path, input=(3, 8, 6)).train.pixels.shape[1:] == (3, 8, 6)


def test_rows_of_pixels_need_a_shape_that_the_help_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X.reshape(20, 64), y=Y)
    with pytest.raises(DataError, match=r"x: expected images .*, got \(20, 64\)") as caught:
        opened(tmp_path)
    assert "data.source.shape: [1, 8, 8]" in (caught.value.help or "")
    assert same(opened(tmp_path, shape=[1, 8, 8]))


@pytest.mark.parametrize(
    ("wide", "cure"),
    [
        (X.astype(np.int64) * 16, lambda x: x / 4095),
        (X.astype(np.int64) * 257, lambda x: x / 65535),
        (X / 100.0 - 1, lambda x: (x - x.min()) / (x.max() - x.min())),
    ],
)
def test_other_ranges_are_refused_with_a_cure_that_works(
    tmp_path: Path, wide: Array, cure: Callable[[Array], Array]
) -> None:
    np.savez(tmp_path / "train.npz", x=wide, y=Y)
    with pytest.raises(DataError, match=r"x: expected values from 0 to (1|255), got") as caught:
        opened(tmp_path)
    assert (caught.value.help or "").startswith("save ")
    np.savez(tmp_path / "train.npz", x=cure(wide), y=Y)
    assert len(opened(tmp_path).train) == 16


def lines(separator: str = ",", label: Callable[[int], str] = str) -> list[str]:
    return [separator.join([label(y), *map(str, x.ravel().tolist())]) for x, y in zip(X, Y.tolist(), strict=True)]


def comma(value: float) -> str:
    return str(value).replace(".", ",")


HEADER = ",".join(["label", *(f"pixel{i}" for i in range(64))])


LAST_HEADER = HEADER.replace("label,", "") + ",label"
LAST = [",".join([*line.split(",")[1:], line.split(",")[0]]) for line in lines()]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(lines()).encode("utf-8-sig"),
        "\r\n".join(lines()).encode("utf-8-sig"),
        "\n".join(lines()).encode("utf-16"),
        "\n".join([HEADER, *lines()]).encode("utf-8-sig"),
        "\n".join([",".join(map(str, range(65))), *lines()]).encode(),
        "\n".join(["", HEADER, "", *lines(), "", ""]).encode(),
        "\n".join(lines(";")).encode(),
        "\n".join(lines("\t")).encode(),
        "\n".join(lines(", ")).encode(),
        "\n".join(lines('","')).replace("\n", '"\n"').join(['"', '"']).encode(),
        "\n".join(";".join([f"{y},0", *(comma(v / 1) for v in x.ravel())]) for x, y in zip(X, Y, strict=True)).encode(),
        "\n".join(",".join([f"{y}.0", *map(str, x.ravel() / 255)]) for x, y in zip(X, Y, strict=True)).encode(),
    ],
)
def test_tables_of_every_form(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    data = opened(tmp_path, "csv", shape=[1, 8, 8])
    assert data.class_names == ("0", "1")
    assert same(data)


def test_names_as_labels_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(lines(label=lambda y: ["Käse", "dog"][y])), encoding="utf-8")
    data = opened(tmp_path, "csv", shape=[1, 8, 8])
    assert data.class_names == ("Käse", "dog")
    assert same(data)


@pytest.mark.parametrize(
    ("text", "options", "message", "cure"),
    [
        (lines(), {"header": True}, "train.csv:1: expected the names of the columns", {}),
        ([HEADER, *lines()], {"header": False}, "train.csv:1: expected an image, as header: false says", {}),
        (
            [
                ",".join([*HEADER.split(",")[1:], "label"]),
                *(",".join([*s.split(",")[1:], s.split(",")[0]]) for s in lines()),
            ],
            {},
            "train.csv:1: 'label' is column 65, not the first one",
            {"label": "last"},
        ),
    ],
)
def test_what_contradicts_a_table_is_told_with_a_cure_that_works(
    tmp_path: Path, text: list[str], options: dict[str, Any], message: str, cure: dict[str, Any]
) -> None:
    (tmp_path / "train.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, "csv", shape=[1, 8, 8], **options)
    assert all(f"{key}: {value}" in (caught.value.help or "") for key, value in cure.items())
    assert same(opened(tmp_path, "csv", shape=[1, 8, 8], **cure))


def test_the_numbers_of_rows_are_no_pixels(tmp_path: Path) -> None:
    text = [f",{HEADER}", *(f"{i},{line}" for i, line in enumerate(lines()))]
    (tmp_path / "train.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=r"train.csv:1: the first column holds the numbers of the rows"):
        opened(tmp_path, "csv", shape=[1, 8, 8])


def test_a_file_of_images_without_labels_is_no_test_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(lines()))
    (tmp_path / "test.csv").write_text("\n".join(line.partition(",")[2] for line in lines()))
    data = opened(tmp_path, "csv", shape=[1, 8, 8])
    assert data.notes == (f"{tmp_path / 'test.csv'}: is not read: it has no labels",)
    assert same(data)
    with pytest.raises(DataError, match=r"test.csv:1: expected 65 values, a label and 1x8x8 pixels, got 64"):
        opened(tmp_path, "csv", shape=[1, 8, 8], test="test.csv")


def test_labels_with_fractions_are_values(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(lines(label=lambda y: ["0.25", "1.5"][y])))
    (tmp_path / "val.csv").write_text("\n".join(lines(label=lambda y: ["1", "2"][y])))
    data = opened(tmp_path, "csv", shape=[1, 8, 8])
    assert data.target.kind == "values"
    assert data.notes == ("labels are numbers to predict (target: values)",)
    assert set(np.asarray(data.train.labels).ravel().tolist()) == {0.25, 1.5}
    assert data.validation is not None
    assert data.validation.labels.shape == (20, 1)
    with pytest.raises(DataError, match=r"expected classes, got 0.25 as the label of image 0"):
        opened(tmp_path, "csv", shape=[1, 8, 8], target="class")


def test_numbers_of_any_range_enter_as_they_are_under_the_name_of_an_input(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 3, (10, 1, 6, 5)).astype(np.float32)
    np.savez(tmp_path / "train.npz", x=x, y=np.arange(10) % 2)
    settings = DataSettings.of(source="npz")
    with pytest.raises(DataError) as caught:
        open_data(settings, seed=0, data_dir=tmp_path)
    assert "inputs: {x: [1, 6, 5]}" in (caught.value.help or "")
    data = open_data(settings, seed=0, data_dir=tmp_path, input=(30,), inputs=Inputs({"x": (1, 6, 5)}))
    read = np.concatenate([np.asarray(split.pixels) for split in data.splits.values()])
    assert sorted(map(bytes, read)) == sorted(map(bytes, x.reshape(10, 30)))
