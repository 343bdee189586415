"""The metrics of a training's whole epochs, in a file that only grows; a checkpoint refers to a part of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded, reason
from cnnspec.train.records import MOST_METRICS, ROW, cure, misfit, parsed, timeless


class EpochFile:
    """Rows of metrics as lines of JSON, without times, and a running checksum of them.

    A checkpoint holds their number of bytes and their checksum, so that it takes no more time and space after a
    thousand epochs than after one. Lines that were added after the checkpoint are ignored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes, self._digest, self._lasting = 0, sha256(), True

    def add(self, row: Mapping[str, Any]) -> None:
        """Append the row of an epoch; OSError if the file system refuses."""
        line = (json.dumps(timeless(row)) + "\n").encode()
        with self.path.open("ab") as file:
            file.write(line)
        self._digest.update(line)
        self._bytes, self._lasting = self._bytes + len(line), False

    def claim(self) -> dict[str, Any]:
        """Flush the rows to the disk, and return their size and checksum for a checkpoint; OSError if that fails."""
        if not self._lasting:
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
            self._lasting = True
        return {"bytes": self._bytes, "checksum": self._digest.hexdigest()}

    def rows(self, claim: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Read the rows that a checkpoint refers to; RunError if the file does not begin with them."""
        return self._read(claim)[0]

    def _read(self, claim: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bytes]:
        """Read the rows that a checkpoint refers to, and the bytes that hold them."""
        content, size = b"", int(claim["bytes"])
        try:
            if size:
                content = read_bounded(self.path, MOST_METRICS)[: max(size, 0)]
            if len(content) != size or sha256(content).hexdigest() != claim["checksum"]:
                raise ValueError("it does not begin with the lines that the checkpoint was written behind")
            rows = [parsed(line) for line in content.splitlines()]
            if wrong := misfit(rows, [ROW]):
                raise ValueError(wrong)
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.path}: {reason(error)}", cure(content)) from error
        return rows, content

    def go_on(self, claim: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Read the rows that a checkpoint refers to, and cut off all later ones, so that new rows follow them."""
        rows, content = self._read(claim)
        self._bytes, self._digest = len(content), sha256(content)
        if self.path.is_file():
            os.truncate(self.path, self._bytes)
        return rows
