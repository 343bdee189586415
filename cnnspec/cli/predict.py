"""`predict RUN PATHS`: the answers of a trained network for pictures and arrays."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cnnspec.api import Model
from cnnspec.cli import CLEAN, FAILED
from cnnspec.cli.arguments import add_run, add_threads, count
from cnnspec.cli.output import complain, console, note
from cnnspec.cli.outputs import refuse_overwriting
from cnnspec.cli.picturing import Picturing, add_picturing
from cnnspec.cli.trained import files_of, open_run
from cnnspec.cli.views import add_views, views_of
from cnnspec.data.asked import Asked, expanded, read_asked
from cnnspec.data.decode import tell
from cnnspec.data.views import Views
from cnnspec.diagnostics import DataError, RunError, loggable
from cnnspec.files import rewriting
from cnnspec.kernels.step import Array
from cnnspec.train.answer import answer, answers, class_map, spoken
from cnnspec.train.views import mean_outputs, require_views

PICTURES = frozenset({".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
MOST_LETTERS = 1 << 15  # characters of a path or pattern on standard input
SUFFIXES = {"": "table", ".txt": "table", ".csv": "csv", ".jsonl": "jsonl"}  # formats of text by the end of a name
Output = Array | Mapping[str, Array]  # the output for one image; several outputs are named
Write = Callable[[str, Any], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_run(parser)
    add_threads(parser)
    add_views(parser)
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="pictures, .npy, .npz or .csv files, folders, patterns such as 'pics/*.png', or - to read paths",
    )
    parser.add_argument("--top", type=count, default=3, metavar="K", help="how many classes to print (default: 3)")
    parser.add_argument(
        "--format", choices=("table", "csv", "jsonl"), help="default: that of the output's name, or table"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="jsonl", help="the same as --format jsonl")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write there; a .npy file gets the outputs as numbers, an .npz file those of several by name, a picture "
        "or a folder (DIR/) what is a picture",
    )
    add_picturing(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the answer for every image; return 4 if one could not be read, after all others are done."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    if model.pipeline is None:
        raise RunError(f"{arguments.run}: its spec has no data section", "add one, which says how images enter")
    paths, failures, conversions = [], 0, list[str]()
    for found in expanded(_words(arguments.paths)):
        if isinstance(found, DataError):
            complain(str(found), found.help)
            failures += 1
        else:
            paths.append(found)
    if not (paths or failures):
        raise RunError("expected paths on standard input, got none", "write a path a line, or name files")
    read = [*paths, *files_of(arguments.run)]
    for output in (arguments.output, arguments.show):
        refuse_overwriting(output and Path(output), read)
    views = views_of(model, arguments)
    if views is not None:
        require_views(model)
    picturing = Picturing(arguments, model)
    with _output(arguments, model, read) as write, _progress(len(paths), arguments) as advance:
        for asked in _batches(
            _with_progress(read_asked(paths, model.pipeline, model.inference_batch, model.threads), advance), model
        ):
            if asked.error is not None:
                complain(str(asked.error), asked.error.help)
                failures += 1
            elif asked.images is not None:
                conversions += asked.conversions
                outputs = _outputs(model, asked.images, views)
                for name, image, output in zip(asked.names, asked.images, outputs, strict=True):
                    write(name, output)
                    picturing.add(name, image, output)
    picturing.close()
    shape = model.pipeline.shape or model.pipeline.input
    for text in tell(conversions, model.pipeline.rules_of(shape)):
        note(text)
    if views is not None:
        note(f"each answer is the mean of {views}")
    if failures:
        noun = "path" if failures == 1 else "paths"
        complain(f"{failures:,} {noun} could not be read; all others were")
    return FAILED if failures else CLEAN


def _outputs(model: Model, images: Array, views: Views | None) -> Iterator[Output]:
    if views is not None:
        yield from mean_outputs(model, images, views)
        return
    if not model.output_names:
        yield from model.outputs(images)
        return
    found = model.outputs_by_name(images)
    for number in range(len(images)):
        yield {name: outputs[number] for name, outputs in found.items()}


def _words(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            while line := sys.stdin.readline(MOST_LETTERS + 1):
                if len(line) > MOST_LETTERS:
                    raise DataError(
                        f"expected at most {MOST_LETTERS:,} letters a line of standard input", "write a path a line"
                    )
                if line.strip():
                    yield line.rstrip("\r\n")
        else:
            yield word


def _with_progress(found: Iterable[Asked], advance: Callable[[], None]) -> Iterator[Asked]:
    for asked in found:
        advance()
        yield asked


def _batches(found: Iterable[Asked], model: Model) -> Iterator[Asked]:
    """Join images of several files to batches as large as the network computes at once; errors keep their place."""
    waiting: list[Asked] = []
    images = 0

    def join_waiting() -> Iterator[Asked]:
        arrays = [asked.images for asked in waiting if asked.images is not None]
        if arrays:
            names = [name for asked in waiting for name in asked.names]
            yield Asked(names, np.concatenate(arrays), tuple(key for asked in waiting for key in asked.conversions))
        waiting.clear()

    for asked in found:
        if asked.error is not None:
            yield from join_waiting()
            yield asked
            images = 0
            continue
        waiting.append(asked)
        images += len(asked.names)
        if images >= model.inference_batch:
            yield from join_waiting()
            images = 0
    yield from join_waiting()


@contextmanager
def _progress(total: int, arguments: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """Show a progress bar of files on a terminal, unless the answers go there; yield the function that advances it."""
    screen = console(stderr=True)
    if not screen.is_terminal or (arguments.output is None and sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=screen, transient=True) as bar:
        task = bar.add_task("predict", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _output(arguments: argparse.Namespace, model: Model, read: Sequence[Path]) -> Iterator[Write]:
    """Yield the function that takes the name and output of each image, and finish the file at the end."""
    if arguments.output is None or arguments.explain:
        yield _text(sys.stdout, arguments.format or "table", arguments.top, model)
        return
    path = Path(arguments.output)
    suffix = path.suffix.lower()
    try:
        if model.output_names and (suffix in (".npy", ".npz") or _for_pictures(path, arguments.output)):
            if suffix != ".npz":
                raise RunError(f"the network has several outputs, which {path} cannot hold", "write -o outputs.npz")
            several: list[Mapping[str, Array]] = []
            yield lambda name, output: several.append(output)
            arrays = {name: np.stack([of[name] for of in several]) for name in model.output_names if several}
            with rewriting(path) as file:  # given a path, NumPy would add another end to .NPZ
                np.savez(file, allow_pickle=False, **arrays)
        elif suffix == ".npy":
            outputs: list[Array] = []
            yield lambda name, output: outputs.append(output)
            with rewriting(path) as file:  # as above
                np.save(file, np.stack(outputs) if outputs else np.empty((0, *model.graph.output.shape), np.float32))
        elif _for_pictures(path, arguments.output) and suffix not in PICTURES:
            path.mkdir(parents=True, exist_ok=True)
            for image in read:
                if image.suffix == ".png":
                    refuse_overwriting(path / image.name, [image])
            yield _Folder(path, model).write
        elif suffix in PICTURES:
            yield _Picture(path, model).write
        else:
            format = arguments.format or SUFFIXES.get(suffix)
            if format is None:
                raise RunError(
                    f"{path}: no form of answers ends in '{path.suffix}'",
                    "name a file that ends in .csv, .jsonl, .txt, .npy or as a picture does, or say --format",
                )
            with rewriting(path) as file:
                text = TextIOWrapper(file, encoding="utf-8", newline="")
                try:
                    yield _text(text, format, arguments.top, model)
                finally:
                    text.detach()  # it would close the file
    except OSError as error:
        raise RunError(f"cannot write {error.filename or path}: {error.strerror}", "name another output") from error


def _for_pictures(path: Path, written: str) -> bool:
    return path.is_dir() or written.endswith("/") or path.suffix.lower() in PICTURES


def _text(file: TextIO, format: str, top: int, model: Model) -> Write:
    """Return a function that writes one line for each image."""
    names = model.pipeline.classes if model.pipeline else ()
    table: list[Any] = []  # the writer of rows, made when the columns are known

    def write(name: str, output: Output) -> None:
        several = isinstance(output, Mapping)
        found = answers(model, output, names, top) if isinstance(output, Mapping) else answer(model, output, names, top)
        if format == "jsonl":
            print(json.dumps({"image": name, **found}), file=file)
        elif format == "table":
            print(f"{loggable(name)}: {loggable(spoken(found))}", file=file)
        else:
            parts = {f"{part}.": part_answer for part, part_answer in found.items()} if several else {"": found}
            columns = {
                f"{part}{key}": value
                for part, part_answer in parts.items()
                for key, value in _columns(part_answer).items()
            }
            row = {"image": name, **columns}
            if not table:
                table.append(csv.DictWriter(file, list(row), lineterminator="\n"))
                table[0].writeheader()
            table[0].writerow(row)

    return write


def _columns(found: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as a row of a table, by column name."""
    if "classes" in found:
        row: dict[str, Any] = {}
        for number, item in enumerate(found["classes"], 1):
            suffix = f"_{number}" if number > 1 else ""
            row |= {f"class{suffix}": item["class"], f"score{suffix}": item["score"]}
        return row
    if "labels" in found:
        return {f"{key}s": ";".join(str(item[key]) for item in found["labels"]) for key in ("label", "score")}
    if "values" in found:
        return dict(found["values"])
    if "areas" in found:
        return {"areas": ";".join(f"{name}={portion:.6g}" for name, portion in found["areas"].items())}
    return {"shape": "x".join(map(str, found["shape"])), "mean": found["mean"]}


class _Folder:
    """Writes a picture of each output into a folder, named after its image."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder, self.model, self.taken = folder, model, set[str]()

    def write(self, name: str, output: Array) -> None:
        file, _, index = name.removesuffix("]").rpartition("[") if name.endswith("]") else (name, "", "")
        stem = "-".join(filter(None, (Path(file).stem, index)))
        unique, number = stem, 1
        while unique in self.taken:
            number += 1
            unique = f"{stem}-{number}"
        self.taken.add(unique)
        _save(self.folder / f"{unique}.png", output, self.model)


class _Picture:
    """Writes the picture of a single output to a file."""

    def __init__(self, path: Path, model: Model) -> None:
        self.path, self.model, self.written = path, model, False

    def write(self, name: str, output: Array) -> None:
        if self.written:
            raise RunError(f"{self.path} holds one picture, and there are several images", "name a folder: -o DIR/")
        self.written = True
        _save(self.path, output, self.model)


def _save(path: Path, output: Array, model: Model) -> None:
    try:
        from PIL import Image
    except ImportError as error:
        raise RunError("writing pictures needs Pillow", "pip install 'cnnspec[report]'") from error
    made = Image.fromarray(_pixels(output, model))
    if model.learned.kind == "mask":  # the number of a class in each pixel, in colours that can be told apart
        made.putpalette([level for number in range(256) for level in _colour(number)])
    with rewriting(path) as file:
        made.save(file, Image.registered_extensions()[path.suffix.lower()])


def _colour(number: int) -> tuple[int, int, int]:
    """Return black for class 0, else the colour of the class number in the Pascal VOC palette."""
    red = green = blue = 0
    for bit in range(8):
        red |= (number & 1) << (7 - bit)
        green |= (number >> 1 & 1) << (7 - bit)
        blue |= (number >> 2 & 1) << (7 - bit)
        number >>= 3
    return red, green, blue


def _pixels(output: Array, model: Model) -> Array:
    """Return an output as bytes (h, w) of class numbers, or (h, w) or (h, w, 3) of pixels without normalisation."""
    if model.learned.kind == "mask":
        return class_map(model, output)
    if output.ndim != 3 or len(output) not in (1, 3) or model.pixels is None:
        raise RunError(f"an output of {output.shape} is no picture", "write the numbers: -o outputs.npy")
    scale, shift = (values.reshape(-1, 1, 1) for values in _for_channels(model.pixels, len(output)))
    pixels = np.clip(np.rint((output - shift) / scale), 0, 255).astype(np.uint8)
    return np.asarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _for_channels(values: Sequence[Array], channels: int) -> list[Array]:
    return [value if len(value) == channels else np.full(channels, value.mean()) for value in values]
