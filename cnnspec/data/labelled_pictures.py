"""Picture files with labels that are more than one class: what their sources have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cnnspec.data.decode import WHITE, PictureRules, read_picture, tell
from cnnspec.data.own import split_off
from cnnspec.data.source import Found, Images, Source
from cnnspec.diagnostics import DataError
from cnnspec.fields import Colour, Fraction, Pair
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape, text

Entry = tuple[Path, Any]  # a picture, and its label as the source found it


class LabelledPictures(Source):
    """Base of those: each split has a place under the root; without one for testing a share is held out."""

    train: Annotated[str, "place of the training pictures, under the root"]
    validation: Annotated[str | None, "the same for validation"] = None
    test: Annotated[str | None, "the same for testing; without it a share of the others is held out"] = None
    held_out: Annotated[Fraction, "that share, always the same"] = 0.2
    size: Annotated[Pair | None, "height and width that pictures are brought to"] = None
    mode: Annotated[Literal["grey", "rgb"] | None, "what pictures are converted to"] = None
    background: Annotated[Colour, "0 to 255 or [red, green, blue]: what lies behind transparent pictures"] = WHITE

    @property
    def image_shape(self) -> Shape | None:
        """Known where size and mode are."""
        if self.size is None or self.mode is None:
            return None
        return (1 if self.mode == "grey" else 3, *self.size)

    @property
    def picture_rules(self) -> PictureRules:
        """What the spec says."""
        return PictureRules(self.mode, self.size, self.background)

    def entries(self, place: Path) -> list[Entry]:
        """The pictures of one split with their labels."""
        raise NotImplementedError

    def labelled(self, found: Mapping[str, list[Entry]]) -> tuple[tuple[str, ...], Mapping[str, Array]]:
        """The names of classes or values, and the labels of each split as an array."""
        raise NotImplementedError

    def read(self, root: Path | None, download: bool) -> Found:
        """Read all pictures into memory."""
        import hashlib

        named = {"train": self.train, "validation": self.validation, "test": self.test}
        places = {split: (root or Path()) / Path(name) for split, name in named.items() if name is not None}
        entries: dict[str, list[Entry]] = {}
        for split, place in places.items():
            if not place.exists():
                raise DataError(
                    f"{place}: no such file or folder", "name the folder above it with --data DIR or data.root"
                )
            entries[split] = self.entries(place)
            if not entries[split]:
                raise DataError(f"{place}: expected pictures, got none", "give at least one picture with its label")
        names, labels = self.labelled(entries)
        splits, checksums, notes = {}, {}, list[str]()
        for split, found in entries.items():
            digest = hashlib.sha256()
            pixels, conversions = self._pixels(places[split], [path for path, _ in found], digest.update)
            digest.update(np.ascontiguousarray(labels[split]).tobytes())
            checksums[places[split].name] = digest.hexdigest()
            splits[split] = Images(pixels, labels[split])
            notes += [f"{places[split]}: {note}" for note in tell(conversions, self.picture_rules)]
        shown = {split: place.name for split, place in places.items()}
        if "test" not in splits:
            splits |= split_off(splits["train"], self.held_out, places["train"])
            shown["test"] = f"held out of {shown['train']}"
        kind = self.target_kind
        assert kind is not None
        return Found(splits, checksums, names, tuple(notes), (), shown, kind)

    def _pixels(self, place: Path, paths: Sequence[Path], digest: Any) -> tuple[Array, list[str]]:
        arrays, conversions = [], list[str]()
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be read: {error.strerror}", "give yourself the right to read it"
                ) from error
            digest(f"{path.name}\0".encode() + content)
            decoded = read_picture(path, self.picture_rules, content)
            conversions += decoded.conversions
            arrays.append(decoded.pixels)
            if decoded.pixels.shape != arrays[0].shape:
                raise DataError(
                    f"{path}: expected pictures of one size and mode, {text(arrays[0].shape)} as {paths[0]}, "
                    f"got {text(decoded.pixels.shape)}",
                    "set size: [height, width] and mode: rgb or grey in data.source",
                )
        return np.stack(arrays), conversions
