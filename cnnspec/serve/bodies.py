"""Reads images from the body of a request: JSON, a .npy file or a picture file, recognised by its first bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnspec.data import Dataset, Pipeline
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array
from cnnspec.serve.request_error import RequestError

MOST_IMAGES = 1024  # images in one request
MOST_PIXELS = 1 << 26  # pixels of a picture file: cameras have up to 50 million
NPY = b"\x93NUMPY"
FORMS = 'send {"images": [...]}, {"test_image": 0}, a .npy file or a picture file'


@dataclass(frozen=True, slots=True)
class Asked:
    """Prepared images (n, c, h, w), and the keys in `CONVERSIONS` of what was converted."""

    images: Array
    conversions: tuple[str, ...] = ()


def asked(body: bytes, pipeline: Pipeline, test: Dataset | None) -> Asked:
    """Return the images in a request's body; RequestError with status 400 or 413 says what is wrong with them."""
    if not body:
        raise RequestError(400, "expected a body, got none", FORMS)
    try:
        if body.startswith(NPY):
            request = _of_array(_npy(body), pipeline)
        elif body.lstrip()[:1] in (b"{", b"["):
            request = _of_json(_json(body), pipeline, test)
        else:
            images, conversions = pipeline.picture(Path("picture"), body, MOST_PIXELS)
            request = Asked(images, conversions)
    except DataError as error:
        raise RequestError(400, str(error), error.help) from error
    if len(request.images) > MOST_IMAGES:
        raise RequestError(
            413, f"expected at most {MOST_IMAGES:,} images, got {len(request.images):,}", "send them in parts"
        )
    return request


def _of_array(array: Array, pipeline: Pipeline) -> Asked:
    if array.size == 0:
        raise RequestError(400, f"expected images, got an array of shape {array.shape}", "send one image or more")
    return Asked(*pipeline.array(array, "images"))


def _npy(body: bytes) -> Array:
    """Return the array of a .npy file; its size is checked before memory is allocated, pickled objects are refused."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read: Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]] = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
        if min(shape, default=0) < 0:
            raise ValueError(f"its shape is {shape}")
        values = np.frombuffer(body, dtype, offset=file.tell())
        return values.reshape(shape, order="F" if by_columns else "C")
    except Exception as error:  # tokenize and ast raise what they like on a damaged header
        raise RequestError(
            400, f"the body cannot be read as a .npy file: {error}", "save it with numpy.save"
        ) from error


def _json(body: bytes) -> Any:
    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no number that JSON has")

    try:
        return json.loads(body, parse_constant=constant)
    except (ValueError, RecursionError) as error:  # ValueError includes text that is not UTF-8
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestError(400, f"the body cannot be read as JSON: {why}", FORMS) from error


def _of_json(content: Any, pipeline: Pipeline, test: Dataset | None) -> Asked:
    if not isinstance(content, dict) or len(content) != 1:
        got = (
            f"the keys {', '.join(map(repr, content)) or 'none'}"
            if isinstance(content, dict)
            else type(content).__name__
        )
        raise RequestError(400, f"expected an object with images or test_image, got {got}", FORMS)
    if "test_image" in content:
        return Asked(_test_images(content["test_image"], test))
    if "images" not in content:
        raise RequestError(400, f"expected the key images or test_image, got {next(iter(content))!r}", FORMS)
    try:
        array = np.asarray(content["images"])
    except (ValueError, OverflowError) as error:
        raise RequestError(
            400, "images: the rows are not all of one length", "send nested lists of one shape"
        ) from error
    return _of_array(array, pipeline)


def _test_images(number: Any, test: Dataset | None) -> Array:
    count = 0 if test is None else len(test)
    numbers = number if isinstance(number, list) else [number]
    for image_number in numbers:
        if type(image_number) is not int or not 0 <= image_number < count:
            there = f"a number from 0 to {count - 1}" if count else "no test_image, as the data is not here"
            raise RequestError(400, f"test_image: expected {there}, got {str(image_number)[:40]}", FORMS)
    if test is None or not numbers or len(numbers) > MOST_IMAGES:
        raise RequestError(400, f"test_image: expected 1 to {MOST_IMAGES:,} numbers, got {len(numbers):,}", FORMS)
    return np.asarray(test.pixels[np.array(numbers)])
