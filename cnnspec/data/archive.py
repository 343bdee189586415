"""Reads files from a tar archive without unpacking it, and without trusting its paths."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from cnnspec.diagnostics import DataError

MOST = 1 << 30  # bytes of an archive, packed and unpacked
MOST_READ = 1 << 28  # bytes that are read at once, which is a whole file of the archive
HELP = "delete the archive and fetch it again with --download"


class _Unpacked(gzip.GzipFile):
    """The stream in a gzipped archive; a header that claims a name of gigabytes is refused before it is read."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MOST_READ:
            raise EOFError(f"expected at most {MOST_READ:,} bytes in a file or a header")
        return super().read(size)


def require_size(path: Path) -> None:
    """Raise DataError if a file is larger than any that is published, before it is read."""
    size = path.stat().st_size
    if size > MOST:
        raise DataError(f"{path}: expected at most {MOST:,} bytes, got {size:,}", HELP)


def members(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield file name and content of the wanted members, in whatever folder of the archive they are.

    DataError if the archive cannot be read, or if any member leads out of it: a user may unpack the archive by hand
    later, and must not come to harm by an archive that passed this check.
    """
    import tarfile
    import zlib

    try:
        with _Unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            size = 0
            for member in archive:
                size += member.size
                if size > MOST:
                    raise DataError(f"{path}: refused, it holds more than {MOST:,} bytes, up to '{member.name}'", HELP)
                _refuse(path, member.name)
                if member.issym() or member.islnk():
                    raise DataError(f"{path}: refused, '{member.name}' is a link to '{member.linkname}'", HELP)
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{path}: refused, '{member.name}' is neither a file nor a folder", HELP)
                name = PurePosixPath(member.name).name
                if member.isfile() and name in wanted:
                    file = archive.extractfile(member)
                    assert file is not None
                    yield name, file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read as an archive: {error}", HELP) from error


def _refuse(path: Path, name: str) -> None:
    """Raise DataError for a member whose name is absolute or leads out of the folder of the archive."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts[:1]):
        raise DataError(f"{path}: refused, the path '{name}' leads out of the archive", HELP)
