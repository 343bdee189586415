"""The contents of a run's files: read with a bound on their size, and checked before anything relies on them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from sys import intern
from typing import Any

from cnnspec.diagnostics import RunError
from cnnspec.files import read_bounded, reason

MOST_ABOUT = 16 << 20  # the most bytes of run.json
MOST_METRICS = 64 << 20  # the most bytes of metrics.jsonl
MOST_SPEC = 16 << 20  # the most bytes of spec.yaml, in which every default is written out
CHECKSUM = "checksum"  # the last key of run.json, with the SHA-256 of all others
CHECKED = "# the SHA-256 of all lines above: "  # the last line of spec.yaml, a comment of YAML
REPAIR = "put back what the training wrote, or train anew"
CONVERTED = f"{REPAIR}; its lines end as on Windows, as git writes them unless a .gitattributes says * -text"
MOST_FIGURE = 1e300  # the largest figure; a loss may also be infinite
MOST_TEXT = 80  # the most characters of a wrong value that a message shows
FINGERPRINT = re.compile("[0-9a-f]{16}")
EXACT = re.compile(r"-?0x[01]\.[0-9a-f]+p[-+][0-9]+|[0-9a-f]{16}")  # a loss to its last bit, or a fingerprint
TIMES = ("seconds", "images_per_second")  # figures of speed, which differ between equal trainings

# A kind is a type, a pattern, None, a tuple of alternatives, a list of one kind, or a mapping of names ("*": of any).
Kind = Any
TEXTS: Kind = {"*": str}
ROW: Kind = {
    "epoch": int,
    "step": int,
    "learning_rate": float,
    "train.loss": float,
    "weights": FINGERPRINT,
    "*": (float, None),
}
ABOUT: Kind = {
    "name": str,
    "command": str,
    "spec": str,
    "seed": int,
    "threads": int,
    "ranks": int,
    "versions": TEXTS,
    "parts": [{"step": int, "started": str, "versions": TEXTS}],
    "data": TEXTS,
    "origin": str,
    "folder": (str, None),
    "folder_from_run": (str, None),
    "classes": [str],
    "images": {"*": int},
    "parameters": int,
    "macs": int,
    "started": str,
    "plugins": [TEXTS],
    "init": {"from": str, "weights": str, "taken": TEXTS, "fresh": TEXTS},
    "trace": {"*": EXACT},
    "checkpoint": int,
    "stopped": str,
    "unmet": [str],
    "results": {**ROW, "seconds": float},
    CHECKSUM: str,
}
POSITION: Kind = {
    "epoch": int,
    "done": int,
    "images": int,
    "loss": float,
    "right": (float, None),
    "step": int,
}
PROGRESS: Kind = {
    "format": int,
    "weights": FINGERPRINT,
    "updates": int,
    "step": int,
    "position": POSITION,
    "best": ([float], None),
    "spec": str,
    "data": TEXTS,
    "target": {},
    "epochs": {"bytes": int, "checksum": str},
    "part": (ROW, None),
}
NAMES = {int: "a whole number", float: "a number", str: "a text", None: "nothing", FINGERPRINT: "a fingerprint"}


def misfit(value: Any, kind: Kind, where: str = "it") -> str | None:
    """Say what is wrong with a value from JSON, and where in it; None if it is of that kind."""
    if isinstance(kind, tuple):
        return (
            None
            if any(misfit(value, kind_of_value) is None for kind_of_value in kind)
            else _expected(kind[0], value, where)
        )
    if isinstance(kind, list):
        if not isinstance(value, list):
            return f"{where}: expected a list, got {_value_text(value)}"
        misfits = (misfit(item, kind[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next((wrong for wrong in misfits if wrong), None)
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return f"{where}: expected a mapping, got {_value_text(value)}"
        for name, item in value.items():
            kind_of_value = kind.get(name, kind.get("*"))
            wrong = (
                None
                if kind_of_value is None
                else misfit(item, kind_of_value, f"{where}.{name}" if where != "it" else name)
            )
            if wrong:
                return wrong
        return None
    return None if _has_kind(value, kind) else _expected(kind, value, where)


def _has_kind(value: Any, kind: Kind) -> bool:
    if kind is None:
        return value is None
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    numbers = {int: (int,), float: (int, float)}.get(kind, (kind,))
    if not isinstance(value, numbers) or isinstance(value, bool):
        return False
    return kind is not float or not MOST_FIGURE < abs(value) < math.inf


def _expected(kind: Kind, value: Any, where: str) -> str:
    name = NAMES.get(kind, "an exact figure") if not isinstance(kind, (list, dict)) else "a list or a mapping"
    return f"{where}: expected {name}, got {_value_text(value)}"


def _value_text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def lacking(value: Any, names: tuple[str, ...]) -> str | None:
    """Say which of these names a mapping lacks; None if it has all of them."""
    missing = [name for name in names if name not in value]
    return f"it has no {' and no '.join(missing)}" if missing else None


def parsed(content: bytes | str) -> Any:
    """Parse JSON; ValueError if it is not valid."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def about_text(about: Mapping[str, Any]) -> str:
    """Return the text of run.json: JSON with a checksum of all other keys."""
    return json.dumps({**about, CHECKSUM: _checksum(json.dumps(about))}, indent=2) + "\n"


def read_about(path: Path) -> dict[str, Any]:
    """Read run.json; RunError if it cannot be read, or its checksum does not match."""
    try:
        about = parsed(read_bounded(path, MOST_ABOUT))
        wrong = misfit(about, ABOUT) or lacking(about, (CHECKSUM,))
        if wrong is None and about.pop(CHECKSUM) != _checksum(json.dumps(about)):
            wrong = "its checksum is that of another content"
    except (OSError, ValueError, RecursionError) as error:
        wrong = reason(error)
    if wrong:
        raise RunError(f"cannot read {path}: {wrong}", REPAIR)
    return dict(about)


def spec_text(text: str) -> str:
    """Return the text of a run's spec.yaml: the resolved spec, and its checksum as a comment."""
    return f"{text}{CHECKED}{_checksum(text)}\n"


def read_spec(path: Path) -> str:
    """Read the resolved spec in a run's spec.yaml; RunError if it cannot be read, or its checksum does not match."""
    content = b""
    try:
        content = read_bounded(path, MOST_SPEC)
        text, _, checksum = content.decode().rpartition(CHECKED)
        wrong = None if checksum == f"{_checksum(text)}\n" else "its checksum is that of another content"
    except (OSError, ValueError) as error:
        wrong = reason(error)
    if wrong:
        raise RunError(
            f"cannot read {path}: {wrong}", f"{cure(content)}; another spec is trained from a file of its own"
        )
    return text


def cure(content: bytes) -> str:
    """Return the help for a file of a run whose content is not what the training wrote."""
    return CONVERTED if b"\r\n" in content else REPAIR


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of metrics.jsonl, one for each epoch; none if there is no such file.

    A last line that was cut off is left out: the training was killed while it wrote it. RunError for any other fault.
    """
    try:
        lines = read_bounded(path, MOST_METRICS).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = parsed(line)
            wrong = misfit(row, ROW) or lacking(row, ("epoch", "step", "train.loss", "weights"))
            if wrong is None and row["epoch"] != number:
                wrong = f"expected epoch {number}, got {row['epoch']}"
        except ValueError as error:
            wrong = str(error)
        if wrong:
            help = "`cnnspec train --resume` writes it anew from the checkpoint"
            raise RunError(f"{path} is damaged at line {number}: {wrong}", help)
        rows.append({intern(name): value for name, value in row.items()})  # thousands of rows have the same names
    return rows


def timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without times, as checkpoints refer to it: the same training gives the same bytes."""
    return {name: value for name, value in row.items() if name not in TIMES}
