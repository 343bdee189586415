"""Compares a converted network with the original file, on the same random images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cnnspec.convert.converted import Converted, FileInput
from cnnspec.kernels.step import Array
from cnnspec.spec import loads

TOLERANCE = 1e-4  # as a share of the largest output, or 1: sums in another order differ by less
HALF_TOLERANCE = 2e-2  # of a file that computes with float16, which rounds each number to three digits


@dataclass(frozen=True, slots=True)
class Proof:
    """The difference between the outputs of the file and the spec, and the program that ran the file."""

    program: str
    images: int
    difference: float
    scale: float  # the largest output, or 1
    half: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the difference is no larger than rounding explains."""
        return self.difference <= (HALF_TOLERANCE if self.half else TOLERANCE) * self.scale

    def text(self) -> str:
        """Return the figures as one line."""
        return (
            f"{self.images} random images in {self.program} and here: "
            f"largest difference {self.difference:.2g}, outputs up to {self.scale:.3g}"
        )


def prove(converted: Converted, outputs: Callable[[Array], Array], seed: int = 0) -> Proof | str:
    """Run the file and the network on random images, and compare; return the reason if no program can run the file.

    `outputs` takes the inputs of a spec as the network does: the arrays of several lie behind one another.
    """
    random = np.random.default_rng(seed)
    arrays = [_drawn(random, entry) for entry in converted.inputs]
    found = converted.run(arrays)
    if isinstance(found, str):
        return found
    program, expected = found
    joined = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    shape = loads(converted.text).input
    proof = compared(program, len(joined), expected, outputs(joined.reshape(len(joined), *shape)))
    return replace(proof, half=converted.half)


def _drawn(random: np.random.Generator, entry: FileInput) -> Array:
    if entry.dtype.kind == "f":
        return random.standard_normal(entry.lengths).astype(np.float32)
    return random.integers(0, 2 if entry.dtype.kind == "b" else 100, entry.lengths).astype(np.float32)


def compared(program: str, images: int, expected: Array, got: Array) -> Proof:
    """Return the difference between two outputs for the same images; infinite if only one of them is not a number."""
    expected, got = np.asarray(expected, np.float64).reshape(-1), np.asarray(got, np.float64).reshape(-1)
    if expected.shape != got.shape or not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return Proof(program, images, float("inf"), 1.0)
    finite = np.isfinite(expected)
    expected, got = expected[finite], got[finite]
    difference = float(np.abs(expected - got).max(initial=0.0))
    return Proof(program, images, difference, float(np.abs(expected).max(initial=1.0)))
