"""`init NAME` and `init --from-data DIR`: a commented spec to start from."""

from __future__ import annotations

import argparse
import os
from importlib.resources import files
from pathlib import Path

from cnnspec.cli import FAILED, USAGE
from cnnspec.cli.output import complain, note, visible
from cnnspec.data.survey import Survey, survey
from cnnspec.files import real_path
from cnnspec.listing import first_names
from cnnspec.spec.suggest import did_you_mean
from cnnspec.zoo import zoo, zoo_text

TEMPLATES = ("lenet", "mlp", "resnet")
FROM_DATA = """\
cnnspec: 1                       # version of the language
# {about}
input: [{channels}, {side}, {side}]              # channels, height, width

layers:                          # each layer reads the one above
{layers}  - global_avg_pool2d
  - {{type: dropout, rate: 0.2}}
  - {{id: logits, type: dense, units: {classes}}}   # one output a class: {names}

data:
  source: {{type: image_folder{train}, size: [{side}, {side}], mode: {mode}{on_error}}}
  root: {root}
{validation}  # augment: [flip, {{type: shift, pixels: 2}}]   # where a mirrored or moved picture is one of its class

train:
  epochs: 30
  batch_size: {batch}
  loss: {loss}
  optimizer: {{type: adam, learning_rate: 0.002}}
  schedule: {{type: cosine, warmup: 1}}
"""
STAGE = """\
  - {{type: conv2d, filters: {filters}, kernel_size: 3, padding: same, bias: none}}
  - batch_norm
  - relu
"""
POOL = "  - {type: max_pool2d, kernel_size: 2}\n"
MOST_CLASSES = 12  # classes listed in the comment of the spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a template or a known network; without one, a list")
    parser.add_argument(
        "--from-data", type=Path, metavar="DIR", help="write a spec for a folder or a table of pictures instead"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: NAME.yaml; - prints it")


def run(arguments: argparse.Namespace) -> int:
    """Write a spec to a file; an existing file is not overwritten."""
    if arguments.from_data is not None:
        if arguments.name is not None:
            complain("a spec is of a template or of data, got both", "leave NAME out")
            return USAGE
        return _write(arguments.output or Path(f"{_name(arguments.from_data)}.yaml"), arguments.from_data)
    if arguments.name is None:
        print("templates, with comments: " + ", ".join(TEMPLATES))
        print("known networks: " + ", ".join(name for name in zoo() if name not in TEMPLATES))
        print("of your own pictures: cnnspec init --from-data DIR")
        return 0
    names = [*TEMPLATES, *zoo()]
    if arguments.name not in names:
        complain(f"no template or network '{arguments.name}'", did_you_mean(arguments.name, names, "templates"))
        return USAGE
    return _write(arguments.output or Path(f"{arguments.name}.yaml"), arguments.name)


def _write(path: Path, source: str | Path) -> int:
    if isinstance(source, Path):
        text = from_data(source, Path() if str(path) == "-" else path.parent)
    else:
        text = template(source) if source in TEMPLATES else zoo_text(source)
    if str(path) == "-":
        print(text, end="")
        return 0
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink()
                raise
    except OSError as error:
        complain(f"cannot write {path}: {error.strerror}", "choose another with -o")
        return FAILED
    print(visible(f"wrote {path}; try: cnnspec train {path}"))
    return 0


def template(name: str) -> str:
    """Return the text of a template."""
    return files("cnnspec.cli").joinpath("templates", f"{name}.yaml").read_text(encoding="utf-8")


def from_data(root: Path, folder: Path) -> str:
    """Return a spec for a folder or a table of pictures, to be written into `folder`; DataError without classes."""
    files = survey(root)
    if files.broken:
        note(f"{files.broken} of the pictures that were looked at cannot be read: the spec skips such ones")
    widths = [filters for filters in (16, 32, 64, 128) if files.side >= 4 * filters // 16]
    layers = POOL.join(STAGE.format(filters=filters) for filters in widths)
    pictures = sum(files.counts.values())
    two = len(files.counts) == 2
    return FROM_DATA.format(
        about=_summary(files),
        channels=1 if files.grey else 3,
        side=files.side,
        layers=layers,
        classes=1 if two else len(files.counts),
        names=_names(files) if not two else f"the second of {_names(files)}",
        mode="grey" if files.grey else "rgb",
        on_error=", on_error: skip" if files.broken else "",
        train="" if root.is_dir() else f", train: {_quoted(root.name)}",
        root=_relative(root if root.is_dir() else root.parent, folder),
        validation="" if "validation" in files.splits else "  validation: {fraction: 0.15}     # set apart, to watch\n",
        batch=min(64, max(8, pictures // 20)),
        loss="binary_cross_entropy" if two else "softmax_cross_entropy",
    )


def _summary(found: Survey) -> str:
    (low, narrow), (high, wide) = found.sizes
    sizes = f"{low}x{narrow}" if (low, narrow) == (high, wide) else f"{low}x{narrow} to {high}x{wide}"
    splits = "" if len(found.splits) == 1 else f", in {', '.join(found.splits)}"
    return f"{sum(found.counts.values()):,} pictures of {len(found.counts)} classes, {sizes}{splits}"


def _names(found: Survey) -> str:
    shown = first_names(list(found.counts), MOST_CLASSES)
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def _relative(root: Path, folder: Path) -> str:
    """Return the path of the pictures relative to the spec's folder."""
    try:
        path = Path(os.path.relpath(real_path(root), real_path(folder))).as_posix()
    except ValueError:  # on another drive of Windows
        path = str(real_path(root))
    return _quoted(path)


def _quoted(text: str) -> str:
    """Return a text as YAML writes it in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _name(root: Path) -> str:
    """Return a name for the spec: that of the folder, in characters that a spec's name may have."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in real_path(root).name)
    return name.strip("-") or "pictures"
