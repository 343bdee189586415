"""Turns a picture or an array into the network's input, in one way for training, evaluation and prediction.

decode - orient - to the declared mode and depth - fit to the size of the training images - `preprocess` - normalise.
`decode.py` does the first three for picture files, `arrays.py` for arrays; the rest is here, and what a run stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from cnnspec.data.arrays import Scale, as_images, as_pixels, refused
from cnnspec.data.decode import MOST_PIXELS, Mode, PictureRules, read_picture
from cnnspec.data.inputs import ONE, Inputs
from cnnspec.data.resize import resize
from cnnspec.data.settings import DataSettings
from cnnspec.data.source import Source
from cnnspec.data.transforms import Transform, affine
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, ShapeError, text

HELP = "the file was changed: restore it, or train anew"
Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How images become the input of a network: the rules of the spec, and those found in the training images.

    `shape` is that of the source's images before `preprocess`; None if it is only found in files that are not read yet.
    """

    input: Shape
    shape: Shape | None
    preprocess: tuple[Transform, ...]
    rules: PictureRules
    layout: Layout  # order of axes in arrays
    label: Literal["first", "last"]  # position of the label in a table
    classes: tuple[str, ...] = ()
    scale: Scale = "1/255"  # scale of the numbers in arrays
    inputs: Inputs = ONE  # several inputs, which are joined in `input`
    source: Source = field(default_factory=Source, compare=False)  # reads the files of its own format

    @classmethod
    def of(cls, settings: DataSettings, input: Shape, inputs: Inputs = ONE) -> Self:
        """Return the pipeline of a spec, as far as it is known before any file is read."""
        source = settings.source
        layout: Layout = getattr(source, "layout", None) or "nchw"
        label: Literal["first", "last"] = getattr(source, "label", "first")
        rules, names = source.picture_rules, settings.class_names
        shape = input if inputs else source.image_shape
        return cls(input, shape, settings.preprocess, rules, layout, label, names, inputs=inputs, source=source)

    def found(self, shape: Shape, classes: Sequence[str], scale: Scale = "1/255", inputs: Inputs = ONE) -> Self:
        """Return the pipeline with the shape, classes and scale that the training images have."""
        return replace(self, shape=shape, classes=tuple(classes), scale=scale, inputs=inputs)

    def seen(self, arrays: Mapping[str, Array]) -> Self:
        """Return the pipeline with the types of several inputs, taken from the training arrays."""
        return replace(self, inputs=self.inputs.seen(arrays))

    def record(self) -> dict[str, Any]:
        """Return what a run stores of the pipeline beside the spec; `restored` reads it."""
        record: dict[str, Any] = {"shape": self.shape, "layout": self.layout, "scale": self.scale}
        if self.inputs:
            record["pixels"] = self.inputs.record()
        return {"pipeline": record, "classes": self.classes}

    def restored(self, record: object, where: str | Path) -> Self:
        """Return the pipeline with the record that a run stored; RunError if that is missing or damaged."""
        match record:
            case {
                "pipeline": {"pixels": None | [*_] as pixels},
                "classes": [*classes],
            } if self.inputs and all(isinstance(name, str) for name in (*(pixels or ()), *classes)):
                return replace(self, inputs=self.inputs.restored(pixels), classes=tuple(classes))
            case {
                "pipeline": {
                    "shape": None | [int(), int(), int()] as shape,
                    "layout": "nchw" | "nhwc" as layout,
                    "scale": "1/255" | "none" as scale,
                },
                "classes": [*classes],
            } if not self.inputs and all(isinstance(name, str) for name in classes):
                stored_shape = None if shape is None else tuple(shape)
                made = replace(self, shape=stored_shape, layout=layout, scale=scale, classes=tuple(classes))
            case _:
                raise RunError(f"{where}: expected pipeline (shape, layout, scale) and classes, got none", HELP)
        if made.shape is not None and made._shape_after(made.shape) != self.input:
            wrong = f"images of {text(made.shape)} do not become the input {text(self.input)}"
            raise RunError(f"{where}: pipeline: {wrong}", HELP)
        return made

    @property
    def affine(self) -> tuple[Array, Array]:
        """Scale and shift (c,) by which a byte of each channel becomes a number: x = byte scale + shift."""
        return affine(self.preprocess, self.input[0])

    def prepared(self, pixels: Array) -> Array:
        """Apply `preprocess` to the source's images (n, c, h, w); the bytes have the network's input shape."""
        for transform in self.preprocess:
            pixels = transform.apply(pixels)
        return pixels

    def prepared_maps(self, maps: Array) -> Array:
        """Apply `preprocess` to class maps (n, h, w), so that they fit the prepared images."""
        for transform in self.preprocess:
            maps = transform.move_maps(maps)
        return maps

    def picture(
        self, path: Path, content: bytes | None = None, most_pixels: int = MOST_PIXELS
    ) -> tuple[Array, tuple[str, ...]]:
        """Return a picture file as prepared bytes (1, c, h, w), and the conversions that the spec does not declare.

        With `content`, the file's bytes, nothing is read, and the path only names it in messages.
        """
        c, h, w = self._source_shape()
        if c not in (1, 3):
            raise refused(f"{path}: pictures have 1 or 3 channels, the network wants {c}", "give .npy arrays")
        decoded = read_picture(path, self.rules_of((c, h, w)), content, most_pixels)
        declared = {"grey", "rgb"} if self.rules.mode is not None else set()
        declared |= {"size"} if self.rules.size is not None else set()
        return self.prepared(decoded.pixels[None]), tuple(key for key in decoded.conversions if key not in declared)

    def rules_of(self, shape: Shape) -> PictureRules:
        """Return the rules by which picture files become images of a shape."""
        if len(shape) != 3:
            return self.rules
        mode: Mode | None = "grey" if shape[0] == 1 else "rgb" if shape[0] == 3 else None
        return replace(self.rules, mode=mode, size=(shape[1], shape[2]))

    def array(self, array: Array, subject: str) -> tuple[Array, tuple[str, ...]]:
        """Return one image or several, in any unambiguous layout, as prepared bytes, and the conversions done.

        DataError if the layout is ambiguous, or if values are no pixels.
        """
        shape = self._source_shape()
        pixels, conversions = as_images(as_pixels(array, subject, self.scale), shape, self.layout, subject)
        if pixels.shape[2:] != shape[1:]:
            conversions = (*conversions, *["size"] * len(pixels))
        return self.prepared(resize(pixels, (shape[1], shape[2]))), conversions

    def images(self, array: Array | Mapping[str, Array]) -> Array:
        """Return prepared bytes for images that have the source's shape, or that are prepared already.

        Their shape tells which they are; DataError, a ValueError too, if it is neither, or if values are no pixels.
        For a network with several inputs, named arrays are joined to one array (n, elements).
        """
        if self.inputs:
            return self.inputs.joined(array)
        if isinstance(array, Mapping):
            raise refused(f"expected an array of images, got a mapping of {', '.join(array)}", "give the array alone")
        if array.ndim == 4:
            other = array.transpose(0, 3, 1, 2)
            for images in (other, array) if self.layout == "nhwc" else (array,):
                if self._is_source(images.shape[1:]):
                    return self.prepared(as_pixels(images, "images", self.scale))
        if array.shape[1:] == self.input:
            return as_pixels(array, "images", self.scale)
        wanted = [self.input, *([self.shape] if self.shape not in (None, self.input) else [])]
        expected = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in wanted)
        turned = array.ndim == 4 and (self._is_source(other.shape[1:]) or other.shape[1:] == self.input)
        help = "channels come first: x.transpose(0, 3, 1, 2)" if turned else "resize them as the training images were"
        raise refused(f"expected images of shape {expected}, got {array.shape}", help)

    def _is_source(self, shape: Shape) -> bool:
        return shape == self.shape if self.shape is not None else self._shape_after(shape) == self.input

    def _shape_after(self, shape: Shape) -> Shape | None:
        """Return the shape of an image after `preprocess`; None if the shape does not fit."""
        try:
            for transform in self.preprocess:
                shape = transform.infer_shape(shape)
        except ShapeError:
            return None
        return shape

    def _source_shape(self) -> tuple[int, int, int]:
        shape = self.shape or (self.input if self._shape_after(self.input) == self.input else None)
        if shape is None or len(shape) != 3:
            raise RunError(
                "the size of the training images is not known",
                "train first: the run keeps it; or write data.source.size",
            )
        return shape
