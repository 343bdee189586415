"""What ranks tell each other; nothing here knows what the numbers mean."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array


class Operation(ABC):
    """Arrays on their way between ranks, as often as it is begun and ended.

    In between, what this rank gives must stay as it is, and what it takes may be anything.
    """

    @abstractmethod
    def begin(self) -> None:
        """Send what is to be sent, without waiting."""

    @abstractmethod
    def end(self) -> None:
        """Wait until this rank's arrays are ready."""


class Exchange(ABC):
    """The ranks of one training, numbered from 0; every rank begins the same operations in the same order.

    Arrays are contiguous and of one axis. Errors: RunError where another rank has failed.
    """

    rank: int  # of this process
    size: int  # how many there are
    library = ""  # by which they exchange

    @abstractmethod
    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Complete an array of which rank r has written its own part, counts[r] elements behind those of the others."""

    @abstractmethod
    def trading(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> Operation:
        """Give rank r the next give[r] elements of `given`, and put take[r] elements that it gives into `taken`."""

    @abstractmethod
    def advance(self) -> None:
        """Let operations go on that were begun, where they need this process for that; any worker may call it."""

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Complete an array as `gathering` does, at once."""
        operation = self.gathering(array, counts)
        operation.begin()
        operation.end()

    def tell(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order; a value is whatever pickle can write."""
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self.numbers(len(own)).ravel().tolist()
        everything = np.empty(sum(lengths), np.uint8)
        parts = [everything[place] for place in places(lengths)]
        parts[self.rank][...] = own
        self.gather(everything, lengths)
        return [pickle.loads(part.tobytes()) for part in parts]

    def numbers(self, *own: int) -> Array:
        """Return the numbers of all ranks, a row for each."""
        numbers = np.zeros((self.size, len(own)), np.int64)
        numbers[self.rank] = own
        self.gather(numbers.reshape(-1), [len(own)] * self.size)
        return numbers

    def broadcast(self, array: Array) -> None:
        """Give every rank the array of rank 0."""
        self.gather(array, [array.size] + [0] * (self.size - 1))


class Alone(Exchange):
    """One process that has nobody to tell anything."""

    rank, size = 0, 1

    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Leave the array, which is complete."""
        return _Nothing()

    def trading(self, given: Array, give: Sequence[int], taken: Array, take: Sequence[int]) -> Operation:
        """Give oneself all elements."""
        return _Copy(given[: give[0]], taken[: take[0]])

    def advance(self) -> None:
        """Do nothing: nothing is under way."""


class _Nothing(Operation):
    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


class _Copy(_Nothing):
    def __init__(self, source: Array, target: Array) -> None:
        self.source, self.target = source, target

    def end(self) -> None:
        np.copyto(self.target, self.source)


ALONE = Alone()


def places(counts: Sequence[int]) -> list[slice]:
    """Where each rank's part of an array lies, by the number of elements of each."""
    return [slice(*ends) for ends in pairwise([0, *accumulate(counts)])]
