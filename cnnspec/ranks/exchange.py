"""The messages of ranks; nothing here knows what the numbers mean."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array


class Operation(ABC):
    """A transfer of arrays between ranks, which may be begun and ended many times.

    Between `begin` and `end` the arrays to send must not change, and the arrays to receive hold undefined values.
    """

    @abstractmethod
    def begin(self) -> None:
        """Begin to send and to receive, without waiting."""

    @abstractmethod
    def end(self) -> None:
        """Wait until this rank has received all of its arrays."""


class Exchange(ABC):
    """The ranks of one training, numbered from 0; every rank begins the same operations in the same order.

    Arrays are contiguous and of one axis. Errors: RunError where another rank has failed.
    """

    rank: int  # the number of this process
    size: int  # the number of ranks
    library = ""  # the name of the library that sends the messages

    @abstractmethod
    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Complete an array in which rank r has written its own part: counts[r] elements, in the order of the ranks."""

    @abstractmethod
    def trading(
        self, sent: Array, sent_counts: Sequence[int], received: Array, received_counts: Sequence[int]
    ) -> Operation:
        """Send the next sent_counts[r] elements of `sent` to each rank r, and receive received_counts[r] from it."""

    @abstractmethod
    def advance(self) -> None:
        """Let begun operations make progress, if they need this process for that; any worker may call it."""

    def gather(self, array: Array, counts: Sequence[int]) -> None:
        """Complete an array as `gathering` does, and wait for it."""
        operation = self.gathering(array, counts)
        operation.begin()
        operation.end()

    def tell(self, value: Any) -> list[Any]:
        """Send a value to all ranks and return the values of all, in the order of ranks; a value must be picklable."""
        pickled = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = [length for (length,) in self.numbers(len(pickled))]
        everything = np.empty(sum(lengths), np.uint8)
        parts = [everything[place] for place in places(lengths)]
        parts[self.rank][...] = pickled
        self.gather(everything, lengths)
        return [pickle.loads(part.tobytes()) for part in parts]

    def numbers(self, *values: int) -> list[tuple[int, ...]]:
        """Send numbers to all ranks and return the numbers of all, in the order of ranks."""
        numbers = np.zeros((self.size, len(values)), np.int64)
        numbers[self.rank] = values
        self.gather(numbers.reshape(-1), [len(values)] * self.size)
        return [tuple(row) for row in numbers.tolist()]

    def broadcast(self, array: Array) -> None:
        """Copy the array of rank 0 to every rank."""
        self.gather(array, [array.size] + [0] * (self.size - 1))


class SingleRank(Exchange):
    """The exchange of a process that is alone: it has nobody to send to."""

    rank, size = 0, 1

    def gathering(self, array: Array, counts: Sequence[int]) -> Operation:
        """Do nothing: the array is complete."""
        return _Nothing()

    def trading(
        self, sent: Array, sent_counts: Sequence[int], received: Array, received_counts: Sequence[int]
    ) -> Operation:
        """Copy all elements of `sent` to `received`."""
        return _Copy(sent[: sent_counts[0]], received[: received_counts[0]])

    def advance(self) -> None:
        """Do nothing: nothing is under way."""

    def numbers(self, *values: int) -> list[tuple[int, ...]]:
        """Return one's own numbers."""
        return [values]


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


SINGLE_RANK = SingleRank()


def places(counts: Sequence[int]) -> list[slice]:
    """The slices of an array that belong to the ranks, for the number of elements of each rank."""
    return [slice(*ends) for ends in pairwise([0, *accumulate(counts)])]
