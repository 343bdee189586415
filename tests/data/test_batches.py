"""Batches that a thread makes ahead: the same as those made in place, and no thread is left behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from cnnspec.data import Dataset, Order
from cnnspec.data.augmentation import Augmentation, Crop, Cutout, Flip
from cnnspec.data.batches import Batches
from cnnspec.data.mixing import Cutmix, Mixup
from cnnspec.data.warp import Elastic, Rotate, Shift, WarpChain
from cnnspec.kernels.step import Array


def dataset(count: int = 50) -> Dataset:
    random = np.random.default_rng(0)
    return Dataset(random.integers(0, 256, (count, 2, 6, 6)).astype(np.uint8), random.integers(0, 4, count))


def batches(
    *augmentations: Augmentation, classes: int | None = None, data: Dataset | None = None, seed: int = 5
) -> Batches:
    data = data or dataset()
    return Batches(dataset=data, order=Order(len(data), 8, seed), augmentations=augmentations, outputs=classes)


def copied(made: Batches, epoch: int, first: int = 0) -> list[tuple[Array, Array, Array]]:
    with made.epoch(epoch, first) as found:
        return [(b.images.copy(), b.labels.copy(), b.targets.copy()) for b in found]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_are_what_the_order_says() -> None:
    data = dataset()
    indices = list(Order(50, 8, 5).epoch(3))
    for (images, labels, targets), chosen in zip(copied(batches(data=data), 3), indices, strict=True):
        np.testing.assert_array_equal(images, data.pixels[chosen])
        np.testing.assert_array_equal(labels, data.labels[chosen])
        np.testing.assert_array_equal(targets, labels)


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches are made at once."""
    monkeypatch.setattr("cnnspec.data.batches.PORTION", 4 * 8 * 2 * 6 * 6 - 1)


@pytest.mark.usefixtures("portions")
def test_augmentations_depend_on_seed_epoch_number_and_position_alone() -> None:
    data, parts = dataset(), (Crop(padding=2), Flip(), Mixup(alpha=1.0), Cutmix())
    made = copied(batches(*parts, classes=4, data=data), 1)
    indices = list(Order(50, 8, 5).epoch(1))
    assert [len(labels) for _, labels, _ in made] == [8] * 6 + [2]
    for number, start in enumerate(range(0, 7, 3)):
        chosen = np.concatenate(indices[start : start + 3])
        expected, mixed = data.pixels[chosen].copy(), np.eye(4, dtype=np.float32)[:, data.labels[chosen]]
        for position, part in enumerate(parts):
            part.mix(expected, mixed, np.random.default_rng([5, 2, 2, number, position]))
        images, labels, targets = zip(*made[start : start + 3], strict=True)
        np.testing.assert_array_equal(np.concatenate(images), expected)
        np.testing.assert_array_equal(np.concatenate(labels), data.labels[chosen])
        np.testing.assert_array_equal(np.concatenate(targets), mixed.T)
    other = copied(batches(*parts, classes=4, data=data, seed=6), 1)
    assert not np.array_equal(other[0][0], made[0][0])


@pytest.mark.usefixtures("portions")
@pytest.mark.parametrize("first", range(8))
def test_an_epoch_that_is_resumed_goes_on_with_the_same_batches(first: int) -> None:
    made = batches(Shift(pixels=1), Rotate(), Elastic(), Mixup(), classes=4)
    whole, rest = copied(made, 2), copied(made, 2, first)
    assert len(rest) == 7 - first
    for expected, found in zip(whole[first:], rest, strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)


def test_warps_that_follow_one_another_share_a_generator() -> None:
    data, warps = dataset(), (Shift(pixels=1), Rotate())
    expected = np.concatenate([data.pixels[chosen] for chosen in Order(50, 8, 5).epoch(0)])
    WarpChain(parts=warps).apply(expected, np.random.default_rng([5, 2, 1, 0, 1]))
    made = copied(batches(Cutout(size=1, probability=0), *warps, data=data), 0)
    np.testing.assert_array_equal(np.concatenate([images for images, _, _ in made]), expected)


@pytest.mark.usefixtures("portions")
def test_a_batch_stays_whole_until_the_next_is_asked_for() -> None:
    with batches(Flip()).epoch(0) as found:
        for batch in found:
            before = batch.images.copy()
            time.sleep(0.005)
            np.testing.assert_array_equal(batch.images, before)


def test_the_thread_ends_with_the_epoch() -> None:
    copied(batches(), 0)
    assert not threads()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_thread_ends_when_the_reader_fails(error: type[BaseException]) -> None:
    def read() -> None:
        with batches().epoch(0) as found:
            next(found)
            raise error

    with pytest.raises(error):
        read()
    assert not threads()


def test_the_thread_ends_when_nothing_is_read() -> None:
    with batches().epoch(0):
        pass
    assert not threads()


@pytest.mark.usefixtures("portions")
def test_an_error_of_the_thread_comes_where_the_batch_would() -> None:
    class Faulty(Augmentation):
        def apply(self, pixels: Array, random: np.random.Generator) -> None:
            if len(pixels) < 8:
                raise ZeroDivisionError("in the last batch")

    seen = []

    def read() -> None:
        with batches(Faulty()).epoch(0) as found:
            for batch in found:
                seen.append(len(batch.labels))

    with pytest.raises(ZeroDivisionError, match="in the last batch"):
        read()
    assert seen == [8] * 6
    assert not threads()


def test_an_alternating_flip_shows_both_sides_in_any_two_epochs() -> None:
    data = dataset()
    assert not np.equal(data.pixels, data.pixels[..., ::-1]).all(axis=(1, 2, 3)).any()
    sides = []
    for epoch in range(4):
        made = copied(batches(Flip(order="alternating"), data=data), epoch)
        images = np.concatenate([images for images, _, _ in made])
        order = np.concatenate(list(Order(50, 8, 5).epoch(epoch)))
        mirrored = np.array(
            [(image == data.pixels[i, :, :, ::-1]).all() for image, i in zip(images, order, strict=True)]
        )
        plain = np.array([(image == data.pixels[i]).all() for image, i in zip(images, order, strict=True)])
        assert (mirrored ^ plain).all()
        sides.append(mirrored[np.argsort(order)])
    assert 10 < sides[0].sum() < 40
    assert (sides[0] ^ sides[1]).all()
    assert (sides[0] == sides[2]).all()
    assert (sides[1] == sides[3]).all()


def test_an_alternating_flip_moves_maps_and_mixed_images_alike() -> None:
    data = dataset()
    maps = Dataset(data.pixels, data.pixels[:, 0].copy())
    for images, labels, _ in copied(batches(Flip(order="alternating"), data=maps), 1):
        np.testing.assert_array_equal(images[:, 0], labels)
    plain, mixed = (copied(batches(Flip(order="alternating"), classes=classes), 1) for classes in (None, 4))
    for (one, _, _), (two, _, _) in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(one, two)
