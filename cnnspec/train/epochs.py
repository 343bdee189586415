"""The rows of a training's whole epochs, in a file that only grows: a checkpoint says how much of it it knows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded, reason
from cnnspec.train.records import MOST_METRICS, REPAIR, ROW, misfit, parsed, timeless


class EpochFile:
    """The rows as lines of JSON, without what the clock says, and a running checksum of them.

    A checkpoint holds how many bytes there are and their checksum, so that it takes no more time and space behind a
    thousand epochs than behind one. Lines that follow those of a checkpoint do it no harm.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes, self._digest, self._lasting = 0, sha256(), True

    def add(self, row: Mapping[str, Any]) -> None:
        """Append the row of an epoch; OSError where the file system refuses."""
        line = (json.dumps(timeless(row)) + "\n").encode()
        with self.path.open("ab") as file:
            file.write(line)
        self._digest.update(line)
        self._bytes, self._lasting = self._bytes + len(line), False

    def claim(self) -> dict[str, Any]:
        """What a checkpoint holds of the rows so far, which are on the disk by then; OSError where they are not."""
        if not self._lasting:
            with self.path.open("ab") as file:
                os.fsync(file.fileno())
            self._lasting = True
        return {"bytes": self._bytes, "checksum": self._digest.hexdigest()}

    def rows(self, claim: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows that a checkpoint claims; RunError where the file begins with others."""
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
            raise RunError(f"cannot read {self.path}: {reason(error)}", REPAIR) from error
        return list(rows)

    def go_on(self, claim: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows that a checkpoint claims, as those that others follow: what stands behind them is cut off."""
        rows = self.rows(claim)
        self._bytes, self._digest = int(claim["bytes"]), sha256()
        if self.path.is_file():
            with self.path.open("rb+") as file:
                self._digest.update(file.read(self._bytes))
                file.truncate()
        return rows
