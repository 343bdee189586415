"""Turns repetitions in a network into blocks: parts with one entry and one exit, and equal layers and connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnspec.convert.layout import STATES, Layout, is_activation
from cnnspec.convert.network import Draft
from cnnspec.convert.writing import layer_line
from cnnspec.fields import options
from cnnspec.graph import INPUT
from cnnspec.graph.render import flow
from cnnspec.kernels.step import Array
from cnnspec.registry import find

SHORTEST = 3  # fewest layers of a part for which a block is made
LETTERS = "bcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Part:
    """Consecutive layers between two values through which all of the network passes; `entry` is the first value."""

    entry: str
    drafts: list[Draft]
    block: str = ""  # the name of its block, if it is a use of one
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Structure:
    """The text of a network: the lines of `blocks` and `layers`, and all arrays by the names of layers and arrays."""

    blocks: list[str]
    layers: list[str]
    arrays: dict[str, Array]


def plain(layout: Layout) -> Structure:
    """Return the network as one list of layers."""
    return _structure(layout, [], [Part(layout.first, layout.written)])


def structured(layout: Layout) -> Structure:
    """Return the network with a block for every kind of part that occurs at least twice."""
    parts = _parts(layout)
    kinds: dict[Any, list[Part]] = {}
    for part in parts if len(layout.inputs) == 1 else parts[1:]:  # the first one reads all inputs
        if len(part.drafts) >= SHORTEST and not any(draft.key in layout.owners for draft in part.drafts):
            kinds.setdefault(_signature(layout, part), []).append(part)
    blocks = []
    counts = Counter[str]()
    for alike in kinds.values():
        if len(alike) > 1:
            blocks += _block(layout, alike, counts)
    return _structure(layout, blocks, parts)


def _parts(layout: Layout) -> list[Part]:
    """Divide the layers wherever a single value leads on; an activation belongs to the part before it."""
    place = {draft.key: number for number, draft in enumerate(layout.written)}
    last = dict.fromkeys(range(-1, len(layout.written)), -1)  # the last reader of each layer, by number
    for number, draft in enumerate(layout.written):
        for source in layout.sources(draft):
            last[place.get(source, -1)] = number
    parts: list[Part] = []
    furthest, drafts, entry = last[-1], list[Draft](), layout.first
    for number, draft in enumerate(layout.written):
        drafts.append(draft)
        if furthest <= number:
            if len(drafts) == 1 and parts and len(parts[-1].drafts) > 1 and is_activation(draft):
                parts[-1].drafts.append(draft)
            else:
                parts.append(Part(entry, drafts))
            entry, drafts = draft.key, []
        furthest = max(furthest, last[number])
    return parts


def _signature(layout: Layout, part: Part) -> tuple[Any, ...]:
    """Return the features that parts of one block have in common: types, activations, connections, mapping fields."""
    place = {part.entry: -1, **{draft.key: number for number, draft in enumerate(part.drafts)}}
    return tuple(
        (
            draft.type,
            repr({key: value for key, value in layout.item(draft).items() if isinstance(value, Mapping)}),
            repr(layout.item(draft).get("activation")),
            tuple(place[source] for source in layout.sources(draft)),
        )
        for draft in part.drafts
    )


def _block(layout: Layout, alike: Sequence[Part], taken: Counter[str]) -> list[str]:
    """Return the lines of a block, and set the block's name and parameters in each of the parts."""
    merge = next((draft.type for draft in reversed(alike[0].drafts) if len(draft.sources) > 1), "layer")
    taken[merge] += 1
    name = f"{merge}_block" if taken[merge] == 1 else f"{merge}_block_{LETTERS[(taken[merge] - 2) % len(LETTERS)]}"
    parameters = _Parameters(len(alike))
    local = _local_names(alike[0])
    lines, above = [], alike[0].entry
    for position, draft in enumerate(alike[0].drafts):
        items = [_complete(layout, part.drafts[position]) for part in alike]
        item = {
            key: parameters.said(key, [other.get(key) for other in items])
            for key in dict.fromkeys(key for other in items for key in other)
        }
        fields = {key: value for key, value in item.items() if value != _default(draft.type, key)}
        lines.append("    " + layer_line(fields, layout.sources(draft), above, local, layout.notes(draft)))
        above = draft.key
    for number, part in enumerate(alike):
        part.block, part.given = name, parameters.given(number)
    header = [f"  {name}:"]
    if parameters.values:
        header.append(f"    params: {flow(parameters.defaults())}")
    return [*header, "    layers:", *lines]


class _Parameters:
    """The fields that differ between uses of a block.

    Equal fields of one meaning share a parameter, and multiples become expressions: a kernel's size that happens to be
    equal to a number of filters says nothing of that number.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.values: dict[str, list[Any]] = {}
        self.meanings: dict[str, str] = {}  # by name of a parameter, the field that it is of

    def said(self, key: str, values: list[Any]) -> Any:
        """Return what the block says of a field that has these values in its uses: a value, or an expression."""
        if all(value == values[0] for value in values):
            return values[0]
        meaning = "filters" if key == "units" else key
        for name, known in self.values.items():
            if self.meanings[name] != meaning:
                continue
            if known == values:
                return f"${name}"
            if all(isinstance(value, int) for value in (*known, *values)) and min(known) > 0:
                factor = values[0] // known[0]
                if factor > 1 and values == [value * factor for value in known]:
                    return f"${{{name} * {factor}}}"
        name, number = key, 1
        while name in self.values:
            number += 1
            name = f"{key}_{number}"
        self.values[name], self.meanings[name] = values, meaning
        return f"${name}"

    def defaults(self) -> dict[str, Any]:
        """Return the default of each parameter: the value in more than half of the uses, if there is one."""
        return {name: self._usual(values) for name, values in self.values.items()}

    def _usual(self, values: list[Any]) -> Any:
        (_, count), *_ = Counter(map(repr, values)).most_common(1)
        usual = next(value for value in values if sum(other == value for other in values) == count)
        return usual if 2 * count > self.count else "required"

    def given(self, number: int) -> dict[str, Any]:
        """Return the parameters that a use sets, because they differ from the defaults."""
        usual = self.defaults()
        return {name: values[number] for name, values in self.values.items() if values[number] != usual[name]}


def _complete(layout: Layout, draft: Draft) -> dict[str, Any]:
    """Return a layer's type and fields in declared order, with the defaults of fields that may differ between uses."""
    item = layout.item(draft)
    item_fields = {"type": draft.type}
    for option in options(find("layer", draft.type)):
        if option.name in item:
            item_fields[option.name] = item[option.name]
        elif option.name in WRITTEN:
            item_fields[option.name] = _default(draft.type, option.name)
    return item_fields


WRITTEN = ("stride", "padding", "dilation", "groups", "bias", "multiplier")


def _default(type: str, key: str) -> Any:
    """Return a field's default in the form that YAML has."""
    for option in options(find("layer", type)):
        if option.name == key:
            value = option.default
            if isinstance(value, tuple) and len(value) == 2:
                return value[0] if value[0] == value[1] else list(value)
            return value
    return None


def _local_names(part: Part) -> dict[str, str]:
    names, counts = {part.entry: INPUT}, Counter[str]()
    for draft in part.drafts:
        counts[draft.type] += 1
        names[draft.key] = f"{draft.type}_{counts[draft.type]}"
    return names


def _uses(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield runs of consecutive parts that use one block with equal values; any other part by itself."""
    run: list[Part] = []
    for part in parts:
        if run and part.block and (part.block, part.given) == (run[0].block, run[0].given):
            run.append(part)
            continue
        if run:
            yield run
        run = [part]
    if run:
        yield run


def _structure(layout: Layout, blocks: list[str], parts: Sequence[Part]) -> Structure:
    single = [draft for part in parts if not part.block for draft in part.drafts]
    ids, counts = layout.named(single), Counter[str]()
    names = {key: key for key in layout.inputs}  # names of layers
    called = dict(names)  # those that others read them by
    lines, above = [], layout.first
    for run in _uses(parts):
        if run[0].block:
            counts[run[0].block] += 1
            use = f"{run[0].block}_{counts[run[0].block]}"
            for number, part in enumerate(run, 1):
                prefix = f"{use}.{number}" if len(run) > 1 else use
                local = _local_names(part)
                names |= {draft.key: f"{prefix}.{local[draft.key]}" for draft in part.drafts}
            above = run[-1].drafts[-1].key
            called[above] = use
            lines.append(_use_line(run[0], len(run)))
            continue
        for draft in run[0].drafts:
            name = draft.key
            if name not in ids:
                counts[draft.type] += 1
                while f"{draft.type}_{counts[draft.type]}" in {*ids, *layout.inputs}:
                    counts[draft.type] += 1
                name = f"{draft.type}_{counts[draft.type]}"
            names[draft.key] = called[draft.key] = name
            item = ({"id": name} if name in ids else {}) | layout.item(draft)
            if draft.key in layout.owners:
                item["share"] = names[layout.owners[draft.key]]
            lines.append(layer_line(item, layout.sources(draft), above, called, layout.notes(draft)))
            above = draft.key
    arrays = {
        f"{names[draft.key]}.{name}": array
        for draft in layout.written
        for name, array in draft.arrays.items()
        if draft.key not in layout.owners or name in STATES
    }
    return Structure(blocks, lines, arrays)


def _use_line(part: Part, count: int) -> str:
    item: Mapping[str, Any] = {
        "use": part.block,
        **({"repeat": count} if count > 1 else {}),
        **({"with": part.given} if part.given else {}),
    }
    return f"  - {part.block if len(item) == 1 else flow(item)}"
