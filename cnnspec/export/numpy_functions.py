"""The layers' computations at inference as plain functions of NumPy arrays, from which exported programs are made.

`numpy_program` copies the source of those that a network needs, so each stands by itself: maps are (n, c, h, w),
vectors (n, features), and NumPy is all that they import.
"""

# mypy: disable-error-code="no-any-return"
# What NumPy's methods return is plain in what people read and teach from; each `np.asarray` would be noise there.

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from cnnspec.kernels.step import Array

Ints = Sequence[int]


def windows(x: Array, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, border: float = 0.0) -> Array:
    """The windows over a map, (n, c, kh, kw, oh, ow): element u, v of window i, j is x[i sh + u dh, j sw + v dw]."""
    if any(padding):
        x = np.pad(x, ((0, 0), (0, 0), padding[:2], padding[2:]), constant_values=border)
    (n, c, h, w), (image, channel, row, column) = x.shape, x.strides
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    shape = (n, c, kh, kw, (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1)
    strides = (image, channel, row * dh, column * dw, row * sh, column * sw)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Ints = (1, 1),
    padding: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """y[f,i,j] = b[f] + sum over c, u, v of w[f,c,u,v] x[c, i sh + u dh - top, j sw + v dw - left].

    Every window becomes a column, and all the sums one product of matrices for each image and group.
    """
    columns = windows(x, weight.shape[2:], stride, padding, dilation)
    (n, _, _, _, oh, ow), filters = columns.shape, len(weight)
    columns = columns.reshape(n, groups, -1, oh * ow)
    y = (weight.reshape(groups, filters // groups, -1) @ columns).reshape(n, filters, oh, ow)
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
    (n, c, h, w), (_, filters, kh, kw) = x.shape, weight.shape
    (sh, sw), (dh, dw), (top, bottom, left, right) = stride, dilation, cut
    apart = weight.reshape(groups, c // groups, filters * kh * kw).swapaxes(1, 2)
    filled = (apart @ x.reshape(n, groups, c // groups, h * w)).reshape(n, groups * filters, kh, kw, h, w)
    height, width = (h - 1) * sh + dh * (kh - 1) + 1 + more[0], (w - 1) * sw + dw * (kw - 1) + 1 + more[1]
    y = np.zeros((n, groups * filters, height, width), x.dtype)
    for u in range(kh):
        for v in range(kw):
            rows, columns = slice(u * dh, u * dh + (h - 1) * sh + 1, sh), slice(v * dw, v * dw + (w - 1) * sw + 1, sw)
            y[:, :, rows, columns] += filled[:, :, u, v]
    y = y[:, :, top : height - bottom, left : width - right]
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def dense(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """y[f] = b[f] + sum over k of w[f,k] x[k]."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def max_pool2d(x: Array, kernel: Ints, stride: Ints, padding: Ints = (0, 0, 0, 0)) -> Array:
    """The largest element of each window."""
    elements = windows(x, kernel, stride, padding, (1, 1), -np.inf)
    return functools.reduce(np.maximum, (elements[:, :, u, v] for u in range(kernel[0]) for v in range(kernel[1])))


def avg_pool2d(
    x: Array, kernel: Ints, stride: Ints, padding: Ints = (0, 0, 0, 0), counted: Ints = (0, 0, 0, 0)
) -> Array:
    """The mean of each window, over its elements in the map and in the `counted` part of the padding."""
    total = windows(x, kernel, stride, padding, (1, 1)).sum((2, 3))
    top, bottom, left, right = counted
    inside = np.ones((1, 1, x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)
    beyond = [outer - inner for outer, inner in zip(padding, counted, strict=True)]
    return total / windows(inside, kernel, stride, beyond, (1, 1)).sum((2, 3))


def lp_pool2d(x: Array, kernel: Ints, stride: Ints, padding: Ints, p: float) -> Array:
    """(mean of |x|^p over each window)^(1/p), times and by the largest magnitude m, so that no power overflows."""
    m = np.maximum(max_pool2d(np.abs(x), kernel, stride, padding), np.finfo(x.dtype).tiny)
    elements = windows(np.abs(x), kernel, stride, padding, (1, 1)) / m[:, :, None, None]
    inside = windows(np.ones_like(x[:1, :1]), kernel, stride, padding, (1, 1)).sum((2, 3))
    return m * ((elements**p).sum((2, 3)) / inside) ** (1 / p)


def adaptive_avg_pool2d(x: Array, size: Ints) -> Array:
    """The mean of each of oh x ow bins: rows floor(i h / oh) to ceil((i + 1) h / oh), columns likewise."""
    for axis, bins in ((2, size[0]), (3, size[1])):
        length = x.shape[axis]
        parts = [slice(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]
        x = np.stack([x[(slice(None),) * axis + (part,)].mean(axis) for part in parts], axis)
    return x


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each channel."""
    return x.mean((2, 3))


def global_max_pool2d(x: Array) -> Array:
    """The largest element of each channel."""
    return x.max((2, 3))


def channelwise(a: Array, x: Array) -> Array:
    """An array with one number for each channel, in a shape that meets those of x."""
    return a.reshape(-1, *(1,) * (x.ndim - 2))


def batch_norm(x: Array, weight: Array, bias: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias for each channel, with the statistics of training."""
    scale = weight / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    return x * channelwise(scale, x) + channelwise(bias - mean * scale, x)


def group_norm(x: Array, weight: Array, bias: Array, groups: int, epsilon: float) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, both of each image and group of channels."""
    grouped = x.reshape(len(x), groups, -1)
    centred = grouped - grouped.mean(2, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(2, keepdims=True) + np.asarray(epsilon, x.dtype))
    return normal.reshape(x.shape) * channelwise(weight, x) + channelwise(bias, x)


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """y = weight (x - mean) / sqrt(variance + epsilon) + bias, both over the channels of each pixel or the features."""
    centred = x - x.mean(1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(1, keepdims=True) + np.asarray(epsilon, x.dtype))
    return normal * channelwise(weight, x) + channelwise(bias, x)


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """y = weight x / sqrt(mean of x^2 + epsilon), the mean over the channels of each pixel or the features."""
    mean = (x * x).mean(1, keepdims=True)
    return x / np.sqrt(mean + np.asarray(epsilon, x.dtype)) * channelwise(weight, x)


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """y = x / (k + alpha/size sum of x^2 over `size` neighbouring channels)^beta."""
    squares = np.pad(x * x, ((0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)))
    total = sum(squares[:, shift : shift + x.shape[1]] for shift in range(size))
    return np.asarray(x / (k + alpha / size * total) ** beta)


def relu(x: Array) -> Array:
    """y = max(x, 0)."""
    return np.maximum(x, 0)


def leaky_relu(x: Array, slope: float) -> Array:
    """y = x for x > 0, else slope x."""
    return np.where(x > 0, x, slope * x)


def prelu(x: Array, slope: Array) -> Array:
    """y = x for x > 0, else slope x, with a slope for each channel."""
    return np.where(x > 0, x, channelwise(slope, x) * x)


def relu6(x: Array) -> Array:
    """y = min(max(x, 0), 6)."""
    return np.clip(x, 0, 6)


def sigmoid(x: Array) -> Array:
    """y = 1 / (1 + exp(-x)), in a form that cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def hard_sigmoid(x: Array) -> Array:
    """y = min(max(x / 6 + 1/2, 0), 1)."""
    return np.clip(x / 6 + 0.5, 0, 1)


def hard_swish(x: Array) -> Array:
    """y = x min(max(x / 6 + 1/2, 0), 1)."""
    return x * np.clip(x / 6 + 0.5, 0, 1)


def elu(x: Array, alpha: float) -> Array:
    """y = x for x > 0, else alpha (exp(x) - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """y = 1.0507 x for x > 0, else 1.0507 * 1.6733 (exp(x) - 1)."""
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def softplus(x: Array) -> Array:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def silu(x: Array) -> Array:
    """y = x / (1 + exp(-x))."""
    return x * (0.5 + 0.5 * np.tanh(0.5 * x))


def mish(x: Array) -> Array:
    """y = x tanh(log(1 + exp(x)))."""
    return x * np.tanh(softplus(x))


def gelu(x: Array) -> Array:
    """y = x (1 + erf(x / sqrt 2)) / 2."""
    erf = np.vectorize(math.erf, otypes=[x.dtype])
    return x * (0.5 + 0.5 * erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Array) -> Array:
    """y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * x * (1 + 0.044715 * x * x)))


def softmax(x: Array) -> Array:
    """y_c = exp(x_c) / sum over k of exp(x_k); the largest is taken off first, so that nothing overflows."""
    grown = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(grown / grown.sum(1, keepdims=True))


def scale_shift(x: Array, scale: Sequence[float] = (1.0,), shift: Sequence[float] = (0.0,)) -> Array:
    """y = scale x + shift for each channel."""
    return channelwise(np.asarray(scale, x.dtype), x) * x + channelwise(np.asarray(shift, x.dtype), x)


def concat(*inputs: Array) -> Array:
    """The channels of all inputs, one after the other."""
    return np.concatenate(inputs, 1)


def flatten(x: Array) -> Array:
    """All numbers of an image as one vector: channels, in them rows, in them columns."""
    return x.reshape(len(x), -1)


def reshape(x: Array, *shape: int) -> Array:
    """The same numbers in another shape."""
    return x.reshape(-1, *shape)


def channel_shuffle(x: Array, groups: int) -> Array:
    """The first channel of each group, then the second of each, and so on."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).swapaxes(1, 2).reshape(x.shape)


def pixel_shuffle(x: Array, factor: int) -> Array:
    """y[c, i r + u, j r + v] = x[c r^2 + u r + v, i, j]: channels become pixels."""
    n, c, h, w = x.shape
    apart = x.reshape(n, c // factor**2, factor, factor, h, w).transpose(0, 1, 4, 2, 5, 3)
    return apart.reshape(n, c // factor**2, h * factor, w * factor)


def permute(x: Array, *order: int) -> Array:
    """The axes of a map in another order: 0 channels, 1 rows, 2 columns."""
    return x.transpose(0, *(axis + 1 for axis in order))


def zero_pad2d(x: Array, padding: Ints, channels: Ints = (0, 0)) -> Array:
    """Zeros above, below, left and right of a map, and channels of zeros before and behind its own."""
    return np.pad(x, ((0, 0), channels, padding[:2], padding[2:]))


def pad2d(x: Array, padding: Ints, mode: str) -> Array:
    """Margins that mirror the map without its edge, repeat its edge, or go on at its other end."""
    margins = ((0, 0), (0, 0), padding[:2], padding[2:])
    if mode == "reflect":
        return np.pad(x, margins, "reflect")
    return np.pad(x, margins, "edge") if mode == "replicate" else np.pad(x, margins, "wrap")


def upsample2d(x: Array, scale: Ints) -> Array:
    """Every pixel repeated."""
    return x.repeat(scale[0], 2).repeat(scale[1], 3)


def upsample2d_bilinear(x: Array, scale: Ints) -> Array:
    """Straight lines between pixels: output i lies at (i + 1/2) / scale - 1/2, and beyond the edges they continue."""
    for axis, factor in ((2, scale[0]), (3, scale[1])):
        last = x.shape[axis] - 1
        place = np.clip((np.arange((last + 1) * factor) + 0.5) / factor - 0.5, 0, last)
        first = place.astype(int)
        share = (place - first).astype(x.dtype).reshape(-1, *(1,) * (3 - axis))
        x = x.take(first, axis) * (1 - share) + x.take(np.minimum(first + 1, last), axis) * share
    return x


def resize(images: Array, down: Array, across: Array) -> Array:
    """Bytes of another size: `down` and `across` say how much each pixel of a row and a column counts for a new one."""
    return np.floor(down @ np.floor(images @ across.T + 0.5) + 0.5).astype(np.uint8)


def pad(images: Array, padding: Ints, value: int = 0) -> Array:
    """A border around every image."""
    return np.pad(images, ((0, 0), (0, 0), padding[:2], padding[2:]), constant_values=value)


def read_picture(path: str, mode: str, size: Ints, background: Ints) -> Array:
    """A picture file as bytes (1, c, h, w), as a person sees it: upright, on a background, in grey or in colour."""
    from PIL import Image, ImageOps  # late: arrays can be read without Pillow

    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode.startswith("I"):  # 16 bits of grey
        picture = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if picture.mode not in ("1", "L"):
        grey, opaque = picture.mode in ("LA", "La"), picture.convert("RGBA")
        picture = Image.new("RGB", picture.size, tuple(background))
        picture.paste(opaque.convert("RGB"), mask=opaque.getchannel("A"))
        picture = picture.convert("L") if grey else picture
    # Columns first, rows second, each rounded to bytes: versions of Pillow differ in the order of both.
    picture = picture.convert(mode).resize((size[1], picture.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]
