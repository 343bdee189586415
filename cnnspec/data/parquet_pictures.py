"""Picture files as values of a Parquet column, as data sets of Hugging Face have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.data.decode import Mode, PictureRules, read_picture
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

BYTES = "bytes"  # the field with a file's content; another one, `path`, is its name
DECLARED = frozenset({"grey", "rgb", "size"})  # conversions that a shape asks for
MODES: Mapping[int, Mode] = {1: "grey", 3: "rgb"}  # by channels


def holds_pictures(kind: Any) -> bool:
    """Tell whether a column's type is bytes, or a struct with a field of bytes."""
    from pyarrow import types

    if types.is_struct(kind):
        place = kind.get_field_index(BYTES)
        return place >= 0 and holds_pictures(kind.field(place).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def rules_for(shape: Shape) -> PictureRules:
    """Return how picture files become images of a shape."""
    return PictureRules(MODES.get(shape[0]), (shape[1], shape[2]))


def decoded(path: Path, name: str, column: Any, start: int, shape: Shape) -> tuple[Array, tuple[str, ...]]:
    """Decode the pictures of a column, brought to a shape, as rows of bytes; return the conversions done, too.

    `start` is the number of the first row. DataError names the row of a picture that cannot be read.
    """
    if shape[0] not in MODES:
        raise DataError(
            f"{path}: column '{name}' holds pictures, which have 1 or 3 channels, not {shape[0]}",
            "write data.source.shape: [3, height, width]",
        )
    images, conversions = np.empty((len(column), *shape), np.uint8), list[str]()
    for number, value in enumerate(column.to_pylist()):
        content = value.get(BYTES) if isinstance(value, dict) else value
        if content is None:
            raise DataError(
                f"{path}: column '{name}', row {start + number}: expected the bytes of a picture, got none",
                "save the pictures themselves in the file, or leave the row out",
            )
        picture = read_picture(Path(f"{path}[{start + number}]"), rules_for(shape), content)
        images[number] = picture.pixels
        conversions += [key for key in picture.conversions if key not in DECLARED]
    return images.reshape(len(column), -1), tuple(conversions)
