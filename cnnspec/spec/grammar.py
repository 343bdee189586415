"""The grammar of names: one for specs, layers and blocks, and one for what expressions can read."""

from __future__ import annotations

import keyword
import re
from pathlib import PurePath

LONGEST = 100  # characters of a name that a file gives, which becomes the name of folders too
LONGEST_PATH = 1000  # characters of a layer's name with those of all blocks around it
NAME_WORDS = "letters, digits, dashes and underscores, in parts with a dot between them"
VARIABLE_WORDS = "a letter or underscore, then letters, digits and underscores, and no word of Python's"

_PART = "[A-Za-z0-9_][A-Za-z0-9_-]*"
_NAME = re.compile(rf"{_PART}(\.{_PART})*")
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_OTHERS = re.compile("[^A-Za-z0-9_]+")


def is_name(text: str, longest: int = LONGEST) -> bool:
    """Whether a spec, a layer or a block can be called so: it is safe in paths, archives, pictures and terminals."""
    return len(text) <= longest and _NAME.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Whether a variable or a parameter can be called so, and `$text` and `${text}` read it."""
    return len(text) <= LONGEST and _VARIABLE.fullmatch(text) is not None and not keyword.iskeyword(text)


def name_of(file: str) -> str:
    """A name for a spec that gives none, from that of its file: other characters become dashes."""
    stem = PurePath(file).stem
    return stem if is_name(stem) else _OTHERS.sub("-", stem)[:LONGEST].strip("-") or "spec"
