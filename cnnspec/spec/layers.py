"""Turns the `layers` list into entries: types, names, references, blocks and their repetitions."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from typing import NoReturn

from cnnspec import registry
from cnnspec.diagnostics import Fix, Span, SpecError
from cnnspec.fields import NonNegativeNumber, PositiveNumber, create
from cnnspec.layers.base import Layer
from cnnspec.period import ALWAYS, NEVER, Period
from cnnspec.spec.arriving import Arrival, Unknown, shape_after
from cnnspec.spec.blocks import Blocks
from cnnspec.spec.check import got
from cnnspec.spec.entries import every, tied, trained
from cnnspec.spec.expand import Scope, filled
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry
from cnnspec.spec.names import ABOVE, INPUT, LayerNames
from cnnspec.spec.parts import channels_of_parts
from cnnspec.spec.references import References
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, place_of, plain
from cnnspec.spec.typed import Typing

COMMON = ("id", "type", "from", "when")
TRAINING = ("trainable", "rate_factor")
OPTIONS = ("weight_decay", *TRAINING, "share")
BESIDE = (*COMMON, *OPTIONS)  # keys of every layer, beside those of its type
NESTED = ("body", "branches", "layers")
USE = ("id", "use", "with", "repeat", "first", "last", "from", "when", *TRAINING, "share")
GROUP = ("when", "layers", *TRAINING)
SHORTCUTS = ("auto", "identity", "projection", "if_same", "none")
MERGES = ("concat", "add", "multiply", "subtract", "maximum", "minimum")
UNFILLED = (*NESTED, "with", "first", "last")  # keys whose values are filled in where they are read
MOST_LAYERS = 2_000  # layers of a spec, with blocks expanded
MOST_ITEMS = 10_000  # entries of all lists, with blocks expanded, also those without a layer
MOST_DEPTH = 50  # depth of nested lists of layers, with blocks expanded


class LayersBuilder(References):
    """Builds the entries of a spec, and adds errors to the findings."""

    def __init__(self, findings: Findings, blocks: Mapping | None, variables: Scope) -> None:
        super().__init__(findings)
        self.typing = Typing(findings, variables.values)
        self.blocks = Blocks(findings, blocks, variables)
        self.layers = self.items = self.depth = 0
        self.instances: dict[str, tuple[str, str]] = {}  # by the name of a use: its block, and its last instance
        self.owners: dict[str, str] = {}  # the instance whose parameters each tied one uses

    def entries(
        self, tree: Tree, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...] = ()
    ) -> tuple[Entry, ...]:
        """Build the entries of one list of layers; wrong ones are reported and left out."""
        if not isinstance(tree, Items):
            help = "write each layer behind a dash: - {type: conv2d, ...}"
            if isinstance(tree, Mapping) and all(isinstance(layer, Mapping) for layer in tree.values.values()):
                name = next(iter(tree.keys), "x")
                help = f"write each layer behind a dash, its name as id: - {{id: {name}, type: ...}}"
            message = f"expected a list of layers, got {got(plain(tree))}"
            self.findings.error("invalid-value", message, tree.span, where, help=help)
            return ()
        given = [item.get("id") for item in tree.items if isinstance(item, Mapping)]
        names.below |= {str(id.value): id.span for id in given if isinstance(id, Scalar)}
        entries: list[Entry] = []
        self.depth += 1
        if self.depth > MOST_DEPTH:
            self.too_large(f"expected at most {MOST_DEPTH} lists of layers within one another", tree.span, where)
        for i, item in enumerate(tree.items):
            self.items += 1
            if self.items > MOST_ITEMS:
                message = f"expected at most {MOST_ITEMS:,} entries of layers with all blocks expanded"
                self.too_large(message, item.span, where.down(i))
            try:
                entries += self.item(item, scope, names, where.down(i), chain)
            except Wrong:
                self.claim_anyway(item, names)
                names.above = Unknown()
        self.depth -= 1
        return tuple(entries)

    def too_large(self, message: str, span: Span, where: Where) -> NoReturn:
        """Stop reading a spec that asks for too much, because the rest would take as long."""
        self.findings.error("too-large", message, span, where)
        raise SpecError(self.findings.diagnostics)

    def item(self, item: Tree, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]) -> list[Entry]:
        """Build the entries of one item: none, one, or one for each repetition."""
        if item.varies:
            given, inner_scope = item, scope.at(lambda: self.arriving(given, scope, names, where))
            item = filled(given, inner_scope, self.findings, where, skip=UNFILLED)
        item = self.spelt_out(item)
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
            entries = self.nested(item, scope, names, where, chain)
            if entries is not None:
                period, factor = self.period(item, where), self.rate_factor(item, where)
                return (
                    entries
                    if (period, factor) == (ALWAYS, 1)
                    else [trained(entry, period, factor) for entry in entries]
                )
        return [self.layer(item, names, where)]

    def spelt_out(self, item: Tree) -> Tree:
        """Return the use of a block that is written as a bare name as a mapping; other items as they are."""
        if isinstance(item, Scalar) and item.value in self.blocks and item.value not in registry.table("layer"):
            return Mapping({"use": item.span}, {"use": item}, item.span)
        return item

    def nested(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> list[Entry] | None:
        """Build the entries of a block, a residual or branches; None for an item that is a layer."""
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
        if isinstance(kind, Scalar) and kind.value == "split":
            return [self.split(item, names, where)]
        return None

    def period(self, item: Mapping, where: Where) -> Period:
        """Return when an item's parameters are trained: `trainable` is true, false, or gives bounds in epochs."""
        given = item.get("trainable")
        if given is None:
            return ALWAYS
        where = where.down("trainable")
        if not isinstance(given, Mapping):
            return ALWAYS if self.typing.value(bool, given, where) else NEVER
        self.typing.known_keys(given, ("from", "until"), where, "key of trainable")
        bounds = {
            key: self.typing.value(NonNegativeNumber, given.values[key], where.down(key))
            for key in ("from", "until")
            if key in given.values
        }
        period = Period(bounds.get("from", ALWAYS.start), bounds.get("until", ALWAYS.stop))
        if not period.start < period.stop:
            message = f"trainable: expected from below until, got from {period.start:g} until {period.stop:g}"
            raise self.findings.error("invalid-value", message, given.span, where, help="write trainable: {until: 3}")
        return period

    def rate_factor(self, item: Mapping, where: Where) -> float:
        """Return the factor of the learning rate for an item's parameters."""
        given = item.get("rate_factor")
        if given is None:
            return 1.0
        where = where.down("rate_factor")
        if plain(given) == 0 and not isinstance(plain(given), bool):
            message, help = "rate_factor: expected a number above 0, got 0", "write trainable: false"
            raise self.findings.error("invalid-value", message, given.span, where, help=help)
        return float(self.typing.value(PositiveNumber, given, where))

    def layer(self, item: Tree, names: LayerNames, where: Where) -> LayerEntry:
        """Build the entry of one layer; Wrong if it cannot be used."""
        self.layers += 1
        if self.layers > MOST_LAYERS:
            self.too_large(f"expected at most {MOST_LAYERS:,} layers", item.span, where)
        if isinstance(item, Scalar):
            item = Mapping({"type": item.span}, {"type": item}, item.span)
        if not isinstance(item, Mapping):
            message, help = "expected a layer: a name, or a mapping with a type", "write {type: conv2d, ...}"
            raise self.findings.error("invalid-value", message, item.span, where, help=help)
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
        layer: Layer = self.typing.create(cls, item, where, common=BESIDE)
        inputs = self.inputs(item, names, where)
        decay = item.get("weight_decay")
        period, factor = self.period(item, where), self.rate_factor(item, where)
        share = self.shared(item, names, where)
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
            period=period,
            rate_factor=factor,
            share=share,
        )

    def unknown_type(self, kind: Scalar, item: Mapping, where: Where) -> Wrong:
        """Report a type that no layer has; if it is the name of a block, the help says so."""
        if kind.value in self.blocks:
            word, span = kind.value, item.keys["type"]
            fix = Fix(span, "use", f"replace type by use: {word}") if span != kind.span else None
            message = f"'{word}' is a block, not a type of layer"
            return self.findings.error("unknown-type", message, kind.span, where, help=f"write use: {word}", fix=fix)
        known = [*registry.table("layer"), "residual", "parallel", "split", *self.blocks.in_spec]
        return self.findings.unknown("unknown-type", "layer", kind.value, known, kind.span, where, place="layer")

    def shared(self, item: Mapping, names: LayerNames, where: Where) -> str | None:
        """Return the full name of the layer whose parameters this one uses; None if it has its own."""
        given = item.get("share")
        if given is None:
            return None
        if isinstance(given, Items):
            message = "share: expected the id of one layer, got a list"
            raise self.findings.error("invalid-value", message, given.span, where.down("share"))
        for key in (*TRAINING, "weight_decay"):
            if key in item.values:
                message = f"{key}: that of the layer whose parameters are shared holds here too"
                help = "write it there, and leave it out here"
                raise self.findings.error("share-mismatch", message, item.keys[key], where.down(key), help=help)
        (name,) = self.references(given, names, where.down("share"))
        return name

    def residual(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> ResidualEntry:
        """Build the entry of a residual: its body and its shortcut."""
        keys = ("type", "id", "from", "body", "shortcut", *TRAINING)
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
        """Build the entry of parallel branches and of their merge."""
        keys = ("type", "id", "from", "branches", "merge", *TRAINING)
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
        branch_results, shapes, place = [], [], place_of(item, where)
        for i, branch in enumerate(branches.items):
            inner = LayerNames(arrived, f"{name}.{i + 1}.", outer=names)
            branch_results.append(self.entries(branch, scope, inner, where.down("branches").down(i), chain))
            shapes.append(inner.above)
        self.made(name, shape_after(create("layer", merge), shapes, name, place), names)
        return ParallelEntry(name, tuple(branch_results), merge, place, inputs, named)

    def split(self, item: Mapping, names: LayerNames, where: Where) -> BlockEntry:
        """Build a block of slices called `ID.1`, `ID.2` and so on, one for each part of the channels."""
        inputs = self.single(item, names, where)
        (arrived,) = self.shapes_of(inputs, names)
        parts = channels_of_parts(item, arrived, self.findings, where)
        name, named = self.name(item, "split", names, where)
        place, body = place_of(item, where), []
        for number, channels in enumerate(parts, 1):
            layer: Layer = create("layer", {"type": "slice", "channels": channels})
            part = f"{name}.{number}"
            self.layers += 1
            self.known(part, shape_after(layer, [arrived], part, place))
            body.append(LayerEntry(part, layer, place, (INPUT,)))
        first = f"{name}.1"
        self.made(name, self.shapes[first], names)
        return BlockEntry(name, tuple(body), place, inputs, named, outputs=(("1", first),))

    def choice(self, item: Mapping, key: str, allowed: tuple[str, ...], default: str, where: Where) -> str:
        """Return the value of a key that allows a few words, or its default."""
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
        """Return the value of a required key."""
        given = item.get(key)
        if given is None:
            if key in misspelt:
                raise Wrong
            raise self.findings.error("missing-key", f"{key} is missing", item.span, where, help=f"add {key}: [...]")
        return given

    def use(
        self, item: Mapping, scope: Scope, names: LayerNames, where: Where, chain: tuple[str, ...]
    ) -> Iterator[Entry]:
        """Yield one entry for each repetition of a block."""
        within = {key: f"write with: {{{key}: ...}}" for key in self.blocks.declared(plain(item.values["use"])).keys}
        meant = self.typing.known_keys(item, USE, where, "key beside use", "layer key", within)
        block = self.blocks.find(item, where, chain)
        called = plain(item.values["use"])
        count = self.repetitions(item, where)
        ports = self.blocks.ports(block, str(called))
        inputs = self.sources(item, ports, names, where)
        name, named = self.name(item, str(called), names, where)
        shapes = self.shapes_of(inputs, names)
        owner = self.owner(item, str(called), names, where)
        for index in range(count):
            self.items += 1  # an empty block takes time too
            arrived = shapes[:1]
            at_arrival = scope.at(lambda arrived=arrived: arrived)  # type: ignore[misc]
            inner_scope = self.blocks.parameters(item, block, at_arrival, index, count, where, meant)
            prefix = f"{name}.{index + 1}" if count > 1 else name
            used = where.used(f"block '{called}' used here", item.values["use"].span)
            inner = LayerNames(shapes[0], f"{prefix}.", dict(ports))
            values = dict(zip(ports, shapes, strict=False))
            body, outputs, shape = self.body(block, inner, values, inner_scope, used, (*chain, str(called)))
            last = index == count - 1
            for output, value in outputs:
                for name_of_block in (prefix, *([name] if last else [])):
                    self.known(f"{name_of_block}.{output}", self.shapes.get(value, Unknown()))
            self.made(prefix, shape, names)
            self.made(name, shape, names)
            self.full_names.add(prefix)
            self.instances[prefix] = self.instances[name] = (str(called), prefix)
            if owner is not None or (index and self.ties_repetitions(item)):
                origin = f"{name}.1" if owner is None else self.counterpart(owner, index if count > 1 else None)
                self.owners[prefix] = self.owners.get(origin, origin)
                body = tuple(tied(entry, prefix, self.owners[prefix]) for entry in body)
            # The output of the last repetition stands for the whole `use`.
            yield BlockEntry(
                name if last else prefix,
                body,
                place_of(item, where),
                inputs,
                named,
                prefix if last and count > 1 else None,
                tuple(ports),
                outputs,
            )
            # The next repetition reads the output of this one, and its other inputs are those of this one.
            inputs = (prefix, *(inputs or ())[1:]) if len(ports) > 1 else None
            shapes = [shape, *shapes[1:]]

    def repetitions(self, item: Mapping, where: Where) -> int:
        """Return how many times in a row a block is used."""
        repeat = item.get("repeat")
        if repeat is None:
            return 1
        count = plain(repeat)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_LAYERS:
            message = f"repeat: expected an integer of at least 1, got {got(count)}"
            related = repeat.given if isinstance(repeat, Scalar) else ()
            help, fix = self.typing.cure("repeat", repeat, lambda other: isinstance(other, int) and other > 0)
            raise self.findings.error("invalid-value", message, repeat.span, where, help=help, related=related, fix=fix)
        return count

    def body(
        self,
        block: Mapping,
        names: LayerNames,
        values: abc.Mapping[str, Arrival],
        scope: Scope,
        where: Where,
        chain: tuple[str, ...],
    ) -> tuple[tuple[Entry, ...], tuple[tuple[str, str], ...], Arrival]:
        """Build the layers of one repetition of a block; `values` are the shapes of its inputs by name.

        Return them, the block's outputs, and the shape of the first output, or of the last layer if none is named.
        """
        for port, shape in values.items():
            self.known(f"{names.prefix}{port}", shape)
        entries = self.entries(block.values["layers"], scope, names, where, chain)
        self.blocks.note_reads(chain[-1], values, names.prefix, every(entries))
        outputs = self.outputs(block, names, where)
        return entries, outputs, self.shapes.get(outputs[0][1], Unknown()) if outputs else names.above

    def sources(
        self, item: Mapping, ports: abc.Mapping[str, Span], names: LayerNames, where: Where
    ) -> tuple[str, ...] | None:
        """Return the full names that a block's inputs read, in order; None if it reads the entry above."""
        given, where = item.get("from"), where.down("from")
        wanted = f"from: [{', '.join(ports)}], a layer for each, or from: {{{next(iter(ports), '')}: ...}}"
        if len(ports) > 1 and given is None:
            message = f"the block reads {len(ports)} values: {', '.join(ports)}"
            raise self.findings.error("missing-key", message, item.values["use"].span, where, help=f"write {wanted}")
        if not isinstance(given, Mapping):
            sources = self.single(item, names, where) if len(ports) < 2 else self.inputs(item, names, where)
        else:
            if not ports:
                message = "from: expected the id of a layer, got a mapping: the block gives its inputs no names"
                help = "write from: ID, or inputs: [...] in the block"
                raise self.findings.error("invalid-value", message, given.span, where, help=help)
            self.typing.known_keys(given, ports, where, "input of the block")
            if not given.values.keys() <= ports.keys():
                raise Wrong
            first, *_ = ports
            words = [given.values[port] for port in ports if port in given.values]
            above = () if first in given.values else (ABOVE,)
            sources = (*above, *self.references(Items(tuple(words), given.span), names, where))
        if sources is not None and len(sources) != max(len(ports), 1):
            assert given is not None
            message = f"from: expected {max(len(ports), 1)} layers, got {len(sources)}"
            raise self.findings.error("invalid-value", message, given.span, where, help=f"write {wanted}")
        return sources

    def outputs(self, block: Mapping, inner: LayerNames, where: Where) -> tuple[tuple[str, str], ...]:
        """Return the name and the layer of each output that a block declares."""
        given = block.get("outputs")
        if given is None:
            return ()
        where = Where("blocks", where.uses).down("outputs")
        if isinstance(given, Mapping):
            pairs = list(given.values.items())
        else:
            pairs = [(str(plain(word)), word) for word in (given.items if isinstance(given, Items) else (given,))]
        outputs = []
        for name, word in pairs:
            (value,) = self.references(word, inner, where)
            if value == INPUT or (inner.resolve(name) not in (None, value)):
                message = f"outputs: '{name}' is {'what arrives' if value == INPUT else 'another layer in the block'}"
                raise self.findings.error("invalid-value", message, word.span, where, help="name a layer of the block")
            outputs.append((name, value))
        return tuple(outputs)

    def owner(self, item: Mapping, called: str, names: LayerNames, where: Where) -> str | None:
        """Return the use of the same block whose parameters this one shares; None if it has its own."""
        given, where = item.get("share"), where.down("share")
        if given is None or plain(given) is False:
            return None
        if plain(given) is True:
            if "repeat" not in item.values:
                message = "share: true ties the repetitions of a block, and this one is not repeated"
                help = "write repeat: 3 beside it, or share: ID of another use of the block"
                raise self.findings.error("share-mismatch", message, given.span, where, help=help)
            return None
        for key in TRAINING:
            if key in item.values:
                message = f"{key}: that of the use whose parameters are shared holds here too"
                help, span = "write it there, and leave it out here", item.keys[key]
                raise self.findings.error("share-mismatch", message, span, where, help=help)
        name, *more = self.references(given, names, where)
        if more or self.instances.get(name, ("",))[0] != called:
            message = f"share: '{name}' is no use of block '{called}'"
            raise self.findings.error(
                "share-mismatch", message, given.span, where, help="name another use of the block"
            )
        return name

    def counterpart(self, owner: str, index: int | None) -> str:
        """Return the instance to which a repetition is tied: the one of the same number, or else the last one."""
        same = f"{owner}.{index + 1}" if index is not None else owner
        return self.instances.get(same, self.instances[owner])[1]

    @staticmethod
    def ties_repetitions(item: Mapping) -> bool:
        """Tell whether all repetitions share the parameters of the first."""
        return plain(item.values.get("share", Scalar(False, item.span))) is True
