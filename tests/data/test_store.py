"""Decoded images in files: the same bits as in memory, found by the next start, made anew when something changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.cli import main
from cnnspec.data import Data, DataSettings, decode, open_data, pictures, store
from cnnspec.data.rows import FileRows
from cnnspec.diagnostics import DataError, RunError
from cnnspec.spec import loads

Image = pytest.importorskip("PIL.Image")

SPEC = """\
cnnspec: 1
name: net
input: [3, 14, 12]
layers: [{type: conv2d, filters: 4, kernel_size: 3, activation: relu}, flatten, {type: dense, units: 3}]
data:
  source: {type: image_folder, size: [10, 12], on_error: skip}
  root: pictures
  cache: CACHE
  validation: {fraction: 0.2}
  preprocess: [{type: pad, padding: [2, 2, 0, 0]}]
  augment: [{type: flip}]
train: {epochs: 2, batch_size: 16}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept, and pictures of three classes beside it, one of them broken."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name in "abc":
        place = tmp_path / "pictures" / name
        place.mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 256, (9, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number:02}.png")
    (tmp_path / "pictures" / "a" / "05.png").write_bytes(b"no picture")
    return tmp_path / "cache" / "cnnspec" / "pixels"


def opened(root: Path, cache: bool | None = True, **options: Any) -> Data:
    settings = DataSettings.of(source={"type": "image_folder", "on_error": "skip", **options}, cache=cache)
    return open_data(settings, seed=0, data_dir=root / "pictures")


def sets(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def trained(root: Path, cache: str) -> tuple[str, Data]:
    """The bits of a network that was trained, and its data opened once more."""
    (root / "net.yaml").write_text(SPEC.replace("CACHE", cache))
    model: Model = compile(root / "net.yaml")
    assert model.spec.data is not None
    model.fit()
    return model.fingerprint(), open_data(model.spec.data, seed=0, base=root)


def test_training_has_the_same_bits_as_from_memory(tmp_path: Path, folder: Path) -> None:
    in_memory = trained(tmp_path, "false")
    assert not folder.exists()
    first, again = trained(tmp_path, "true"), trained(tmp_path, "true")
    assert isinstance(first[1].train.pixels, FileRows)
    assert isinstance(in_memory[1].train.pixels, np.ndarray)
    for other in (first, again):
        assert other[0] == in_memory[0]
        assert other[1].checksums == in_memory[1].checksums
        for split, dataset in in_memory[1].splits.items():
            np.testing.assert_array_equal(other[1].splits[split].pixels, dataset.pixels)
            np.testing.assert_array_equal(other[1].splits[split].labels, dataset.labels)


def test_the_next_start_decodes_nothing_and_says_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "read_picture", refuse)
        second = opened(tmp_path)
    assert first.notes[:-1] == second.notes[:-1]
    assert "skipped unreadable files, 1 in all" in first.notes[0]
    size = "12.4 KiB"
    assert first.notes[-1].endswith(
        f"decoded images are kept in {folder} ({size}; data.cache: false keeps them in memory)"
    )
    assert "decoded images are those in" in second.notes[-1]
    assert first.checksums == second.checksums
    assert len(sets(folder)) == 1


def refuse(*_: object) -> decode.Decoded:
    raise AssertionError("a picture was decoded")


def rewritten(root: Path) -> None:
    path = root / "pictures" / "b" / "00.png"
    times, content = path.stat(), bytearray(path.read_bytes())
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time: that of the inode tells


def added(root: Path) -> None:
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(root / "pictures" / "b" / "99.png")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        pytest.param(rewritten, {}, marks=pytest.mark.skipif(os.name == "nt", reason="no time of the inode")),
        (added, {}),
        (lambda root: None, {"mode": "grey"}),
    ],
)
def test_what_changed_is_decoded_anew(
    tmp_path: Path, folder: Path, change: Callable[[Path], None], options: dict[str, Any]
) -> None:
    opened(tmp_path)
    change(tmp_path)
    found, expected = opened(tmp_path, **options), opened(tmp_path, False, **options)
    np.testing.assert_array_equal(found.train.pixels, expected.train.pixels)
    assert len(sets(folder)) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "record", "no record"])
def test_damaged_files_are_made_anew(tmp_path: Path, folder: Path, damage: str) -> None:
    expected = np.asarray(opened(tmp_path).train.pixels)
    (place,) = sets(folder)
    content = bytearray((place / "pixels").read_bytes())
    if damage == "cut":
        (place / "pixels").write_bytes(content[:-1])
    elif damage == "flipped":
        content[0] ^= 1
        (place / "pixels").write_bytes(content)
    elif damage == "record":
        (place / "record.json").write_text('{"form": 1, "shape": ["many"]}')
    else:
        (place / "record.json").unlink()
    found = opened(tmp_path)
    np.testing.assert_array_equal(found.train.pixels, expected)
    assert "are kept in" in found.notes[-1]


def test_an_interrupted_start_leaves_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def interrupted(*arguments: Any) -> decode.Decoded:
        asked.append(arguments)
        if len(asked) == 30:
            raise KeyboardInterrupt
        return decode.read_picture(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "read_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path)
    assert sets(folder) == []


def test_the_folder_is_bounded(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, side in ((300.0, 8), (100.0, 9), (200.0, 10)):
        opened(tmp_path, size=[side, side])
        for place in sets(folder):
            if (place / "record.json").stat().st_mtime > 1e9:
                os.utime(place / "record.json", (1e9 - age, 1e9 - age))
    oldest, last = (min(sets(folder), key=used), max(sets(folder), key=used))
    (folder / ".left.1.2").mkdir()
    (folder / ".left.1.2" / "pixels").write_bytes(b"")
    os.utime(folder / ".left.1.2" / "pixels", (1e9, 1e9))
    monkeypatch.setattr(store, "MOST", 3 * 60 * 3 * 100)
    opened(tmp_path, size=[11, 11])
    assert not oldest.exists()
    assert last.exists()
    assert not (folder / ".left.1.2").exists()


def used(place: Path) -> float:
    return (place / "record.json").stat().st_mtime


def test_small_sets_stay_in_memory_unless_the_spec_says_otherwise(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(opened(tmp_path, None).train.pixels, np.ndarray)
    assert not folder.exists()
    monkeypatch.setattr(store, "LEAST", 1000)
    assert isinstance(opened(tmp_path, None).train.pixels, FileRows)
    monkeypatch.setattr(store, "SPARE", 1 << 62)  # no disk has so much room
    assert isinstance(opened(tmp_path, None, size=[5, 5]).train.pixels, np.ndarray)
    with pytest.raises(DataError, match=r"of pixels are to be kept there, .* are free"):
        opened(tmp_path, True, size=[5, 5])


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written") as caught:
        opened(tmp_path)
    assert caught.value.help == "set $XDG_CACHE_HOME to another folder, or write data.cache: false"
    assert isinstance(opened(tmp_path, None).train.pixels, np.ndarray)


def test_eval_and_report_read_from_the_same_files(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.yaml").write_text(SPEC.replace("CACHE", "true"))
    assert main(["train", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "runs")]) == 0
    kept = sets(folder)
    assert main(["eval", str(tmp_path / "runs" / "net"), "--confusion"]) == 0
    assert main(["report", str(tmp_path / "runs" / "net"), "-o", str(tmp_path / "page.html")]) == 0
    assert f"{tmp_path / 'pictures'}: decoded images are those in" in capsys.readouterr().err
    assert sets(folder) == kept


@pytest.mark.parametrize("kind", ["bytes", "floats", "channels last", "rows"])
@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_arrays_are_mapped(tmp_path: Path, folder: Path, kind: str, form: str) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (300, 3, 6, 5)).astype(np.uint8)
    labels = np.arange(300) % 4
    saved: Any = {
        "bytes": pixels,
        "floats": (pixels / 255).astype(np.float32),
        "channels last": np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)),
        "rows": pixels.reshape(300, -1).astype(np.int64),
    }[kind]
    source: dict[str, Any] = {"type": "npz" if form != "npy" else "npy", "shape": [3, 6, 5]}
    if form == "npy":
        np.save(tmp_path / "x_train.npy", saved)
        np.save(tmp_path / "y_train.npy", labels)
    else:
        (np.savez if form == "npz" else np.savez_compressed)(tmp_path / "train.npz", x=saved, y=labels)
    opened = [
        open_data(DataSettings.of(source=source, cache=cache), seed=0, data_dir=tmp_path)
        for cache in (False, True, True)
    ]
    plain, *others = (data.train.pixels for data in opened)
    assert isinstance(plain, np.ndarray)
    for other in others:
        assert isinstance(other, FileRows)
        np.testing.assert_array_equal(other, plain)
    assert opened[0].notes == opened[1].notes == opened[2].notes
    expected = (form != "npy") + (kind in ("floats", "channels last", "rows"))
    assert len(sets(folder)) == expected


def test_a_damaged_archive_is_not_kept(tmp_path: Path, folder: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((50, 8, 8), np.uint8), y=np.arange(50) % 2)
    content = bytearray((tmp_path / "train.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(DataError, match="archive: Bad CRC-32"):
        open_data(DataSettings.of(source="npz", cache=True), seed=0, data_dir=tmp_path)
    assert sets(folder) == []


def test_progress_is_told(tmp_path: Path) -> None:
    told = list[tuple[str, int, int]]()
    settings = loads(SPEC.replace("CACHE", "true")).data
    assert settings is not None
    open_data(settings, seed=0, base=tmp_path, watch=lambda *step: told.append(step))
    reading = [step for step in told if "reading" in step[0]]
    assert [done for _, done, _ in reading] == list(range(1, 60))
    assert {count for _, _, count in reading} == {60}


def test_a_file_that_cannot_be_mapped_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = store.Store(tmp_path / "kept", always=True)
    images = np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2)
    files.make("key", images.shape, np.uint8, "images", lambda writing: writing.add(images))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", refuse)
        with pytest.raises(RunError, match="do not fit the address space"):
            files.find("key")
    found = files.find("key")
    assert found is not None
    np.testing.assert_array_equal(np.asarray(found[0][:]), images)
