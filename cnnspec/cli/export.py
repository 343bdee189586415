"""`export RUN --format FORMAT`: writes a trained network for another program, and tests it there before it is kept."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnspec.api import Model
from cnnspec.cli import CLEAN, FAILED, USAGE
from cnnspec.cli.arguments import add_data, add_run, add_threads, count
from cnnspec.cli.opening import opened
from cnnspec.cli.output import complain, note, visible
from cnnspec.cli.outputs import refuse_overwriting
from cnnspec.cli.trained import data_folder, files_of, open_run, own_spec, trained_classes
from cnnspec.diagnostics import DataError, RunError
from cnnspec.export.agreement import agreements
from cnnspec.export.formats import FORMATS, Given, Options
from cnnspec.files import real_path
from cnnspec.kernels.step import Array
from cnnspec.shapes import size
from cnnspec.train.records import read_spec
from cnnspec.train.run import SPEC, Run

METRICS = ("json", "csv")
MOST = 200  # images on which the export is run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_run(parser)
    parser.add_argument(
        "--format",
        choices=(*FORMATS, *METRICS),
        required=True,
        help="the network as a program or a model; json and csv are the metrics of every epoch",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: the run's name; - prints json and csv")
    parser.add_argument("--overwrite", action="store_true", help="write over files that exist")
    parser.add_argument("--raw", action="store_true", help="without the preprocessing: numbers enter")
    parser.add_argument("--opset", type=count, metavar="N", help="of ONNX (default: the lowest that serves)")
    add_data(parser)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, run them on test images if possible, and keep them if the outputs agree; return 4 if not."""
    if arguments.format in METRICS:
        return _metrics(arguments)
    for option in ("raw", "opset"):
        if getattr(arguments, option) and option not in FORMATS[arguments.format].options:
            takers = " or ".join(name for name, format in FORMATS.items() if option in format.options)
            complain(f"--{option} is for --format {takers}, got {arguments.format}", f"leave --{option} out")
            return USAGE
    format = FORMATS[arguments.format]
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    folder, name = _place(arguments, format.suffixes[0], program=".py" in format.suffixes)
    paths = [folder / f"{name}{suffix}" for suffix in format.suffixes]
    _refuse_existing(paths, arguments)
    options = Options(arguments.raw, arguments.opset, _spec_text(arguments.run))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as made:
            format.write(model, Path(made), name, options)
            if not _proven(model, Path(made), name, options, arguments):
                return FAILED
            _move([(Path(made) / path.name, path) for path in paths], arguments.overwrite)
    except OSError as error:
        raise RunError(f"cannot write {paths[0]}: {error.strerror}", "name another with -o") from error
    for path in paths:
        print(visible(f"wrote {path}, {path.stat().st_size:,} bytes"))
    return CLEAN


def _place(arguments: argparse.Namespace, suffix: str, *, program: bool) -> tuple[Path, str]:
    """Return the folder of the files and their common name without suffix."""
    run = real_path(arguments.run)
    inside = run.suffix == ".npz" and own_spec(run) is None  # a checkpoint of a run
    stem = run.parent.name if inside else run.stem if run.suffix == ".npz" else run.name
    if program:
        stem = re.sub(r"\W", "_", stem)  # a name that Python can import
        stem = f"_{stem}" if stem[:1].isdigit() else stem
    path = Path(arguments.output or f"{stem}{suffix}")
    if path.suffix != suffix:
        raise RunError(f"expected a file that ends in {suffix}, got {path}", f"write -o {path.with_suffix(suffix)}")
    if not path.parent.is_dir():
        raise RunError(f"no folder {path.parent}", "make it, or name another with -o")
    return path.parent, path.stem


def _refuse_existing(paths: Sequence[Path], arguments: argparse.Namespace) -> None:
    for path in paths:
        refuse_overwriting(path, files_of(arguments.run))
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is no file that could be replaced", "choose another name with -o")
    existing = [path for path in paths if path.exists()]
    if existing and not arguments.overwrite:
        names = ", ".join(map(str, existing))
        raise RunError(f"{names} exists", "choose another name with -o, or --overwrite it")


def _move(files: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    """Put files in their places, all or, after an OSError, none of those that are new."""
    with ExitStack() as undone:
        for source, target in files:
            if not overwrite:
                target.open("xb").close()  # another program may have made it meanwhile
                undone.callback(target.unlink)
            os.replace(source, target)
        undone.pop_all()


def _spec_text(run: Path) -> str:
    return own_spec(run) or read_spec((run.parent if run.suffix == ".npz" else run) / SPEC)


def _proven(model: Model, folder: Path, name: str, options: Options, arguments: argparse.Namespace) -> bool:
    """Print how far the outputs of export and network differ; return whether they agree, or True if nothing runs it."""
    format = FORMATS[arguments.format]
    runner = format.runner(folder, name, options)
    if runner is None:
        note(f"{format.unrun}, so what was written was not run")
        return True
    images, labels = _images(model, arguments)
    prepared = images if model.pipeline is None or model.spec.inputs else model.pipeline.prepared(images)
    expected: Given = model.outputs_by_name(prepared) if model.output_names else model.outputs(prepared)
    found = agreements(model, expected, runner(_given(model, images, options)), labels)
    for output, agreed in found.items():
        print(visible(f"{arguments.format}: {f'{output}: ' if output else ''}{agreed.text()}"))
    if all(agreed.agrees for agreed in found.values()):
        return True
    complain("what was written does not give what the network gives, so it was not kept", "please report it")
    return False


def _given(model: Model, images: Array, options: Options) -> Given:
    """Return images as the files take them: several inputs by name, and with `raw` as normalised numbers."""
    if model.spec.inputs:
        pixels = model.pipeline.inputs.pixels or frozenset() if model.pipeline is not None else frozenset()
        ends = np.cumsum([size(shape) for shape in model.spec.inputs.values()])
        found = {}
        for (name, shape), part in zip(
            model.spec.inputs.items(), np.split(images, ends[:-1].tolist(), axis=1), strict=True
        ):
            part = part.reshape(len(images), *shape)
            found[name] = np.rint(part * 255).astype(np.uint8) if name in pixels and not options.raw else part
        return found
    if model.pipeline is None or not options.raw:
        return images
    scale, shift = (values.reshape(-1, 1, 1) for values in model.pipeline.affine)
    return np.asarray(model.pipeline.prepared(images) * scale + shift)


def _images(model: Model, arguments: argparse.Namespace) -> tuple[Array, Array | None]:
    """Return test images before `preprocess` with their classes, or random images without classes if there are none."""
    random = np.random.default_rng(0)
    if model.spec.inputs and model.pipeline is None:
        return random.random((16, *model.graph.input_shape), np.float32), None
    if model.pipeline is None or model.spec.data is None:
        return random.standard_normal((16, *model.graph.input_shape)).astype(np.float32), None
    shape = model.pipeline.shape or model.spec.input
    bare = replace(model.spec, data=model.spec.data.but(preprocess=()), input=shape)
    arguments.data = arguments.data or data_folder(arguments.run)
    try:
        data = opened(bare, model.graph, arguments, trained_classes(arguments.run), model.pipeline)
    except DataError as error:
        note(f"no test images, so 16 random ones are taken: {error}")
        if model.spec.inputs:
            return (random.integers(0, 256, (16, *shape)) / 255).astype(np.float32), None
        return random.integers(0, 256, (16, *shape), np.uint8), None
    labels = data.test.labels[:MOST]
    return data.test.pixels[:MOST], labels


def _metrics(arguments: argparse.Namespace) -> int:
    """Write the metrics of every epoch to a file, or to standard output if its name is -."""
    _, rows = Run.existing(arguments.run.parent if arguments.run.suffix == ".npz" else arguments.run).checked()
    text = json.dumps({"epochs": rows}, indent=2) + "\n" if arguments.format == "json" else _table(rows)
    if arguments.output == "-":
        sys.stdout.write(text)
        return CLEAN
    folder, name = _place(arguments, f".{arguments.format}", program=False)
    path = folder / f"{name}.{arguments.format}"
    _refuse_existing([path], arguments)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as made:
            written = Path(made) / path.name
            written.write_text(text, encoding="utf-8", newline="")
            _move([(written, path)], arguments.overwrite)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}", "name another with -o") from error
    print(visible(f"wrote {path}, {len(rows):,} epochs"))
    return CLEAN


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the rows as CSV, with a column for each figure that any epoch has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
