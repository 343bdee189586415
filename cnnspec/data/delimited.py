"""Text tables as spreadsheets and programs write them: encoding, delimiter, quotes, and numbered lines."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TextIO

from cnnspec.diagnostics import DataError

MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # byte order marks
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"  # how these files start, whatever their names are
MOST_LINE = 1 << 26  # characters of a line with one image and its label
DELIMITERS = "\t;,"  # the first one found counts, because a comma may be a decimal one


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a text file, gzipped or not, in UTF-8 with or without a byte order mark; DataError if it cannot be read."""
    try:
        with path.open("rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == GZIP else raw as file:
            content = io.BufferedReader(file)
            start = content.peek(4)
            if start.startswith(ZIP):
                raise DataError(f"{path}: is an archive or a spreadsheet, not a table of text", "save it as CSV")
            encoding = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
            yield io.TextIOWrapper(content, encoding, newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8: {error.reason} at byte {error.start:,}", "save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", "give a table of text, such as .csv or .csv.gz") from error


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a table; DataError for a line that is longer than any image."""
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise DataError(
                f"{path}:{number}: expected at most {MOST_LINE:,} characters a line", "give a line an image"
            )
        yield line


def delimiter_of(path: Path) -> str:
    """Return the character that separates the values of a table."""
    with opened(path) as file:
        return _delimiter(file, path)


def _delimiter(file: TextIO, path: Path) -> str:
    line = next((line for line in lines_of(file, path) if line.strip()), "")
    plain = "".join(line.split('"')[::2])  # quoted text does not count
    return next((mark for mark in DELIMITERS if mark in plain), ",")


def as_number(value: str, delimiter: str) -> float | None:
    """Return a finite number, or None; a comma is a decimal point unless it is the table's delimiter."""
    try:
        number = float(value if delimiter == "," else value.replace(",", "."))
    except ValueError:
        return None
    return number if isfinite(number) else None


def names_columns(values: Sequence[str], delimiter: str) -> bool:
    """Tell whether the values in the columns of pixels are names, or consecutive numbers that serve as names."""
    numbers = [as_number(value, delimiter) for value in values]
    if 2 * numbers.count(None) > len(values):
        return True
    start = numbers[0] if numbers else None
    return (
        len(values) > 8 and start in (0, 1) and numbers == [start + k for k in range(len(values)) if start is not None]
    )


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, of each line that is not empty, and its values without surrounding spaces."""
    with opened(path) as file:
        delimiter = _delimiter(file, path)
        file.seek(0)
        reader = csv.reader(lines_of(file, path), delimiter=delimiter, skipinitialspace=True)
        try:
            for values in reader:
                if any(value.strip() for value in values):
                    yield reader.line_num, [value.strip() for value in values]
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}", "close the quotes, or leave them out") from error
