"""Tables that name picture files, and lists of pictures with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from cnnspec.data.classes import ordered
from cnnspec.data.delimited import as_number, rows
from cnnspec.data.picture_files import SUFFIXES, Listing
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path

FILES = ("file", "filename", "file_name", "path", "filepath", "image", "image_path", "picture", "name", "id")
LABELS = ("label", "class", "class_name", "category", "target", "y", "labels")
RELATIVE = "names of files are relative to the table's folder"
LINE = "write a line a picture: cats/1.png,cat"


def located(table: Path, name: str) -> Path:
    """Return the path of a file that a table names, relative to the table's folder; \\ separates folders as / does."""
    return table.parent / user_path(name.replace("\\", "/"))


def missing(where: str, table: Path, name: str) -> DataError:
    """Return the error for a file that a table names and that is not there; the help says where one nearly so is."""
    file = located(table, name)
    whole = next((name + suffix for suffix in sorted(SUFFIXES) if located(table, name + suffix).is_file()), None)
    relative = user_path(name.replace("\\", "/"))
    above = next((folder for folder in table.absolute().parent.parents if (folder / relative).is_file()), None)
    if whole is not None:
        cure = f"write names with their endings: {whole}"
    elif above is not None:
        cure = f"{RELATIVE}: move the table to {above}"
    else:
        cure = f"{RELATIVE}; correct the line or remove it"
    return DataError(f"{where}: {file}: no such file", cure)


def file_column(table: Path, lines: Sequence[Sequence[str]]) -> tuple[int, bool] | None:
    """Return the column with the names of picture files, and whether the first line names the columns.

    `lines` are the values of the first two lines; None if the table names no pictures.
    """
    first, second = lines[0], lines[1] if len(lines) > 1 else ()
    column = next((place for place, value in enumerate(first) if _is_picture(table, value)), None)
    if column is not None:
        return column, False
    lower = [value.lower() for value in first]
    column = next((lower.index(name) for name in FILES if name in lower), None)
    if column is not None and column < len(second) and as_number(second[column], ",") is None:
        return column, True
    column = next((place for place, value in enumerate(second) if _is_picture(table, value)), None)
    return None if column is None else (column, True)


def names_pictures(path: Path) -> bool:
    """Tell whether a table has a column with the names of picture files."""
    lines = [values for _, values in islice(rows(path), 2)]
    return bool(lines) and file_column(path, lines) is not None


def _is_picture(table: Path, value: str) -> bool:
    if not value or as_number(value, ";") is not None:
        return False
    return Path(value).suffix.lower() in SUFFIXES or located(table, value).is_file()


def read_list(path: Path, *, skip: bool = False) -> Listing:
    """Read the pictures that a table of `file` and `label` names, with paths relative to the table's folder.

    The first line may name the columns; a table without these names has two columns. DataError for a file that is not
    there, unless `skip` is set: it is then left out as an unreadable picture is.
    """
    lines = rows(path)
    head = list(islice(lines, 2))
    if not head:
        raise DataError(f"{path}: expected pictures, got none", LINE)
    (file, label), named = _columns(path, [values for _, values in head])
    listing, classes = Listing(path), dict[Path, str]()
    for number, values in chain(head[named:], lines):
        where = f"{path}:{number}"
        if len(values) <= max(file, label):
            raise DataError(f"{where}: expected a file and a label, got '{','.join(values)[:60]}'", LINE)
        name, chosen = values[file], values[label]
        if not name or not chosen:
            raise DataError(f"{where}: the {'label' if name else 'file'} is empty", "fill it in, or remove the line")
        picture = located(path, name)
        if not skip and not picture.is_file():
            raise missing(where, path, name)
        if classes.setdefault(picture, chosen) != chosen:
            listing.torn.append(picture)
        listing.pictures.setdefault(chosen, []).append(picture)
    if not listing.pictures:
        raise DataError(f"{path}: expected pictures, got none", LINE)
    listing.pictures = {name: listing.pictures[name] for name in ordered(listing.pictures)}
    return listing


def has_labels(path: Path) -> bool:
    """Tell whether a table of pictures has more columns than that of the files."""
    return len(next(rows(path), (0, []))[1]) > 1


def _columns(path: Path, lines: Sequence[list[str]]) -> tuple[tuple[int, int], bool]:
    """Return the positions of the file and the label, and whether the first line names the columns."""
    file, named = file_column(path, lines) or (0, False)
    lower = [value.lower() for value in lines[0]] if named else []
    label = next((lower.index(name) for name in LABELS if name in lower), None)
    if label is None or label == file:
        if len(lines[0]) > 2:
            raise DataError(
                f"{path}: expected a column of files and one of labels, got {len(lines[0])} columns",
                "name two of them in the first line: file and label",
            )
        label = 1 - min(file, 1)
    return (file, label), named
