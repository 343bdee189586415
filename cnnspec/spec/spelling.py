"""Values in the notation of other languages: tuples, calls, quotients, per cent, 20.0 for 20, words of frameworks."""

from __future__ import annotations

import re
from typing import Any

from cnnspec.diagnostics import SpecError
from cnnspec.spec.expression import LARGEST, ExpressionError, substitute
from cnnspec.spec.reader import read
from cnnspec.spec.tree import plain
from cnnspec.spec.words import value

LONGEST = 200  # characters of a text that is read as one of these
_OPEN = re.compile(r"\(\s*[-\d.]+")
_TUPLE = re.compile(r"\(\s*(-?[\d.]+(?:\s*,\s*-?[\d.]+)*)\s*,?\s*\)")
_PRODUCT = re.compile(r"(\d+)\s*[x\u00d7]\s*(\d+)(?:\s*[x\u00d7]\s*(\d+))?")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?) ?(epoch|step|image|filter|unit|channel|pixel|degree|layer|time)s?")
_CALL = re.compile(r"(?P<name>[A-Za-z_][\w.]*) *(?P<rest>[(,;: ].*)", re.DOTALL)
_GLUED = re.compile(r"(?P<key>[A-Za-z_]\w*):(?P<value>\S.*)")
_NUMBERS = re.compile(r"[(\[]? *\d+(?:(?: *[,x\u00d7] *| +)\d+)*,? *[)\]]?")
_COMPARED = re.compile(r"(?P<sign>>=|<=|==|>|<|) *(?P<number>\d+(?:\.\d+)?) *(?P<percent>%?)")
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
    if isinstance(given, str) and (match := _PERCENT.fullmatch(given)):
        return f"{float(match[1]) / 100:g}"
    if isinstance(given, str) and (match := _WITH_UNIT.fullmatch(given)):
        return match[1]
    if isinstance(given, int) and not isinstance(given, bool):
        return f'"{given}"'
    text = value(key, given)
    if text is None and isinstance(given, str) and (match := _PRODUCT.fullmatch(given)):
        text = f"[{', '.join(part for part in match.groups() if part)}]"
    return text


def called(word: str) -> tuple[str, bool]:
    """Return the name in a word such as `nn.ReLU()` or `conv2d 8`, and whether settings follow it."""
    match = _CALL.fullmatch(word) if len(word) <= LONGEST else None
    return (word, False) if match is None else (match["name"], bool(match["rest"].strip("(),;: ")))


def glued(key: str, given: Any) -> tuple[str, str] | None:
    """Return the key and the value of `filters:8`, which YAML reads as a key without a value; None for other keys."""
    match = _GLUED.fullmatch(key) if given is None and len(key) <= LONGEST else None
    return match and (match["key"], match["value"])


def shape(given: Any) -> str | None:
    """Return a shape of an image as a spec has it, for `1x28x28`, (1, 28, 28), 28x28 or one with a batch axis."""
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):
        given = given[0]
    if isinstance(given, str) and len(given) <= LONGEST and _NUMBERS.fullmatch(given):
        numbers = [int(number) for number in re.findall(r"\d+", given)]
    else:
        numbers = given if isinstance(given, list) else [given]
    if len(numbers) == 4:
        numbers = numbers[1:]
    if len(numbers) == 2:
        numbers = [1, *numbers]
    right = len(numbers) in (1, 3) and all(type(number) is int and 0 < number <= LARGEST for number in numbers)
    return str(numbers) if right else None


def comparison(given: Any) -> str | None:
    """Return `">= 0.9"` for 0.9 or 90%; None for what means no comparison."""
    match = _COMPARED.fullmatch(str(given)) if len(str(given)) <= LONGEST else None
    if match is None:
        return None
    number = float(match["number"]) / (100 if match["percent"] else 1)
    return f'"{match["sign"] or ">="} {number:g}"'


def meaning(text: str) -> Any:
    """Return the value of a text with its expressions computed; the text itself if it has none."""
    try:
        given = plain(read(text, "value"))
        return substitute(given, {}) if isinstance(given, str) else given
    except (ExpressionError, SpecError):
        return text


def _is_whole(given: Any) -> bool:
    return isinstance(given, float) and given.is_integer() and abs(given) < LARGEST
