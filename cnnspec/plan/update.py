"""The optimizer's side of a plan: gradients of all shards are summed and applied, one stretch at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from math import ceil

import numpy as np

from cnnspec.kernels.step import Array, Step, in_turn
from cnnspec.optim import Optimizer, Update
from cnnspec.optim.settings import Clip
from cnnspec.plan.gathered import LARGE
from cnnspec.plan.reduce import tree_sum
from cnnspec.plan.weights import ALIGNMENT, Segment, Slot, Weights
from cnnspec.workers import shared

STRETCH = 1 << 16  # elements that one task updates: parameters, gradients and slots stay in the second-level cache

AVERAGE = "average/"  # before the names of what is averaged

Stretch = tuple[int, int, float]  # first, one past the last, weight decay


class Scratch(threading.local):
    """Temporary arrays of the thread that asks, the same ones for every stretch, so that they stay in its cache."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []

    def arrays(self, count: int, like: Array) -> tuple[Array, ...]:
        """So many, each like the given one, which is no longer than a stretch."""
        while len(self._arrays) < count:
            self._arrays.append(np.empty(STRETCH, like.dtype))
        return tuple(array[: len(like)] for array in self._arrays[:count])


class Own:
    """A step that every thread binds for itself when it first runs it, to its own scratch."""

    def __init__(self, bind: Callable[[], Step]) -> None:
        self._bind, self._bound = bind, threading.local()

    def __call__(self) -> None:
        """Run it."""
        try:
            step: Step = self._bound.step
        except AttributeError:
            step = self._bound.step = self._bind()
        step()


class Training:
    """What training adds to the weights: a flat gradient per shard, the optimizer's slots, the rate and the clock.

    It outlives the plans of different batch sizes, which share it. Beside the optimizer's own there may be the slots
    `accumulated`, the gradients of the steps since the last update, and `average`, the moving average of the weights.

    Averaged weights need averaged running statistics: both follow, update by update, as average += share (value -
    average), with share = max(1 - decay, 10 / (9 + updates)): the first update is a copy, and what the network was
    in its first steps is forgotten soon. Source: tf.train.ExponentialMovingAverage, whose warm-up is nearly this one.
    """

    def __init__(
        self,
        weights: Weights,
        optimizer: Optimizer,
        shards: int = 1,
        *,
        clip: Clip | None = None,
        accumulate: int = 1,
        average: float | None = None,
    ) -> None:
        self.weights, self.optimizer = weights, optimizer
        self.clip, self.accumulate, self.average = clip or Clip(), accumulate, average
        self.gradients: list[Array] = [self._like_weights() for _ in range(shards)]
        extra = (["accumulated"] if accumulate > 1 else []) + (["average"] if average is not None else [])
        self.slots: dict[str, Array] = {name: self._like_weights() for name in (*optimizer.slots(), *extra)}
        self.statistics, self.work = np.zeros_like(weights.statistics), np.zeros_like(weights.statistics)
        self._scratch = Scratch()
        self.share: Array = shared((), weights.values.dtype, 1)  # of the averages that the running update replaces
        self.rate: Array = shared((), np.float64, optimizer.learning_rate)
        self.clock: Array = shared((), np.int64)  # steps begun
        self.updates: Array = shared((), np.int64)  # of the weights

    @property
    def due(self) -> bool:
        """Whether the running step ends with an update of the weights."""
        return int(self.clock) % self.accumulate == 0

    def grow(self, shards: int) -> None:
        """Have a gradient for that many shards."""
        while len(self.gradients) < shards:
            self.gradients.append(self._like_weights())

    def _like_weights(self) -> Array:
        return shared(self.weights.values.shape, self.weights.values.dtype)

    def tick(self) -> None:
        """A step begins."""
        self.clock.fill(self.clock.item() + 1)

    def begin(self, rate: float) -> None:
        """Set what a step's tasks read."""
        self.rate.fill(rate)
        self.updates.fill(self.clock.item() // self.accumulate)
        if self.average is not None:
            self.share.fill(max(1 - self.average, 10 / (9 + self.updates.item())))

    def end(self) -> None:
        """What follows an update of the weights."""
        self.weights.version += 1
        if self.average is not None:
            self._follow(self.statistics, self.weights.statistics, self.work)

    def _follow(self, average: Array, values: Array, work: Array) -> None:
        np.subtract(values, average, out=work)
        np.multiply(work, self.share, out=work)
        np.add(average, work, out=average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving averages in the place of weights and statistics, where they are kept and there was an update."""
        if not self._has_averages:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for own, average in self._pairs():
            kept = own.copy()
            np.copyto(own, average)
            np.copyto(average, kept)
        self.weights.version += 1

    def settle(self) -> None:
        """Make the averages, where they are kept and there was an update, the weights and statistics for good."""
        if self._has_averages:
            for own, average in self._pairs():
                np.copyto(own, average)
            self.weights.version += 1

    @property
    def _has_averages(self) -> bool:
        return self.average is not None and int(self.updates) > 0

    def _pairs(self) -> list[tuple[Array, Array]]:
        trained = slice(0, self.weights.trained)
        return [
            (self.weights.values[trained], self.slots["average"][trained]),
            (self.weights.statistics, self.statistics),
        ]

    def arrays(self) -> dict[str, Array]:
        """Everything that a checkpoint of training holds, by slot and name."""
        slots = {
            f"{slot}/{key}": array
            for slot, flat in self.slots.items()
            for key, array in self.weights.trained_in(flat).items()
        }
        return slots | self.averages()

    def averages(self) -> dict[str, Array]:
        """The moving averages, as `arrays` names them; none where none are kept."""
        if self.average is None:
            return {}
        found = self.weights.moving(self.slots["average"], self.statistics)
        return {f"{AVERAGE}{key}": array for key, array in found.items()}

    def gather(self, shards: int) -> list[list[Step]]:
        """The phase of a step without an update: gradients are added to those before."""
        return [[self._accumulating(*stretch, shards) for stretch in self._stretches()]]

    def phases(self, shards: int) -> list[list[Step]]:
        """Sum the gradients of that many shards and apply them: tasks that touch no element twice.

        Clipping by the norm needs the whole gradient before any of it is applied: two phases and a meeting.
        """
        stretches = list(self._stretches())
        if self.clip.norm is None:
            return [[self._applying(*stretch, shards) for stretch in stretches]]
        updates = [self._updating(*stretch) for stretch in stretches]
        squares = shared((len(stretches),), np.float64)
        sums = [self._squaring(self._summing(*s, shards), s, squares, i) for i, s in enumerate(stretches)]
        factor = shared((), self.weights.values.dtype, 1)
        applied = [in_turn([self._scaling(s, factor), u]) for s, u in zip(stretches, updates, strict=True)]
        return [sums, [self._measuring(squares, factor)], applied]

    @property
    def piecewise(self) -> bool:
        """Whether a stretch can be updated as soon as its own gradient is there."""
        return self.clip.norm is None and self.accumulate == 1

    def large(self, node: str) -> bool:
        """Whether any of a node's parameters is worth updates of its own."""
        return any(slot.stop - slot.start >= LARGE for slot in self.weights.slots if slot.node.name == node)

    def updates_of(self, node: str, shards: int, *, but: str | None = None) -> list[Step]:
        """The updates of a node's parameters, but for one, by the sum of so many shards' gradients as they come."""
        return [
            step
            for segment, slot in self._slots_of(node)
            if slot.name != but
            for step in self._updates(segment, slot.start, slot.stop, shards)
        ]

    def updates_within(self, node: str, name: str, part: slice) -> list[Step]:
        """The updates of some elements of a parameter whose gradient, in the first shard's place, is that of all."""
        return [
            step
            for segment, slot in self._slots_of(node)
            if slot.name == name
            for step in self._updates(segment, slot.start + part.start, slot.start + part.stop, 1)
        ]

    def rest(self, nodes: Collection[str], shards: int) -> list[Step]:
        """The updates of what the nodes leave out, parameters side by side at once."""
        steps: list[Step] = []
        for segment in self.weights.segments:
            for left_out, slots in groupby(self._slots(segment), lambda slot: slot.node.name not in nodes):
                if left_out:
                    run = list(slots)
                    steps += self._updates(segment, run[0].start, run[-1].stop, shards)
        return steps

    def _updates(self, segment: Segment, start: int, stop: int, shards: int) -> Iterator[Step]:
        """The updates of some elements of a segment."""
        for stretch in _cut(start, stop, segment.weight_decay):
            yield self._applying(*stretch, shards)

    def _slots_of(self, node: str) -> Iterator[tuple[Segment, Slot]]:
        """The parameters of a node that are trained."""
        for segment in self.weights.segments:
            yield from ((segment, slot) for slot in self._slots(segment) if slot.node.name == node)

    def _slots(self, segment: Segment) -> list[Slot]:
        """The parameters of a segment, as they lie."""
        return [slot for slot in self.weights.slots if segment.start <= slot.start < segment.stop]

    def _stretches(self) -> Iterator[Stretch]:
        for segment in self.weights.segments:
            yield from _cut(segment.start, segment.stop, segment.weight_decay)

    def _applying(self, start: int, stop: int, decay: float, shards: int) -> Step:
        update = self._updating(start, stop, decay)
        if shards == self.accumulate == 1:
            return update
        return in_turn([self._summing(start, stop, decay, shards), update])

    def _accumulating(self, start: int, stop: int, decay: float, shards: int) -> Step:
        add = tree_sum([gradient[start:stop] for gradient in self.gradients[:shards]])
        part, kept = self.gradients[0][start:stop], self.slots["accumulated"][start:stop]

        def step() -> None:
            add()
            np.add(kept, part, out=kept)

        return step

    def _summing(self, start: int, stop: int, decay: float, shards: int) -> Step:
        """The gradient of the step, or the mean of those since the last update, into the first shard's array."""
        add = tree_sum([gradient[start:stop] for gradient in self.gradients[:shards]])
        if self.accumulate == 1:
            return add
        part, kept, share = self.gradients[0][start:stop], self.slots["accumulated"][start:stop], 1 / self.accumulate

        def step() -> None:
            add()
            np.add(part, kept, out=part)
            np.multiply(part, share, out=part)
            kept.fill(0)

        return step

    def _updating(self, start: int, stop: int, weight_decay: float) -> Step:
        weights, gradient = self.weights.values[start:stop], self.gradients[0][start:stop]
        update = Update(self.rate, self.updates)
        limit, average = self.clip.value, None if self.average is None else self.slots["average"][start:stop]

        def bind() -> Step:
            apply = self.optimizer.bind(
                weights,
                gradient,
                {name: slot[start:stop] for name, slot in self.slots.items()},
                self._scratch.arrays(self.optimizer.scratch, weights),
                update,
                weight_decay,
            )

            def step() -> None:
                if limit is not None:
                    np.clip(gradient, -limit, limit, out=gradient)
                apply()
                if average is not None:
                    self._follow(average, weights, gradient)

            return step

        return Own(bind)

    def _squaring(self, add: Step, stretch: Stretch, squares: Array, index: int) -> Step:
        part = self.gradients[0][stretch[0] : stretch[1]]

        def step() -> None:
            add()
            squares[index] = np.vdot(part, part)

        return step

    def _measuring(self, squares: Array, factor: Array) -> Step:
        most = self.clip.norm

        def step() -> None:
            norm = float(np.sqrt(np.add.reduce(squares)))
            factor[...] = 1.0 if most is None or norm <= most else most / norm

        return step

    def _scaling(self, stretch: Stretch, factor: Array) -> Step:
        part = self.gradients[0][stretch[0] : stretch[1]]
        return partial(np.multiply, part, factor, part)


def _cut(start: int, stop: int, weight_decay: float) -> Iterator[Stretch]:
    """Stretches of nearly the same length, so that two members finish together."""
    if start < stop:
        length = ceil((stop - start) / ceil((stop - start) / STRETCH) / ALIGNMENT) * ALIGNMENT
        for first in range(start, stop, length):
            yield first, min(first + length, stop), weight_decay
