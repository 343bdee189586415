"""Pages on findings, on everything that a spec can name, and of the guide: `explain` prints them, editors show them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Collection, Iterable
from functools import cache
from importlib.resources import files

from cnnspec import registry
from cnnspec.data.settings import DataSettings, Validation
from cnnspec.data.views import Views
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.examples import example
from cnnspec.fields import Declaration, options
from cnnspec.keys import key_page, keys
from cnnspec.layers.base import Layer
from cnnspec.optim.settings import Checkpoints, Clip, EarlyStopping, Init, Lookahead, RateFactors, Swa, TrainSettings
from cnnspec.spec.blocks import shipped, source
from cnnspec.spec.check import expected
from cnnspec.spec.layers import MERGES, SHORTCUTS
from cnnspec.spec.model import ParallelEntry, ResidualEntry
from cnnspec.spec.suggest import plural
from cnnspec.spec.sweep import Halving, Sweep
from cnnspec.spec.words import ADVICE, advice, elsewhere, meant

SECTIONS: dict[str, type[Declaration]] = {
    "train": TrainSettings,
    "early_stopping": EarlyStopping,
    "checkpoint": Checkpoints,
    "clip": Clip,
    "lookahead": Lookahead,
    "init": Init,
    "rate_factors": RateFactors,
    "swa": Swa,
    "data": DataSettings,
    "validation": Validation,
    "tta": Views,
    "sweep": Sweep,
    "halving": Halving,
}
GUIDE = {  # the pages of the guide, in reading order
    "To begin": ["pictures", "language", "python", "network"],
    "Training": ["training", "data", "targets", "sweeps", "machines"],
    "A trained network": ["reports", "serve", "export", "convert"],
    "Specs in a project": ["ci", "editors", "plugins"],
    "To look up": ["reference", "words", "glossary"],
    "How it is made": ["architecture", "performance", "decisions", "changelog"],
}
NESTED = {
    "residual": f"""{inspect.getdoc(ResidualEntry)}

Source: He et al., "Deep residual learning for image recognition" (2016).

Fields:

  body: a list of layers (required)
      what is added to the input
  shortcut: one of {", ".join(SHORTCUTS)} (default auto)
      how the input gets there; none leaves the body as it is, if_same too where the shape changes
  trainable: true, false, or {{from: epoch, until: epoch}} (default true)
      false keeps the parameters inside as they start
  rate_factor: a number above 0 (default 1)
      by what the learning rate is multiplied for all that is inside

Shape: that of the body.

Example: - {{type: residual, body: [{{type: conv2d, filters: 8, kernel_size: 3, padding: same}}, relu]}}""",
    "parallel": f"""{inspect.getdoc(ParallelEntry)}

Fields:

  branches: a list of two or more lists of layers (required)
      each reads the same input
  merge: one of {", ".join(MERGES)} (default concat)
      how their outputs become one
  trainable: true, false, or {{from: epoch, until: epoch}} (default true)
      false keeps the parameters inside as they start
  rate_factor: a number above 0 (default 1)
      by what the learning rate is multiplied for all that is inside

Shape: with concat the channels of all branches, with add and multiply that of every branch.

Example: - {{type: parallel, branches: [[{{type: conv2d, filters: 8, kernel_size: 1}}], []], merge: concat}}""",
    "split": """The channels of a map in several parts: ID.1 is the first of them, ID.2 the second, and so on.

The layer below reads the first part, as a layer does that says from: ID.

Fields, one of them:

  parts: an integer at least 2
      how many equal parts
  sizes: a list of integers at least 1
      the channels of each part, which add up to those of the map

Shape: each part has the height and width of the map.

Example: - {id: halves, type: split, parts: 2}
         - {type: conv2d, filters: 8, kernel_size: 3, padding: same}
         - {type: concat, from: [conv2d_1, halves.2]}""",
}


def page(topic: str) -> str | None:
    """Return the page on a topic: a code, a type, a key, a section or page of the guide, another framework's word."""
    types, guide = _declared(), sections()
    parts = [guide[topic]] if topic in guide else []
    parts += [_kind_page(topic)] if topic in registry.PACKAGES else []
    parts += [_code_page(topic)] if topic in CATALOGUE else []
    parts += [_page(topic)] if topic in types else []
    parts += [f"{topic} (layer)\n\n{NESTED[topic]}"] if topic in NESTED else []
    parts += [f"{topic} (block)\n\n{source(topic)}"] if topic in shipped().values else []
    parts += [key_page(topic) or ""] if parts and topic not in guide else []
    parts += [guide_contents()] if topic == "guide" else []
    book = guide_pages()
    text = "\n\n".join(filter(None, parts))
    return book.get(topic) or text or book.get(f"guide/{topic}") or _word(topic, types) or None


def topics() -> list[str]:
    """Return everything that has a page."""
    pages = [name.removeprefix("guide/") for name in guide_pages()]
    names = [*_declared(), *NESTED, *shipped().values, *CATALOGUE, *sections(), *registry.PACKAGES, *pages, *keys()]
    return list(dict.fromkeys(names))


def contents() -> str:
    """Return the list of all topics, grouped by kind."""
    figures = [key for key in keys() if "." in key]
    groups = {
        "The language": sections(),
        "More keys": sorted(keys() - sections().keys() - set(figures)),
        "Figures that `require` compares": figures,
        **{f"{plural(kind).capitalize()}, a line each: {kind}": registry.table(kind) for kind in registry.PACKAGES},
        "Layers of layers": NESTED,
        "Blocks": shipped().values,
        "Sections": SECTIONS,
        "Codes of findings": CATALOGUE,
    }
    listed = [f"{title}\n{_filled(names)}" for title, names in groups.items()]
    return "\n\n".join(["cnnspec explain TOPIC prints the page on any of these.", guide_contents(), *listed])


def guide_contents() -> str:
    """Return the list of the guide's pages, in reading order."""
    titles = {name: page.partition("\n")[0].removeprefix("# ") for name, page in guide_pages().items()}
    lines = ["The guide", ""]
    for group, names in GUIDE.items():
        lines += [f"  {group}", *(f"    {f'guide/{name}':<20} {titles[f'guide/{name}']}" for name in names)]
    return "\n".join(lines)


@cache
def sections() -> dict[str, str]:
    """Return the sections of the language guide by the words in their headings; a word may be in several."""
    text = files("cnnspec").joinpath("guide", "language.md").read_text(encoding="utf-8")
    result: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for word in re.findall("`([^`]+)`", heading):
            result.setdefault(word, []).append(f"{heading.replace('`', '')}\n\n{body.strip()}")
    return {word: "\n\n".join(pages) for word, pages in result.items()}


@cache
def guide_pages() -> dict[str, str]:
    """Return the pages of the guide by their names, such as guide/architecture, in alphabetic order."""
    pages = {page.name: page for page in files("cnnspec").joinpath("guide").iterdir() if page.name.endswith(".md")}
    return {
        f"guide/{name.removesuffix('.md')}": pages[name].read_text(encoding="utf-8").strip() for name in sorted(pages)
    }


def _filled(names: Iterable[str]) -> str:
    """Return names in indented lines that are not broken at dashes."""
    text = ", ".join(names)
    return textwrap.fill(text, 98, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _kind_page(kind: str) -> str:
    """Return a page with a line for every type of a kind."""
    lines = [f"{name}: {(inspect.getdoc(cls) or '').splitlines()[0]}" for name, cls in registry.table(kind).items()]
    return "\n".join([f"The {plural(kind)} that there are:", "", *(f"  {line}" for line in lines)])


def _page(topic: str) -> str:
    """Return the pages on all types registered under a name, and on the section of that name."""
    kinds = [kind for kind in registry.PACKAGES if topic in registry.table(kind)]
    pages = [_type_page(kind, topic, registry.table(kind)[topic]) for kind in kinds]
    pages += [_type_page("section", topic, SECTIONS[topic])] if topic in SECTIONS else []
    return "\n\n".join(pages)


def _word(topic: str, types: Collection[str]) -> str:
    """Return a page on a key, or on the equivalent of another framework's word; empty if the word is not known."""
    known = keys()
    type_name, key = meant(topic, types), topic if topic in known else meant(topic, known)
    if type_name is not None and key is None:
        return f"{topic} is {type_name} here.\n\n{_page(type_name)}"
    lines = (
        [f"{topic} is {type_name} here: cnnspec explain {type_name}"] if type_name is not None and key != topic else []
    )
    lines += [f"{topic} is the key {key} here."] if key not in (None, topic) else []
    lines += [key_page(key) or ""] if key is not None else []
    lines += dict.fromkeys(
        f"{topic}: {advice_text}" for place in ADVICE if (advice_text := advice(place, topic)) is not None
    )
    return "\n".join(lines)


def _declared() -> dict[str, type[Declaration]]:
    """Return every class that has keys, by name; of types with one name, that of the last kind."""
    return {name: cls for kind in registry.PACKAGES for name, cls in registry.table(kind).items()} | SECTIONS


def _code_page(code: str) -> str:
    entry = CATALOGUE[code]
    page = f"{code} ({entry.severity})\n\n{entry.title} {entry.why}"
    if entry.bad != entry.good:
        page += f"\n\nWrong:\n\n{_indented(entry.bad)}\n\nRight:\n\n{_indented(entry.good)}"
    return page


def _shape_rule(layer: type[Layer]) -> str:
    """Return what a layer's `infer_shape` returns, as its docstring says it."""
    if layer.infer_shape is Layer.infer_shape:
        return "that of the input."
    return (inspect.getdoc(layer.infer_shape) or "").removeprefix("Return ").replace("ShapeError", "an error")


def _type_page(kind: str, title: str, cls: type[Declaration]) -> str:
    lines = [f"{title} ({kind})", "", inspect.getdoc(cls) or ""]
    declared = options(cls)
    if declared:
        lines += ["", "Fields:", ""]
    for option in declared:
        noun = option.schema["$ref"].rpartition("/")[2] if "$ref" in option.schema else expected(option.schema)
        default = option.default
        written = None if isinstance(default, Declaration) and default.kind == "section" else _written(default)
        state = "required" if option.required else f"default {written}" if written is not None else "optional"
        lines.append(f"  {option.name}: {noun} ({state})")
        if option.description:
            lines.append(f"      {option.description}")
    if issubclass(cls, Layer):
        lines += ["", f"Shape: {_shape_rule(cls)}"]
        if cls.params is not Layer.params:
            lines.append(f"Parameters: {inspect.getdoc(cls.params)}")
        if cls.cost is not Layer.cost:
            lines.append(f"Multiply-accumulates: {inspect.getdoc(cls.cost)}")
    words = elsewhere(title, [kind])
    lines += ["", f"Elsewhere: {', '.join(words)}"] if words else []
    return "\n".join([*lines, "", f"Example: {example(kind, title, cls)}"])


def _written(default: object) -> str | None:
    """Return a default value as a spec would write it; None for no default."""
    match default:
        case None:
            return None
        case bool():
            return str(default).lower()
        case tuple():
            return f"[{', '.join(filter(None, map(_written, default)))}]"
    return str(getattr(default, "type_name", default))


def _indented(text: str) -> str:
    # A byte that is no UTF-8 stands in the examples as a surrogate.
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "\n".join(f"    {line}" for line in (shown.rstrip("\n") or "(nothing)").split("\n"))
