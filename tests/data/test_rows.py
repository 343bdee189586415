"""Rows of an array in a file: those of the array, without its memory, and with an error where the file is damaged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.data.rows import FileRows, chosen, take
from cnnspec.diagnostics import DataError

RANDOM = np.random.default_rng(0)
MAPPED = np.memmap[Any, Any]


def resident() -> int:
    """Bytes of files that count as this process's memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssFile:"))


def as_npy(path: Path, array: np.ndarray[Any, Any]) -> MAPPED:
    np.save(path, array)
    return np.lib.format.open_memmap(path, mode="r")


def behind_a_start(path: Path, array: np.ndarray[Any, Any]) -> MAPPED:
    path.write_bytes(bytes(5000) + array.tobytes())
    return np.memmap(path, array.dtype, "r", 5000, array.shape)


def a_part(path: Path, array: np.ndarray[Any, Any]) -> Any:
    path.write_bytes(bytes(3 * array[0].nbytes) + array.tobytes())
    whole = np.memmap(path, array.dtype, "r", shape=(len(array) + 3, *array.shape[1:]))
    return whole[3:, None][:, 0]


@pytest.mark.parametrize("made", [as_npy, behind_a_start, a_part])
@pytest.mark.parametrize("dtype", ["u1", ">f4"])
def test_rows_are_those_of_the_array(made: Any, dtype: str, tmp_path: Path) -> None:
    array = RANDOM.integers(0, 200, (300, 2, 5, 7)).astype(dtype)
    rows = FileRows.all(made(tmp_path / "x.npy", array), "key")
    for numbers in (slice(20, 90), slice(None, None, -3), [4, 5, 6, -1, 0, 0], np.array([], np.int64), 17):
        np.testing.assert_array_equal(rows[numbers], array[numbers])
    some = chosen(rows, np.array([9, 3, 4, 5]))
    out = np.empty((3, *array.shape[1:]), dtype)
    take(some, np.array([1, 2, 0]), out)
    np.testing.assert_array_equal(out, array[[3, 4, 9]])
    scattered = np.empty((6, *array.shape[1:]), dtype)[::2]
    take(some, np.array([1, 2, 0]), scattered)
    np.testing.assert_array_equal(scattered, array[[3, 4, 9]])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it")
def test_rows_that_were_read_are_no_part_of_memory(tmp_path: Path) -> None:
    rows = FileRows.all(as_npy(tmp_path / "x.npy", np.zeros((5000, 4096), np.uint8)), "key")
    before, out = resident(), np.empty((100, 4096), np.uint8)
    for numbers in np.split(RANDOM.permutation(5000), 50):
        take(rows, numbers, out)
    assert resident() - before < 1 << 20


def test_a_file_that_has_become_shorter_is_told(tmp_path: Path) -> None:
    rows = FileRows.all(as_npy(tmp_path / "x.npy", np.zeros((5000, 4096), np.uint8)), "key")
    os.truncate(tmp_path / "x.npy", 1 << 20)
    assert not rows[:100].any()
    with pytest.raises(DataError, match=r"x\.npy: has become shorter"):
        rows[4000:]
