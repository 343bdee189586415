"""Converts numbers of any type to bytes of pixels, by their range."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cnnspec.data.arrays import Scale
from cnnspec.data.rows import Pixels, blocks
from cnnspec.data.store import MEMORY, Store, Writing, key_of
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

BLOCK = 256  # images that are converted at a time, to keep the wider copy small
NEAR = 1e-3  # in units of a byte: the error of x / 255 in float32


def as_bytes(
    pixels: Array, scale: Scale | Literal["auto"], subject: str, store: Store = MEMORY, key: str = ""
) -> tuple[Pixels, Scale, tuple[str, ...]]:
    """Return images (n, ...) as bytes, the scale that their values had, and notes for the user on the conversion.

    With `1/255` values are 0 to 255; with `none` they are 0 to 1, except whole numbers above 1. `auto` chooses `none`
    for values of at most 1: bytes of 0 and 1 would all be black. Its choice for the training images holds for all
    others. DataError for other ranges. `key` identifies the array, so that its bytes are found again in the store.
    """
    if pixels.dtype == np.uint8 and (scale == "1/255" or (scale == "auto" and not _are_zeros_and_ones(pixels))):
        return pixels, "1/255", ()
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"{subject}: expected numbers, got {pixels.dtype}", "save pixels 0..255 as uint8")
    low, high = _range(pixels)
    if not np.isfinite([low, high]).all():
        first = _first_not_finite(pixels)
        raise DataError(f"{subject}: image {first} holds a value that is no finite number", "replace such values")
    if scale == "1/255" and pixels.dtype.kind in "bf" and 0 < high <= 1:
        raise DataError(
            f"{subject}: expected values from 0 to 255, got {pixels.dtype} from {low:g} to {high:g}, which is black",
            "save them as the training images are, numpy.rint(x * 255).astype('uint8'), or, where all images are "
            "0 to 1, write data.source.scale: none",
        )
    chosen: Scale = "none" if high <= 1 else "1/255"
    if scale != "auto" and not (pixels.dtype.kind in "iu" and high > 1):  # whole numbers above 1 are bytes
        chosen = scale
    most = 1 if chosen == "none" else 255
    slack = NEAR / 255 if chosen == "none" else 0.0
    if not (-slack <= low and high <= most + slack):
        raise DataError(
            f"{subject}: expected values from 0 to {most}, got {pixels.dtype} from {low:g} to {high:g}",
            _cure(low, high, chosen, pixels.shape[1:]),
        )
    factor = 255 if chosen == "none" else 1

    def write(out: Writing) -> None:
        whole = True
        for block in blocks(pixels, BLOCK):
            scaled = block.astype(np.float64) * factor
            rounded = np.rint(scaled)
            whole = whole and bool((np.abs(scaled - rounded) <= NEAR).all())
            out.add(np.clip(rounded, 0, 255).astype(np.uint8))
        out.record["whole"] = whole

    name = key_of("bytes", key, chosen, pixels.shape, pixels.strides)
    out, record = store.find(name) or store.make(name, pixels.shape, np.uint8, f"{subject}: making bytes", write)
    whole = record["whole"]
    steps = "" if whole else ", rounded to 256 steps"
    read = f"{subject}: {pixels.dtype} from {low:g} to {high:g} is read as 0 to {most}{steps}"
    notes_scale = not whole or (scale == "auto" and chosen == "none")
    return out, chosen, (f"{read} (data.source.scale: {chosen})",) if notes_scale else ()


def _are_zeros_and_ones(pixels: Array) -> bool:
    """Whether bytes are 0 and 1, both of them: the first block that has others answers."""
    most = 0
    for block in blocks(pixels, BLOCK):
        most = max(most, int(np.max(block)))
        if most > 1:
            break
    return most == 1


def _first_not_finite(pixels: Array) -> int:
    """Return the number of the first image that holds a value that is not finite; there must be one."""
    start = 0
    for block in blocks(pixels, BLOCK):
        wrong = np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))
        if len(wrong):
            return start + int(wrong[0])
        start += len(block)
    return start


def _range(pixels: Array) -> tuple[float, float]:
    if not pixels.size:
        return 0.0, 0.0
    ranges = [(np.min(block), np.max(block)) for block in blocks(pixels, BLOCK)]
    lowest, highest = zip(*ranges, strict=True)
    return float(np.min(lowest)), float(np.max(highest))  # the result is not a number if any value is not


def _cure(low: float, high: float, scale: Scale, shape: Shape) -> str:
    if scale == "none" and low >= 0 and high <= 255:
        return "save all images in one scale, as the training images are, or write data.source.scale: 1/255"
    if low >= 0 and high <= 65535 and high == int(high):
        top = 4095 if high <= 4095 else 65535
        return f"save x / {top} (values of {12 if top == 4095 else 16} bits), which becomes 0 to 1"
    return (
        f"save (x - low) / (high - low) with low and high of the training images, here {low:g} and {high:g}; or, in an "
        f".npz archive, name the input: inputs: {{x: {list(shape)}}} in the place of input takes numbers as they are"
    )
