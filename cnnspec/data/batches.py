"""Batches of an epoch, assembled and augmented on a thread while the one before is computed with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from cnnspec.data.augmentation import Augmentation
from cnnspec.data.open import Dataset
from cnnspec.data.order import Order
from cnnspec.kernels.step import Array

BUFFERS = 2  # one that is read while the other one is filled

Memory = tuple[Array, Array]  # for a whole batch's images and labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (n, c, h, w), labels (n,), and where images were mixed, shares (classes, n) of the classes in them."""

    images: Array
    labels: Array
    shares: Array | None

    def copy_to(self, images: Array, labels: Array, shares: Array | None) -> None:
        """Fill a plan's arrays."""
        images[...], labels[...] = self.images, self.labels
        if shares is not None:
            assert self.shares is not None
            shares[...] = self.shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """A split's batches: pure functions of the seed, the epoch and their number, whoever makes them and when."""

    dataset: Dataset
    order: Order
    augmentations: Sequence[Augmentation] = ()
    classes: int | None = None  # set where labels shall come as shares too

    @contextmanager
    def epoch(self, number: int, first: int = 0) -> Iterator[Iterator[Batch]]:
        """Batches of one epoch, counted from 0, from the `first` on; each is good until the next one is asked for.

        A thread fills the next batch meanwhile. It ends with the context, also where that is left by an error; an
        error of its own is raised where the batch would have come.
        """
        empty: SimpleQueue[Memory | None] = SimpleQueue()
        filled: SimpleQueue[tuple[Memory, Batch] | BaseException | None] = SimpleQueue()
        for memory in self._memories():
            empty.put(memory)

        def produce() -> None:
            try:
                for position, indices in enumerate(self.order.epoch(number)):
                    if position < first:
                        continue
                    memory = empty.get()
                    if memory is None:
                        return
                    filled.put((memory, self._batch(indices, memory, number, position)))
                filled.put(None)
            except BaseException as error:
                filled.put(error)

        def consume() -> Iterator[Batch]:
            while (found := filled.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                memory, batch = found
                yield batch
                empty.put(memory)

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        try:
            yield consume()
        finally:
            empty.put(None)
            thread.join()

    def _memories(self) -> list[Memory]:
        size = min(self.order.batch_size, len(self.dataset))
        shape = (size, *self.dataset.pixels.shape[1:])
        return [(np.empty(shape, np.uint8), np.empty(size, np.int64)) for _ in range(BUFFERS)]

    def _batch(self, indices: Array, memory: Memory, epoch: int, number: int) -> Batch:
        images, labels = (array[: len(indices)] for array in memory)
        # Indices are known to be good; mode="clip" spares the copy that NumPy makes to be able to raise.
        np.take(self.dataset.pixels, indices, axis=0, out=images, mode="clip")
        np.take(self.dataset.labels, indices, out=labels, mode="clip")
        shares = None if self.classes is None else one_hot(labels, self.classes)
        for position, augmentation in enumerate(self.augmentations):
            random = np.random.default_rng([self.order.seed, 2, epoch + 1, number, position])
            if shares is None:
                augmentation.apply(images, random)
            else:
                augmentation.mix(images, shares, random)
        return Batch(images, labels, shares)


def one_hot(labels: Array, classes: int) -> Array:
    """(classes, n) in float32: 1 at each label."""
    shares = np.zeros((classes, len(labels)), np.float32)
    shares[labels, np.arange(len(labels))] = 1
    return shares
