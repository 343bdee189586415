"""Downloads that resume where they stopped, are verified, and become visible only when complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cnnspec.diagnostics import DataError
from cnnspec.lock import locked

ATTEMPTS = 3  # attempts in a row, each from where the previous one stopped
CHUNK = 1 << 16  # bytes read at a time
TIMEOUT = 60.0  # seconds without an answer

Watch = Callable[[str, int, int | None], None]  # called with file, bytes so far, and total bytes if known


def download(address: str, target: Path, sha256: str, watch: Watch | None = None) -> None:
    """Fetch a file unless a complete one is there; DataError if it cannot be fetched or has another checksum.

    The download is a hidden file beside the target until it is complete and its checksum is right. With a lock, one
    process fetches while others wait and then find the file. OSError if the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with locked(target.with_name(f".{target.name}.lock"), wait=True):
        if target.is_file() and file_checksum(target) == sha256:
            return
        resumed = part.is_file()
        _receive(address, part, watch)
        if resumed and file_checksum(part) != sha256:
            part.unlink()  # the partial file may be of something else
            _receive(address, part, watch)
        got = file_checksum(part)
        if got != sha256:
            part.unlink()
            raise DataError(
                f"{address}: expected SHA-256 {sha256}, got {got}: not the published file",
                "try again later, or fetch it by hand and name its folder with --data DIR",
            )
        os.replace(part, target)


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _receive(address: str, part: Path, watch: Watch | None) -> None:
    """Download the rest of a partial file, in several attempts."""
    from http.client import HTTPException  # takes as long to import as all of data, and is rarely needed
    from urllib.error import HTTPError, URLError

    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(address, part, watch)
            return
        except HTTPError as error:
            if error.code == 416 and part.stat().st_size:  # the file is complete already, and its checksum decides
                return
            raise _unreachable(address, f"the server says {error.code} {error.reason}") from error
        except (ConnectionError, TimeoutError, HTTPException, _CutOffError) as error:
            if attempt == ATTEMPTS:
                raise _unreachable(address, str(error) or type(error).__name__) from error
        except URLError as error:
            raise _unreachable(address, str(error.reason)) from error


def _unreachable(address: str, why: str) -> DataError:
    return DataError(
        f"cannot download {address}: {why}",
        "run it again to go on where it stopped, or fetch the file by hand and name its folder with --data DIR",
    )


class _CutOffError(Exception):
    """The server closed the connection before the end of the file."""


def _append(address: str, part: Path, watch: Watch | None) -> None:
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.is_file() else 0
    request = Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        size = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = size + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                size += len(chunk)
                if watch is not None:
                    watch(address.rpartition("/")[2], size, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and size < total:
        raise _CutOffError(f"truncated, expected {total:,} bytes, got {size:,}")
