"""Tables that name pictures, as people keep them: which column is what, where the files are, and what lies beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import Data, DataSettings, Pipeline, open_data
from cnnspec.data.asked import read_asked
from cnnspec.diagnostics import DataError

Image = pytest.importorskip("PIL.Image")

NAMES = [f"{kind}/{number}" for number in range(4) for kind in ("cat", "dog")]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for level, name in enumerate(NAMES):
        path = tmp_path / "pics" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 3), 10 * level, np.uint8)).save(path)
    return tmp_path


def opened(folder: Path, **source: Any) -> Data:
    settings = DataSettings.of(source={"type": "image_folder", "train": "train.csv", **source})
    return open_data(settings, seed=0, data_dir=folder)


def classes_of(data: Data) -> dict[str, str]:
    """The class of each picture, which its brightness tells, in all splits."""
    return {
        NAMES[pixels[0, 0, 0] // 10]: data.class_names[label]
        for split in data.splits.values()
        for pixels, label in split
    }


FORMS = {
    "the label first": ["label;file", *(f"{name[:3]};pics/{name}.png" for name in NAMES)],
    "the label first, without a header": [f"{name[:3]},pics/{name}.png" for name in NAMES],
    "folders as in Windows": [f"pics\\{name}.png,{name[:3]}".replace("/", "\\") for name in NAMES],
    "other names": ["photo,animal", *(f"pics/{name}.png,{name[:3]}" for name in NAMES)],
    "numbered rows": [",Class,Path", *(f"{i},{name[:3]},pics/{name}.png" for i, name in enumerate(NAMES))],
}


@pytest.mark.parametrize("lines", FORMS.values(), ids=FORMS)
def test_the_column_of_files_is_found_in_training_and_in_prediction(folder: Path, lines: list[str]) -> None:
    table = folder / "train.csv"
    table.write_text("\n".join(lines))
    assert classes_of(opened(folder)) == {name: name[:3] for name in NAMES}
    pipeline = Pipeline.of(DataSettings.of(source={"type": "image_folder", "size": [3, 3], "mode": "grey"}), (1, 3, 3))
    asked = list(read_asked([table], pipeline, 4, 1))
    assert [found.names for found in asked] == [(str(folder / "pics" / f"{name}.png"),) for name in NAMES]
    assert [found.images[0, 0, 0, 0] for found in asked if found.images is not None] == list(range(0, 80, 10))


def test_a_table_of_files_to_predict_names_those_that_are_not_there(folder: Path) -> None:
    (folder / "asked.csv").write_text("none.png\npics/cat/0.png\n")
    pipeline = Pipeline.of(DataSettings.of(source={"type": "image_folder", "size": [3, 3], "mode": "grey"}), (1, 3, 3))
    first, second = read_asked([folder / "asked.csv"], pipeline, 4, 1)
    assert "none.png: no such file" in str(first.error)
    assert second.error is None


def test_tables_beside_that_of_training_are_the_other_splits(folder: Path) -> None:
    for split, names in (("train", NAMES[:4]), ("val", NAMES[4:6]), ("test", NAMES[6:])):
        (folder / f"{split}.csv").write_text("".join(f"pics/{name}.png,{name[:3]}\n" for name in names))
    said = "4 training images (train.csv), 2 validation (val.csv), 2 test (test.csv), 2 classes"
    assert opened(folder).summary() == said
    (folder / "test.csv").write_text("pics/cat/0.png\n")
    data = opened(folder)
    assert data.places["test"] == "held out of train.csv"
    assert f"{folder / 'test.csv'}: is not read: it has no labels" in data.notes


def test_a_file_that_is_not_there_can_be_left_out(folder: Path) -> None:
    lines = [f"pics/{name}.png,{name[:3]}" for name in NAMES]
    (folder / "train.csv").write_text("\n".join([*lines, "pics/cat/9.png,cat"]))
    with pytest.raises(DataError, match=r"train.csv:9: .*pics/cat/9.png: no such file"):
        opened(folder)
    data = opened(folder, on_error="skip")
    assert classes_of(data) == {name: name[:3] for name in NAMES}
    assert any("skipped unreadable files, 1 in all:" in note for note in data.notes)


@pytest.mark.parametrize(
    ("place", "line", "cure"),
    [
        ("", "pics/cat/0,cat", "write names with their endings: pics/cat/0.png"),
        ("lists", "pics/cat/0.png,cat", "relative to the table's folder: move the table to {folder}"),
        ("", "pics/cat/9.png,cat", "correct the line or remove it"),
    ],
)
def test_the_help_for_a_missing_file_says_where_it_is(folder: Path, place: str, line: str, cure: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "train.csv").write_text(f"file,label\n{line}\n")
    with pytest.raises(DataError, match="no such file") as caught:
        opened(folder / place)
    assert cure.format(folder=folder) in (caught.value.help or "")


def test_a_picture_in_two_classes_is_told(folder: Path) -> None:
    lines = [f"pics/{name}.png,{name[:3]}" for name in NAMES]
    (folder / "train.csv").write_text("\n".join([*lines, "pics/cat/0.png,dog", "pics/cat/1.png,cat"]))
    told = f"{folder / 'train.csv'}: the same picture is listed in several classes: {folder / 'pics/cat/0.png'}"
    assert told in opened(folder).notes


def test_columns_that_say_nothing_are_asked_about(folder: Path) -> None:
    (folder / "train.csv").write_text("photo,animal,colour\npics/cat/0.png,cat,black\n")
    with pytest.raises(DataError, match="expected a column of files and one of labels, got 3 columns") as caught:
        opened(folder)
    (folder / "train.csv").write_text("".join(f"pics/{name}.png,{name[:3]}\n" for name in NAMES))
    assert caught.value.help == "name two of them in the first line: file and label"
    with pytest.raises(DataError, match="is a file, not a folder") as caught:
        opened(folder / "train.csv")
    assert "write data.source.train: train.csv" in (caught.value.help or "")
