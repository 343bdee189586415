"""`explain CODE` and `explain TYPE`: a page on a finding, or on anything that a spec can name."""

from __future__ import annotations

import argparse
import inspect
import sys

from cnnspec import registry
from cnnspec.cli import USAGE
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.fields import Declaration, Json, options
from cnnspec.layers.base import Layer
from cnnspec.spec.blocks import shipped, source
from cnnspec.spec.check import expected
from cnnspec.spec.suggest import did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("topic", metavar="CODE|TYPE", nargs="?", help="such as conv2d; lists all by default")


def run(arguments: argparse.Namespace) -> int:
    """Print the page, or the list of all topics."""
    types = {name: cls for kind in registry.PACKAGES for name, cls in registry.table(kind).items()}
    topic = arguments.topic
    if topic is None:
        print(_contents())
    elif topic in CATALOGUE:
        print(_code_page(topic))
    elif topic in types:
        pages = [
            _type_page(kind, registry.table(kind)[topic]) for kind in registry.PACKAGES if topic in registry.table(kind)
        ]
        print("\n\n".join(pages))
    elif topic in shipped().values:
        print(f"{topic} (block)\n\n{source(topic)}")
    else:
        help = did_you_mean(topic, [*CATALOGUE, *types, *shipped().values], "topics")
        print(f"cnnspec: error: nothing is known of '{topic}'\nhelp: {help}", file=sys.stderr)
        return USAGE
    return 0


def _contents() -> str:
    lines = [f"{kind}s: {', '.join(registry.table(kind))}" for kind in registry.PACKAGES]
    return "\n".join([*lines, f"blocks: {', '.join(shipped().values)}", f"codes: {', '.join(CATALOGUE)}"])


def _code_page(code: str) -> str:
    about = CATALOGUE[code]
    page = f"{code} ({about.severity})\n\n{about.title} {about.why}"
    if about.bad != about.good:
        page += f"\n\nWrong:\n\n{_indented(about.bad)}\n\nRight:\n\n{_indented(about.good)}"
    return page


def _type_page(kind: str, cls: type[Declaration]) -> str:
    lines = [f"{cls.type_name} ({kind})", "", inspect.getdoc(cls) or ""]
    declared = options(cls)
    if declared:
        lines += ["", "Fields:", ""]
    for option in declared:
        what = option.schema["$ref"].rpartition("/")[2] if "$ref" in option.schema else expected(option.schema)
        default = option.default
        name = getattr(default, "type_name", default)
        state = "required" if option.required else f"default {name}" if name is not None else "optional"
        lines.append(f"  {option.name}: {what} ({state})")
        if option.description:
            lines.append(f"      {option.description}")
    if issubclass(cls, Layer):
        own = cls.infer_shape is not Layer.infer_shape
        lines += ["", f"Shape: {inspect.getdoc(cls.infer_shape) if own else 'that of the input.'}"]
        if cls.params is not Layer.params:
            lines.append(f"Parameters: {inspect.getdoc(cls.params)}")
        if cls.cost is not Layer.cost:
            lines.append(f"Multiply-accumulates: {inspect.getdoc(cls.cost)}")
    return "\n".join([*lines, "", f"Example: {_example(cls)}"])


def _example(cls: type[Declaration]) -> str:
    """The shortest way to write it: a bare name, or what is required and a value that fits."""
    required = [f"{option.name}: {_value(option.schema)}" for option in options(cls) if option.required]
    return f"{{type: {cls.type_name}, {', '.join(required)}}}" if required else cls.type_name


def _value(schema: Json) -> str:
    if "anyOf" in schema:
        return _value(schema["anyOf"][0])
    if "enum" in schema:
        return str(schema["enum"][0])
    if schema["type"] == "array":
        return f"[{', '.join([_value(schema['items'])] * schema.get('minItems', 1))}]"
    if schema["type"] == "integer":
        return str(max(schema.get("minimum", 0), 3))
    return {"number": "0.5", "boolean": "true", "string": "name", "object": "{}"}[schema["type"]]


def _indented(text: str) -> str:
    # A byte that is no UTF-8 stands in the examples as a surrogate.
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "\n".join(f"    {line}" for line in (shown.rstrip("\n") or "(nothing)").split("\n"))
