"""The canonical layout of a spec: two spaces a level, one after commas and colons, comments left in place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cnnspec.diagnostics import SpecError
from cnnspec.diagnostics.source import LINE_BREAK
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Items, Mapping, Tree, plain

LEVEL = 2  # spaces for each level of indentation
_DASHES = re.compile(r"(-[ \t]+)+(?=[^\s#])")
_BLANK = re.compile(r"[ \t]*")


def formatted(text: str, file: str) -> str:
    """Return a text in canonical layout, with the same values in the same order; SpecError if it cannot be read.

    Indentation is two spaces a level, lists under a key included. Within brackets there is one space behind commas
    and colons, and none inside the brackets. At least two spaces stand in front of a comment. One blank line at most
    follows another line. Line ends are those of the first line.
    """
    tree = read(text, file)
    lines = LINE_BREAK.split(text.removeprefix("\ufeff"))
    first = LINE_BREAK.search(text)
    formatted_lines = _without_blanks(_spaced(_indented(lines, tree)))
    result = (first[0] if first else "\n").join([*formatted_lines, ""])
    try:
        return result if result == text or plain(read(result, file)) == plain(tree) else text
    except SpecError:  # a layout that these rules do not know: it stays as it is
        return text


def _indented(lines: list[str], tree: Tree) -> list[str]:
    """Indent every line by its depth; a continuation line moves together with the line where its value began."""
    wanted = dict(_depths(tree, 0, lines))
    indented, shift = [], 0
    for number, line in enumerate(lines, 1):
        before = _depth(line)
        if number in wanted:
            shift = wanted[number] - before
        elif line.lstrip().startswith("#"):
            indented.append(" " * _of_comment(number, before, lines, wanted) + line.lstrip())
            continue
        content = line.lstrip(" ")
        if number in wanted:
            content = _DASHES.sub(lambda dashes: "- " * dashes[0].count("-"), content)
        indented.append(" " * max(before + shift, 0) + content)
    return indented


def _of_comment(number: int, before: int, lines: list[str], wanted: dict[int, int]) -> int:
    """Return the indentation of a comment line: that of the nearest line below or above that had the same depth."""
    below = next((other for other in range(number + 1, len(lines) + 1) if other in wanted), None)
    above = next((other for other in range(number - 1, 0, -1) if other in wanted), None)
    for other in (below, above):
        if other is not None and _depth(lines[other - 1]) == before:
            return wanted[other]
    return wanted[below] if below is not None else before


def _depths(tree: Tree, depth: int, lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield each line where a block key or item begins, and its indentation; lines within brackets are left out."""
    span = tree.span
    if _character(lines, span.line, span.column) in "{[":
        return
    match tree:
        case Mapping():
            for key, value in tree.values.items():
                at = tree.keys[key]
                if _depth(lines[at.line - 1]) == at.column - 1:
                    yield at.line, depth
                yield from _depths(value, depth + LEVEL, lines)
        case Items():
            for item in tree.items:
                line = item.span.line
                while line > span.line and not lines[line - 1].lstrip().startswith("-"):
                    line -= 1  # the dash stands in a line of its own
                if not (line == span.line and _depth(lines[line - 1]) < span.column - 1):  # it follows another dash
                    yield line, depth
                yield from _depths(item, depth + LEVEL, lines)


def _character(lines: list[str], line: int, column: int) -> str:
    return lines[line - 1][column - 1 : column] or " "


def _depth(line: str) -> int:
    match = _BLANK.match(line)
    return match.end() if match else 0


def _spaced(lines: list[str]) -> Iterator[str]:
    """Yield lines with one space after commas and colons in brackets, none inside brackets, two before comments."""
    depth, quote, scalar = 0, "", None
    for line in lines:
        start = _depth(line)
        if scalar is not None and (start > scalar or not line.strip()):
            yield line.rstrip()
            continue
        scalar = None
        letters, at = list(line[:start]), start
        while at < len(line):
            character, is_first = line[at], at == start
            if quote:
                letters.append(character)
                if character == "\\" and quote == '"':
                    at += 1
                    letters.append(line[at : at + 1])
                elif character == quote:
                    quote = ""
            elif character in "'\"" and (is_first or letters[-1] in " ,[{"):
                quote = character
                letters.append(character)
            elif character == "#" and (is_first or line[at - 1] in " \t"):
                blanks = 0 if is_first else max(_strip_end(letters), 2)
                comment = line[at:].rstrip()
                letters.append(" " * blanks)
                letters.append(comment if re.match(r"#+(\s|$|!)", comment) else f"# {comment[1:]}")
                break
            elif character in "[{" and (depth or is_first or letters[-1] in " -"):
                depth += 1
                letters.append(character)
                at = _skipped(line, at)
            elif character in "]}" and depth:
                depth -= 1
                if not is_first:
                    _strip_end(letters)
                letters.append(character)
            elif character == "," and depth:
                _strip_end(letters)
                at = _skipped(line, at)
                letters += ", " if at + 1 < len(line) else ","
            elif character == ":" and line[at + 1 : at + 2] in (" ", "\t"):
                end = _skipped(line, at)
                is_before_value = line[end + 1 : end + 2] not in ("", "#")
                letters += ": " if is_before_value else ":"
                at = end if is_before_value else at
            else:
                letters.append(character)
            at += 1
        if not depth and not quote and re.search(r"(:|-|^)\s*[|>][+-]?\d?\s*(#.*)?$", line):
            scalar = start
        spaced = "".join(letters)
        yield spaced if quote else spaced.rstrip()


def _strip_end(letters: list[str]) -> int:
    """Remove the blanks at the end of a line's letters, and return their number."""
    blanks = 0
    while letters and letters[-1] in (" ", "\t"):
        letters.pop()
        blanks += 1
    return blanks


def _skipped(line: str, at: int) -> int:
    """Return the position of the last blank after a position."""
    while line[at + 1 : at + 2] in (" ", "\t"):
        at += 1
    return at


def _without_blanks(lines: Iterator[str]) -> list[str]:
    """Return the lines without blank ones at both ends, and with single blank lines in between."""
    result: list[str] = []
    for line in lines:
        if line or (result and result[-1]):
            result.append(line)
    while result and not result[-1]:
        result.pop()
    return result
