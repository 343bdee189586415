"""Augmentations: what they do to pixels, and that they repeat."""

from __future__ import annotations

import numpy as np

from cnnspec.data.augmentation import Flip, Shift


def test_flip_mirrors_its_share() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 2, 3, 5)).astype(np.uint8)
    changed = pixels.copy()
    Flip(probability=0.25).apply(changed, np.random.default_rng(1))
    mirrored = (changed == pixels[..., ::-1]).all(axis=(1, 2, 3))
    same = (changed == pixels).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert 200 < mirrored.sum() < 300


def test_shift_moves_by_at_most_its_reach() -> None:
    pixels = np.zeros((500, 1, 9, 9), np.uint8)
    pixels[:, 0, 4, 4] = 255
    changed = pixels.copy()
    Shift(pixels=2).apply(changed, np.random.default_rng(0))
    places = np.argwhere(changed == 255)
    assert len(places) == 500
    moves = places[:, 2:] - 4
    assert set(moves[:, 0].tolist()) == set(moves[:, 1].tolist()) == {-2, -1, 0, 1, 2}
    again = pixels.copy()
    Shift(pixels=2).apply(again, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, again)
