"""The blocks that a spec can use, its own and shipped ones, and the parameters that each use gives them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import cache
from pathlib import Path

from cnnspec.diagnostics import Related, Span
from cnnspec.spec.check import got
from cnnspec.spec.expand import Scope, filled, unreserved
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.grammar import is_name
from cnnspec.spec.model import Entry
from cnnspec.spec.names import INPUT
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Items, Mapping, Tree, Where, plain
from cnnspec.spec.typed import Typing

SHIPPED = Path(__file__).with_name("blocks.yaml")
MOST_PARAMETERS = 100  # parameters of a block, which are compared with one another at every use
KEYS = ("params", "inputs", "outputs", "layers")
REQUIRED = "required"  # takes the place of a default


@cache
def shipped() -> Mapping:
    """Return the blocks that every spec can use; a spec can replace one by a block of the same name."""
    tree = read(SHIPPED.read_text(encoding="utf-8"), str(SHIPPED))
    assert isinstance(tree, Mapping)
    return tree


def source(name: str) -> str:
    """Return the YAML of a shipped block, with the comment above it."""
    parts = SHIPPED.read_text(encoding="utf-8").split("\n\n")
    return next(part for part in parts if f"\n{name}:" in part).strip()


def _declared(block: Tree) -> Mapping:
    declared = block.get("params") if isinstance(block, Mapping) else None
    return declared if isinstance(declared, Mapping) else Mapping({}, {}, block.span)


class Blocks:
    """The blocks of a spec by name, with a record of which blocks, inputs and parameters are used."""

    def __init__(self, findings: Findings, blocks: Mapping | None, variables: Scope) -> None:
        self.findings, self.variables = findings, variables
        self.in_spec: dict[str, Tree] = {} if blocks is None else blocks.values
        self.used: set[str] = set()
        self.inputs_read: dict[str, set[str]] = {}
        self.names_used: dict[str, set[str]] = {}  # inside of each block: parameters, variables and `index`

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a block of that name."""
        return name in self.in_spec or name in shipped().values

    @property
    def known(self) -> list[str]:
        """Return the names of all blocks."""
        return [*self.in_spec, *shipped().values]

    def declared(self, called: object) -> Mapping:
        """Return the parameters of a block with their defaults; none of a name without a block."""
        block = self.in_spec.get(str(called)) or shipped().get(str(called))
        return Mapping({}, {}, shipped().span) if block is None else _declared(block)

    def find(self, item: Mapping, where: Where, chain: tuple[str, ...]) -> Mapping:
        """Return the definition of the block that an item uses."""
        given = item.values["use"]
        called = plain(given)
        if not isinstance(called, str):
            message = f"use: expected the name of a block, got {got(called)}"
            raise self.findings.error("invalid-value", message, given.span, where.down("use"))
        block = self.in_spec.get(called) or shipped().get(called)
        if block is None:
            raise self.findings.unknown("unknown-block", "block", called, self.known, given.span, where)
        if called in chain:
            message = f"block uses itself: {' > '.join((*chain, called))}"
            raise self.findings.error("block-recursion", message, given.span, where)
        place = Where(f"blocks.{called}")
        if called not in self.used and isinstance(block, Mapping):
            Typing(self.findings, {}).known_keys(block, KEYS, place, "key of a block")
        self.used.add(called)
        if not isinstance(block, Mapping) or "layers" not in block.values:
            message = f"block '{called}' has no layers"
            help = "add layers: [...]" if isinstance(block, Mapping) else f"write {called}: {{layers: [...]}}"
            raise self.findings.error("missing-key", message, block.span, place, help=help)
        declared = block.get("params")
        if declared is not None and not isinstance(declared, Mapping):
            message = f"params: expected a mapping of names to defaults or `required`, got {got(plain(declared))}"
            raise self.findings.error("invalid-value", message, declared.span, place.down("params"))
        return block

    def ports(self, block: Mapping, called: str) -> dict[str, Span]:
        """Return the names of a block's inputs, each with its place; none for a block that reads one value."""
        given, where = block.get("inputs"), Where(f"blocks.{called}.inputs")
        if given is None:
            return {}
        words = given.items if isinstance(given, Items) else ()
        spans = {str(plain(word)): word.span for word in words}
        if not spans or len(spans) < len(words) or not all(is_name(name) for name in spans):
            message = f"inputs: expected a list of different names, got {got(plain(given))}"
            raise self.findings.error("invalid-value", message, given.span, where, help="write inputs: [x, condition]")
        if INPUT in spans:
            message = f"inputs: '{INPUT}' is the first one's name in every block"
            raise self.findings.error("invalid-value", message, spans[INPUT], where, help="choose another name")
        return spans

    def note_reads(self, called: str, ports: Container[str], prefix: str, entries: Iterable[Entry]) -> None:
        """Record which inputs of a block are read by the layers of an instance."""
        read = {name.removeprefix(prefix) for entry in entries for name in entry.inputs or ()}
        self.inputs_read.setdefault(called, set()).update(name for name in read if name in ports)

    def idle_inputs(self) -> Iterator[tuple[str, str, Span]]:
        """Yield block, name and place of every input, except the first, that nothing in its block reads."""
        for called, names in self.inputs_read.items():
            block = self.in_spec.get(called)
            given = block.get("inputs") if isinstance(block, Mapping) else None
            for word in given.items[1:] if isinstance(given, Items) else ():
                if plain(word) not in names:
                    yield called, str(plain(word)), word.span

    def idle_parameters(self) -> Iterator[tuple[str, str, Span]]:
        """Yield block, name and place of every parameter that is not used within its block."""
        for called, names in self.names_used.items():
            for name, span in _declared(self.in_spec[called]).keys.items() if called in self.in_spec else ():
                if name not in names:
                    yield called, name, span

    def parameters(
        self, item: Mapping, block: Mapping, scope: Scope, index: int, count: int, where: Where, misspelt: set[str]
    ) -> Scope:
        """Return the scope inside one repetition: the spec's variables, `index` and the parameters.

        Values under `with`, `first` and `last` are evaluated in the scope of the use; its other names are not known
        inside. A default is evaluated inside, where the parameters above it are known. `index` counts the repetitions
        of the nearest enclosing `repeat`: a use without `repeat` has the index of the block around it.
        """
        if "repeat" in item.values or "index" not in scope.values:
            scope = scope.inside({"index": index})
        called = plain(item.values["use"])
        declared = _declared(block)
        used = self.names_used.setdefault(called, set())
        inside = self.variables.apart({"index": scope.values["index"]}, used, scope.arriving)
        if len(declared.keys) > MOST_PARAMETERS:
            message = f"params: expected at most {MOST_PARAMETERS} parameters, got {len(declared.keys):,}"
            raise self.findings.error("too-large", message, declared.span, Where(f"blocks.{called}.params"))
        for name, span in declared.keys.items():
            unreserved(name, span, self.findings, Where(f"blocks.{called}.params"), "parameter")
        given = self.given(item, block, scope, index, count, where)
        for name, default in declared.values.items():
            if name not in given and plain(default) == REQUIRED:
                if "with" in misspelt:
                    raise Wrong
                raise self.findings.error(
                    "missing-parameter",
                    f"block '{called}' needs the parameter '{name}'",
                    item.values["use"].span,
                    where,
                    help=f"add with: {{{name}: ...}}",
                )
        for name, default in declared.values.items():
            value = given[name] if name in given else filled(default, inside, self.findings, where)
            inside = inside.inside({name: plain(value)}, {name: value.span})
        return inside

    def given(
        self, item: Mapping, block: Mapping, scope: Scope, index: int, count: int, where: Where
    ) -> dict[str, Tree]:
        """Return the parameters that `with` gives, and `first` or `last` in the first or last repetition."""
        called, known = plain(item.values["use"]), _declared(block).values
        related = (Related(f"the parameters of block '{called}'", (block.get("params") or block).span),)
        values: dict[str, Tree] = {}
        for part in ["with", *(["first"] if index == 0 else []), *(["last"] if index == count - 1 else [])]:
            given = item.get(part)
            if given is None:
                continue
            if not isinstance(given, Mapping):
                message = f"{part}: expected a mapping of parameters"
                raise self.findings.error("invalid-value", message, given.span, where.down(part))
            for name, value in given.values.items():
                if name not in known:
                    raise self.findings.unknown(
                        "unknown-parameter", "parameter", name, known, given.keys[name], where.down(part), related
                    )
                values[name] = filled(value, scope, self.findings, where.down(part).down(name))
        return values
