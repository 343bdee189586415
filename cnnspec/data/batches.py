"""Batches of an epoch, assembled and augmented on a thread while the network computes with those before."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from queue import SimpleQueue

import numpy as np

from cnnspec.data.augmentation import Augmentation
from cnnspec.data.open import Dataset
from cnnspec.data.order import Order
from cnnspec.data.rows import take
from cnnspec.data.warp import joined
from cnnspec.kernels.step import Array

BUFFERS = 2  # one buffer is read while the other one is filled
PORTION = 1 << 20  # bytes of images that are made at once

Memory = tuple[Array, Array]  # arrays for the images and labels of a portion


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (n, c, h, w), their labels (n, ...), and the targets that the loss compares with the network's outputs.

    `targets` are the labels; where images were mixed, they are the share of every class or mixed numbers, (outputs, n).
    If ranks divide a batch, these are the images of this rank, and `count` is the number of images of all ranks.
    """

    images: Array
    labels: Array
    targets: Array
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """The batches of a split: each depends only on the seed, the epoch and its number, not on who makes it or when.

    Small ones are made several at once, in portions of about PORTION bytes: a thread that makes single batches beside
    two threads that compute keeps losing the cache and the lock, and takes up to three times as long.
    """

    dataset: Dataset
    order: Order
    augmentations: Sequence[Augmentation] = ()
    outputs: int | None = None  # the network's number of outputs, if images are mixed
    own: Callable[[int], slice] = slice  # maps the size of a batch to the part that this rank computes

    @contextmanager
    def epoch(self, number: int, first: int = 0) -> Iterator[Iterator[Batch]]:
        """Yield the batches of an epoch, from the batch `first` on; each is valid until the next is requested.

        Epochs count from 0. A thread makes the next batches meanwhile. It ends with the context, also after an error;
        an error in the thread is raised where its batch is requested.
        """
        empty: SimpleQueue[Memory | None] = SimpleQueue()
        filled: SimpleQueue[tuple[Memory, list[Batch]] | BaseException | None] = SimpleQueue()
        for memory in self._memories():
            empty.put(memory)

        def produce() -> None:
            try:
                order, portion = list(self.order.epoch(number)), self.portion
                for start in range(first - first % portion, len(order), portion):
                    memory = empty.get()
                    if memory is None:
                        return
                    made = self._make(order[start : start + portion], memory, number, start // portion)
                    filled.put((memory, made[max(first - start, 0) :]))
                filled.put(None)
            except BaseException as error:
                filled.put(error)

        def consume() -> Iterator[Batch]:
            while (batch := filled.get()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                memory, made = batch
                yield from made
                empty.put(memory)

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        try:
            yield consume()
        finally:
            empty.put(None)
            thread.join()

    @property
    def portion(self) -> int:
        """The number of batches that are made at once."""
        return max(1, PORTION // (self.order.batch_size * math.prod(self.dataset.pixels.shape[1:])))

    def _memories(self) -> list[Memory]:
        size = min(self.portion * self.order.batch_size, len(self.dataset))
        arrays = self.dataset.pixels, self.dataset.labels
        images, labels = [[np.empty((size, *a.shape[1:]), a.dtype) for _ in range(BUFFERS)] for a in arrays]
        return list(zip(images, labels, strict=True))

    def _make(self, batches: Sequence[Array], memory: Memory, epoch: int, number: int) -> list[Batch]:
        """Return the batches of portion `number` of an epoch, written to `memory`.

        Augmentations that draw random numbers draw them for the whole portion, so every rank makes all images of it,
        and keeps its own.
        """
        counts = [len(batch) for batch in batches]
        owned = [self.own(count) for count in counts]
        if all(augmentation.alternating is not None for augmentation in self.augmentations):
            batches = [batch[part] for batch, part in zip(batches, owned, strict=True)]
            owned = [slice(None)] * len(batches)
        indices = np.concatenate(batches)
        images, labels = (array[: len(indices)] for array in memory)
        take(self.dataset.pixels, indices, images)
        take(self.dataset.labels, indices, labels)
        mixed = None if self.outputs is None else portions(labels, self.outputs)
        for position, augmentation in enumerate(joined(self.augmentations)):
            seed = [self.order.seed, 2, epoch + 1, number, position]
            share = augmentation.alternating
            if share is not None:
                chosen = _first_turn(self.order.seed, position, len(self.dataset), share)[indices] ^ bool(epoch % 2)
                augmentation.apply_to(images, chosen)
                if labels.ndim == 3:
                    augmentation.apply_to(labels[:, None], chosen)
                continue
            if mixed is not None:
                augmentation.mix(images, mixed, np.random.default_rng(seed))
                continue
            augmentation.apply(images, np.random.default_rng(seed))
            if labels.ndim == 3:  # a map moves with the same random numbers as its image
                augmentation.move_maps(labels, np.random.default_rng(seed))
        targets = labels if mixed is None else mixed.T
        ends = np.cumsum([len(batch) for batch in batches])
        cuts = [slice(end - len(batch), end) for batch, end in zip(batches, ends, strict=True)]
        return [
            Batch(images[cut][part], labels[cut][part], targets[cut][part], count)
            for cut, part, count in zip(cuts, owned, counts, strict=True)
        ]


@lru_cache(maxsize=4)
def _first_turn(seed: int, position: int, count: int, share: float) -> Array:
    """Return booleans (count,): the images that an alternating augmentation changes in even epochs."""
    return np.asarray(np.random.default_rng([seed, 2, 0, position]).random(count) < share)


def portions(labels: Array, outputs: int) -> Array:
    """Return target values (outputs, n) in float32: labels (n, outputs) transposed, or classes as one-hot columns."""
    if labels.ndim == 2:
        return np.ascontiguousarray(labels.T, np.float32)
    classes = np.arange(outputs) if outputs > 1 else np.ones(1, np.int64)
    return np.equal(classes[:, None], labels).astype(np.float32)
