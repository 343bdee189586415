"""`$name` and `${width * 2}`: arithmetic over a whitelist of the expression tree."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from cnnspec.spec.suggest import did_you_mean

NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
EXPRESSION = re.compile(r"\$\{([^{}]*)\}")
_IN = re.compile(r"""('[^']*'|"[^"]*")|\bin\b""")
_IN_NAME = "__in__"  # what `in`, a word of Python's grammar, is while Python's parser reads an expression
LARGEST = 10**12  # results beyond are mistakes, and powers of powers would take for ever

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
    """What is wrong with an expression; `unknown` is the name that nothing has."""

    def __init__(self, message: str, help: str | None = None, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.help = help
        self.unknown = unknown


def substitute(text: str, names: Mapping[str, Any]) -> Any:
    """A text's value: that of the expression if it is nothing else, else the text with all expressions filled in."""
    whole = NAME.fullmatch(text) or EXPRESSION.fullmatch(text)
    if whole:
        return evaluate(whole[1], names)
    filled = EXPRESSION.sub(lambda match: str(evaluate(match[1], names)), text)
    return NAME.sub(lambda match: str(evaluate(match[1], names)), filled)


def evaluate(source: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression; ExpressionError where it has none."""
    try:
        tree = _parsed(source.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            f"cannot read the expression '{source}'", "write arithmetic such as ${width * 2}"
        ) from error
    try:
        value = _value(tree, names)
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
            if isinstance(a, str) or isinstance(b, str):
                raise TypeError("texts can only be compared")
            return _BINARY[type(op)](a, b)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
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
            for part in ast.walk(other):  # what is left out is not computed, but a misspelt name is wrong in it too
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


def _known(node: ast.Name, names: Mapping[str, Any]) -> str:
    name = "in" if node.id == _IN_NAME else node.id
    if name not in names:
        help = did_you_mean(name, names, "known names")
        raise ExpressionError(f"unknown name '{name}'", help, unknown=True)
    return name
