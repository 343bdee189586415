"""The layers' computations at inference that need other functions than NumPy's; arguments as in `numpy_functions`.

`jax_source` copies the source of those that a network needs; maps are (n, c, h, w).
"""

# mypy: disable-error-code="no-any-return"
# Without JAX, which is installed where these are run, its functions have no types.

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

Ints = Sequence[int]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Ints = (1, 1),
    padding: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """y[f,i,j] = b[f] + sum over c, u, v of w[f,c,u,v] x[c, i sh + u dh - top, j sw + v dw - left]."""
    y = lax.conv_general_dilated(
        x, weight, stride, (padding[:2], padding[2:]), rhs_dilation=dilation, feature_group_count=groups
    )
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Ints = (1, 1),
    cut: Ints = (0, 0, 0, 0),
    more: Ints = (0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """y[f, i sh + u dh - top, j sw + v dw - left] += w[c,f,u,v] x[c,i,j], plus b[f]: every pixel fills a window."""
    channels, filters, kh, kw = weight.shape
    apart = weight.reshape(groups, channels // groups, filters, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1]
    (rows, columns), (top, bottom, left, right) = (dilation[0] * (kh - 1), dilation[1] * (kw - 1)), cut
    y = lax.conv_general_dilated(
        x,
        apart.reshape(groups * filters, channels // groups, kh, kw),
        (1, 1),
        ((rows - top, rows - bottom + more[0]), (columns - left, columns - right + more[1])),
        lhs_dilation=stride,
        rhs_dilation=dilation,
        feature_group_count=groups,
    )
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def max_pool2d(x: Array, kernel: Ints, stride: Ints, padding: Ints = (0, 0, 0, 0)) -> Array:
    """The largest element of each window."""
    margins = ((0, 0), (0, 0), padding[:2], padding[2:])
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *kernel), (1, 1, *stride), margins)


def window_sums(x: Array, kernel: Ints, stride: Ints, padding: Ints) -> Array:
    """The sum of each window."""
    margins = ((0, 0), (0, 0), padding[:2], padding[2:])
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, *kernel), (1, 1, *stride), margins)


def avg_pool2d(
    x: Array, kernel: Ints, stride: Ints, padding: Ints = (0, 0, 0, 0), counted: Ints = (0, 0, 0, 0)
) -> Array:
    """The mean of each window, over its elements in the map and in the `counted` part of the padding."""
    top, bottom, left, right = counted
    inside = jnp.ones((1, 1, x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)
    beyond = [outer - inner for outer, inner in zip(padding, counted, strict=True)]
    return window_sums(x, kernel, stride, padding) / window_sums(inside, kernel, stride, beyond)


def lp_pool2d(x: Array, kernel: Ints, stride: Ints, padding: Ints, p: float) -> Array:
    """(mean of |x|^p over each window)^(1/p)."""
    total = window_sums(jnp.abs(x) ** p, kernel, stride, padding)
    return (total / window_sums(jnp.ones_like(x[:1, :1]), kernel, stride, padding)) ** (1 / p)


def gelu(x: Array) -> Array:
    """y = x (1 + erf(x / sqrt 2)) / 2."""
    return jax.nn.gelu(x, approximate=False)
