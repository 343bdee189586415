"""Parquet files of images: read as tables of text with the same values are, refused with the column and the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.data import DataSettings, open_data
from cnnspec.data.asked import read_asked
from cnnspec.data.parquet import Parquet
from cnnspec.data.tables import Csv
from cnnspec.diagnostics import DataError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.uint8)
NAMES = [("cat", "dog", "fox")[number % 3] for number in range(20)]


def write(path: Path, labels: Any, pixels: Any = PIXELS, *, last: bool = False, name: str = "label") -> None:
    columns = {f"p{place}": column for place, column in enumerate(np.asarray(pixels).T)}
    whole = {**columns, name: labels} if last else {name: labels, **columns}
    parquet.write_table(pa.table(whole), path)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("labels", [NAMES, [0, 1, 2, 3] * 5, [1, 2, 3, 4] * 5])
@pytest.mark.parametrize("scale", [1, 255])
def test_the_same_as_in_a_table_of_text(tmp_path: Path, last: bool, labels: list[Any], scale: int) -> None:
    pixels = PIXELS if scale == 1 else PIXELS / scale
    write(tmp_path / "train.parquet", labels, pixels, last=last)
    rows = [[*row, label] if last else [label, *row] for row, label in zip(pixels.tolist(), labels, strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    options: dict[str, Any] = {"shape": [1, 2, 3], "label": "last" if last else "first"}
    found, expected = (cls.of(**options).read(tmp_path, False) for cls in (Parquet, Csv))
    assert found.class_names == expected.class_names
    for split, images in expected.splits.items():
        np.testing.assert_array_equal(found.splits[split].pixels, images.pixels)
        np.testing.assert_array_equal(found.splits[split].labels, images.labels)


def test_lists_dictionaries_and_splits(tmp_path: Path) -> None:
    labels = pa.array(NAMES).dictionary_encode()
    for split in ("train", "val", "test"):
        parquet.write_table(pa.table({"label": labels, "pixels": PIXELS.tolist()}), tmp_path / f"{split}.parquet")
    found = Parquet.of(shape=[1, 2, 3]).read(tmp_path, False)
    assert set(found.splits) == {"train", "validation", "test"}
    np.testing.assert_array_equal(np.asarray(found.splits["train"].pixels).reshape(20, 6), PIXELS)
    assert found.class_names == ("cat", "dog", "fox")


def test_several_values(tmp_path: Path) -> None:
    values = np.arange(20) / 3
    columns = {"age": values, "size": values * 2, **{f"p{place}": column for place, column in enumerate(PIXELS.T)}}
    parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
    found = Parquet.of(shape=[1, 2, 3], labels=2, target="values", test="train.parquet").read(tmp_path, False)
    np.testing.assert_allclose(found.splits["train"].labels, np.stack([values, values * 2], axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message", "help"),
    [
        ({"p2": [300] * 20}, "column 'p2', row 0: expected a pixel, 0 to 255, got 300", "save pixels from 0 to 255"),
        ({"p2": [7] * 19 + [None]}, "column 'p2', row 19: expected a pixel, 0 to 255, got nothing", "fill it in"),
        ({"p1": ["x"] * 20}, "column 'p1': expected pixels, got string", "leave it out"),
        ({"label": [None, *NAMES[1:]]}, "column 'label', row 0: expected a label, got nothing", "fill it in"),
        ({"label": [[1]] * 20}, "column 'label': expected numbers or text as labels, got list", "save them so"),
        ({"more": [1] * 20}, "expected 7 values, a label and 1x2x3 pixels, got 8", "correct data.source.shape"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str, help: str) -> None:
    columns: dict[str, Any] = {"label": NAMES, **{f"p{place}": column for place, column in enumerate(PIXELS.T)}}
    parquet.write_table(pa.table({**columns, **change}), tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        Parquet.of(shape=[1, 2, 3]).read(tmp_path, False)
    assert f"train.parquet: {message}" in str(caught.value)
    assert (caught.value.help or "").startswith(help)


def test_a_label_elsewhere_and_a_file_that_is_none(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", NAMES, last=True)
    with pytest.raises(DataError, match="'label' is column 7, not the first one") as caught:
        Parquet.of(shape=[1, 2, 3]).read(tmp_path, False)
    assert caught.value.help == "write data.source.label: last"
    Parquet.of(shape=[1, 2, 3], label="last").read(tmp_path, False)  # as the help says
    (tmp_path / "train.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        Parquet.of(shape=[1, 2, 3]).read(tmp_path, False)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_network_is_trained_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], labelled: bool) -> None:
    pixels = np.repeat(np.arange(60) % 2 * 200, 6).reshape(60, 6) + np.arange(60)[:, None] % 40
    names = ["dark", "light"] * 30
    write(tmp_path / "train.parquet", names, pixels)
    (tmp_path / "net.yaml").write_text(
        "cnnspec: 1\nname: net\ninput: [1, 2, 3]\nlayers: [flatten, {type: dense, units: 2}]\n"
        "data: {source: {type: parquet, shape: [1, 2, 3]}}\n"
        "train: {epochs: 20, batch_size: 8, optimizer: {type: adam, learning_rate: 0.05}}\n"
    )
    assert main(["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "runs")]) == 0
    if not labelled:
        columns = {f"p{place}": column for place, column in enumerate(pixels.T)}
        parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "runs" / "net"), str(tmp_path / "train.parquet"), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["classes"][0]["class"] for answer in answers] == names


@pytest.mark.parametrize("struct", [False, True])
def test_pictures_in_a_column_are_read_as_picture_files_are(tmp_path: Path, struct: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    colour = np.random.default_rng(1).integers(0, 256, (20, 9, 7, 3)).astype(np.uint8)
    contents = []
    for number, pixels in enumerate(colour):
        path = tmp_path / "pics" / NAMES[number] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels if number else np.dstack([pixels, pixels[..., 0]])).save(path)  # the first has alpha
        contents.append(path.read_bytes())
    column = [{"bytes": content, "path": None} for content in contents] if struct else contents
    whole = pa.table({"image": column, "label": NAMES})
    for split in ("train", "test"):
        parquet.write_table(whole, tmp_path / f"{split}-00000-of-00001.parquet")
    source: dict[str, Any] = {"type": "parquet", "shape": [3, 5, 4], "train": "train-00000-of-00001.parquet"}
    with pytest.raises(DataError, match="'label' is column 2") as caught:
        Parquet.of(**{key: value for key, value in source.items() if key != "type"}).read(tmp_path, False)
    assert caught.value.help == "write data.source.label: last"
    data = open_data(DataSettings.of(source={**source, "label": "last"}), seed=0, data_dir=tmp_path)
    rules = {"size": [5, 4], "mode": "rgb"}
    folder = {"type": "image_folder", "test": ".", "train": ".", **rules}
    expected = open_data(DataSettings.of(source=folder), seed=0, data_dir=tmp_path / "pics")
    order = np.argsort(np.array(NAMES), kind="stable")
    np.testing.assert_array_equal(np.asarray(data.test.pixels)[order], expected.test.pixels)
    assert data.class_names == expected.class_names
    assert f"{tmp_path / source['train']}: 1 picture had transparency: laid on white" in data.notes
    (asked,) = read_asked([tmp_path / "test-00000-of-00001.parquet"], data.pipeline, 64, 1)
    np.testing.assert_array_equal(asked.images, data.test.pixels)
    assert asked.conversions == ("transparency",)


@pytest.mark.parametrize(
    ("columns", "said", "cure"),
    [
        ({"image": [b"no picture"] * 2}, r"train.parquet\[0\]: cannot be read as a picture", "repair"),
        ({"image": [{"bytes": None}, {"bytes": b""}]}, "row 0: expected the bytes of a picture", "themselves"),
        ({"image": [[[1, 2], [3, 4]]] * 2}, "column 'image': expected pixels, got list<", "one list of numbers"),
        ({"image": [[1, 2]] * 2, "index": [0, 1]}, "column 'image': expected pixels, got list<", "without others"),
    ],
)
def test_columns_that_are_no_pictures(tmp_path: Path, columns: dict[str, Any], said: str, cure: str) -> None:
    parquet.write_table(pa.table({"label": [0, 1], **columns}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=said) as caught:
        Parquet.of(shape=[1, 1, 2]).read(tmp_path, False)
    assert cure in (caught.value.help or "")
