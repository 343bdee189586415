"""Preprocessing and augmentation that harm the images to which they are applied."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph
from cnnspec.lints.warning import warning
from cnnspec.spec.model import Spec


def scales(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of a mean or deviation in 0..255 where pixels are in 0..1."""
    for i, transform in enumerate(spec.data.preprocess if spec.data else ()):
        if transform.type_name == "scale":
            return
        if transform.type_name == "normalize" and max(*transform.mean, *transform.std) > 1:
            place = spec.sections.get("data", spec.place)
            message = "normalize: mean and std are those of bytes, but pixels enter as 0..1"
            help = "divide both by 255, or put {type: scale, maximum: 255} before it"
            yield warning("normalize-scale", message, place.of("preprocess"), place, help, f"data.preprocess[{i}]")


def augmentations(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of mirrored digits, and of augmentations that leave little of an image."""
    if spec.data is None:
        return
    place, shape = spec.sections.get("data", spec.place), spec.data.image_shape()
    if spec.data.tta is not None and spec.data.tta.flip and spec.data.source.chiral:
        message = "tta: a mirrored digit is another one, or none"
        yield warning("flip-of-digits", message, place.of("tta"), place, "use shifts", "data.tta")
    for i, augmentation in enumerate(spec.data.augment):
        kind, path = augmentation.type_name, f"data.augment[{i}]"
        if augmentation.mirrors and spec.data.source.chiral:
            message = f"{kind}: a mirrored digit is another one, or none"
            yield warning("flip-of-digits", message, place.of("augment"), place, "use shift or rotate", path)
        if augmentation.erases is None or shape is None:
            continue
        name, part = augmentation.erases
        pixels, most = getattr(augmentation, name), min(shape[1:]) // part
        if pixels >= most:
            message = f"{kind}: {name} {pixels} leaves little of images of {shape[1]}x{shape[2]}"
            help = f"use {name} below {most}"
            yield warning("augmentation-too-strong", message, place.of("augment"), place, help, path)
