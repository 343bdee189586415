"""Random numbers that depend on the seed, the layer, the shard and the step alone: a resumed run draws the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnspec.kernels.step import Array


class Stream:
    """The random numbers of one layer in one shard: Philox with the step as its counter (Salmon et al. 2011)."""

    def __init__(self, seed: int, layer: str, shard: int, clock: Array) -> None:
        self._clock = clock
        self._bits = np.random.Philox(np.random.SeedSequence([seed, shard, *layer.encode()]))
        self._generator = np.random.Generator(self._bits)
        self._start: Any = self._bits.state
        self._counter = self._start["state"]["counter"]

    def uniform(self, out: Array) -> None:
        """Fill `out` with uniform numbers of [0, 1) for the current step of the clock."""
        self._counter[:] = (0, 0, int(self._clock), 0)
        self._bits.state = self._start
        self._generator.random(out=out, dtype=out.dtype)
