"""Classes are matched by name: their order, and labels of one data set in the order that a network was trained with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnspec.data.source import Found, Images
from cnnspec.diagnostics import DataError
from cnnspec.listing import first_and_more

NAMED = 5  # classes that a message names before it counts the others


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in the order of their labels: numerically if all are whole numbers, else alphabetically."""
    distinct = set(names)
    try:
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(distinct))


def by_name(found: Found, trained: Sequence[str] = ()) -> Found:
    """Return the images with labels renumbered to a network's classes `trained`, or to the source's own if it has none.

    Images of other classes are left out, with a note; another note names classes without an image in a split. DataError
    if a split has no image of any class.
    """
    if found.kind != "class":
        return _check_same(found, trained)
    all_names = (*found.class_names, *found.strangers)
    wanted = tuple(trained) or found.class_names
    whose = "the network" if trained else found.places.get("train", "the training images")
    positions = {name: position for position, name in enumerate(wanted)}
    numbers = {name: number for number, name in enumerate(all_names)}
    targets = np.array([positions.get(name, -1) for name in all_names], np.int64)
    splits, notes = {}, list(found.notes)
    for split, images in found.splits.items():
        where = found.places.get(split, split)
        counts = np.bincount(images.labels, minlength=len(all_names))
        unknown = {name: int(counts[i]) for i, name in enumerate(all_names) if targets[i] < 0 and counts[i]}
        absent = [name for name in wanted if name not in numbers or not counts[numbers[name]]]
        notes += _class_notes(where, whose, unknown, absent)
        splits[split] = _relabelled(images, targets) if all_names != wanted else images
        if not len(splits[split].labels):
            raise DataError(
                f"{where}: expected images of the classes {first_and_more(wanted, NAMED)}, "
                f"got {first_and_more(all_names, NAMED) or 'none'}",
                "name the folders or labels as the classes of the network",
            )
    return replace(found, splits=splits, class_names=wanted, strangers=(), notes=tuple(notes))


def _check_same(found: Found, trained: Sequence[str]) -> Found:
    """Return `found` unchanged; DataError if its columns or class numbers mean something else to the network."""
    if trained and tuple(trained) != found.class_names:
        raise DataError(
            f"data: expected {first_and_more(trained, NAMED)}, which the network was trained on, "
            f"got {first_and_more(found.class_names, NAMED)}",
            "give data with the same classes or values in the same order",
        )
    return found


def _relabelled(images: Images, targets: np.typing.NDArray[np.int64]) -> Images:
    labels = targets[images.labels]
    is_kept = labels >= 0
    return (
        Images(images.pixels, labels)
        if is_kept.all()
        else Images(images.pixels, labels).chosen(np.flatnonzero(is_kept))
    )


def _class_notes(where: str, whose: str, unknown: Mapping[str, int], absent: Sequence[str]) -> Iterator[str]:
    for name, count in list(unknown.items())[:NAMED]:
        near = _nearest(name, absent)
        meant = f"; is it {near}?" if near else ""
        images = "1 image of it is" if count == 1 else f"{count:,} images of it are"
        yield f"{where}: {name} is no class of {whose}: {images} left out{meant}"
    if len(unknown) > NAMED:
        rest = sum(list(unknown.values())[NAMED:])
        yield f"{where}: {len(unknown) - NAMED} more classes are none of {whose}: {rest:,} images are left out"
    if absent:
        yield f"{where}: no image of {first_and_more(absent, NAMED)}"


def _nearest(name: str, absent: Sequence[str]) -> str | None:
    folded = {other.casefold(): other for other in absent}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None
