"""Prediction reads every file that training reads, and gets the same numbers from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data import DataSettings, open_data
from cnnspec.data.asked import read_asked
from cnnspec.data.pipeline import Pipeline
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from tests.data.test_idx import write as write_idx

RANDOM = np.random.default_rng(0)
COUNT = 12
GREY = RANDOM.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (COUNT, 3, 32, 32)).astype(np.uint8)
LABELS = (np.arange(COUNT) % 2).astype(np.uint8)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def predicted(path: Path, pipeline: Pipeline) -> Array:
    (asked,) = read_asked([path], pipeline, 64, 1)
    if asked.error is not None:
        raise asked.error
    assert asked.images is not None
    assert list(asked.names) == [f"{path}[{number}]" for number in range(len(asked.images))]
    return asked.images


def trained(folder: Path, source: str, input: tuple[int, int, int]) -> tuple[Array, Pipeline]:
    """The test images as training sees them, and the pipeline as its run gives it back."""
    settings = DataSettings.of(source=source)
    data = open_data(settings, seed=0, data_dir=folder, input=input)
    return np.asarray(data.test.pixels), Pipeline.of(settings, input).restored(data.pipeline.record(), "run.json")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("idx", "*-*-idx#-ubyte"),
        ("idx", "*-*-idx#-ubyte.gz"),
        ("kmnist", "*-*-idx#-ubyte"),
        ("emnist", "emnist-balanced-*-*-idx#-ubyte"),  # whose rows and columns have changed places
    ],
)
def test_idx_files(tmp_path: Path, source: str, names: str) -> None:
    for split in ("train", "test"):
        write_idx(tmp_path, names.replace("*", split, 1), GREY[:5], LABELS[:5])
    images, pipeline = trained(tmp_path, source, (1, 28, 28))
    path = tmp_path / names.replace("*", "test", 1).replace("*", "images").replace("#", "3")
    np.testing.assert_array_equal(predicted(path, pipeline), images)
    assert (images[:, 0] == GREY[:5]).all() == (source != "emnist")


def test_idx_files_for_any_network_and_labels_for_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=GREY, y=LABELS)
    write_idx(tmp_path, "t10k-*-idx#-ubyte", GREY)
    _, pipeline = trained(tmp_path, "npz", (1, 28, 28))
    np.testing.assert_array_equal(predicted(tmp_path / "t10k-images-idx3-ubyte", pipeline)[:, 0], GREY)
    with pytest.raises(DataError, match="expected images"):
        predicted(tmp_path / "t10k-labels-idx1-ubyte", pipeline)


@pytest.mark.parametrize("python", [False, True])
@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_files_of_cifar(tmp_path: Path, source: str, python: bool) -> None:
    marks = ["labels"] if source == "cifar10" else ["coarse_labels", "fine_labels"]
    names = ("data_batch_1", "test_batch") if source == "cifar10" else ("train", "test")
    rows = COLOUR.reshape(COUNT, -1)
    for name in names:
        if python:
            content = {b"data": rows, **{mark.encode(): LABELS.tolist() for mark in marks}}
            (tmp_path / name).write_bytes(pickle.dumps(content, 2))
        else:
            (tmp_path / f"{name}.bin").write_bytes(np.column_stack([*[LABELS] * len(marks), rows]).tobytes())
    images, pipeline = trained(tmp_path, source, (3, 32, 32))
    np.testing.assert_array_equal(images, COLOUR)
    np.testing.assert_array_equal(predicted(tmp_path / (names[1] + ".bin" * (not python)), pipeline), images)


def test_files_of_svhn(tmp_path: Path) -> None:
    matlab = pytest.importorskip("scipy.io")
    for name in ("train", "test"):
        arrays = {"X": COLOUR.transpose(2, 3, 1, 0), "y": 1 + LABELS[:, None]}
        matlab.savemat(tmp_path / f"{name}_32x32.mat", arrays)
    images, pipeline = trained(tmp_path, "svhn", (3, 32, 32))
    np.testing.assert_array_equal(images, COLOUR)
    np.testing.assert_array_equal(predicted(tmp_path / "test_32x32.mat", pipeline), images)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("x", "y"),
        ("X", "Y"),
        ("images", "labels"),
        ("image", "label"),
        ("pixels", "target"),
        ("arr_0", "arr_1"),
        ("x_train", "y_train"),
        ("X_TRAIN", "Y_TRAIN"),
        ("train_images", "train_labels"),
    ],
)
def test_archives_under_every_name_that_training_knows(tmp_path: Path, images: str, labels: str) -> None:
    arrays: dict[str, Any] = {images: GREY, labels: LABELS}
    np.savez(tmp_path / "train.npz", **arrays)
    _, pipeline = trained(tmp_path, "npz", (1, 28, 28))
    np.testing.assert_array_equal(predicted(tmp_path / "train.npz", pipeline)[:, 0], GREY)


def test_of_several_splits_in_an_archive_the_test_images_are_asked_about(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", x_train=GREY, y_train=LABELS, x_val=GREY[:4], x_test=GREY[:3], y_test=LABELS[:3])
    np.savez(tmp_path / "val.npz", x_val=GREY[:4], y_val=LABELS[:4])
    np.savez(tmp_path / "other.npz", pics=GREY, kinds=LABELS)
    pipeline = Pipeline.of(DataSettings.of(source="npz"), (1, 28, 28))
    assert len(predicted(tmp_path / "all.npz", pipeline)) == 3
    assert len(predicted(tmp_path / "val.npz", pipeline)) == 4
    with pytest.raises(DataError, match="expected images as x, got pics, kinds"):
        predicted(tmp_path / "other.npz", pipeline)
