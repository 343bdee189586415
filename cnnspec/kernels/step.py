"""Steps and buffers: what a kernel returns to the plan, and what it asks of it.

A kernel is called once, when the plan is made, with arrays that keep their place for the plan's whole life. It
prepares every view that it needs and returns a step: a function without arguments that reads and writes those
arrays. So a step runs NumPy calls and nothing else: no reshaping, no allocation, no decisions. A single call is a
`partial`, with its output as the last argument where NumPy lets it be: that begins 0.2 us earlier than `out=y` in a
function of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cnnspec.shapes import Shape

Array = NDArray[Any]
Step = Callable[[], object]

ITERATOR = 1024  # elements of the buffer that NumPy's iterators allocate for each of three or more strided operands


def set_step_state() -> None:
    """Set NumPy's state for steps in this thread: no warnings, as overflow shows in the loss, and small iterators.

    The default of 8,192 elements is allocated and freed at every strided call, which doubles the time of small ones.
    """
    np.seterr(all="ignore")
    np.setbufsize(ITERATOR)


@contextmanager
def step_state() -> Iterator[None]:
    """Run the body of a `with` in the state of `set_step_state`, and restore the caller's state."""
    with np.errstate():  # restores the size of the iterators' buffers too
        set_step_state()
        yield


def join_steps(steps: Sequence[Step]) -> Step:
    """Join steps in one step that runs them in order; a step that is itself joined is taken apart, to save a call."""
    single = [part for step in steps for part in (step.steps if isinstance(step, JoinedSteps) else (step,))]
    return single[0] if len(single) == 1 else JoinedSteps(tuple(single))


@dataclass(frozen=True)
class JoinedSteps:
    """A step that runs several steps in order."""

    steps: tuple[Step, ...]

    def __call__(self) -> None:
        """Run all steps in order."""
        for step in self.steps:
            step()


Lifetime = Literal["prepare", "forward", "kept", "shared", "input", "params"]


@dataclass(frozen=True)
class Buffer:
    """The request of a layer, a kernel or a loss for an array.

    The lifetime says when the array holds values, and which steps may write it:

    - `prepare`: throughout, one array for all shards, written once a step by `Layer.prepare` or by a `Reduce`;
    - `forward`: during the forward pass;
    - `kept`: written by the forward pass, read by the backward pass;
    - `shared`: written by `Backward.shared`, read by `shared`, `input` and `params`;
    - `input`, `params`: used by those steps of the backward pass, and by `shared` before them, but not by the other
      steps, which may run at the same time.

    The shape is that of the whole array, with the batch axis if there is one. dtype None is the plan's type.
    """

    shape: Shape
    lifetime: Lifetime = "forward"
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.lifetime not in get_args(Lifetime):
            raise ValueError(f"lifetime: expected one of {', '.join(get_args(Lifetime))}, got {self.lifetime!r}")
