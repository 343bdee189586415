"""The specs of known networks that come with cnnspec, within the package or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGED = Path(__file__).parent / "zoo"  # written when the package is built
CHECKOUT = Path(__file__).parents[1] / "specs"


def zoo() -> dict[str, Path]:
    """Return the files by the names that `init` takes, sorted; empty if neither place has any."""
    folder = PACKAGED if PACKAGED.is_dir() else CHECKOUT
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def zoo_text(name: str) -> str:
    """Return the text of a network's spec, without the line that says where a checkout has the schema."""
    lines = zoo()[name].read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("# yaml-language-server:"))
