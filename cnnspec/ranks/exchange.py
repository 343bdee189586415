"""What ranks tell each other; nothing here knows what the numbers mean."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array


class Exchange(ABC):
    """The ranks of one training, numbered from 0; every rank calls the same operations in the same order.

    Arrays are contiguous and of one axis. An operation returns when the arrays of the rank that called it are ready.
    Errors: RunError where another rank has failed.
    """

    rank: int  # of this process
    size: int  # how many there are
    library = ""  # by which they exchange

    @abstractmethod
    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Complete an array of which rank r has written its own part, counts[r] elements behind those of the others."""

    @abstractmethod
    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        """Give rank r the next give[r] elements of `given`, and put take[r] elements that it gives into `taken`."""

    def tell(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order; a value is whatever pickle can write."""
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self._numbers(len(own)).tolist()
        everything = np.empty(sum(lengths), np.uint8)
        parts = [everything[place] for place in places(lengths)]
        parts[self.rank][...] = own
        self.gather(everything, lengths)
        return [pickle.loads(part.tobytes()) for part in parts]

    def largest(self, number: int) -> int:
        """Return the largest number of any rank."""
        return int(self._numbers(number).max())

    def total(self, number: int) -> int:
        """Return the sum of all ranks' numbers."""
        return int(self._numbers(number).sum())

    def _numbers(self, number: int) -> Array:
        numbers = np.zeros(self.size, np.int64)
        numbers[self.rank] = number
        self.gather(numbers, [1] * self.size)
        return numbers

    def broadcast(self, array: Array) -> None:
        """Give every rank the array of rank 0."""
        self.gather(array, [array.size] + [0] * (self.size - 1))


class Alone(Exchange):
    """One process that has nobody to tell anything."""

    rank, size = 0, 1

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Leave the array, which is complete."""

    def trade(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> None:
        """Give oneself all elements."""
        np.copyto(taken[: take[0]], given[: give[0]])


ALONE = Alone()


def places(counts: Sequence[int]) -> list[slice]:
    """Where each rank's part of an array lies, by the number of elements of each."""
    return [slice(*ends) for ends in pairwise([0, *accumulate(counts)])]
