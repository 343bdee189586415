"""Programs of workers: a program is a sequence of phases, a phase a sequence of tasks that may run at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cnnspec.kernels.step import Step

Phase = Sequence[Step]
Program = Sequence[Phase]

__all__ = ["Phase", "Program", "Step", "Stretch", "is_parallel", "stretches"]


@dataclass(frozen=True)
class Stretch:
    """Neighbouring phases that all workers run, with a barrier between them, or that the caller runs by itself."""

    parallel: bool
    phases: tuple[Phase, ...]


def stretches(program: Program) -> list[Stretch]:
    """Cut a program into stretches: phases of one task, which the caller runs, and phases of several tasks."""
    return [Stretch(parallel, tuple(phases)) for parallel, phases in groupby(program, lambda phase: len(phase) > 1)]


def is_parallel(program: Program) -> bool:
    """Whether any phase has a task for more than one worker."""
    return any(len(phase) > 1 for phase in program)
