"""Lists of picture files with their classes, as tables of text."""

from __future__ import annotations

from pathlib import Path

from cnnspec.data.classes import ordered
from cnnspec.data.delimited import rows
from cnnspec.data.picture_files import Listing
from cnnspec.diagnostics import DataError
from cnnspec.files import user_path

FILES = ("file", "filename", "file_name", "path", "filepath", "image", "image_path", "picture", "name", "id")
LABELS = ("label", "class", "class_name", "category", "target", "y")
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz")


def is_list(path: Path) -> bool:
    """Tell by its name whether a file is a list of pictures."""
    return path.name.lower().endswith(SUFFIXES)


def read_list(path: Path) -> Listing:
    """Read the pictures that a table of `file` and `label` names, with paths relative to the table's folder.

    The first line may name the columns; without names the first column is the file and the second one the label.
    """
    lines = rows(path)
    listing = Listing(path)
    columns = (0, 1)
    for position, (number, values) in enumerate(lines):
        if position == 0:
            named = _columns(values)
            if named is not None:
                columns = named
                continue
        if len(values) <= max(columns):
            raise DataError(
                f"{path}:{number}: expected a file and a label, got '{','.join(values)[:60]}'",
                "write a line a picture: cats/1.png,cat",
            )
        name, label = (values[column] for column in columns)
        if not name or not label:
            noun = "label" if name else "file"
            raise DataError(f"{path}:{number}: the {noun} is empty", "fill it in, or remove the line")
        file = path.parent / user_path(name.replace("\\", "/"))
        if not file.is_file():
            raise DataError(
                f"{path}:{number}: {file}: no such file", "names of files are relative to the table's folder"
            )
        listing.pictures.setdefault(label, []).append(file)
    if not listing.pictures:
        raise DataError(f"{path}: expected pictures, got none", "write a line a picture: cats/1.png,cat")
    listing.pictures = {name: listing.pictures[name] for name in ordered(listing.pictures)}
    return listing


def _columns(values: list[str]) -> tuple[int, int] | None:
    """Return the positions of the file and label columns if the values are column names, else None."""
    lower = [value.lower() for value in values]
    columns = [next((lower.index(name) for name in names if name in lower), None) for names in (FILES, LABELS)]
    return None if columns[0] is None or columns[1] is None else (columns[0], columns[1])
