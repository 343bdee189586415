"""The `data` section of a spec."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from cnnspec.data.views import Views
from cnnspec.fields import Declaration, Fraction, PositiveInt, Registered
from cnnspec.shapes import Shape
from cnnspec.target import Target


class Limit(Declaration):
    """How much of a split is used."""

    kind: ClassVar[str] = "section"
    limit: Annotated[PositiveInt | None, "use this many images, cut by the seed and stratified"] = None


class Training(Limit):
    """How an epoch samples the training images."""

    sampling: Annotated[
        Literal["uniform", "balanced"], "every image once, or as many of each class, drawn with replacement"
    ] = "uniform"


class Validation(Declaration):
    """How many of the training images are set apart to choose the best checkpoint."""

    kind: ClassVar[str] = "section"
    fraction: Annotated[Fraction | None, "share of the training images"] = None
    limit: Annotated[PositiveInt | None, "number of images"] = None
    folds: Annotated[PositiveInt | None, "the training images are cut in as many parts, of which one validates"] = None
    fold: Annotated[PositiveInt, "which of the folds validates, from 1"] = 1


class DataSettings(Declaration):
    """Where the images come from, how they are split, and what happens to them before the first layer."""

    kind: ClassVar[str] = "section"
    source: Annotated[Any, Registered("source"), "a data source by name, or a mapping with type and its options"]
    root: Annotated[str | None, "folder with the source's files, relative to the spec's file"] = None
    train: Annotated[Training, "the training split"] = Training()
    validation: Annotated[Validation | None, "the validation split"] = None
    test: Annotated[Limit, "the test split"] = Limit()
    preprocess: Annotated[tuple[Annotated[Any, Registered("transform")], ...], "done to every image"] = ()
    cache: Annotated[
        bool | None, "keep decoded images in files for the next start; by default only where they take much memory"
    ] = None
    augment: Annotated[tuple[Annotated[Any, Registered("augmentation")], ...], "done to training images"] = ()
    tta: Annotated[Views | None, "views of each image whose answers eval and predict average"] = None

    def image_shape(self) -> Shape | None:
        """The shape of an image after the transforms, without reading a file; ShapeError if one does not fit.

        None if the shape is only found in the files.
        """
        shape: Shape | None = self.source.image_shape
        return None if shape is None else self.transformed(shape)

    def transformed(self, shape: Shape) -> Shape:
        """Return the shape of an image after the transforms; ShapeError if one does not fit."""
        for transform in self.preprocess:
            shape = transform.infer_shape(shape)
        return shape

    @property
    def target(self) -> Target:
        """The kind of target, its classes and parts, as far as the spec and the source tell before a file is read."""
        return Target(self.source.target_kind or "class", self.class_names, parts=self.source.targets)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of their labels; empty if they are only found in the files."""
        names: tuple[str, ...] = self.source.class_names
        return names

    @property
    def class_count(self) -> int | None:
        """The number of classes of the source; None if it is only found in the files."""
        return len(self.class_names) or None
