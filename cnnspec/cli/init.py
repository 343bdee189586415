"""`init TEMPLATE`: a commented spec to start from."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from cnnspec.cli import FAILED
from cnnspec.cli.output import complain, visible

TEMPLATES = ("lenet", "mlp", "resnet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes from the command line."""
    parser.add_argument("template", choices=TEMPLATES, help="which network")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: TEMPLATE.yaml; - prints it")


def run(arguments: argparse.Namespace) -> int:
    """Write the template to a file; one that exists is not overwritten."""
    text = template(arguments.template)
    path = arguments.output or Path(f"{arguments.template}.yaml")
    if str(path) == "-":
        print(text, end="")
        return 0
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        complain(f"cannot write {path}: {error.strerror}", "choose another with -o")
        return FAILED
    print(visible(f"wrote {path}; try: cnnspec train {path}"))
    return 0


def template(name: str) -> str:
    """Return the text of a template."""
    return files("cnnspec.cli").joinpath("templates", f"{name}.yaml").read_text(encoding="utf-8")
