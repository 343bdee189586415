"""The names of layers and their inputs: ids, references to layers above, and the shapes of those."""

from __future__ import annotations

from collections.abc import Sequence

from cnnspec.diagnostics import Related
from cnnspec.spec.arriving import Arrival, Unknown
from cnnspec.spec.check import got
from cnnspec.spec.expand import Scope, filled
from cnnspec.spec.findings import Findings
from cnnspec.spec.grammar import LONGEST_PATH, NAME_WORDS, is_name
from cnnspec.spec.names import ABOVE, INPUT, LayerNames
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, plain


class References:
    """The names of all layers so far, and the shapes of their outputs; errors go into the findings."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.full_names: set[str] = set()
        self.shapes: dict[str, Arrival] = {}  # shapes by full name

    def claim_anyway(self, item: Tree, names: LayerNames) -> None:
        """Register the id of a wrong layer with an unknown shape, so that references to it are not errors too."""
        given = item.get("id") if isinstance(item, Mapping) else None
        if isinstance(given, Scalar) and isinstance(given.value, str):
            names.ids.setdefault(given.value, given.span)
            self.full_names.add(names.prefix + given.value)
            self.shapes[names.prefix + given.value] = Unknown()

    def arriving(self, item: Tree, scope: Scope, names: LayerNames, where: Where) -> Sequence[Arrival]:
        """Return the shapes of the values that an item reads."""
        given = item.get("from") if isinstance(item, Mapping) else None
        if given is None:
            return [names.above]
        where = where.down("from")
        if isinstance(given, Mapping):
            given = Items(tuple(given.values.values()), given.span)
        return self.shapes_of(self.references(filled(given, scope.at(None), self.findings, where), names, where), names)

    def shapes_of(self, inputs: tuple[str, ...] | None, names: LayerNames) -> list[Arrival]:
        """Return the shapes of an entry's inputs; None stands for the entry above."""
        if inputs is None:
            return [names.above]
        known = {INPUT: names.arrived, ABOVE: names.above}
        return [known.get(name) or self.shapes.get(name, Unknown()) for name in inputs]

    def made(self, name: str, shape: Arrival, names: LayerNames) -> None:
        """Record the shape of an entry's output."""
        self.shapes[name] = names.above = shape

    def name(self, item: Mapping, kind: str, names: LayerNames, where: Where) -> tuple[str, bool]:
        """Return the full name of an item, and whether the file gave it."""
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
                help=f'write "{plain(given)}"' if isinstance(plain(given), int) else None,
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
        """Return the full names in `from`; None if a layer reads the entry above."""
        given = item.get("from")
        return None if given is None else self.references(given, names, where.down("from"))

    def single(self, item: Mapping, names: LayerNames, where: Where) -> tuple[str, ...] | None:
        """Return the full name in the `from` of an item that reads one value: a residual, branches, a block."""
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
        """Return the full names of the layers above that a value refers to."""
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
        names_read = []
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
            names_read.append(full)
        return tuple(names_read)

    def within(self, prefix: str) -> list[str]:
        """Return every name so far under a prefix, without the prefix, also of layers inside blocks."""
        return sorted(name.removeprefix(prefix) for name in self.full_names if name.startswith(prefix))

    def known(self, name: str, shape: Arrival) -> None:
        """Register a full name that belongs to no layer, and its shape."""
        self.full_names.add(name)
        self.shapes[name] = shape
