"""Writes arrays as PNG files within a page: small, exact, and without a library."""

from __future__ import annotations

import math
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterator

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.target import VOID

CLASSES = np.array(  # colours of the classes of a mask, Tableau's ten, used in turn
    [
        (31, 119, 180),
        (255, 127, 14),
        (44, 160, 44),
        (214, 39, 40),
        (148, 103, 189),
        (140, 86, 75),
        (227, 119, 194),
        (127, 127, 127),
        (188, 189, 34),
        (23, 190, 207),
    ],
    np.uint8,
)
LARGEST = 48  # rows and columns of a picture in a page; larger ones are shrunk
GAP = 1  # pixels between tiles


def png(pixels: Array) -> bytes:
    """Return the PNG file of bytes (h, w), as grey, or (h, w, 3), as colours."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # 0: a row without a filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def embedded(content: bytes, kind: str = "image/png") -> str:
    """Return a file's content as a data URI."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def picture(image: Array, largest: int = LARGEST) -> str:
    """Return the data URI of an image (c, h, w) of bytes: three channels as colours, else their mean as grey.

    The result is empty for data that is no image: a row of a table, or a single pixel.
    """
    if image.ndim != 3 or min(image.shape[1:]) < 2:
        return ""
    image = shrunk(image, largest)
    grey = image.shape[0] != 3
    return embedded(png(np.rint(image.mean(axis=0)).astype(np.uint8) if grey else image.transpose(1, 2, 0)))


def shrunk(image: Array, largest: int) -> Array:
    """Return maps (c, h, w) reduced to at most `largest` rows and columns by averaging squares."""
    factor = math.ceil(max(image.shape[1:]) / largest)
    if factor == 1:
        return image
    height, width = (max(1, size // factor) for size in image.shape[1:])
    cut = image[:, : height * factor, : width * factor]
    squares = cut.reshape(len(image), height, min(factor, cut.shape[1]), width, min(factor, cut.shape[2]))
    return np.asarray(squares.mean(axis=(2, 4)))


def tiled(maps: Array, columns: int) -> str:
    """Return the data URI of images (n, h, w) or (n, h, w, 3) of bytes, in rows of `columns`, with grey gaps."""
    count, height, width = maps.shape[:3]
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, *maps.shape[3:]), 128, np.uint8)
    for tile, (y, x) in zip(maps, _corners(height, width, columns), strict=False):
        sheet[y : y + height, x : x + width] = tile
    return embedded(png(sheet))


def _corners(height: int, width: int, columns: int) -> Iterator[tuple[int, int]]:
    number = 0
    while True:
        yield number // columns * (height + GAP), number % columns * (width + GAP)
        number += 1


def stretched(values: Array) -> Array:
    """Return numbers as bytes, scaled from the lowest, 0, to the highest, 255; numbers that are not finite are 0."""
    finite = np.where(np.isfinite(values), values, 0)
    low, high = finite.min(), finite.max()
    return np.asarray(np.rint((finite - low) * (255 / (high - low if high > low else 1))), np.uint8)


def around_zero(values: Array) -> Array:
    """Return numbers as colours (..., 3) of bytes: 0 is white, positive numbers are red, negative ones blue."""
    finite = np.where(np.isfinite(values), values, 0)
    part = (finite / (np.abs(finite).max() or 1))[..., None]
    ends = np.where(part > 0, np.array([178, 24, 43]), np.array([33, 102, 172]))
    return np.asarray(np.rint(255 + (ends - 255) * np.abs(part)), np.uint8)


def coloured(values: Array) -> Array:
    """Return numbers (n, 3, h, w) as colours (n, h, w, 3) of bytes, in which 0 is middle grey."""
    finite = np.where(np.isfinite(values), values, 0)
    most = np.abs(finite).max() or 1
    return np.asarray(np.rint(127.5 + finite * (127.5 / most)), np.uint8).transpose(0, 2, 3, 1)


def class_colours(classes: Array) -> Array:
    """Return class numbers as colours (..., 3) of bytes; pixels of no class are black."""
    colours = CLASSES[classes.astype(np.int64) % len(CLASSES)]
    colours[classes == VOID] = 0
    return np.asarray(colours)


def mask_picture(classes: Array, largest: int = LARGEST) -> str:
    """Return the data URI of a class map (h, w); a large map is reduced by leaving out rows and columns."""
    step = math.ceil(max(classes.shape) / largest)
    return embedded(png(class_colours(classes[::step, ::step])))
