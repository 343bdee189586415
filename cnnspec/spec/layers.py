"""From the `layers` list to entries: types, names, references, blocks and their repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from cnnspec import registry
from cnnspec.diagnostics import Fix, Related, Span, SpecError
from cnnspec.fields import NonNegativeNumber, create
from cnnspec.layers.base import Layer
from cnnspec.spec.arriving import Arrival, Unknown, shape_after
from cnnspec.spec.blocks import Blocks
from cnnspec.spec.check import got
from cnnspec.spec.expand import Scope, filled
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.grammar import LONGEST_PATH, NAME_WORDS, is_name
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry
from cnnspec.spec.names import INPUT, LayerNames
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, place_of, plain
from cnnspec.spec.typed import Typing

COMMON = ("id", "type", "from", "when")
OPTIONS = ("weight_decay", "trainable", "share")
NESTED = ("body", "branches", "layers")
USE = ("id", "use", "with", "repeat", "first", "last", "from", "when", "trainable")
GROUP = ("when", "layers", "trainable")
SHORTCUTS = ("auto", "identity", "projection", "if_same", "none")
MERGES = ("concat", "add", "multiply")
MOST_LAYERS = 2_000  # with blocks expanded
MOST_ITEMS = 10_000  # entries of all lists of layers, with blocks expanded: those that make no layer count too
MOST_DEPTH = 50  # lists of layers within one another, with blocks expanded


class LayersBuilder:
    """Builds the entries of a spec; what is wrong goes into the findings."""

    def __init__(self, findings: Findings, blocks: Mapping | None, variables: Scope) -> None:
        self.findings = findings
        self.typing = Typing(findings)
        self.blocks = Blocks(findings, blocks, variables)
        self.layers = self.items = self.depth = 0
        self.full_names: set[str] = set()
        self.shapes: dict[str, Arrival] = {}  # by full name

    def entries(
        self, tree: Tree, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...] = ()
    ) -> tuple[Entry, ...]:
        """Make the entries of one list of layers; those that are wrong are reported and left out."""
        if not isinstance(tree, Items):
            self.findings.error("invalid-value", f"expected a list of layers, got {got(plain(tree))}", tree.span, where)
            return ()
        given = [item.get("id") for item in tree.items if isinstance(item, Mapping)]
        names.below |= {str(id.value): id.span for id in given if isinstance(id, Scalar)}
        made: list[Entry] = []
        self.depth += 1
        if self.depth > MOST_DEPTH:
            self.too_large(f"expected at most {MOST_DEPTH} lists of layers within one another", tree.span, where)
        for i, item in enumerate(tree.items):
            self.items += 1
            if self.items > MOST_ITEMS:
                message = f"expected at most {MOST_ITEMS:,} entries of layers with all blocks expanded"
                self.too_large(message, item.span, where.down(i))
            try:
                made += self.item(item, scope, names, where.down(i), chain)
            except Wrong:
                self.claim_anyway(item, names)
                names.above = Unknown()
        self.depth -= 1
        return tuple(made)

    def too_large(self, message: str, span: Span, where: Where) -> NoReturn:
        """End the reading of a spec that asks for too much: what comes behind would take as long."""
        self.findings.error("too-large", message, span, where)
        raise SpecError(self.findings.diagnostics)

    def claim_anyway(self, item: Tree, names: LayerNames) -> None:
        """A layer that is wrong still has its name, so that references to it are not wrong too."""
        given = item.get("id") if isinstance(item, Mapping) else None
        if isinstance(given, Scalar) and isinstance(given.value, str):
            names.ids.setdefault(given.value, given.span)
            self.full_names.add(names.prefix + given.value)
            self.shapes[names.prefix + given.value] = Unknown()

    def item(self, item: Tree, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]) -> list[Entry]:
        """The entries that one item makes: none, one, or one for each repetition."""
        here = scope.at(lambda: self.arriving(item, scope, names, where))
        item = self.spelt_out(filled(item, here, self.findings, where, skip=(*NESTED, "with", "first", "last")))
        if isinstance(item, Mapping):
            condition = item.get("when")
            if condition is not None:
                met = plain(condition)
                if not isinstance(met, bool):
                    message = f"when: expected true or false, got {got(met)}"
                    raise self.findings.error("invalid-value", message, condition.span, where.down("when"))
                if not met:
                    return []
            item = item.without("when")
            made = self.nested(item, scope, names, where, chain)
            if made is not None:
                return made if self.trainable(item, where) else [_frozen(entry) for entry in made]
        return [self.layer(item, names, where)]

    def spelt_out(self, item: Tree) -> Tree:
        """The use of a block that is written by its bare name as a mapping; anything else as it is."""
        if isinstance(item, Scalar) and item.value in self.blocks and item.value not in registry.table("layer"):
            return Mapping({"use": item.span}, {"use": item}, item.span)
        return item

    def arriving(self, item: Tree, scope: Scope, names: LayerNames, where: Where) -> Sequence[Arrival]:
        """The shapes that an item reads."""
        given = item.get("from") if isinstance(item, Mapping) else None
        if given is None:
            return [names.above]
        where = where.down("from")
        return self.shapes_of(self.references(filled(given, scope.at(None), self.findings, where), names, where), names)

    def shapes_of(self, inputs: tuple[str, ...] | None, names: LayerNames) -> list[Arrival]:
        """The shapes of what an entry reads; None stands for what is above."""
        if inputs is None:
            return [names.above]
        return [names.arrived if name == INPUT else self.shapes.get(name, Unknown()) for name in inputs]

    def made(self, name: str, shape: Arrival, names: LayerNames) -> None:
        """Note the shape of what an entry makes."""
        self.shapes[name] = names.above = shape

    def nested(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> list[Entry] | None:
        """The entries of a block, a residual or branches; None for a layer."""
        if "use" in item.values:
            return list(self.use(item, scope, names, where, chain))
        if "layers" in item.values and "type" not in item.values:
            self.typing.known_keys(item, GROUP, where, "key beside layers")
            return list(self.entries(item.values["layers"], scope, names, where.down("layers"), chain))
        kind = item.get("type")
        if isinstance(kind, Scalar) and kind.value == "residual":
            return [self.residual(item, scope, names, where, chain)]
        if isinstance(kind, Scalar) and kind.value == "parallel":
            return [self.parallel(item, scope, names, where, chain)]
        return None

    def trainable(self, item: Mapping, where: Where) -> bool:
        """Whether training changes what an item makes."""
        given = item.get("trainable")
        return True if given is None else bool(self.typing.value(bool, given, where.down("trainable")))

    def layer(self, item: Tree, names: LayerNames, where: Where) -> LayerEntry:
        """Make the entry of one layer; Wrong where it cannot be used."""
        self.layers += 1
        if self.layers > MOST_LAYERS:
            self.too_large(f"expected at most {MOST_LAYERS:,} layers", item.span, where)
        if isinstance(item, Scalar):
            item = Mapping({"type": item.span}, {"type": item}, item.span)
        if not isinstance(item, Mapping):
            raise self.findings.error(
                "invalid-value", "expected a layer: a name, or a mapping with a type", item.span, where
            )
        kind = item.get("type")
        if kind is None:
            help = "add type: conv2d, or use: BLOCK"
            raise self.typing.without_type("layer", item, where, ("type", "use"), help)
        if not isinstance(kind, Scalar) or not isinstance(kind.value, str):
            raise self.findings.error(
                "invalid-value", f"expected the name of a layer type, got {got(plain(kind))}", kind.span, where
            )
        try:
            cls = registry.find("layer", kind.value)
        except KeyError:
            raise self.unknown_type(kind, item, where) from None
        body = item.without(*COMMON, *OPTIONS)
        layer: Layer = self.typing.create(cls, body, where, common=(*COMMON, *OPTIONS))
        inputs = self.inputs(item, names, where)
        decay = item.get("weight_decay")
        trainable, share = self.trainable(item, where), self.shared(item, names, where)
        place = place_of(item, where)
        name, named = self.name(item, kind.value, names, where)
        self.made(name, shape_after(layer, self.shapes_of(inputs, names), name, place), names)
        return LayerEntry(
            name=name,
            layer=layer,
            place=place,
            inputs=inputs,
            named=named,
            weight_decay=None
            if decay is None
            else self.typing.value(NonNegativeNumber, decay, where.down("weight_decay")),
            trainable=trainable,
            share=share,
        )

    def unknown_type(self, kind: Scalar, item: Mapping, where: Where) -> Wrong:
        """Report a type that no layer has; it may be the name of a block."""
        if kind.value in self.blocks:
            word, span = kind.value, item.keys["type"]
            fix = Fix(span, "use", f"replace type by use: {word}") if span != kind.span else None
            message = f"'{word}' is a block, not a type of layer"
            return self.findings.error("unknown-type", message, kind.span, where, help=f"write use: {word}", fix=fix)
        known = [*registry.table("layer"), "residual", "parallel", *self.blocks.own]
        return self.findings.unknown("unknown-type", "layer", kind.value, known, kind.span, where, place="layer")

    def shared(self, item: Mapping, names: LayerNames, where: Where) -> str | None:
        """The full name of the layer whose parameters this one uses."""
        given = item.get("share")
        if given is None:
            return None
        if isinstance(given, Items):
            message = "share: expected the id of one layer, got a list"
            raise self.findings.error("invalid-value", message, given.span, where.down("share"))
        for key in ("trainable", "weight_decay"):
            if key in item.values:
                message = f"{key}: that of the layer whose parameters are shared holds here too"
                help = "write it there, and leave it out here"
                raise self.findings.error("share-mismatch", message, item.keys[key], where.down(key), help=help)
        (name,) = self.references(given, names, where.down("share"))
        return name

    def name(self, item: Mapping, kind: str, names: LayerNames, where: Where) -> tuple[str, bool]:
        """The full name, and whether the file gave it."""
        given = item.get("id")
        if given is None:
            full = names.prefix + names.generated(kind)
            self.full_names.add(full)
            return full, False
        if not isinstance(given, Scalar) or not isinstance(given.value, str) or not is_name(given.value, LONGEST_PATH):
            raise self.findings.error(
                "invalid-value",
                f"id: expected {NAME_WORDS}, got {got(plain(given))}",
                given.span,
                where.down("id"),
            )
        local = given.value
        if local == INPUT or local in names.ids:
            first = names.ids.get(local)
            message = f"id '{local}' is {'reserved' if local == INPUT else 'given twice'}"
            related = (Related("first given here", first),) if first else ()
            raise self.findings.error(
                "duplicate-id", message, given.span, where.down("id"), help="choose another id", related=related
            )
        names.ids[local] = given.span
        self.full_names.add(names.prefix + local)
        return names.prefix + local, True

    def inputs(self, item: Mapping, names: LayerNames, where: Where) -> tuple[str, ...] | None:
        """The full names in `from`; None where a layer reads the one above."""
        given = item.get("from")
        return None if given is None else self.references(given, names, where.down("from"))

    def single(self, item: Mapping, names: LayerNames, where: Where) -> tuple[str, ...] | None:
        """The full name in the `from` of what reads one value: a residual, branches, a block."""
        given = item.get("from")
        if isinstance(given, Items) and len(given.items) > 1:
            raise self.findings.error(
                "invalid-value",
                f"from: expected the id of one layer, got a list of {len(given.items)}",
                given.span,
                where.down("from"),
                help="merge the inputs first with add or concat",
            )
        return self.inputs(item, names, where)

    def references(self, given: Tree, names: LayerNames, where: Where) -> tuple[str, ...]:
        """The full names of layers above."""
        key = where.path.rpartition(".")[2]
        words = given.items if isinstance(given, Items) else (given,)
        if not words:
            raise self.findings.error(
                "invalid-value",
                f"{key}: expected the id of a layer or a list of ids, got an empty list",
                given.span,
                where,
                help="leave it out to read the layer above",
            )
        found = []
        for word in words:
            if not isinstance(word, Scalar) or not isinstance(word.value, str):
                message = f"{key}: expected the id of a layer or a list of ids, got {got(plain(word))}"
                help = f"give that layer an id, and name it here: {key}: ID"
                raise self.findings.error("invalid-value", message, word.span, where, help=help)
            full = names.resolve(word.value)
            below = names.find_below(word.value)
            if below is not None and (full is None or full not in self.full_names):
                message = f"'{word.value}' is not above: a layer reads what stands above it"
                related = (Related(f"'{word.value}' is given here", below),)
                raise self.findings.error("unknown-reference", message, word.span, where, related=related)
            if full is None or (full != INPUT and full not in self.full_names):
                known = self.within(names.prefix) if "." in word.value else names.known()
                raise self.findings.unknown("unknown-reference", "layer above", word.value, known, word.span, where)
            found.append(full)
        return tuple(found)

    def within(self, prefix: str) -> list[str]:
        """Every name so far that can be written behind a prefix, of layers inside of blocks too."""
        return sorted(name.removeprefix(prefix) for name in self.full_names if name.startswith(prefix))

    def residual(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> ResidualEntry:
        """Make the entry of a residual: its body and its shortcut."""
        keys = ("type", "id", "from", "body", "shortcut", "trainable")
        meant = self.typing.known_keys(item, keys, where, "key of residual", "layer key")
        inputs = self.single(item, names, where)
        name, named = self.name(item, "residual", names, where)
        shortcut = self.choice(item, "shortcut", SHORTCUTS, "auto", where)
        body = self.required(item, "body", where, meant)
        if isinstance(body, Items) and not body.items:
            message = "body: expected at least one layer, got none"
            raise self.findings.error("invalid-value", message, body.span, where.down("body"))
        (arrived,) = self.shapes_of(inputs, names)
        inner = LayerNames(arrived, f"{name}.", outer=names)
        entries = self.entries(body, scope, inner, where.down("body"), chain)
        self.made(name, inner.above, names)
        return ResidualEntry(name, entries, shortcut, place_of(item, where), inputs, named)

    def parallel(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> ParallelEntry:
        """Make the entry of parallel branches and of how they merge."""
        keys = ("type", "id", "from", "branches", "merge", "trainable")
        meant = self.typing.known_keys(item, keys, where, "key of parallel", "layer key")
        inputs = self.single(item, names, where)
        name, named = self.name(item, "parallel", names, where)
        merge = self.choice(item, "merge", MERGES, "concat", where)
        branches = self.required(item, "branches", where, meant)
        if not isinstance(branches, Items) or len(branches.items) < 2:
            raise self.findings.error(
                "invalid-value", "branches: expected a list of two or more lists of layers", branches.span, where
            )
        (arrived,) = self.shapes_of(inputs, names)
        made, shapes, place = [], [], place_of(item, where)
        for i, branch in enumerate(branches.items):
            inner = LayerNames(arrived, f"{name}.{i + 1}.", outer=names)
            made.append(self.entries(branch, scope, inner, where.down("branches").down(i), chain))
            shapes.append(inner.above)
        self.made(name, shape_after(create("layer", merge), shapes, name, place), names)
        return ParallelEntry(name, tuple(made), merge, place, inputs, named)

    def choice(self, item: Mapping, key: str, allowed: tuple[str, ...], default: str, where: Where) -> str:
        """Read a key whose value is one of a few words, or its default."""
        given = item.get(key)
        if given is None:
            return default
        value = plain(given)
        if value not in allowed:
            help, fix = self.typing.cure(key, given, lambda other: other in allowed)
            message = f"{key}: expected one of {', '.join(allowed)}, got {got(value)}"
            raise self.findings.error("invalid-value", message, given.span, where.down(key), help=help, fix=fix)
        return str(value)

    def required(self, item: Mapping, key: str, where: Where, misspelt: set[str]) -> Tree:
        """The value of a key that must be there."""
        given = item.get(key)
        if given is None:
            if key in misspelt:
                raise Wrong
            raise self.findings.error("missing-key", f"{key} is missing", item.span, where, help=f"add {key}: [...]")
        return given

    def use(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> Iterator[Entry]:
        """One entry for each repetition of a block."""
        meant = self.typing.known_keys(item, USE, where, "key beside use", "layer key")
        block = self.blocks.find(item, where, chain)
        called = plain(item.values["use"])
        repeat = item.get("repeat")
        count = plain(repeat) if repeat is not None else 1
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_LAYERS:
            assert repeat is not None
            raise self.findings.error(
                "invalid-value",
                f"repeat: expected an integer of at least 1, got {got(count)}",
                repeat.span,
                where,
                related=repeat.given if isinstance(repeat, Scalar) else (),
            )
        inputs = self.single(item, names, where)
        name, named = self.name(item, str(called), names, where)
        (shape,) = self.shapes_of(inputs, names)
        for index in range(count):
            self.items += 1  # a block of no layers is work too
            arrived = [shape]
            here = scope.at(lambda arrived=arrived: arrived)  # type: ignore[misc]
            inner_scope = self.blocks.parameters(item, block, here, index, count, where, meant)
            prefix = f"{name}.{index + 1}" if count > 1 else name
            self.full_names.add(prefix)
            used = where.used(f"block '{called}' used here", item.values["use"].span)
            inner = LayerNames(shape, f"{prefix}.")
            body = self.entries(block.values["layers"], inner_scope, inner, used, (*chain, str(called)))
            shape = inner.above
            self.made(prefix, shape, names)
            self.made(name, shape, names)
            # The last repetition makes the value that the whole `use` is known by.
            last = index == count - 1
            yield BlockEntry(
                name if last else prefix,
                body,
                place_of(item, where),
                inputs if index == 0 else None,
                named,
                prefix if last and count > 1 else None,
            )


def _frozen(entry: Entry) -> Entry:
    """The same without training, and so all that is in it."""
    match entry:
        case LayerEntry():
            return entry if entry.share else replace(entry, trainable=False)
        case BlockEntry():
            return replace(entry, body=tuple(map(_frozen, entry.body)))
        case ResidualEntry():
            return replace(entry, body=tuple(map(_frozen, entry.body)), trainable=False)
        case ParallelEntry():
            return replace(entry, branches=tuple(tuple(map(_frozen, branch)) for branch in entry.branches))
