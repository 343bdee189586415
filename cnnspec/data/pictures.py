"""Pictures and arrays that a trained network is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnspec.data.settings import DataSettings
from cnnspec.data.transforms import Resize
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, text

COLOURS = (1, 3)  # channels of grey and of colour pictures


def read_pictures(paths: Sequence[Path], settings: DataSettings | None, shape: Shape) -> Array:
    """Bytes (n, c, h, w) of picture files and .npy arrays, brought to a network's input shape.

    Arrays are (h, w), (n, h, w) or (n, c, h, w) of bytes; those without channels are grey, and a network for colour
    pictures gets them in all its three channels, as it does grey picture files. Images take the way of the data's own
    where they have their size, and are resized where not. DataError names what cannot be read.
    """
    if not paths:
        raise DataError("expected pictures or arrays, got none", "name at least one file")
    return np.concatenate([_fitted(_read(path, shape[0]), settings, shape, path) for path in paths])


def _fitted(pixels: Array, settings: DataSettings | None, shape: Shape, path: Path) -> Array:
    if settings is not None and pixels.shape[1:] == settings.source.image_shape:
        for transform in settings.preprocess:
            pixels = transform.apply(pixels)
    if pixels.shape[1] != shape[0]:
        raise DataError(f"{path}: expected {shape[0]} channels, got {pixels.shape[1]}", f"give images of {text(shape)}")
    return Resize(size=(shape[1], shape[2])).apply(pixels)


def _read(path: Path, channels: int) -> Array:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix != ".npy" and channels not in COLOURS:
        raise DataError(f"{path}: pictures have 1 or 3 channels, the network wants {channels}", "give .npy arrays")
    return _array(path, channels) if path.suffix == ".npy" else _picture(path, channels)


def _array(path: Path, channels: int) -> Array:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # tokenize and ast raise what they like on a damaged header
        raise DataError(f"{path}: cannot be read as an array: {error}", "save it with numpy.save") from error
    if array.dtype != np.uint8 or array.ndim not in (2, 3, 4):
        raise DataError(
            f"{path}: expected bytes (h, w), (n, h, w) or (n, c, h, w), got {array.dtype} {array.shape}",
            "save pixels 0..255 as uint8",
        )
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = np.repeat(array[:, None], channels if channels in COLOURS else 1, axis=1)
    if len(array) == 0:
        raise DataError(f"{path}: expected images, got none", "give an array with at least one image")
    return np.asarray(array)


def _picture(path: Path, channels: int) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError(f"{path}: reading pictures needs Pillow", "pip install 'cnnspec[report]'") from error
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}", "give PNG, JPEG or .npy files") from error
    return pixels[None, None] if channels == 1 else pixels.transpose(2, 0, 1)[None]
