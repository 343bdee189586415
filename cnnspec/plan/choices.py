"""The options of lowering: every choice computes the same network, at another speed or in other memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnspec.graph.passes import Pass


@dataclass(frozen=True)
class Choices:
    """The choices of one plan; the defaults are the fastest."""

    passes: Mapping[str, Pass] | None = None  # transformations of the graph, in order; None: all passes of the mode
    reuse_memory: bool = True  # arrays that never live at once share bytes
    divide_rows: bool = True  # two workers compute half of a layer's rows each, where the batch is one shard
    defer_gradients: bool = True  # parameters' gradients wait in the work queue, where the batch is one shard
    batch_gradients: bool = True  # large dense layers' gradients are one product over the images of all shards


BEST = Choices()
