"""Values in the notation of other languages: Python's tuples and quotients, 20.0 for 20, words of other frameworks."""

from __future__ import annotations

import re
from typing import Any

from cnnspec.spec.expression import LARGEST, ExpressionError, substitute
from cnnspec.spec.reader import read
from cnnspec.spec.tree import plain
from cnnspec.spec.words import value

_OPEN = re.compile(r"\(\s*[-\d.]+")
_TUPLE = re.compile(r"\(\s*(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)\s*,?\s*\)")
_PRODUCT = re.compile(r"(\d+)\s*[x\u00d7]\s*(\d+)(?:\s*[x\u00d7]\s*(\d+))?")
_QUOTIENT = re.compile(r"[\d.]+\s*[-+*/]+\s*[\d.]+")


def opens_parentheses(given: Any) -> bool:
    """Tell whether a value is the beginning of a tuple, which YAML divides at its commas."""
    return isinstance(given, str) and _OPEN.fullmatch(given) is not None


def respelt(key: str, given: Any) -> str | None:
    """Return a value in the spec's notation: `20` for 20.0, `[3, 3]` for (3, 3), or for another framework's word."""
    numbers = given if isinstance(given, list) else [given]
    if any(_is_whole(number) for number in numbers) and all(isinstance(number, (int, float)) for number in numbers):
        rounded = [int(number) if _is_whole(number) else number for number in numbers]
        return str(rounded if isinstance(given, list) else rounded[0])
    if isinstance(given, str) and (match := _TUPLE.fullmatch(given)):
        return f"[{match[1]}]"
    if isinstance(given, str) and _QUOTIENT.fullmatch(given):
        return f'"${{{given}}}"'
    text = value(key, given)
    if text is None and isinstance(given, str) and (match := _PRODUCT.fullmatch(given)):
        text = f"[{', '.join(part for part in match.groups() if part)}]"
    return text


def meaning(text: str) -> Any:
    """Return the value of a text with its expressions computed; the text itself if that fails."""
    given = plain(read(text, "value"))
    try:
        return substitute(given, {}) if isinstance(given, str) else given
    except ExpressionError:
        return text


def _is_whole(given: Any) -> bool:
    return isinstance(given, float) and given.is_integer() and abs(given) < LARGEST
