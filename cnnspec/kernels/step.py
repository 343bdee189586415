"""What a kernel hands to the plan.

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

ITERATOR = 1024  # elements: what NumPy's iterators set aside for each of three or more strided operands


def set_step_state() -> None:
    """Set the state of NumPy in which steps run, in whatever thread: overflow shows in the loss, iterators stay small.

    The default of 8,192 elements is allocated and freed at every strided call, which doubles the time of small ones.
    """
    np.seterr(all="ignore")
    np.setbufsize(ITERATOR)


@contextmanager
def step_state() -> Iterator[None]:
    """Run the body of a `with` in that state, and restore the caller's."""
    with np.errstate():  # restores the size of the iterators' buffers too
        set_step_state()
        yield


def in_turn(steps: Sequence[Step]) -> Step:
    """One step that runs all of them; steps that were joined before are run without a call in between."""
    single = [one for step in steps for one in (step.steps if isinstance(step, InTurn) else (step,))]
    return single[0] if len(single) == 1 else InTurn(tuple(single))


@dataclass(frozen=True)
class InTurn:
    """Several steps as one, which runs them in their order."""

    steps: tuple[Step, ...]

    def __call__(self) -> None:
        """Run all steps in their order."""
        for step in self.steps:
            step()


Lifetime = Literal["prepare", "forward", "kept", "shared", "input", "params"]


@dataclass(frozen=True)
class Buffer:
    """An array that a layer, a kernel or a loss asks the plan for.

    The lifetime says when it holds something, and which steps may write it:

    - `prepare`: throughout, one array for all shards, written once a step by `Layer.prepare` or by a `Reduce`;
    - `forward`: during the forward pass;
    - `kept`: written by the forward pass, read by the backward pass;
    - `shared`: written by `Backward.shared`, read by `shared`, `input` and `params`;
    - `input`, `params`: used by those steps of the backward pass, and by `shared` before them, but not by the other
      steps, which may run at the same time.

    A shape holds the batch axis where it has one: it is the whole shape of the array. dtype None is the plan's.
    """

    shape: Shape
    lifetime: Lifetime = "forward"
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.lifetime not in get_args(Lifetime):
            raise ValueError(f"lifetime: expected one of {', '.join(get_args(Lifetime))}, got {self.lifetime!r}")
