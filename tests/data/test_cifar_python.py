"""CIFAR's Python files give what its binary ones give, and run nothing."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data.cifar import Cifar10, Cifar100
from cnnspec.diagnostics import DataError

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def batch(seed: int, keys: tuple[str, ...] = ("labels",), count: int = 6) -> dict[bytes, Any]:
    random = np.random.default_rng(seed)
    labels = {key.encode(): random.integers(0, 10, count).tolist() for key in keys}
    return {b"batch_label": b"some", **labels, b"data": random.integers(0, 256, (count, 3072)).astype(np.uint8)}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_python_files_are_the_binary_ones(tmp_path: Path, protocol: int, packed: bool) -> None:
    folders = {name: tmp_path / name for name in ("binary", "python")}
    for folder in folders.values():
        folder.mkdir()
    archive = tarfile.open(folders["python"] / "cifar-10-python.tar.gz", "w:gz") if packed else None  # noqa: SIM115
    for seed, name in enumerate(NAMES):
        found = batch(seed)
        table = np.column_stack([np.array(found[b"labels"], np.uint8), found[b"data"]])
        (folders["binary"] / f"{name}.bin").write_bytes(table.tobytes())
        content = pickle.dumps(found, protocol)
        if archive is None:
            (folders["python"] / name).write_bytes(content)
        else:
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if archive is not None:
        archive.close()
    binary, python = (Cifar10().read(folder, False) for folder in folders.values())
    for split, images in binary.splits.items():
        np.testing.assert_array_equal(images.pixels, python.splits[split].pixels)
        np.testing.assert_array_equal(images.labels, python.splits[split].labels)
    assert "checksums are not known" in python.notes[-1]


def test_the_fine_labels_of_a_hundred_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "test")):
        (tmp_path / name).write_bytes(pickle.dumps(batch(seed, ("coarse_labels", "fine_labels")), 2))
    found = Cifar100().read(tmp_path, False)
    assert (
        np.asarray(found.splits["train"].labels).tolist() == batch(0, ("coarse_labels", "fine_labels"))[b"fine_labels"]
    )


def ran() -> None:
    RAN.append("it ran")


class Hostile:
    def __reduce__(self) -> Any:
        return ran, ()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Hostile()),
        pickle.dumps({**batch(0), b"data": Hostile()}),
        pickle.dumps({**batch(0), b"data": np.zeros((6, 3072), np.float32)}),
        pickle.dumps({**batch(0), b"data": np.zeros((6, 3071), np.uint8)}),
        pickle.dumps({**batch(0), b"labels": [1, 2]}),
        pickle.dumps({**batch(0), b"labels": [1, 2, 3, 4, 5, 999]}),
        pickle.dumps([1, 2, 3]),
        pickle.dumps(batch(0))[:-5000],
        b"",
        b"cos\nsystem\n(S'echo'\ntR.",
    ],
)
def test_what_is_no_such_file_is_refused_and_nothing_runs(tmp_path: Path, content: bytes) -> None:
    for seed, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(pickle.dumps(batch(seed)))
    (tmp_path / NAMES[0]).write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_1: (cannot be read as a Python file of CIFAR|expected)"):
        Cifar10().read(tmp_path, False)
    assert not RAN
