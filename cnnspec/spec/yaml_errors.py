"""The YAML parser's errors in words: what is wrong with a text, where, and how to correct it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cnnspec.diagnostics import Diagnostic, Related, Span
from cnnspec.diagnostics.source import LINE_BREAK

# Part of the parser's message, our message, the cure, and whether the error is where the parser began.
_KNOWN: tuple[tuple[str, str, str, bool], ...] = (
    ("\\t", "a tab cannot indent or separate", "indent with spaces", False),
    ("unexpected end of stream", "a quote that is never closed", "add the closing quote", True),
    ("got '<stream end>'", "a bracket that is never closed", "add the closing bracket", True),
    ("<block end>, but found '}'", "a closing bracket too many", "remove it", False),
    ("<block end>, but found ']'", "a closing bracket too many", "remove it", False),
    ("<block end>", "a line that does not fit the indentation above", "align it with its neighbours", False),
    ("could not find expected ':'", "a text where a key was expected", "write key: value, or indent it", True),
    (
        "mapping values are not allowed",
        "a colon where none can be",
        "put a text with a colon into quotes, or check the indentation",
        False,
    ),
    ("cannot start any token", "a text that begins with a special character", "put the text into quotes", False),
    ("<document start>", "more text behind the end of the document", "remove it, or a bracket too many", False),
    ("content, but found ','", "a comma without a value in front of it", "remove it, or write the value", False),
    ("content, but found '-'", "a dash within brackets", "separate values within brackets by commas", False),
    ("content, but found '}'", "a closing bracket that nothing opens", "remove it", False),
    ("content, but found ']'", "a closing bracket that nothing opens", "remove it", False),
    ("sequence entries are not allowed", "a dash where no list can begin", "begin the list on a new line", False),
    ("unknown escape character", "a backslash that begins no escape", "double it, or use single quotes", False),
    ("',' or ", "two values without a comma in between", "put a comma in between, or a closing bracket", False),
)
LONGEST = 100  # characters of a text that a line of help repeats
_INDENT = re.compile(r"(?:\s|-\s)*")
_LONE_KEY = re.compile(r"(?:\s|-\s)*[\w.-]+\s*")
_LAST_WORD = re.compile(r"[\w.-]+\s*$")
_UNSEPARATED = re.compile(r"(?P<indent>(?:\s|-\s)*)(?P<key>[A-Za-z_][\w.-]*)(?:\s*[:=]\s*|\s+)(?P<value>[^\s:].*)")
_UNOPENED = re.compile(r"(?P<indent>(?:\s|-\s)*)(?P<key>[A-Za-z_][\w.-]*)\s*[\[{]")
_DASHED = re.compile(r"(?P<indent>\s*)-(?P<rest>[^\s-].*)")

Mistake = tuple[str, Span, str]  # what is wrong, where, and the cure


def explained_error(
    problem: str, context: str, begun: Span | None, met: Span | None, text: str, file: str
) -> Diagnostic:
    """Return a parser's error in this package's words, at the place that has to be corrected.

    `context` is what the parser was reading, `begun` where that begins, and `met` where it met the problem.
    """
    cause = _cause(problem, LINE_BREAK.split(text), begun, met)
    if cause is not None:
        return Diagnostic("yaml-syntax", "error", cause[0], cause[1], help=cause[2])
    known = (one for one in _KNOWN if one[0] in problem)
    _, message, help, at_start = next(known, (problem, f"not YAML: {problem}", None, False))
    place = (begun if at_start else met) or met or begun or Span(file, 1, 1, 1, 2)
    started = context and begun and begun.line != place.line
    what = context.removeprefix("while parsing ").removeprefix("while scanning ")
    related = (Related(f"{what} begins here", begun),) if started and begun else ()
    return Diagnostic("yaml-syntax", "error", message, place, help=help, related=related)


def _cause(problem: str, lines: Sequence[str], begun: Span | None, met: Span | None) -> Mistake | None:
    """Return the mistake that the lines around show; None if they do not tell."""
    if met is not None and "mapping values are not allowed" in problem:
        return _colon(lines, met)
    if met is not None and "found '<block mapping start>'" in problem:
        above = _above(lines, met)
        return _unseparated(lines, above) if above and not lines[above.line - 1].lstrip().startswith("-") else None
    if begun is not None and "could not find expected ':'" in problem:
        dashed = _DASHED.fullmatch(lines[begun.line - 1])
        if dashed is None:
            return _unseparated(lines, begun)
        place = _words(begun, dashed["indent"], "-")
        return "a dash without a space behind it", place, f"write - {_shown_text(dashed['rest'])}"
    if (
        met is not None
        and "<block end>, but found '<scalar>'" in problem
        and lines[met.line - 1][: met.column - 1].strip()
    ):
        return "a text behind a value that is complete", met, "remove it, or put quotes around all of the value"
    if begun is not None and met is not None and problem.startswith("expected ',' or"):
        return _unseparated_values(problem, lines, begun, met)
    return None


def _colon(lines: Sequence[str], met: Span) -> Mistake | None:
    """Explain a colon in a text that began further to the left, or on a line above."""
    before = lines[met.line - 1][: met.column - 1]
    unopened = _UNOPENED.match(before)
    if unopened:
        place = _words(met, unopened["indent"], unopened["key"])
        return "a key without a colon", place, f"write {unopened['key']}: {before[unopened.end() - 1]}..."
    above = _above(lines, met)
    if above is None or not _LONE_KEY.fullmatch(before):
        return None
    if ": " not in lines[above.line - 1]:
        return _unseparated(lines, above)
    indent, wanted = _INDENT.match(before), _INDENT.match(lines[above.line - 1])
    if not indent or not wanted or indent.end() <= wanted.end():
        return None
    word = before[indent.end() :].strip()
    help = f"align {word} with column {wanted.end() + 1}, where line {above.line} begins"
    return "a line that does not fit the indentation above", _words(met, indent[0], word), help


def _above(lines: Sequence[str], place: Span) -> Span | None:
    """Return the place of the line above one, without lines that are empty or a comment; None if there is none."""
    numbers = range(place.line - 1, 0, -1)
    says = (
        number for number in numbers if lines[number - 1].strip() and not lines[number - 1].lstrip().startswith("#")
    )
    number = next(says, None)
    return None if number is None else Span(place.file, number, 1, number, 2)


def _unseparated(lines: Sequence[str], place: Span) -> Mistake | None:
    """Explain a line such as `epochs 3`, `epochs=3` or `epochs:3`."""
    found = _UNSEPARATED.fullmatch(lines[place.line - 1].split(" #")[0].rstrip())
    if found is None or ": " in found[0]:
        return None
    help = f"write {found['key']}: {_shown_text(found['value'])}"
    return "a key without a colon and a space behind it", _words(place, found["indent"], found["key"]), help


def _unseparated_values(problem: str, lines: Sequence[str], begun: Span, met: Span) -> Mistake | None:
    """Explain values within brackets that no comma separates."""
    line = lines[met.line - 1]
    before, behind = line[: met.column - 1], line[met.column - 1 :]
    if before.endswith("$") and behind.startswith("{"):
        place = Span(met.file, met.line, met.column - 1, met.line, met.column)
        return (
            "an expression within brackets needs quotes",
            place,
            f'write "${_shown_text(behind.partition("}")[0])}}}"',
        )
    closing = problem.partition("or '")[2][:1]
    if met.line > begun.line and _indented(line) <= _indented(lines[begun.line - 1]):
        return "a bracket that is never closed", begun, f"add the closing bracket {closing}"
    if behind[:1] in ("}", "]"):
        opening = "[" if closing == "]" else "{"
        return f"{behind[0]} where {opening} is open", met, f"write {closing} in front of it, or in its place"
    word = _LAST_WORD.search(before, max(0, len(before) - LONGEST))
    if not behind.startswith(":") or word is None:
        return None
    if before[: word.start()].rstrip().endswith(":"):
        return "a colon where none can be", met, "put a text with a colon into quotes"
    name, place = word[0].strip(), _words(met, before[: word.start()], word[0].strip())
    return "two values without a comma in between", place, f"put a comma in front of {name}"


def _shown_text(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _indented(line: str) -> int:
    return len(line) - len(line.lstrip())


def _words(place: Span, before: str, words: str) -> Span:
    """Return the span of some words in the line of a place."""
    return Span(place.file, place.line, len(before) + 1, place.line, len(before) + len(words) + 1)
