"""Layers as the text of a spec, as a person would write it: chains as lists, names where they are read or meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.convert.network import Draft, Network
from cnnspec.graph import INPUT
from cnnspec.graph.render import flow
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer
from cnnspec.registry import find

HOSTS = ("conv2d", "dense")  # layers that have a field `activation`
WIDTH = 110  # of a comment's line


class Layout:
    """The layers that the output needs, with activations in their hosts, and what each is called."""

    def __init__(self, made: Network) -> None:
        self.input = made.input_shape
        output = made.values[made.source.output]
        self.drafts = _reachable(made.drafts, output.layer)
        readers = Counter(source for draft in self.drafts for source in draft.sources)
        self.place: dict[str, str] = {INPUT: INPUT}  # by the key of a layer, that of the layer it is written in
        self.activations: dict[str, Draft] = {}
        by_key = {draft.key: draft for draft in self.drafts}
        for draft in self.drafts:
            host = by_key.get(draft.sources[0]) if len(draft.sources) == 1 else None
            if host is not None and host.type in HOSTS and readers[host.key] == 1 and _is_activation(draft):
                self.activations[host.key] = draft
                self.place[draft.key] = host.key
            else:
                self.place[draft.key] = draft.key
        self.written = [draft for draft in self.drafts if self.place[draft.key] == draft.key]
        self.from_below = self._read_from_below()
        self.owners = self._owners()
        self.names = self._names()

    def sources(self, draft: Draft) -> list[str]:
        """The keys of the layers, as they are written, that a layer reads."""
        return [self.place[source] for source in draft.sources]

    def _names(self) -> dict[str, str]:
        """What each layer is called: by the file's name, or by its type and number as the language does."""
        names, counts = {INPUT: INPUT}, Counter[str]()
        taken = {draft.key for draft in self.written if self.is_named(draft)}
        for draft in self.written:
            if self.is_named(draft):
                names[draft.key] = draft.key
                continue
            counts[draft.type] += 1
            while f"{draft.type}_{counts[draft.type]}" in taken:
                counts[draft.type] += 1
            names[draft.key] = f"{draft.type}_{counts[draft.type]}"
        return names

    def _owners(self) -> dict[str, str]:
        """By the key of a layer, that of the first one that has its parameters from the same constants of the file."""
        first: dict[Any, Draft] = {}
        found = {}
        for draft in self.written:
            owner = first.setdefault((draft.type, repr(draft.fields), draft.origin), draft)
            if owner is not draft and draft.arrays and _same_parameters(owner, draft):
                found[draft.key] = owner.key
        return found

    def is_named(self, draft: Draft) -> bool:
        """Whether a layer has an id: the file names it, and it has parameters or is read from further below."""
        return draft.named and bool(draft.arrays or draft.key in self.from_below)

    def _read_from_below(self) -> set[str]:
        above, found = INPUT, set[str]()
        for draft in self.written:
            if self.sources(draft) != [above]:
                found.update(self.sources(draft))
            above = draft.key
        return found

    def lines(self) -> list[str]:
        """One line of YAML for each layer."""
        above, lines = INPUT, []
        for draft in self.written:
            sources = self.sources(draft)
            item: dict[str, Any] = {"id": draft.key} if self.is_named(draft) else {}
            item |= {"type": draft.type, **draft.fields}
            activation = self.activations.get(draft.key)
            notes = list(draft.notes)
            if activation is not None:
                fields = {"type": activation.type, **activation.fields}
                item["activation"] = fields if activation.fields else activation.type
                notes += activation.notes
            if draft.key in self.owners:
                item["share"] = self.names[self.owners[draft.key]]
            if sources != [above]:
                called = [self.names[source] for source in sources]
                item["from"] = called[0] if len(called) == 1 else called
            comment = f"  # {'; '.join(notes)}" if notes else ""
            lines.append(f"  - {draft.type if list(item) == ['type'] else flow(item)}{comment}")
            above = draft.key
        return lines

    def arrays(self) -> dict[str, Array]:
        """All arrays by the layer's name and theirs."""
        return {
            f"{self.names[draft.key]}.{name}": array
            for draft in self.written
            for name, array in draft.arrays.items()
            if draft.key not in self.owners or name in STATES
        }


def _reachable(drafts: Mapping[str, Draft], output: str) -> list[Draft]:
    wanted = {output}
    for draft in reversed(list(drafts.values())):
        if draft.key in wanted:
            wanted.update(draft.sources)
    return [draft for draft in drafts.values() if draft.key in wanted]


def _same_parameters(owner: Draft, draft: Draft) -> bool:
    return owner.arrays.keys() == draft.arrays.keys() and all(
        owner.arrays[name].shape == array.shape and np.array_equal(owner.arrays[name], array)
        for name, array in draft.arrays.items()
        if name not in STATES
    )


def _is_activation(draft: Draft) -> bool:
    kind: type[Layer] = find("layer", draft.type)
    return not draft.arrays and kind.arity == (1, 1) and (kind.increasing or draft.type in ACTIVATIONS)


STATES = {"running_mean", "running_variance"}  # which layers with shared parameters have each of their own
ACTIVATIONS = {"gelu", "silu", "hard_swish", "mish"}  # those that are not increasing


def spec_text(name: str, layout: Layout, header: Sequence[str], expect: Mapping[str, Any]) -> str:
    """The spec, with comments in front of it and what it is expected to have behind it."""
    lines = [f"# {line}" for text in header for line in _wrapped(text)]
    lines += ["cnnspec: 1", f"name: {flow(name)}", f"input: {flow(list(layout.input))}", "", "layers:"]
    lines += layout.lines()
    lines += ["", f"expect: {flow(dict(expect))}"] if expect else []
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    found, line = [], ""
    for word in re.sub(r"[^ -~]+", "?", text).split(" "):
        if line and len(line) + len(word) + 1 > WIDTH:
            found.append(line)
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return [*found, line]
