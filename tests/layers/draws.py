"""What random configurations of layers are drawn from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cnnspec import registry
from cnnspec.layers.base import Layer

lengths = st.integers(1, 7)
maps = st.tuples(st.integers(1, 5), lengths, lengths)
shapes = st.one_of(maps, st.tuples(st.integers(1, 9)))
paddings: st.SearchStrategy[Any] = st.sampled_from(["valid", 1, (0, 1, 1, 0)])
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
numbers = st.floats(0.0625, 2.0, width=32)  # as ONNX keeps its attributes


def new(name: str, **fields: Any) -> Layer:
    layer: Layer = registry.find("layer", name)(**fields)
    return layer
