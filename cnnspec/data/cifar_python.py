"""Converts CIFAR's Python files to the records of its binary files, without running code that a pickle may call."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.data.published import AGAIN
from cnnspec.diagnostics import DataError

PIXELS = 3 * 32 * 32


def records(content: bytes, labels: Sequence[str], path: Path) -> bytes:
    """Return the file's images as records of label bytes and 3,072 pixels; DataError if it holds anything else.

    Pickles can call any function. This reader only accepts the four names that an array of bytes needs, and replaces
    each by a class in this file that only stores its arguments.
    """
    try:
        content_dict = _Reader(io.BytesIO(content), encoding="bytes").load()
        pixels = content_dict[b"data"].table()
        columns = [np.array(content_dict[name.encode()], np.int64) for name in labels]
    except Exception as error:  # a damaged pickle raises what it likes
        raise DataError(f"{path}: cannot be read as a Python file of CIFAR: {error}", AGAIN) from error
    if any(column.shape != pixels.shape[:1] for column in columns):
        raise DataError(f"{path}: expected one label for each of the {len(pixels):,} images", AGAIN)
    if any(((column < 0) | (column > 255)).any() for column in columns):
        raise DataError(f"{path}: expected labels from 0 to 255", AGAIN)
    return np.column_stack([*(column.astype(np.uint8) for column in columns), pixels]).tobytes()


class _Bytes:
    """Takes the place of the NumPy array in the pickle, and keeps its state."""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.kind, self.by_columns, self.content = state

    def table(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the bytes as an array (n, 3072)."""
        if not (isinstance(self.kind, _Kind) and self.kind.name in ("u1", b"u1") and self.shape[1:] == (PIXELS,)):
            raise ValueError(f"expected bytes (n, {PIXELS})")
        order: Any = "F" if self.by_columns else "C"
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order=order)


class _Kind:
    """Takes the place of NumPy's dtype in the pickle."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


def _empty(*_: object) -> _Bytes:
    return _Bytes()


def _encoded(text: str, *_: object) -> bytes:
    return text.encode("latin-1")


class _Reader(pickle.Unpickler):
    known: dict[tuple[str, str], Callable[..., object]] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _empty,
        ("numpy._core.multiarray", "_reconstruct"): _empty,
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _Kind,
        ("_codecs", "encode"): _encoded,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"{module}.{name} is refused")
        return self.known[module, name]
