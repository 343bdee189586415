"""The base of sources of picture files, and the decoding of many files into one array."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np

from cnnspec.data.decode import WHITE, Decoded, PictureRules, picture_bytes, read_picture, tell
from cnnspec.data.own import split_off
from cnnspec.data.rows import Pixels
from cnnspec.data.source import Images, Source
from cnnspec.data.store import BLOCK, Store, Writing, key_of, stamps
from cnnspec.diagnostics import DataError
from cnnspec.fields import Colour, Fraction, Pair
from cnnspec.kernels.step import Array
from cnnspec.listing import first_names
from cnnspec.shapes import Shape

DECLARED = {"grey", "rgb", "size"}  # conversions that a spec asks for by `mode` and `size`
COPIES = 2  # copies in memory at once: pictures as read, and divided into splits
AHEAD = 4  # pictures for each core that are decoded before they are asked for
NAMED = 3  # files that a message names before it counts the others
Given = TypeVar("Given")
Made = TypeVar("Made")
_Content = tuple[bytes, Decoded | DataError]  # a file's SHA-256, empty if it must not be opened; its picture or error


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pixels (n, c, h, w) of the files that could be read, the indices of those files, and notes for the user.

    `digest` is the SHA-256 of the names and contents of all files.
    """

    pixels: Pixels
    kept: Array
    digest: bytes
    notes: tuple[str, ...]

    def checksum(self, labels: Pixels) -> str:
        """Return the SHA-256 of the files' digest and the labels of those that were read."""
        import hashlib

        digest = hashlib.sha256(self.digest)
        for start in range(0, len(labels), BLOCK):
            digest.update(np.ascontiguousarray(labels[start : start + BLOCK]).data)
        return digest.hexdigest()


class PictureSource(Source):
    """Base of sources of picture files."""

    held_out: Annotated[Fraction, "share of the training pictures that is held out for testing, always the same"] = 0.2
    size: Annotated[Pair | None, "height and width that pictures are brought to"] = None
    mode: Annotated[Literal["grey", "rgb"] | None, "what pictures are converted to"] = None
    background: Annotated[Colour, "0 to 255 or [red, green, blue]: what lies behind transparent pictures"] = WHITE
    on_error: Annotated[Literal["stop", "skip"], "what happens at a picture that cannot be read"] = "stop"

    @property
    def image_shape(self) -> Shape | None:
        """The shape of an image if the spec declares size and mode, else None."""
        if self.size is None or self.mode is None:
            return None
        return (1 if self.mode == "grey" else 3, *self.size)

    @property
    def picture_rules(self) -> PictureRules:
        """How the spec says that picture files become bytes."""
        return PictureRules(self.mode, self.size, self.background)

    def pictures(self, place: Path, paths: Sequence[Path], store: Store) -> Pictures:
        """Return the pixels of files, in the given order, decoded on all cores or found in the store.

        `place` is their folder or table. DataError for the first file that cannot be read, or has another size or mode.
        """
        key = key_of("pictures", decoder(), self.picture_rules, self.on_error, *stamps(paths))
        stored = store.find(key)
        pixels, record = stored or self._read(place, paths, store, key)
        notes = list(left_out(place, "skipped unreadable", [paths[number] for number in record["skipped"]]))
        conversions = Counter(record["conversions"])
        for declared in DECLARED:
            del conversions[declared]
        notes += [f"{place}: {note}" for note in tell(conversions.elements(), self.picture_rules)]
        notes += store.location_note(place, pixels, new=stored is None)
        read_numbers = np.setdiff1d(np.arange(len(paths)), record["skipped"])
        return Pictures(pixels, read_numbers, bytes.fromhex(record["digest"]), tuple(notes))

    def _read(self, place: Path, paths: Sequence[Path], store: Store, key: str) -> tuple[Pixels, Mapping[str, Any]]:
        with closing(in_order(self._decoded, paths)) as files:
            start = list[tuple[Path, _Content]]()
            for path, (content, picture) in files:
                start.append((path, (content, picture)))
                if isinstance(picture, Decoded):
                    break
                self._refuse(content, picture)
            else:
                raise DataError(f"{place}: expected pictures, got none that can be read", "give at least one picture")
            shape = picture.pixels.shape
            progress = f"{place}: reading {len(paths):,} pictures of {'x'.join(map(str, shape))}"

            def write(out: Writing) -> None:
                self._write(place, chain(start, files), (path, shape), out)

            return store.make(key, (len(paths), *shape), np.uint8, progress, write, COPIES)

    def _write(
        self, place: Path, files: Iterable[tuple[Path, _Content]], first: tuple[Path, Shape], out: Writing
    ) -> None:
        """Write the decoded pictures; DataError for one whose shape differs from that of `first`."""
        import hashlib

        root = place if place.is_dir() else place.parent
        digest, conversions, skipped = hashlib.sha256(), Counter[str](), list[int]()
        for number, (path, (content, picture)) in enumerate(files):
            digest.update(Path(os.path.relpath(path, root)).as_posix().encode() + b"\0" + content)
            if isinstance(picture, DataError):
                self._refuse(content, picture)
                skipped.append(number)
                continue
            if picture.pixels.shape != first[1]:
                raise _difference_error(place, first, (path, picture.pixels.shape))
            conversions.update(picture.conversions)
            out.add(picture.pixels[None])
        out.record |= {"skipped": skipped, "conversions": dict(conversions), "digest": digest.hexdigest()}

    def _refuse(self, content: bytes, error: DataError) -> None:
        """Raise the error of a file that is not to be skipped: by the spec, or as the system forbids to open it."""
        if self.on_error == "stop" or not content:
            raise error

    def with_test(self, read: dict[str, Images], places: Mapping[str, Path], shown: dict[str, str]) -> None:
        """Hold out a share of the training pictures if there are none for testing."""
        if "test" not in read:
            read |= split_off(read["train"], self.held_out, places["train"])
            shown["test"] = f"held out of {shown['train']}"

    def _decoded(self, path: Path) -> _Content:
        """Read and decode one file, on any thread; return its content, and the picture or its error."""
        import hashlib

        try:
            content = picture_bytes(path)
        except FileNotFoundError:
            what = "a link to a file that is not there" if path.is_symlink() else "no such file"
            return hashlib.sha256().digest(), DataError(
                f"{path}: {what}", "remove it, or set data.source.on_error: skip"
            )
        except OSError as error:
            return b"", DataError(f"{path}: cannot be read: {error.strerror}", "give yourself the right to read it")
        digest = hashlib.sha256(content).digest()
        try:
            return digest, read_picture(path, self.picture_rules, content)
        except DataError as error:
            return digest, DataError(str(error), f"{error.help}, or set data.source.on_error: skip")


def left_out(place: Path, noun: str, paths: Sequence[Path]) -> Iterator[str]:
    """Yield a note that names some of the files that were not read as pictures, if there are any."""
    if paths:
        yield f"{place}: {noun} files, {len(paths)} in all: {first_names(paths, NAMED)}"


def in_order(make: Callable[[Given], Made], items: Sequence[Given]) -> Generator[tuple[Given, Made]]:
    """Yield each item with its result from a thread pool, in order; only a few results are computed ahead."""
    from concurrent.futures import ThreadPoolExecutor  # imported here, because checking a spec does not need it

    cores = os.cpu_count() or 1
    waiting = iter(items)
    with ThreadPoolExecutor(cores) as pool:
        made = deque((item, pool.submit(make, item)) for item in islice(waiting, AHEAD * cores))
        try:
            while made:
                item, future = made.popleft()
                result = future.result()
                made.extend((other, pool.submit(make, other)) for other in islice(waiting, 1))
                yield item, result
        finally:
            pool.shutdown(cancel_futures=True)


def decoder() -> str:
    """Return the version of Pillow, which decodes pictures; empty if it is not installed."""
    try:
        from PIL import __version__
    except ImportError:
        return ""
    return str(__version__)


def _difference_error(place: Path, first: tuple[Path, Shape], other: tuple[Path, Shape]) -> DataError:
    """Return the error for two pictures that differ in size, or of which one is grey and one in colour."""
    if first[1][0] != other[1][0]:
        property_name, cure = "mode", "mode: rgb or mode: grey"
        kinds = ["grey" if shape[0] == 1 else "rgb" for _, shape in (first, other)]
    else:
        property_name, cure = "size", "size: [height, width]"
        kinds = [f"{shape[1]}x{shape[2]}" for _, shape in (first, other)]
    listed = ", ".join(f"{kind} ({path})" for kind, (path, _) in zip(kinds, (first, other), strict=True))
    return DataError(f"{place}: expected pictures of one {property_name}, got {listed}", f"set data.source.{cure}")
