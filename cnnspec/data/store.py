"""Keeps the pixels of a data set in memory, or in files that the next run finds again.

A file set is a folder with `pixels`, the plain numbers, `record.json`, which describes them, and `arrays.npz`, further
arrays such as labels. It is written under another name and renamed when it is complete, so that an interrupted one is
never found. Its name is a hash of its origin: paths, sizes and times of the files, and how they are read. Pixels are
checked by their number and by a checksum over the start of each image.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from cnnspec.data.rows import FileRows, Pixels, blocks
from cnnspec.diagnostics import DataError, RunError
from cnnspec.kernels.step import Array
from cnnspec.memory import bytes_text, require_memory
from cnnspec.shapes import Shape

BLOCK = 64  # images that are changed at once
FORM = 2  # version of the format; files of other versions are made again
LEAST = 256 << 20  # bytes of pixels from which files are used by default
MOST = 64 << 30  # bytes in the folder: above, the least recently used sets are removed
SPARE = 1 << 30  # bytes that stay free on the disk
STALE = 24 * 3600.0  # age in seconds at which an unfinished file set is removed
CHECKED = 64  # bytes of each image that enter the checksum
SUMMED = 4096  # images whose checksum is computed at once

Watch = Callable[[str, int, int], None]  # called with what is read, the images done, and their total


@dataclass(slots=True)
class Writing:
    """Takes images, one or several at a time, and a record of them: texts, numbers, lists and arrays."""

    count: int
    watch: Watch | None
    what: str
    memory: Array | None = None
    file: IO[bytes] | None = None
    record: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    checksum: int = 0

    def add(self, images: Array) -> None:
        """Append images (n, ...)."""
        if self.memory is not None:
            self.memory[self.done : self.done + len(images)] = images
        if self.file is not None:
            images = np.ascontiguousarray(images)
            self.file.write(images.data)
            self.checksum = _checksum(images, self.checksum)
        self.done += len(images)
        if self.watch is not None:
            self.watch(self.what, self.done, self.count)


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of file sets, or no folder; with `always`, small data sets are put into files too."""

    folder: Path | None = None
    always: bool = False
    watch: Watch | None = None

    def large(self, size: int) -> bool:
        """Tell whether this many bytes should be kept in files."""
        return self.folder is not None and (size >= LEAST or self.always)

    def wants(self, size: int) -> bool:
        """Tell whether this many bytes are written to files: they are large enough, and the disk has room."""
        if self.folder is None or not self.large(size):
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            if self.always:
                raise _unwritable(self.folder, error) from error
            return False
        if self.always and free - size < SPARE:
            raise DataError(
                f"{self.folder}: {bytes_text(size)} of pixels are to be kept there, {bytes_text(free)} are free",
                "make room, set $XDG_CACHE_HOME to a folder on another disk, or write data.cache: false",
            )
        return free - size >= SPARE and os.access(self.folder, os.W_OK)

    def find(self, key: str) -> tuple[FileRows, dict[str, Any]] | None:
        """Return the file set of a key with its record, if a complete one exists; a damaged one is removed."""
        if self.folder is None or not (self.folder / key).is_dir():
            return None
        place = self.folder / key
        try:
            record = json.loads((place / "record.json").read_bytes())
            shape, dtype = tuple(record["shape"]), np.dtype(record["dtype"])
            if record["form"] != FORM or (place / "pixels").stat().st_size != dtype.itemsize * np.prod(shape):
                raise ValueError
            array = np.memmap(place / "pixels", dtype, "r", shape=shape)
            checksum = 0
            for images in blocks(array, SUMMED):
                checksum = _checksum(images, checksum)
            if checksum != record["checksum"]:
                raise ValueError
            record_of_files = dict(record["about"])
            with np.load(place / "arrays.npz", allow_pickle=False) as arrays:
                record_of_files |= {name: arrays[name] for name in arrays.files}
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            TokenError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # the files are whole
                raise RunError(
                    f"decoded images of {bytes_text((place / 'pixels').stat().st_size)} do not fit the address space "
                    "that this process may have",
                    "raise ulimit -v, or use smaller images (data.source.size for pictures), or fewer",
                ) from error
            shutil.rmtree(place, ignore_errors=True)
            return None
        with suppress(OSError):
            os.utime(place / "record.json")  # the time of the last use
        return FileRows.all(array, key), record_of_files

    def make(
        self,
        key: str,
        shape: Shape,
        dtype: Any,
        progress: str,
        write: Callable[[Writing], None],
        copies: int = 1,
    ) -> tuple[Pixels, dict[str, Any]]:
        """Collect up to shape[0] images that `write` adds, in files or in memory, and return them with their record.

        RunError if they exceed the free memory, of which `copies` times their size is needed.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not self.wants(size):
            require_memory(copies * size, progress, "use smaller images (data.source.size for pictures), or fewer")
            memory = np.empty(shape, dtype)
            writing = Writing(shape[0], self.watch, progress, memory)
            write(writing)
            return memory[: writing.done], writing.record
        assert self.folder is not None
        self._make_room(size)
        try:
            with _fresh(self.folder, key) as place:
                with (place / "pixels").open("wb") as file:
                    writing = Writing(shape[0], self.watch, progress, file=file)
                    write(writing)
                arrays: dict[str, Any] = {k: v for k, v in writing.record.items() if isinstance(v, np.ndarray)}
                with (place / "arrays.npz").open("wb") as file:
                    np.savez(file, **arrays)
                record = {
                    "form": FORM,
                    "shape": (writing.done, *shape[1:]),
                    "dtype": np.dtype(dtype).str,
                    "checksum": writing.checksum,
                    "about": {name: value for name, value in writing.record.items() if name not in arrays},
                }
                (place / "record.json").write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        stored = self.find(key)
        if stored is None:
            raise DataError(f"{self.folder / key}: cannot be read again", "write data.cache: false")
        return stored

    def through(
        self, pixels: Pixels, change: Callable[[Array], Array], code: Iterable[object], progress: str
    ) -> Pixels:
        """Apply a function to images; those in files are processed block by block, and the result goes to files too.

        `code` are the objects that the function calls: their fields and the files of their classes are part of the key.
        """
        if not isinstance(pixels, FileRows):
            return change(pixels)
        array = pixels.array  # the whole array, because other rows may be selected next time
        probe = array[:1]
        start = change(probe)
        if start is probe:
            return pixels
        code = list(code)
        key = key_of("through", pixels.key, code, *stamps(map(_file, code)))

        def write(out: Writing) -> None:
            for images in blocks(array, BLOCK):
                out.add(change(images))

        shape = (len(array), *start.shape[1:])
        made, _ = self.find(key) or self.make(key, shape, start.dtype, progress, write)
        return replace(made, numbers=pixels.numbers) if isinstance(made, FileRows) else made[pixels.numbers]

    def mapped(self, pixels: Array, key: str, progress: str) -> Pixels:
        """Return the images of an array, memory-mapped or in memory, as one contiguous set in this store."""
        if not isinstance(pixels, np.memmap):
            return np.ascontiguousarray(pixels)
        rows = FileRows.all(pixels, key_of(key, pixels.shape, pixels.strides))
        return rows if pixels.flags.c_contiguous else self.through(rows, np.ascontiguousarray, (), progress)

    def location_note(self, place: Path, pixels: Pixels, *, new: bool) -> Iterator[str]:
        """Yield a note that says where the pixels are, if they are in files."""
        if isinstance(pixels, FileRows):
            verb = "are kept in" if new else "are those in"
            size = bytes_text(pixels.array.nbytes)
            yield f"{place}: decoded images {verb} {self.folder} ({size}; data.cache: false keeps them in memory)"

    def _make_room(self, size: int) -> None:
        """Remove the least recently used file sets if the folder would grow too large, and unfinished ones."""
        assert self.folder is not None
        sets = []
        for place in self.folder.iterdir():
            with suppress(OSError):
                if place.name.startswith("."):
                    if time.time() - (place / "pixels").stat().st_mtime > STALE:
                        shutil.rmtree(place, ignore_errors=True)
                else:
                    sets.append(((place / "record.json").stat().st_mtime, (place / "pixels").stat().st_size, place))
        total = size + sum(held for _, held, _ in sets)
        for _, held, place in sorted(sets):
            if total <= MOST:
                break
            shutil.rmtree(place, ignore_errors=True)
            total -= held


MEMORY = Store()


def key_of(*parts: object) -> str:
    """Return a hash of the texts of all parts, as the name of what is made of them."""
    import hashlib

    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:40]


def stamps(paths: Iterable[Path]) -> Iterator[tuple[str, int, int, int]]:
    """Yield path, size and times of change of each file, by which a changed file is recognised."""
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # the error is reported when the file is read
            yield str(path.absolute()), -1, 0, 0
        else:
            yield str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _file(made: object) -> Path:
    """Return the file that defines an object's class; a new name each time if there is none, as in a notebook."""
    import inspect

    try:
        return Path(inspect.getfile(type(made)))
    except (OSError, TypeError):
        return Path(f"{time.time_ns()}")


@contextmanager
def _fresh(folder: Path, key: str) -> Iterator[Path]:
    """Make a folder under another name, which is renamed to `key` when it is complete, and removed if it never is."""
    place = folder / f".{key}.{os.getpid()}.{time.monotonic_ns()}"
    place.mkdir()
    try:
        yield place
        with suppress(OSError):  # another process was faster
            place.rename(folder / key)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _checksum(images: Array, start: int) -> int:
    """Return a checksum over the start of each image, continued from `start`, that of the images before."""
    rows = images.reshape(len(images), -1)
    return zlib.crc32(np.ascontiguousarray(rows[:, :CHECKED]).data, start)


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder}: cannot be written: {error.strerror or error}",
        "set $XDG_CACHE_HOME to another folder, or write data.cache: false",
    )
