"""Sources: what they hold, and what they say of files that are missing or damaged."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnspec.data import DataSettings, open_data
from cnnspec.data.source import check_labels
from cnnspec.diagnostics import DataError

LABELS = "t10k-labels-idx1-ubyte"


def settings(source: str = "digits", **rest: object) -> DataSettings:
    return DataSettings.of(source=source, **rest)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_digits_are_in_the_package() -> None:
    data = open_data(settings(), seed=0)
    assert (len(data.train), len(data.test), data.validation) == (1437, 360, None)
    assert data.train.pixels.shape == (1437, 1, 8, 8)
    assert data.train.pixels.dtype == np.uint8
    assert np.asarray(data.train.pixels).max() == 255
    assert np.bincount(data.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


def test_shape_and_classes_are_known_without_reading() -> None:
    given = settings("mnist", preprocess=[{"type": "pad", "padding": 2}])
    assert given.image_shape() == (1, 32, 32)
    assert given.class_count == 10


def test_the_split_into_train_and_test_never_changes() -> None:
    first, second = open_data(settings(), seed=0), open_data(settings(), seed=1)
    np.testing.assert_array_equal(first.test.pixels, second.test.pixels)


def test_validation_comes_off_the_training_images() -> None:
    whole, data = open_data(settings(), seed=3), open_data(settings(validation={"fraction": 0.1}), seed=3)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (1437 - 144, 144)
    together = np.concatenate([data.train.pixels, data.validation.pixels]).reshape(1437, -1)
    order, whole_order = (np.lexsort(p.reshape(1437, -1).T) for p in (together, np.asarray(whole.train.pixels)))
    np.testing.assert_array_equal(together[order], np.asarray(whole.train.pixels).reshape(1437, -1)[whole_order])
    shares = np.bincount(data.validation.labels) / np.bincount(whole.train.labels)
    assert np.abs(shares - 0.1).max() < 0.01


def test_limits_are_cut_by_the_seed_and_stratified() -> None:
    given = settings(train={"limit": 100}, test={"limit": 50})
    first, again, other = (open_data(given, seed=seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.test)) == (100, 50)
    assert set(np.bincount(first.train.labels).tolist()) <= {9, 10, 11}
    np.testing.assert_array_equal(first.train.pixels, again.train.pixels)
    assert not np.array_equal(first.train.pixels, other.train.pixels)


def test_a_limit_above_what_there_is() -> None:
    with pytest.raises(DataError, match=r"data\.train\.limit: expected at most 1437, which is all there are, got 2000"):
        open_data(settings(train={"limit": 2000}), seed=0)


def test_missing_files_say_what_was_looked_for_and_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_data(settings("mnist"), seed=0, data_dir=tmp_path / "nowhere")
    message = str(caught.value)
    assert "mnist: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in" in message
    assert str(tmp_path / "nowhere" / "mnist") in message
    assert str(tmp_path / "cache" / "cnnspec") in message
    assert "--download" in (caught.value.help or "")


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist"])
def test_idx_files(source: str, shared_data: Path) -> None:
    data = open_data(settings(source), seed=0, data_dir=shared_data)
    assert (len(data.train), len(data.test)) == (60000, 10000)
    mean = np.asarray(data.train.pixels).mean() / 255
    assert mean == pytest.approx({"mnist": 0.1307, "fashion_mnist": 0.2860}[source], abs=1e-4)
    assert len(data.checksums) == 4


def flip_a_byte(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "expected SHA-256 .* got .*: the file is damaged"),
        (lambda content: content[:4000], "truncated, expected 10,008 bytes, got 4,000"),
        (lambda content: content[:3], "truncated, expected a header of 8 bytes, got 3"),
        (lambda content: b"\0\0\x08\x03" + content[4:], "expected magic number 2049, got 2051"),
        (lambda content: content[:4] + b"\0\0\0\x05" + content[8:], r"expected dimensions \(10000,\), got \(5,\)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named(
    shared_data: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str, packed: bool
) -> None:
    for path in (shared_data / "mnist").iterdir():
        (tmp_path / path.name).symlink_to(path)
    content = damage(gzip.decompress((tmp_path / f"{LABELS}.gz").read_bytes()))
    (tmp_path / f"{LABELS}.gz").unlink()
    target = tmp_path / (f"{LABELS}.gz" if packed else LABELS)
    target.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=f"{LABELS}.*{message}"):
        open_data(settings("mnist"), seed=0, data_dir=tmp_path)


def test_a_truncated_archive_is_named(shared_data: Path, tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte.gz"
    for path in (shared_data / "mnist").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes((shared_data / "mnist" / name).read_bytes()[:100000])
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        open_data(settings("mnist"), seed=0, data_dir=tmp_path)


def test_labels_outside_the_classes_are_named() -> None:
    with pytest.raises(DataError, match=r"labels: label 12 of image 2 is none of the 10 classes \(0 to 9\)"):
        check_labels(np.array([1, 9, 12, 13]), 10, "labels")
