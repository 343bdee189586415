"""Runs one layer on arrays of its own, in one shard or in several, with everything that it has to write poisoned.

Public arrays here are the plan's: maps (h, c, w, n), vectors (features, n).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array, Step
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Reduce, Steps, batch_shape
from cnnspec.plan.single import bind_single
from cnnspec.shapes import Shape


class Repeating:
    """A random stream that gives the same numbers at every draw, as a plan's does within a step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def uniform(self, out: Array) -> None:
        """Fill with uniform numbers of [0, 1)."""
        np.random.default_rng(self.seed).random(out=out, dtype=out.dtype)


def poison(array: Array) -> None:
    """Fill with what shows up in every result that reads it: NaN, or the largest value of a type without one."""
    array.fill(np.nan if array.dtype.kind == "f" else True if array.dtype.kind == "b" else np.iinfo(array.dtype).max)


def poisoned(shape: Shape, dtype: Any) -> Array:
    array = np.empty(shape, dtype)
    poison(array)
    return array


def read_only(array: Array) -> Array:
    """A view that can't be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def _read_only(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: read_only(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class Shard:
    """One shard: its operands and its bound steps."""

    operands: Operands
    prepare: Steps
    forward: Steps
    shared: Steps
    input: Steps
    params: Steps


class Bench:
    """One layer bound to random arrays; `forward()` and `backward()` run its programs over all shards."""

    def __init__(
        self,
        layer: Layer,
        shapes: Sequence[Shape],
        *,
        sizes: Sequence[int] = (3,),
        dtype: Any = np.float64,
        mode: Mode = "train",
        in_place: bool = False,
        seed: int = 0,
        readers: int = 1,
        wants_input_grads: bool = True,
        differentiated: bool = True,
    ) -> None:
        """`differentiated`: whether anybody wants gradients; else a layer that retains x may write over it."""
        self.layer, self.shapes, self.sizes, self.dtype, self.mode = layer, tuple(shapes), tuple(sizes), dtype, mode
        self.shape = layer.infer_shape(*shapes)
        self.batch, self.wants_input_grads, self.differentiated = sum(sizes), wants_input_grads, differentiated
        random = np.random.default_rng(seed)

        def normal(shape: Shape) -> Array:
            return random.standard_normal(shape).astype(dtype)

        self.inputs = [normal(batch_shape(shape, self.batch)) for shape in shapes]
        self.output_grads = [normal(batch_shape(self.shape, self.batch)) for _ in range(readers)]
        self.params = {name: normal(parameter.shape) for name, parameter in layer.params(*shapes).items()}
        self.state = {name: np.full(state.shape, state.fill, dtype) for name, state in layer.state(*shapes).items()}
        scratch = layer.scratch(*shapes, n=sizes[0], mode=mode).items()
        self.prepared = {
            name: poisoned(buffer.shape, buffer.dtype or dtype)
            for name, buffer in scratch
            if buffer.lifetime == "prepare"
        }
        starts = np.cumsum([0, *sizes]).tolist()
        bounds = list(pairwise(starts))
        self.shards = [self._shard(i, *bound, in_place) for i, bound in enumerate(bounds)]
        self.prepare = self.shards[0].prepare

    def _shard(self, index: int, start: int, stop: int, in_place: bool) -> Shard:
        n = stop - start
        inputs = tuple(np.ascontiguousarray(x[..., start:stop]) for x in self.inputs)
        output_grads = tuple(np.ascontiguousarray(dy[..., start:stop]) for dy in self.output_grads)
        kept = self.mode == "train" and self.differentiated and "x" in self.layer.retains
        over = in_place and self.layer.in_place and not kept
        output = inputs[0].view() if over else np.full(batch_shape(self.shape, n), np.nan, self.dtype)
        differentiated = self.mode == "train" and self.differentiated
        single = bind_single(
            self.layer,
            self.shapes,
            inputs,
            params=self.params,
            state=self.state,
            output_grads=output_grads if differentiated else (),
            output=output,
            input_grads=self._input_grads(inputs, output_grads, in_place),
            buffers=self.prepared,
            new=poisoned,
            mode=self.mode,
            shard=index,
            batch=self.batch,
            random=Repeating(index),
        )
        backward = single.backward
        return Shard(single.operands, single.prepare, single.forward, backward.shared, backward.input, backward.params)

    def _input_grads(
        self, inputs: tuple[Array, ...], output_grads: tuple[Array, ...], in_place: bool
    ) -> tuple[Array | None, ...]:
        if not self.wants_input_grads:
            return (None,) * len(inputs)
        place = {"x": inputs[0], "dy": output_grads[0]}.get(self.layer.gradient_place or "")
        return (place.view(),) if in_place and place is not None else tuple(np.full_like(x, np.nan) for x in inputs)

    def run(self, program: Callable[[Shard], Steps]) -> None:
        """Run one program over all shards, adding up at every Reduce."""
        for items in zip(*(program(shard) for shard in self.shards), strict=True):
            reduces = [item for item in items if isinstance(item, Reduce)]
            assert len(reduces) in (0, len(items)), "every shard adds up at the same place"
            if reduces:
                reduces[0].array[...] = sum(reduce.array for reduce in reduces)
                for reduce in reduces[1:]:
                    poison(reduce.array)
                reduces[0].after_sum()
            for item in items:
                if not isinstance(item, Reduce):
                    item()

    def forward(self) -> Array:
        """The output of all shards; runs what depends on parameters first."""
        for step in self.prepare:
            assert not isinstance(step, Reduce)
            step()
        self.run(lambda shard: shard.forward)
        return self.y

    def backward(self) -> None:
        """The gradients of inputs, then of parameters, as a plan runs them."""
        self.run(lambda shard: shard.shared)
        self.run(lambda shard: shard.input)
        self.run(lambda shard: shard.params)

    def backward_apart(self) -> None:
        """The same, each program bound to arrays of which it can write its own alone, and with the other's poisoned."""
        self.run(lambda shard: self._separate(shard, "shared").shared)
        for program, other in (("input", "params"), ("params", "input")):
            kept = [[array.copy() for array in self._of(shard, other)] for shard in self.shards]
            for shard in self.shards:
                for array in self._of(shard, other):
                    poison(array)
            self.run(lambda shard: getattr(self._separate(shard, program), program))  # noqa: B023
            for shard, arrays in zip(self.shards, kept, strict=True):
                for array, values in zip(self._of(shard, other), arrays, strict=True):
                    array[...] = values

    def _of(self, shard: Shard, program: str) -> list[Array]:
        """What a backward program writes: gradients, and the buffers that are its own."""
        o, lifetimes = (
            shard.operands,
            self.layer.scratch(*self.shapes, n=self.sizes[shard.operands.shard], mode="train"),
        )
        own = [array for name, array in o.buffers.items() if lifetimes[name].lifetime == program]
        return [*own, *(o.grads.values() if program == "params" else [dx for dx in o.input_grads if dx is not None])]

    def _separate(self, shard: Shard, program: str) -> Backward:
        """The programs of a shard bound anew, all read-only that this one must not write.

        It may write what shards share, at a `Reduce`.
        """
        o, lifetimes = (
            shard.operands,
            self.layer.scratch(*self.shapes, n=self.sizes[shard.operands.shard], mode="train"),
        )
        writable = {"shared", "input", "params"} if program == "shared" else {program, "prepare"}
        separate = replace(
            o,
            inputs=tuple(map(read_only, o.inputs)),
            output=read_only(o.output),
            output_grads=tuple(map(read_only, o.output_grads)),
            params=_read_only(o.params),
            state=_read_only(o.state),
            input_grads=tuple(dx if dx is None or program == "input" else read_only(dx) for dx in o.input_grads),
            grads=o.grads if program == "params" else _read_only(o.grads),
            buffers={
                name: array if lifetimes[name].lifetime in writable else read_only(array)
                for name, array in o.buffers.items()
            },
        )
        return self.layer.backward(separate)

    def forget(self) -> None:
        """Poison what backward must not read: inputs and outputs that are not retained, buffers of the forward pass."""
        lifetimes = self.layer.scratch(*self.shapes, n=self.sizes[0], mode=self.mode)
        for shard in self.shards:
            o = shard.operands
            for array in (
                *([] if "x" in self.layer.retains else o.inputs),
                *([] if "y" in self.layer.retains else [o.y]),
            ):
                poison(array)
            for name, array in o.buffers.items():
                if lifetimes[name].lifetime not in ("prepare", "kept"):
                    poison(array)

    @property
    def y(self) -> Array:
        """The output of the whole batch."""
        return np.concatenate([shard.operands.y for shard in self.shards], axis=-1)

    @property
    def input_grads(self) -> list[Array]:
        """The gradient of each input over the whole batch."""
        grads = zip(*(shard.operands.input_grads for shard in self.shards), strict=True)
        return [np.concatenate([part for part in parts if part is not None], axis=-1) for parts in grads]

    @property
    def grads(self) -> dict[str, Array]:
        """The gradient of each parameter, summed over shards."""
        return {name: sum(s.operands.grads[name] for s in self.shards) for name in self.params}  # type: ignore[misc]

    def objective(self) -> float:
        """sum(y * dy), whose gradients backward computes."""
        return float(sum((s.operands.output_grads[0] * s.operands.y).sum() for s in self.shards))


def slopes(bench: Bench, array: Array, places: Array, step: float = 1e-5) -> Array:
    """Central differences of the objective at flat `places` of an array that the layer reads."""
    flat = array.reshape(-1)
    found = []
    for place in places.tolist():
        kept = flat[place]
        values = []
        for moved in (kept + step, kept - step):
            flat[place] = moved
            bench.forward()
            values.append(bench.objective())
        flat[place] = kept
        found.append((values[0] - values[1]) / (2 * step))
    return np.array(found)


def steps_of(bench: Bench) -> list[Step]:
    """Every step that a plan would run, in order."""
    programs = [bench.prepare, *(p for s in bench.shards for p in (s.forward, s.shared, s.input, s.params))]
    return [item.after_sum if isinstance(item, Reduce) else item for program in programs for item in program]
