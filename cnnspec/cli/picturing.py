"""`predict --explain` and `--show`: pictures of the images that were asked about, beside the answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnspec.api import Model
from cnnspec.cli.output import note
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.report.attribution import attribution, score_of
from cnnspec.report.sheet import Tile, draw_attribution, draw_sheet
from cnnspec.train.answer import answer, answers, spoken

MOST_TILES, MOST_LINES = 200, 4  # most images in a contact sheet, and lines of an answer
ENDING = ".explained.png"


def add_picturing(parser: argparse.ArgumentParser) -> None:
    """Declare the pictures that can be asked for."""
    parser.add_argument(
        "--explain",
        action="store_true",
        help=f"draw what in each image explains the answer, as NAME{ENDING} beside it, or in a folder: -o DIR/",
    )
    parser.add_argument("--layer", metavar="NAME", help="whose maps Grad-CAM looks at (default: the last ones)")
    parser.add_argument("--class", dest="wanted", metavar="NAME", help="what is explained (default: what is answered)")
    parser.add_argument("--show", type=Path, metavar="FILE", help="draw a contact sheet: the images with their answers")


class Picturing:
    """Draws a picture that explains each answer, and a contact sheet at the end."""

    def __init__(self, arguments: argparse.Namespace, model: Model) -> None:
        self.explains: bool = arguments.explain
        self.layer, self.wanted, self.sheet = arguments.layer, arguments.wanted, arguments.show
        self.model, self.names = model, model.pipeline.classes if model.pipeline else ()
        self.folder: Path | None = None
        if self.explains and arguments.output is not None:
            self.folder = Path(arguments.output)
            if not (self.folder.is_dir() or arguments.output.endswith("/")):
                raise RunError(f"--explain draws a picture of each image, and {self.folder} is no folder", "-o DIR/")
            self.folder.mkdir(parents=True, exist_ok=True)
        if not self.explains and (self.layer or self.wanted):
            raise RunError("--layer and --class say what is explained", "add --explain")
        self.tiles: list[Tile] = []
        self.images, self.drawn = 0, dict[Path, str]()

    def add(self, name: str, image: Array, output: Any) -> None:
        """Draw for a prepared image and its output, or its outputs by name."""
        self.images += 1
        words = self._words(output) if self.explains or self._has_room else ""
        if self.sheet is not None and self._has_room:
            if image.ndim != 3:
                raise RunError("only images can be shown, and the network's input is none", "leave --show out")
            self.tiles.append(Tile(image, (Path(name).name, *words.split("  ")[:MOST_LINES])))
        if self.explains:
            score = score_of(self.model, output, self.model.class_names, self.wanted)
            picture = attribution(self.model, image, score, self.layer)
            path = self._path(name)
            with drawing(path):
                draw_attribution(image, words, picture, path)

    def close(self) -> None:
        """Draw the contact sheet, and print what was drawn."""
        if self.drawn:
            first = next(iter(self.drawn))
            where = str(first) if len(self.drawn) == 1 else f"{len(self.drawn):,} pictures such as {first}"
            note(f"explained in {where}")
        if self.tiles:
            title = f"{self.model.spec.name}: {self.images:,} image{'s' * (self.images != 1)}"
            if len(self.tiles) < self.images:
                title = f"{self.model.spec.name}: the first {len(self.tiles):,} of {self.images:,} images"
            with drawing(self.sheet):
                draw_sheet(self.tiles, self.sheet, title)
            note(f"shown in {self.sheet}")

    @property
    def _has_room(self) -> bool:
        return len(self.tiles) < MOST_TILES

    def _words(self, output: Any) -> str:
        if self.model.output_names:
            return spoken(answers(self.model, output, self.names, 1))
        return spoken(answer(self.model, output, self.names, 1))

    def _path(self, name: str) -> Path:
        """Return a unique path for the picture of an image: `x.npy[3]` becomes x-3."""
        file, _, index = name.removesuffix("]").rpartition("[") if name.endswith("]") else (name, "", "")
        stem = "-".join(filter(None, (Path(file).stem, index)))
        folder = Path(file).parent if self.folder is None else self.folder
        path, number = folder / f"{stem}{ENDING}", 1
        while path in self.drawn:
            number += 1
            path = folder / f"{stem}-{number}{ENDING}"
        self.drawn[path] = name
        return path


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Turn an error in drawing a picture into one with the cure."""
    try:
        yield
    except ImportError as error:
        raise RunError("drawing needs matplotlib", "python -m pip install 'cnnspec[report]'") from error
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}", "name another file or folder") from error
    except ValueError as error:
        raise RunError(f"cannot write {path}: {error}", "name a file that ends with .png, .svg or .pdf") from error
