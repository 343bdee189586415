"""The state of training beside the weights, and the steps from gradients to updates: sums, clipping, averages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np

from cnnspec.kernels.step import Array, Step, join_steps
from cnnspec.optim import Optimizer, Update
from cnnspec.optim.settings import Clip, Lookahead
from cnnspec.period import ALWAYS, Period
from cnnspec.plan.state.all_reduce import tree_sum
from cnnspec.plan.state.gradient_norms import GradientNorms
from cnnspec.plan.state.parameters import ALIGNMENT, LARGE, Rule, Slot, Weights
from cnnspec.shapes import Shape
from cnnspec.workers import shared

CHUNK = 1 << 16  # elements that are updated at once: parameters, gradients and slots stay in the second-level cache


AVERAGE = "average/"  # the prefix of the names of averages in a checkpoint
UPDATES = "updates/"  # the prefix of the counts of updates


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some elements of the flat arrays, all with one rule and optimizer; no two chunks of a step overlap."""

    start: int
    stop: int
    rule: Rule
    optimizer: Optimizer
    shape: Shape | None = None  # the parameter's, if that is updated as a whole

    @property
    def elements(self) -> slice:
        """The place of the chunk in the flat arrays."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, slots=True)
class _Timing:
    """The update's rate and number for all parameters with one factor of the learning rate and one period."""

    rate_factor: float
    period: Period
    update: Update
    active: Array  # whether the running step lies in the period


class Training:
    """What training adds to the weights: a flat gradient for each shard, the optimizer's slots, the rate, the clock.

    It outlives the plans of different batch sizes, which all work on it. Beside the optimizer's slots there may be
    `accumulated`, the gradients of the steps since the last update, and `average`, the moving average of the weights.

    Averaged weights need averaged running statistics. Each update moves both averages towards the values, by average +=
    fraction (value - average), with fraction = max(1 - decay, 10 / (9 + updates)): the first update is a copy, and the
    weights of the first steps lose their influence soon. Source: tf.train.ExponentialMovingAverage, whose
    warm-up is nearly the same.
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
        swa: bool = False,
        lookahead: Lookahead | None = None,
    ) -> None:
        self.weights, self.optimizer, self.lookahead = weights, optimizer, lookahead
        self.clip, self.accumulate, self.average = clip or Clip(), accumulate, average
        self.gradients: list[Array] = [self._like_weights() for _ in range(shards)]
        self.swa, self._states_in_mean = swa, np.zeros((), np.uint64)  # how many states of the weights are in the mean
        needed = {
            "accumulated": accumulate > 1,
            "average": average is not None or swa,
            "slow": lookahead is not None,
        }
        self._extra_slots = [name for name, is_needed in needed.items() if is_needed]
        self.slots: dict[str, Array] = {
            name: self._like_weights() for name in (*optimizer.every_slot(), *self._extra_slots)
        }
        self.statistics = np.zeros_like(weights.statistics)
        self._large = {slot.node.name for slot in weights.slots if slot.stop - slot.start >= LARGE}  # their nodes
        self.clock: Array = shared((), np.int64)  # the number of steps begun
        self._timings: dict[tuple[float, Period], _Timing] = {}
        rules = [
            (segment.rule, self._optimizer_of(slot))
            for segment in weights.segments
            for slot in weights.slots_within(segment)
        ]
        for key in dict.fromkeys(self._timing_key(rule, optimizer) for rule, optimizer in rules):
            update = Update(rate=shared((), np.float64), number=shared((), np.int64))
            self._timings[key] = _Timing(*key, update, shared((), np.bool_))
        self._counts: dict[Period, Array] = {  # the updates within each period; for ALWAYS they are `updates`
            period: np.zeros((), np.uint64) for _, period in self._timings if period != ALWAYS
        }
        self._fraction: Array = shared((), weights.values.dtype, 1)  # of the averages that this update replaces
        self._scratch = _Scratch(weights.values.dtype)
        self.norms = GradientNorms(weights, self.clock)

    def _optimizer_of(self, slot: Slot) -> Optimizer:
        return self.optimizer.for_parameter(slot.shape, weight=slot.node.params[slot.name].decays)

    def _timing_key(self, rule: Rule, optimizer: Optimizer) -> tuple[float, Period]:
        """The factor of the learning rate for a rule and an optimizer, which may have its own rate, and the period."""
        return rule.rate_factor * (optimizer.learning_rate / self.optimizer.learning_rate), rule.period

    def _like_weights(self) -> Array:
        return shared(self.weights.values.shape, self.weights.values.dtype)

    def grow(self, shards: int) -> None:
        """Add flat gradients until there is one for each of `shards` shards."""
        self.gradients += [self._like_weights() for _ in range(shards - len(self.gradients))]

    # The beginning and the end of a step.

    @property
    def updates(self) -> int:
        """The number of updates of the weights after the steps begun so far."""
        return int(self.clock) // self.accumulate

    def begin(self, rate: float, moment: float = 0.0) -> bool:
        """Begin a step at a learning rate, after `moment` passes; return whether it ends with an update of the weights.

        Parameters outside of their period do not change and count no update: a period begins as a training does.
        """
        self.clock.fill(self.clock.item() + 1)
        due = int(self.clock) % self.accumulate == 0
        for period, count in self._counts.items():
            count.fill(count.item() + (due and moment in period))
        for timing in self._timings.values():
            timing.active.fill(moment in timing.period)
            timing.update.rate.fill(rate * timing.rate_factor)
            timing.update.number.fill(self._counts.get(timing.period, self.updates))
        if self.average is not None:
            self._fraction.fill(max(1 - self.average, 10 / (9 + max(self.updates, 1))))
        return due

    def end(self) -> None:
        """Update the averages of the running statistics, after the weights have been updated."""
        if self.average is not None:
            _move_towards(self.statistics, self.weights.statistics, np.empty_like(self.statistics), self._fraction)

    # The steps of tasks, each on one chunk.

    def has_large_parameter(self, node: str) -> bool:
        """Whether one of a node's parameters is large enough to be updated in chunks of its own."""
        return node in self._large

    def chunks(self, boundaries: Iterable[int] = (), apart: Collection[str] = ()) -> Iterator[Chunk]:
        """Divide the trained parameters: large ones into chunks of their own, small neighbours into common chunks.

        A large parameter is cut at the `boundaries` that lie within it. The parameters of the nodes `apart` share no
        chunk with others, however small they are; nor do parameters that their optimizer updates as a whole.
        """
        cuts, optimizer = sorted(boundaries), self.optimizer.for_parameter((1,), weight=False)
        for segment in self.weights.segments:
            start = segment.start
            for slot in self.weights.slots_within(segment):
                slot_optimizer = self._optimizer_of(slot)
                if slot.stop - slot.start < LARGE and slot.node.name not in apart and not slot_optimizer.whole:
                    continue
                yield from _cut_evenly(Chunk(start, slot.start, segment.rule, optimizer))
                start = slot.stop
                if slot_optimizer.whole:
                    yield Chunk(slot.start, slot.stop, segment.rule, slot_optimizer, slot.shape)
                    continue
                ends = [cut for cut in cuts if slot.start < cut < slot.stop]
                for first, last in pairwise([slot.start, *ends, slot.stop]):
                    chunk = Chunk(first, last, segment.rule, slot_optimizer)
                    yield from [chunk] if ends else _cut_evenly(chunk)
            yield from _cut_evenly(Chunk(start, segment.stop, segment.rule, optimizer))

    def sum_step(self, chunk: Chunk, shards: int) -> Step:
        """The step that sums a chunk of that many shards' gradients into the first one's place."""
        return tree_sum([gradient[chunk.elements] for gradient in self.gradients[:shards]])

    def accumulate_step(self, chunk: Chunk) -> Step:
        """The step that adds a chunk's summed gradient to the gradients of earlier steps."""
        gradient, accumulated = self.gradients[0][chunk.elements], self.slots["accumulated"][chunk.elements]
        return lambda: np.add(accumulated, gradient, out=accumulated)

    def mean_step(self, chunk: Chunk) -> Step:
        """The step that replaces a chunk's summed gradient by the mean over all steps since the last update."""
        gradient, accumulated = self.gradients[0][chunk.elements], self.slots["accumulated"][chunk.elements]
        factor = 1 / self.accumulate

        def step() -> None:
            np.add(gradient, accumulated, out=gradient)
            np.multiply(gradient, factor, out=gradient)
            accumulated.fill(0)

        return step

    def square_step(self, chunk: Chunk, square: Array) -> Step:
        """The step that writes the sum of a chunk's squares to an array of one number: 0 while it is not trained."""
        gradient, active = self.gradients[0][chunk.elements], self._timing(chunk).active
        return lambda: square.fill(np.vdot(gradient, gradient) if active else 0)

    def factor_step(self, squares: Array, factor: Array) -> Step:
        """The step that writes to `factor` what gradients must be multiplied by for a norm of at most the limit."""
        limit = self.clip.norm or np.inf

        def step() -> None:
            norm = float(np.sqrt(np.add.reduce(squares)))
            factor.fill(1.0 if norm <= limit else limit / norm)

        return step

    def scale_step(self, chunk: Chunk, factor: Array) -> Step:
        """The step that multiplies a chunk of the gradient by `factor`."""
        gradient = self.gradients[0][chunk.elements]
        return lambda: np.multiply(gradient, factor, out=gradient)

    def update_step(self, chunk: Chunk) -> Step:
        """The step that updates a chunk of the weights, and its average, by the summed gradient."""
        parts = [chunk] if chunk.shape else _cut_evenly(chunk)
        measuring = self.norms.measure_step(self.gradients[0], chunk.start, chunk.stop)
        return join_steps([measuring, *(_BoundByThread(self._binder(part)) for part in parts)])

    def _timing(self, chunk: Chunk) -> _Timing:
        return self._timings[self._timing_key(chunk.rule, chunk.optimizer)]

    def _binder(self, chunk: Chunk) -> Callable[[], Step]:
        weights, gradient = self.weights.values[chunk.elements], self.gradients[0][chunk.elements]
        limit, fraction, timing = self.clip.value, self._fraction, self._timing(chunk)
        average = None if self.average is None else self.slots["average"][chunk.elements]
        optimizer, shape = chunk.optimizer, chunk.shape or weights.shape

        def bind() -> Step:
            update = optimizer.bind(
                weights.reshape(shape),
                gradient.reshape(shape),
                {name: self.slots[name][chunk.elements].reshape(shape) for name in optimizer.slots()},
                tuple(array.reshape(shape) for array in self._scratch.arrays(optimizer.scratch, len(weights))),
                timing.update,
                chunk.rule.weight_decay,
            )
            if self.lookahead is not None:
                slow = self.slots["slow"][chunk.elements]
                update = _with_lookahead(self.lookahead, update, weights, gradient, slow, timing.update.number)
            if limit is None and average is None and timing.period == ALWAYS:
                return update

            def step() -> None:
                if limit is not None:
                    np.clip(gradient, -limit, limit, out=gradient)
                if timing.active:
                    update()
                if average is not None:
                    _move_towards(average, weights, gradient, fraction)

            return step

        return bind

    # The averages, and what a checkpoint holds.

    def add_to_mean(self) -> None:
        """Include the current weights and statistics in the mean of stochastic weight averaging."""
        self._states_in_mean.fill(self._states_in_mean.item() + 1)
        fraction = np.asarray(1 / self._states_in_mean.item(), self.weights.values.dtype)
        for array, average in self._averaged_pairs():
            _move_towards(average, array, np.empty_like(average), fraction)

    @property
    def averaged_states(self) -> int:
        """The number of states of the weights in the averages; with 0 there are no averages yet."""
        return self._states_in_mean.item() if self.swa else self.updates if self.average is not None else 0

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace weights and statistics by their averages, if there are any, inside of a `with`."""
        if not self._has_averages:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for array, average in self._averaged_pairs():
            previous = array.copy()
            np.copyto(array, average)
            np.copyto(average, previous)
        self.weights.version += 1

    def adopt_averages(self) -> None:
        """Replace weights and statistics by their averages for good, if any are kept and there has been an update."""
        if self._has_averages:
            for array, average in self._averaged_pairs():
                np.copyto(array, average)
            self.weights.version += 1

    @property
    def _has_averages(self) -> bool:
        return self.averaged_states > 0

    def _averaged_pairs(self) -> list[tuple[Array, Array]]:
        trained = slice(0, self.weights.trained)
        return [
            (self.weights.values[trained], self.slots["average"][trained]),
            (self.weights.statistics, self.statistics),
        ]

    def arrays(self) -> dict[str, Array]:
        """The arrays that a checkpoint of training holds, by slot and name."""
        slots_of = {slot.key: (*self._optimizer_of(slot).slots(), *self._extra_slots) for slot in self.weights.slots}
        slots = {
            f"{slot}/{key}": array
            for slot, flat in self.slots.items()
            for key, array in self.weights.trained_in(flat).items()
            if slot in slots_of[key]
        }
        counts = {f"{UPDATES}{period}": count for period, count in self._counts.items()}
        return slots | self.averages() | counts | ({f"{UPDATES}swa": self._states_in_mean} if self.swa else {})

    def averages(self) -> dict[str, Array]:
        """The averages, as `arrays` names them; empty if none are kept."""
        if "average" not in self.slots:
            return {}
        moving = self.weights.averaged_in(self.slots["average"], self.statistics)
        return {f"{AVERAGE}{key}": array for key, array in moving.items()}


def _move_towards(average: Array, values: Array, work: Array, fraction: Array) -> None:
    np.subtract(values, average, out=work)
    np.multiply(work, fraction, out=work)
    np.add(average, work, out=average)


def _with_lookahead(settings: Lookahead, update: Step, weights: Array, work: Array, slow: Array, number: Array) -> Step:
    """The step of Lookahead: after every `every` updates, slow weights move towards the weights, and replace them.

    The slow weights are copied from the weights at the first of these updates, when both are equal.
    """
    every, share = settings.every, settings.share

    def step() -> None:
        if (int(number) - 1) % every == 0:
            np.copyto(slow, weights)
        update()
        if int(number) % every == 0:
            np.subtract(weights, slow, out=work)
            np.multiply(work, share, out=work)
            np.add(slow, work, out=weights)

    return step


def _cut_evenly(chunk: Chunk) -> Iterator[Chunk]:
    """Divide a chunk into parts of nearly the same length, so that two workers finish together."""
    start, stop = chunk.start, chunk.stop
    if start < stop:
        length = ceil((stop - start) / ceil((stop - start) / CHUNK) / ALIGNMENT) * ALIGNMENT
        for first in range(start, stop, length):
            yield replace(chunk, start=first, stop=min(first + length, stop))


class _Scratch(threading.local):
    """Temporary arrays of one thread, the same ones for every chunk, so that they stay in its cache."""

    def __init__(self, dtype: np.dtype[np.generic]) -> None:
        self._dtype, self._arrays = dtype, list[Array]()

    def arrays(self, count: int, length: int) -> tuple[Array, ...]:
        """Return `count` arrays of a length, which exceeds a chunk only for a parameter that is updated as a whole."""
        large = [array for array in self._arrays if len(array) >= length]
        self._arrays = large + [np.empty(max(length, CHUNK), self._dtype) for _ in range(count - len(large))]
        return tuple(array[:length] for array in self._arrays[:count])


class _BoundByThread:
    """A step that every thread binds to its own scratch when it first runs the step."""

    def __init__(self, bind: Callable[[], Step]) -> None:
        self._bind, self._bound = bind, threading.local()

    def __call__(self) -> None:
        try:
            step: Step = self._bound.step
        except AttributeError:
            step = self._bound.step = self._bind()
        step()
