"""Which names are valid: one rule for specs, layers and blocks, another for names that expressions can read."""

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
    """Tell whether a text can name a spec, a layer or a block: it is safe in paths, archives and terminals."""
    return len(text) <= longest and _NAME.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Tell whether a text can name a variable or a parameter, so that `$text` and `${text}` read it."""
    return len(text) <= LONGEST and _VARIABLE.fullmatch(text) is not None and not keyword.iskeyword(text)


def name_of(file: str) -> str:
    """Return a name for a spec without one, made of its file's name with other characters replaced by dashes."""
    stem = PurePath(file).stem
    return stem if is_name(stem) else _OTHERS.sub("-", stem)[:LONGEST].strip("-") or "spec"
