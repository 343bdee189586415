"""A file of known findings, so that only new ones fail, and findings that are gone are reported."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnspec.diagnostics.record import Diagnostic, SettingsError
from cnnspec.files import read_bounded, require_file, rewrite

VERSION = 1
MOST_BYTES = 64 << 20
Finding = tuple[str, str, str]  # the file, relative to the baseline's folder; the code; the message


def write_baseline(path: Path, diagnostics: Sequence[Diagnostic]) -> None:
    """Write a baseline with a count for each finding; OSError leaves the file unchanged.

    Line numbers are left out, so that a finding stays known when lines above it are added or removed.
    """
    counts = sorted(Counter(_key(finding, path) for finding in diagnostics).items())
    findings = [
        {"file": file, "code": code, "message": message, "count": count} for (file, code, message), count in counts
    ]
    text = json.dumps({"cnnspec-baseline": VERSION, "findings": findings}, indent=2, ensure_ascii=False)
    require_file(path)  # it is read again by the next check
    rewrite(path, (text + "\n").encode(errors="surrogateescape"))


def read_baseline(path: Path) -> Counter[Finding]:
    """Return the known findings, each with its count; SettingsError for a file that is no baseline."""
    try:
        content: Any = json.loads(read_bounded(path, MOST_BYTES).decode(errors="surrogateescape"))
        if content["cnnspec-baseline"] != VERSION:
            raise ValueError
        return Counter(
            {(str(f["file"]), str(f["code"]), str(f["message"])): int(f["count"]) for f in content["findings"]}
        )
    except OSError as error:
        help = "write it with --update-baseline"
        raise SettingsError(f"cannot read the baseline {path}: {error.strerror}", help) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        help = "write it anew with --update-baseline"
        raise SettingsError(f"{path} is no baseline of version {VERSION}", help) from error


def unknown_findings(
    diagnostics: Sequence[Diagnostic], known: Counter[Finding], path: Path, files: Sequence[str]
) -> tuple[list[Diagnostic], int]:
    """Return the findings that are not in a baseline, and the number of its entries that were not found again.

    Entries for files that were not checked do not count, unless there is no such file.
    """
    left = Counter(known)
    new: list[Diagnostic] = []
    for finding in diagnostics:
        key = _key(finding, path)
        if left[key] > 0:
            left[key] -= 1
        else:
            new.append(finding)
    checked, folder = {_relative(file, path) for file in files}, path.absolute().parent
    done = {file for file, _, _ in left if file in checked or not os.path.exists(folder / file)}
    return new, sum(count for (file, _, _), count in left.items() if file in done)


def _key(finding: Diagnostic, baseline: Path) -> Finding:
    return _relative(finding.span.file, baseline), finding.code, finding.message


def _relative(file: str, baseline: Path) -> str:
    try:
        return Path(os.path.relpath(file, baseline.absolute().parent)).as_posix()
    except ValueError:  # on another drive of Windows
        return file
