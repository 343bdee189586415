"""Arranges the layers of a converted network for writing; an activation becomes a field of the layer before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnspec.convert.network import Draft, Network
from cnnspec.layers.base import Layer
from cnnspec.registry import find

HOSTS = ("conv2d", "dense")  # layers that have a field `activation`


class Layout:
    """The layers that the output needs, with activations merged into the layers before them."""

    def __init__(self, made: Network) -> None:
        self.inputs = made.inputs
        self.first = next(iter(made.inputs))  # what the first layer reads unless it says otherwise
        output = made.values[made.source.output]
        self.drafts = _reachable(made.drafts, output.layer)
        readers = Counter(source for draft in self.drafts for source in draft.sources)
        self.place = {key: key for key in made.inputs}  # by key of a layer, that of the written layer that contains it
        self.activations: dict[str, Draft] = {}
        by_key = {draft.key: draft for draft in self.drafts}
        for draft in self.drafts:
            host = by_key.get(draft.sources[0]) if len(draft.sources) == 1 else None
            if host is not None and host.type in HOSTS and readers[host.key] == 1 and is_activation(draft):
                self.activations[host.key] = draft
                self.place[draft.key] = host.key
            else:
                self.place[draft.key] = draft.key
        self.written = [draft for draft in self.drafts if self.place[draft.key] == draft.key]
        self.owners = self._owners()

    def sources(self, draft: Draft) -> list[str]:
        """Return the keys of the written layers that a layer reads."""
        return [self.place[source] for source in draft.sources]

    def _owners(self) -> dict[str, str]:
        """Map the key of a layer to that of the first layer with the same parameters in the file, if there is one."""
        first: dict[Any, Draft] = {}
        owners = {}
        for draft in self.written:
            origin = draft.origin[: len(draft.arrays.keys() - STATES)]
            owner = first.setdefault((draft.type, repr(draft.fields), origin), draft)
            if owner is not draft and draft.arrays and _same_parameters(owner, draft):
                owners[draft.key] = owner.key
        return owners

    def item(self, draft: Draft) -> dict[str, Any]:
        """Return a layer as a YAML mapping, without its name and inputs."""
        item: dict[str, Any] = {"type": draft.type, **draft.fields}
        activation = self.activations.get(draft.key)
        if activation is not None:
            fields = {"type": activation.type, **activation.fields}
            item["activation"] = fields if activation.fields else activation.type
        return item

    def notes(self, draft: Draft) -> list[str]:
        """Return the comments on a layer."""
        activation = self.activations.get(draft.key)
        return [*draft.notes, *(activation.notes if activation else ())]

    def named(self, drafts: Sequence[Draft]) -> set[str]:
        """Return the keys of layers that get an id: those with a name in the file, and parameters or a reader below."""
        above, names = self.first, {draft.key for draft in drafts if draft.arrays}
        for draft in drafts:
            if self.sources(draft) != [above]:
                names.update(self.sources(draft))
            above = draft.key
        return {draft.key for draft in drafts if draft.named and draft.key in names}


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


def is_activation(draft: Draft) -> bool:
    """Tell whether a layer is an elementwise function that is usually written as another layer's activation."""
    kind: type[Layer] = find("layer", draft.type)
    return not draft.arrays and kind.arity == (1, 1) and (kind.increasing or draft.type in ACTIVATIONS)


STATES = {"running_mean", "running_variance"}  # arrays that are not shared when parameters are tied
ACTIVATIONS = {"gelu", "silu", "hard_swish", "mish"}  # activations that are not increasing functions
