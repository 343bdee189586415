"""Evaluates `$name` and `${width * 2}`: arithmetic, restricted to a whitelist of Python's syntax nodes."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
EXPRESSION = re.compile(r"\$\{([^{}]*)\}")
_IN = re.compile(r"""('[^']*'|"[^"]*")|\bin\b""")
_IN_NAME = "__in__"  # replaces the variable `in`, a Python keyword, for Python's parser
LARGEST = 10**12  # a larger result is a mistake, and powers of powers take very long
LONGEST = 1000  # characters of an expression
LONGEST_TEXT = 10_000  # characters of a text after its expressions are replaced

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max}


class ExpressionError(Exception):
    """An error in an expression; `unknown` is a name without a value, `known` are the names that could be meant."""

    def __init__(
        self, message: str, help: str | None = None, *, unknown: str | None = None, known: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.help = help
        self.unknown, self.known = unknown, known


def substitute(text: str, names: Mapping[str, Any]) -> Any:
    """Return the value of a text that is one expression, or else the text with all expressions in it replaced."""
    match = NAME.fullmatch(text) or EXPRESSION.fullmatch(text)
    if match:
        return evaluate(match[1], names)
    return _replaced(NAME, _replaced(EXPRESSION, text, names), names)


def _replaced(pattern: re.Pattern[str], text: str, names: Mapping[str, Any]) -> str:
    """Replace every match of a pattern by the value of its expression; ExpressionError if the text grows too long."""
    parts, end, length = [], 0, len(text)
    for match in pattern.finditer(text):
        value = str(evaluate(match[1], names))
        length += len(value) - len(match[0])
        if length > LONGEST_TEXT:
            raise ExpressionError(f"a text with everything filled in has more than {LONGEST_TEXT:,} characters")
        parts += [text[end : match.start()], value]
        end = match.end()
    return "".join((*parts, text[end:]))


def evaluate(source: str, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression; ExpressionError if it has none."""
    if len(source) > LONGEST:
        raise ExpressionError(f"an expression has more than {LONGEST:,} characters", "compute parts of it under vars")
    try:
        tree = _parsed(source.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            f"cannot read the expression '{source}'", "write arithmetic such as ${width * 2}"
        ) from error
    try:
        value = _value(tree, names)
    except RecursionError as error:
        raise ExpressionError(f"'{source}' is nested too deeply", "compute parts of it under vars") from error
    except (TypeError, ZeroDivisionError, ValueError, OverflowError) as error:
        raise ExpressionError(f"cannot compute '{source}': {error}") from error
    if isinstance(value, (int, float)) and abs(value) > LARGEST:
        raise ExpressionError(f"'{source}' is larger than {LARGEST:,}")
    # 64 / 2 is meant as a whole number where it comes out as one.
    return int(value) if isinstance(value, float) and value.is_integer() else value


@lru_cache(maxsize=1024)  # a block's expressions are the same at every use
def _parsed(source: str) -> ast.expr:
    return ast.parse(_IN.sub(lambda word: word[1] or _IN_NAME, source), mode="eval").body


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id="true" | "false" as word):
            return word == "true"
        case ast.Name():
            return names[_known(node, names)]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b = _value(left, names), _value(right, names)
            return _BINARY[type(op)](_number(a), _number(b))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(_value(operand, names))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.BoolOp(op=op, values=values):
            results = [_value(value, names) for value in values]
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            met = _value(test, names)
            if not isinstance(met, bool):
                raise TypeError(f"expected true or false behind if, got {met!r}")
            chosen, other = (body, orelse) if met else (orelse, body)
            for part in ast.walk(other):  # this branch is not computed, but a misspelt name in it is an error too
                if isinstance(part, ast.Name) and part.id not in (*_FUNCTIONS, "true", "false"):
                    _known(part, names)
            return _value(chosen, names)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise ExpressionError(
        "expressions know + - * / // %, comparisons, and, or, not, a if b else c, min and max",
        "compute anything else beforehand",
    )


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        raise TypeError("texts can only be compared")
    if not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {'a list' if isinstance(value, list) else 'no number'}")
    if abs(value) > LARGEST:
        raise TypeError(f"a part of it is larger than {LARGEST:,}")
    return value


def _known(node: ast.Name, names: Mapping[str, Any]) -> str:
    name = "in" if node.id == _IN_NAME else node.id
    if name not in names:
        raise ExpressionError(f"unknown name '{name}'", unknown=name, known=names)
    return name
