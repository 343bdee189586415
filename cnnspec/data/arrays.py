"""Arrays of images in the forms in which people save them: the order of axes, and the range of pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, size

Scale = Literal["1/255", "none"]  # factor from pixels to 0..1, in the words of `data.source.scale`

LUMA = np.array([19595, 38470, 7471])  # weights of red, green and blue in grey, in 2^-16: ITU-R 601-2, as in Pillow
HALF = 1 << 15
WITH_ALPHA = (2, 4)  # numbers of channels of grey and of colour with transparency


class ImagesError(DataError, ValueError):
    """Images that the network cannot take, in a file or from a caller in Python."""


def refused(message: str, help: str) -> ImagesError:
    """Return an ImagesError whose cure also appears in a traceback, as a note."""
    error = ImagesError(message, help)
    error.add_note(f"help: {help}")
    return error


def as_pixels(array: Array, subject: str, scale: Scale = "1/255") -> Array:
    """Return pixels of any numeric type as bytes: values from 0 to 255, or from 0 to 1 where `scale` is `none`.

    Values are rounded. ImagesError, with a cure, for all others: where pixels are 0 to 255, values from 0 to 1 would be
    black, and scaling them would be a guess.
    """
    if array.dtype == np.uint8 and (scale == "1/255" or array.max(initial=0) > 1):
        return array
    if array.dtype.kind not in "biuf":
        raise refused(f"{subject}: expected numbers, got {array.dtype}", "give an array of uint8")
    if array.size == 0:
        return array.astype(np.uint8)
    most = 1 if scale == "none" else 255
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        raise refused(f"{subject}: holds a value that is no finite number", "replace such values")
    if array.dtype == bool and scale == "1/255":
        raise refused(f"{subject}: expected pixels from 0 to 255, got true and false", "x.astype('uint8') * 255")
    between = bool(low >= 0 and high <= most)
    if not between or (scale == "1/255" and array.dtype.kind == "f" and 0 < high <= 1):
        got = (
            f"{array.dtype} from {low:g} to {high:g}"
            if array.dtype.kind == "f"
            else f"{array.dtype} from {low} to {high}"
        )
        cure = "bring them to that range, by the range that training images were in"
        if scale == "1/255" and between:
            cure = "numpy.rint(x * 255).astype('uint8')"
        elif scale == "1/255" and low >= 0 and 255 < high <= 65535:
            cure = "(x // 257).astype('uint8') for 16 bits, (x // 16).astype('uint8') for 12"
        raise refused(f"{subject}: expected pixels from 0 to {most}, got {got}", cure)
    return np.rint(array * np.float64(255 // most)).astype(np.uint8)


def as_images(array: Array, shape: Shape, layout: str, subject: str) -> tuple[Array, tuple[str, ...]]:
    """Return one image or several as (n, c, h, w) with the channels of `shape`, and the keys of the conversions done.

    Accepted: (h, w), (n, h, w), (h, w, c), (n, h, w, c), (c, h, w), (n, c, h, w), and rows of all pixels (n, c h w).
    An array that fits in two ways is read by `layout` if it has four axes, and refused if it has three. Rows are read
    by `layout` too.
    """
    c, h, w = shape
    if array.ndim not in (2, 3, 4):
        raise refused(f"{subject}: expected images (n, {c}, {h}, {w}), got {array.shape}", "give one image or more")
    if array.size == 0:
        raise refused(f"{subject}: expected images, got none", "give an array with at least one image")
    if array.ndim == 2:
        rows = array.shape[1] == size(shape) and array.shape != (h, w)
        return _in_channels(from_rows(array, shape, layout) if rows else array[None, None], c, subject)
    if array.ndim == 3:
        return _in_channels(_of_three_axes(array, c, w, subject), c, subject)
    if not _channels_last(array, shape, layout):
        return _in_channels(array, c, subject)
    images, conversions = _in_channels(array.transpose(0, 3, 1, 2), c, subject)
    return images, conversions if layout == "nhwc" else (*conversions, *["layout"] * len(images))


def from_rows(rows: Array, shape: Shape, layout: str) -> Array:
    """Return images (n, c, h, w) from rows of all their pixels, channel by channel or, in `nhwc`, pixel by pixel."""
    c, h, w = shape
    if layout == "nhwc":
        return rows.reshape(-1, h, w, c).transpose(0, 3, 1, 2)
    return rows.reshape(-1, c, h, w)


def _of_three_axes(array: Array, c: int, w: int, subject: str) -> Array:
    """Return an array of three axes as (n, c, h, w): one picture with channels, or several grey pictures."""
    a, _, b = array.shape
    alpha = c in (1, 3) and b in WITH_ALPHA and b != w
    last, first = b in _possible(c) or alpha, c > 1 and a == c
    if (last and b == w) or (first and (last or c == 3)):
        cure = f"give (n, {c}, h, w) for pictures of {c} channels, (n, 1, h, w) for grey ones"
        raise refused(f"{subject}: {array.shape} may be one picture or several", cure)
    if last:
        return array.transpose(2, 0, 1)[None]
    return array[None] if first else array[:, None]


def _channels_last(array: Array, shape: Shape, layout: str) -> bool:
    """Tell whether a batch has the axes (n, h, w, c): by the whole shape, the channels, or the layout of the data."""
    (c, h, w), axes = shape, array.shape[1:]
    for first, last in (
        (axes == (c, h, w), axes == (h, w, c)),
        (axes[0] == c, axes[2] == c),
        (axes[0] in _possible(c), axes[2] in (*_possible(c), 4)),
    ):
        if first != last:
            return last
        if first and last:
            break
    return layout == "nhwc"


def _possible(c: int) -> tuple[int, ...]:
    """Return the numbers of channels from which an image with `c` channels can be made."""
    return (1, 3) if c in (1, 3) else (c,)


def _in_channels(images: Array, c: int, subject: str) -> tuple[Array, tuple[str, ...]]:
    """Return images with `c` channels: grey is copied to three channels, or colour is reduced to grey."""
    got = images.shape[1]
    if got == c:
        return images, ()
    if (got, c) == (1, 3):
        return images.repeat(3, axis=1), ("rgb",) * len(images)
    if (got, c) == (3, 1):
        pixels = images.astype(np.int64)
        grey = (np.einsum("nchw,c->nhw", pixels, LUMA) + HALF) >> 16
        return grey.astype(np.uint8)[:, None], ("grey",) * len(images)
    drop = "drop the last channel, which is transparency"
    help = drop if c in (1, 3) and got in WITH_ALPHA else f"give images of {c} channels"
    raise refused(f"{subject}: expected {c} channel{'s' * (c != 1)}, got {got}", help)
