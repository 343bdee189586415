"""Tables and IDX files that are read a part at a time: the same as at once, kept, and refused by their row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import Data, DataSettings, idx, open_data, parquet, tables
from cnnspec.data.asked import read_asked
from cnnspec.data.rows import FileRows
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

COUNT, SHAPE = 60, (2, 3, 4)
RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
NUMBERS = np.arange(COUNT) % 3
TEXTS = np.array(["cat", "tom cat; large", "ox"])[NUMBERS]
SCALES: dict[str, Array] = {"bytes": PIXELS, "shares": PIXELS / 255, "black and white": (PIXELS > 99).astype(np.uint8)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept; what is read at a time is a few rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "CHUNK", 300)
    monkeypatch.setattr(parquet, "CHUNK", 24 * 7)
    monkeypatch.setattr(idx, "PART", 100)
    return tmp_path / "cache" / "cnnspec" / "pixels"


def write(path: Path, kind: str, pixels: Array, labels: Array) -> dict[str, Any]:
    """A file of one kind, and the source that reads it."""
    flat = pixels.reshape(len(pixels), -1)
    shape = list(pixels.shape[1:])
    if kind in ("csv", "csv.gz", "semicolons"):
        mark = ";" if kind == "semicolons" else ","
        lines = [
            mark.join([f'"{label}"', *(str(v).replace(".", "," if mark == ";" else ".") for v in row)])
            for label, row in zip(labels.tolist(), flat.tolist(), strict=True)
        ]
        content = "\n".join([mark.join(["label", *(f"p{k}" for k in range(flat.shape[1]))]), *lines]).encode()
        name = "train.csv.gz" if kind == "csv.gz" else "train.csv"
        (path / name).write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
        return {"type": "csv", "train": name, "shape": shape}
    if kind in ("parquet", "lists"):
        pa, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {f"p{k}": column for k, column in enumerate(flat.T)} if kind == "parquet" else {"p": list(flat)}
        writer.write_table(pa.table({"label": labels, **columns}), path / "train.parquet", row_group_size=25)
        return {"type": "parquet", "shape": shape}
    for array, name in ((pixels, "images-idx4"), (labels.astype(np.uint8), "labels-idx1")):
        array = array.astype(array.dtype.newbyteorder(">"))
        code = next(code for code, dtype in idx.TYPES.items() if np.dtype(dtype) == array.dtype)
        content = bytes((0, 0, code, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        file = path / f"train-{name}-ubyte{'.gz' if kind == 'idx.gz' else ''}"
        file.write_bytes(gzip.compress(content) if kind == "idx.gz" else content)
    return {"type": "idx", "train": "train-images-idx4-ubyte"}


def opened(root: Path, source: dict[str, Any], cache: bool) -> Data:
    return open_data(DataSettings.of(source=source, cache=cache), seed=0, data_dir=root)


@pytest.mark.parametrize("scale", list(SCALES))
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "semicolons", "parquet", "lists", "idx", "idx.gz"])
def test_in_files_as_in_memory(tmp_path: Path, folder: Path, kind: str, scale: str) -> None:
    labels = NUMBERS if kind.startswith("idx") else TEXTS
    source = write(tmp_path, kind, SCALES[scale], labels)
    plain, first, again = (opened(tmp_path, source, cache) for cache in (False, True, True))
    whole = np.concatenate([plain.train.pixels, plain.test.pixels])
    expected = {**SCALES, "shares": PIXELS, "black and white": SCALES["black and white"] * np.uint8(255)}[scale]
    assert sorted(map(bytes, whole)) == sorted(map(bytes, expected))
    for other in (first, again):
        assert isinstance(other.train.pixels, FileRows)
        assert other.class_names == plain.class_names
        assert other.checksums == plain.checksums
        for split, dataset in plain.splits.items():
            np.testing.assert_array_equal(other.splits[split].pixels, dataset.pixels)
            np.testing.assert_array_equal(other.splits[split].labels, dataset.labels)
    kept = [note for note in first.notes if "are kept in" in note]
    assert len(kept) == (kind != "idx")
    assert len([note for note in again.notes if "are those in" in note]) == len(kept)
    assert [note for note in first.notes if note not in kept] == list(plain.notes)
    assert len(list(folder.iterdir()) if folder.exists() else []) == len(kept) + (scale != "bytes")


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("kind", "row", "value", "message"),
    [
        ("csv", 57, 256, r"train.csv:59: column 4: expected a pixel, 0 to 255, got '256'"),
        ("csv.gz", 57, -1, r"train.csv.gz:59: column 4: expected a pixel, 0 to 255, got '-1'"),
        ("parquet", 57, 256, r"train.parquet: column 'p2', row 57: expected a pixel, 0 to 255, got 256"),
        ("lists", 57, 300, r"train.parquet: column 'p', row 57: expected a pixel, 0 to 255, got 300"),
        ("idx", 57, 256, r"train-images-idx4-ubyte: expected values from 0 to 255, got >i2 from 0 to 256"),
        ("idx.gz", 57, -5, r"train-images-idx4-ubyte.gz: expected values from 0 to 255, got >i2 from -5 to 255"),
    ],
)
def test_what_is_wrong_far_behind_is_named(
    tmp_path: Path, folder: Path, kind: str, row: int, value: int, message: str, cache: bool
) -> None:
    pixels = PIXELS.astype(np.int16)
    pixels[0, 0, 0, 0], pixels[1, 0, 0, 0] = 0, 255
    pixels[row, 0, 0, 2] = value
    source = write(tmp_path, kind, pixels, NUMBERS)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, source, cache)
    assert not [place for place in folder.glob("*") if place.name.startswith(".")]


def test_a_row_without_a_pixel_in_a_list_is_named(tmp_path: Path) -> None:
    pa, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = PIXELS.reshape(COUNT, -1).tolist()
    for row, change, message in (
        (41, None, "column 'p', row 41: expected a pixel, 0 to 255, got nothing"),
        (50, 7, "expected lists of one length, got 24 to 25"),
    ):
        changed: list[list[int | None]] = [list(values) for values in rows]
        changed[row] = [*changed[row], change] if change else [*changed[row][:-1], None]
        writer.write_table(pa.table({"label": NUMBERS, "p": changed}), tmp_path / "train.parquet")
        with pytest.raises(DataError, match=message):
            opened(tmp_path, {"type": "parquet", "shape": list(SHAPE)}, True)


def test_a_damaged_pack_is_not_kept(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path, "idx.gz", PIXELS, NUMBERS)
    path = tmp_path / "train-images-idx4-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of gzip's own checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ubyte\.gz: cannot be read: CRC check failed"):
        opened(tmp_path, source, True)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="expected an IDX file"):
        opened(tmp_path, source, True)
    assert list(folder.iterdir()) == []


def test_labels_that_are_damaged_are_read_anew(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path, "csv", PIXELS, TEXTS)
    expected = opened(tmp_path, source, True)
    (place,) = folder.iterdir()
    content = bytearray((place / "arrays.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (place / "arrays.npz").write_bytes(content)
    found = opened(tmp_path, source, True)
    np.testing.assert_array_equal(found.train.labels, expected.train.labels)
    assert "are kept in" in found.notes[0]


def test_progress_is_told_while_a_table_is_read(tmp_path: Path) -> None:
    told = list[tuple[str, int, int]]()
    settings = DataSettings.of(source=write(tmp_path, "csv", PIXELS, NUMBERS), cache=True)
    open_data(settings, seed=0, data_dir=tmp_path, watch=lambda *step: told.append(step))
    assert {(what, count) for what, _, count in told} == {(f"{tmp_path / 'train.csv'}: reading 60 images", 60)}
    done = [step for _, step, _ in told]
    assert len(done) > 10
    assert done == sorted(done)
    assert done[-1] == 60


def test_a_line_break_in_quotes_belongs_to_its_label(tmp_path: Path) -> None:
    labels = np.array(["a\nb", "c"])[np.arange(COUNT) % 2]
    found = opened(tmp_path, write(tmp_path, "csv", PIXELS, labels), True)
    assert found.class_names == ("a\nb", "c")
    assert len(found.train) + len(found.test) == COUNT


def test_black_and_white_is_asked_about_as_it_was_trained(tmp_path: Path) -> None:
    source = write(tmp_path, "csv", SCALES["black and white"], TEXTS)
    data = opened(tmp_path, {**source, "test": source["train"]}, False)
    assert any("is read as 0 to 1 (data.source.scale: none)" in note for note in data.notes)
    (asked,) = read_asked([tmp_path / "train.csv"], data.pipeline, COUNT, 1)
    np.testing.assert_array_equal(asked.images, np.asarray(data.train.pixels))


@pytest.mark.parametrize("label", ["first", "last"])
@pytest.mark.parametrize("mark", [",", ";"])
@pytest.mark.parametrize("named", [False, True])
def test_a_table_is_asked_about_as_it_was_trained(tmp_path: Path, label: str, mark: str, named: bool) -> None:
    rows = [[str(v).replace(".", "," if mark == ";" else ".") for v in row] for row in (PIXELS / 255).reshape(60, -1)]
    labels = TEXTS.tolist()
    if named:
        rows, labels = [[f"p{k}" for k in range(24)], *rows], ["label", *labels]
    lines = [[own, *row] if label == "first" else [*row, own] for own, row in zip(labels, rows, strict=True)]

    def save() -> None:
        (tmp_path / "train.csv").write_text("\n".join(mark.join(f'"{value}"' for value in line) for line in lines))

    save()
    source = {"type": "csv", "shape": list(SHAPE), "label": label, "test": "train.csv"}
    data = opened(tmp_path, source, False)
    np.testing.assert_array_equal(np.asarray(data.train.pixels), PIXELS)
    (asked,) = read_asked([tmp_path / "train.csv"], data.pipeline, COUNT, 1)
    np.testing.assert_array_equal(asked.images, PIXELS)
    lines[-1][3] = "x"
    save()
    (asked,) = read_asked([tmp_path / "train.csv"], data.pipeline, COUNT, 1)
    assert f"train.csv:{COUNT + named}: column 4: expected a pixel, got 'x'" in str(asked.error)


def test_a_label_at_the_other_end_is_said_to_be_one(tmp_path: Path) -> None:
    source = write(tmp_path, "csv", PIXELS, TEXTS)
    (tmp_path / "train.csv").write_text((tmp_path / "train.csv").read_text().replace("label", "animal"))
    with pytest.raises(DataError, match="column 1: expected a pixel, 0 to 255, got 'cat'") as caught:
        opened(tmp_path, {**source, "label": "last"}, False)
    assert (caught.value.help or "").startswith("write data.source.label: first where the labels stand there")
    opened(tmp_path, {**source, "label": "first"}, False)  # as the help says
