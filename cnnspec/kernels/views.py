"""Views of arrays that several kernels use."""

from __future__ import annotations

from math import prod

from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape


def part(array: Array, shape: Shape) -> Array:
    """The beginning of a flat array as an array of this shape, a view."""
    return array[: prod(shape)].reshape(shape)


def grouped_rows(array: Array, groups: int) -> Array:
    """A map (h, c, w, n) as (groups, h, c, w*n), a view."""
    h, c, w, n = array.shape
    return array.reshape(h, groups, c // groups, w * n).transpose(1, 0, 2, 3)


def grouped_map(array: Array, groups: int) -> Array:
    """A map (h, c, w, n) as (groups, h, c, w, n), a view."""
    h, c, w, n = array.shape
    return array.reshape(h, groups, c // groups, w, n).transpose(1, 0, 2, 3, 4)


def unreached_columns(array: Array, reached: slice) -> list[Array]:
    """The columns of an array (..., w, n) to the left and right of those that a tap reaches, views."""
    return [array[..., : reached.start, :], array[..., reached.stop :, :]]
