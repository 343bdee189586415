"""The `data` section of a spec."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from cnnspec.fields import Declaration, Fraction, PositiveInt, Registered


class Limit(Declaration):
    """How much of a split is used."""

    kind: ClassVar[str] = "section"
    limit: Annotated[PositiveInt | None, "use this many images, cut by the seed and stratified"] = None


class Validation(Declaration):
    """What is cut off the training images to choose the best checkpoint by."""

    kind: ClassVar[str] = "section"
    fraction: Annotated[Fraction | None, "share of the training images"] = None
    limit: Annotated[PositiveInt | None, "number of images"] = None


class DataSettings(Declaration):
    """Where the images come from, how they are split, and what happens to them before the first layer."""

    kind: ClassVar[str] = "section"
    source: Annotated[Any, Registered("source"), "a data source by name, or a mapping with type and its options"]
    root: Annotated[str | None, "folder with the source's files"] = None
    train: Annotated[Limit, "the training split"] = Limit()
    validation: Annotated[Validation | None, "the validation split"] = None
    test: Annotated[Limit, "the test split"] = Limit()
    preprocess: Annotated[tuple[Annotated[Any, Registered("transform")], ...], "done to every image"] = ()
    augment: Annotated[tuple[Annotated[Any, Registered("augmentation")], ...], "done to training images"] = ()
