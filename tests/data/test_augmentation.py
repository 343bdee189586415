"""Augmentations: what they do to pixels and labels, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspec import registry
from cnnspec.data.augmentation import Augmentation, Brightness, Contrast, Crop, Cutout, Flip
from cnnspec.data.mixing import Cutmix, Mixup
from cnnspec.data.resample import SampleGrid, interpolate, resample
from cnnspec.data.warp import Elastic, RandomScale, Rotate, Shift, WarpChain, gaussian, joined
from cnnspec.kernels.step import Array


def pictures(n: int, c: int, h: int, w: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, c, h, w)).astype(np.uint8)


def changed_by(augmentation: Augmentation, pixels: Array, seed: int = 0) -> Array:
    changed = pixels.copy()
    augmentation.apply(changed, np.random.default_rng(seed))
    return changed


@pytest.mark.parametrize("name", list(registry.table("augmentation")))
@pytest.mark.parametrize("shape", [(7, 1, 9, 8), (16, 3, 12, 12), (1, 2, 5, 6)])
def test_a_seed_gives_the_same_images_and_another_gives_others(name: str, shape: tuple[int, int, int, int]) -> None:
    augmentation = registry.find("augmentation", name)()
    pixels = pictures(*shape)
    first, again = changed_by(augmentation, pixels), changed_by(augmentation, pixels)
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    others = [changed_by(augmentation, pixels, seed) for seed in range(1, 30)]
    assert shape[0] == 1 or any(not np.array_equal(first, other) for other in others)


@given(
    st.sampled_from(list(registry.table("augmentation"))),
    st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 1000),
)
def test_any_shape_is_augmented_in_place(name: str, shape: tuple[int, int, int, int], seed: int) -> None:
    pixels, shares = pictures(*shape), np.eye(shape[0], dtype=np.float32)
    registry.find("augmentation", name)().mix(pixels, shares, np.random.default_rng(seed))
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-6)


def test_flip_mirrors_its_share() -> None:
    pixels = pictures(1000, 2, 3, 5)
    changed = changed_by(Flip(probability=0.25), pixels)
    mirrored = (changed == pixels[..., ::-1]).all(axis=(1, 2, 3))
    same = (changed == pixels).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert 200 < mirrored.sum() < 300


@pytest.mark.parametrize("shift", [Shift(pixels=2), WarpChain(parts=(Shift(pixels=2), Rotate(degrees=0)))])
def test_shift_moves_by_at_most_its_reach(shift: Augmentation) -> None:
    pixels = np.zeros((500, 1, 9, 9), np.uint8)
    pixels[:, 0, 4, 4] = 255
    places = np.argwhere(changed_by(shift, pixels) == 255)
    assert len(places) == 500
    moves = places[:, 2:] - 4
    assert set(moves[:, 0].tolist()) == set(moves[:, 1].tolist()) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(("mode", "padding"), [("zero", "constant"), ("edge", "edge"), ("reflect", "symmetric")])
def test_crop_is_a_window_of_the_padded_image(mode: str, padding: str) -> None:
    pixels = pictures(40, 2, 6, 5)
    changed = changed_by(Crop.of(padding=2, mode=mode), pixels)
    found = set()
    for image, cut in zip(pixels, changed, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), padding)  # type: ignore[call-overload]
        windows = {(i, j): padded[:, i : i + 6, j : j + 5] for i in range(5) for j in range(5)}
        matches = [place for place, window in windows.items() if np.array_equal(window, cut)]
        assert matches
        found.update(matches)
    assert len(found) > 10


def test_brightness_adds_one_number_an_image() -> None:
    pixels = pictures(200, 3, 4, 4)
    changed = changed_by(Brightness(amount=0.1), pixels)
    for before, after in zip(pixels.astype(int), changed.astype(int), strict=True):
        inner = (after > 0) & (after < 255)
        moves = (after - before)[inner]
        assert moves.min() == moves.max()
        assert abs(moves[0]) <= 26
        np.testing.assert_array_equal(after, np.clip(before + moves[0], 0, 255))


def test_contrast_keeps_the_mean_and_stretches_by_its_factor() -> None:
    pixels = (100 + pictures(100, 2, 16, 16) // 5).astype(np.uint8)
    changed = changed_by(Contrast(amount=0.3), pixels)
    np.testing.assert_allclose(changed.mean(axis=(2, 3)), pixels.mean(axis=(2, 3)), atol=0.5)
    factors = changed.std(axis=(2, 3)) / pixels.std(axis=(2, 3))
    assert factors.min() > 0.68
    assert factors.max() < 1.32
    assert factors.std() > 0.1
    np.testing.assert_allclose(factors[:, 0], factors[:, 1], atol=0.05)


def test_cutout_fills_one_square() -> None:
    changed = changed_by(Cutout(size=4, value=7), np.full((300, 2, 10, 10), 200, np.uint8))
    for image in changed:
        np.testing.assert_array_equal(image[0], image[1])
        rows, columns = np.nonzero(image[0] == 7)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height * width == len(rows)
        assert min(height, width) >= 2
        assert max(height, width) <= 4
    assert (changed == 7).all(axis=(1, 2, 3)).sum() == 0
    untouched = changed_by(Cutout(size=4, probability=0.25), np.full((1000, 1, 8, 8), 200, np.uint8))
    assert 200 < (untouched == 0).any(axis=(1, 2, 3)).sum() < 300


def bilinear(image: Array, row: float, column: float) -> float:
    """One place of one map, black outside."""
    total = 0.0
    top, left = int(np.floor(row)), int(np.floor(column))
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
            total += (1 - abs(row - i)) * (1 - abs(column - j)) * image[i, j]
    return total


def test_interpolation_is_bilinear_and_black_outside() -> None:
    pixels = pictures(3, 2, 5, 7)
    random = np.random.default_rng(1)
    rows = (np.round(random.uniform(-3, 8, (3, 5, 7)) * 16) / 16).astype(np.float32)
    columns = (np.round(random.uniform(-3, 10, (3, 5, 7)) * 16) / 16).astype(np.float32)
    changed = pixels.copy()
    interpolate(changed, 16 * np.stack((rows, columns)) + np.float32(16))
    for n, c, i, j in np.ndindex(3, 2, 5, 7):
        assert abs(changed[n, c, i, j] - bilinear(pixels[n, c], float(rows[n, i, j]), float(columns[n, i, j]))) <= 0.5


class Always:
    """Draws the highest number."""

    def uniform(self, low: float, high: float, shape: int | tuple[int, ...]) -> Array:
        return np.full(shape, high)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> Array:
        return np.full(shape, high - 1)


def test_a_quarter_turn_is_exact() -> None:
    pixels = pictures(4, 3, 8, 8)
    Rotate(degrees=90).apply(changed := pixels.copy(), Always())  # type: ignore[arg-type]
    np.testing.assert_array_equal(changed, np.rot90(pixels, -1, axes=(2, 3)))
    Rotate(degrees=0).apply(changed := pixels.copy(), np.random.default_rng(0))
    np.testing.assert_array_equal(changed, pixels)


def test_warps_that_follow_one_another_are_resampled_once() -> None:
    shift, rotate, scale, flip = Shift(pixels=1), Rotate(degrees=25), RandomScale(amount=0.25), Flip()
    run = WarpChain(parts=(rotate, shift, scale))
    assert list(joined([flip, rotate, shift, scale, flip, rotate])) == [flip, run, flip, rotate]
    assert list(joined([])) == []
    pixels = pictures(2, 2, 9, 12)
    run.apply(changed := pixels.copy(), Always())  # type: ignore[arg-type]
    cosine, sine = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    for n, c, i, j in np.ndindex(pixels.shape):
        y, x = (i - 4) / 1.25 + 1, (j - 5.5) / 1.25 + 1  # the last one is asked first
        row, column = cosine * y - sine * x + 4, sine * y + cosine * x + 5.5
        # A place that is 1/32 of a pixel off along both axes changes a byte by at most a sixteenth of the range.
        assert abs(changed[n, c, i, j] - bilinear(pixels[n, c], row, column)) <= 0.5 + 255 / 16


def test_places_are_those_of_the_first_at_those_of_the_second() -> None:
    random, places = np.random.default_rng(0), SampleGrid(3, 5, 8)
    (first, second), (before, after) = random.normal(size=(2, 3, 2, 2)), random.normal(size=(2, 3, 2))
    field = random.normal(size=(2, 3, 4, 5)), random.normal(size=(4, 8))
    places.transform(first, before)
    places.displace(*field)
    places.transform(second, after)
    found = np.einsum("anki,kj->anij", *places.factors()) / 16 - 1
    moved = np.einsum("anki,kj->anij", *field)
    for n, i, j in np.ndindex(3, 5, 8):
        source = first[n] @ (second[n] @ (i - 2, j - 3.5) + after[n]) + before[n] + moved[:, n, i, j]
        np.testing.assert_allclose(found[:, n, i, j], source + np.array([2, 3.5]), rtol=1e-5, atol=1e-5)


def test_images_are_resampled_alike_however_many_at_once() -> None:
    random, pixels = np.random.default_rng(0), pictures(300, 1, 28, 28)
    places = SampleGrid(300, 28, 28)
    for warp in (Elastic(), Rotate(), Elastic(sigma=2.5)):
        warp.move(places, random)
    down, across = places.factors()
    fine = np.einsum("anki,kj->anij", down, across)
    for image, place in zip(expected := pixels.copy(), fine.transpose(1, 0, 2, 3), strict=True):
        interpolate(image[None], place[:, None].copy())
    resample(pixels, places)
    # Sums in another order may round a place to another sixteenth.
    assert (pixels != expected).mean() < 1e-3


def test_scale_enlarges_and_shrinks_about_the_centre() -> None:
    pixels = np.zeros((400, 1, 33, 33), np.uint8)
    pixels[:, :, 8:25, 8:25] = 255
    sides = np.sqrt(changed_by(RandomScale(amount=0.2), pixels).sum(axis=(1, 2, 3)) / 255)
    assert sides.min() > 17 * 0.78
    assert sides.max() < 17 * 1.22
    assert sides.std() > 1
    np.testing.assert_array_equal(changed_by(RandomScale(amount=0), pixels), pixels)


def test_elastic_moves_pixels_by_as_much_as_the_paper() -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8) * 6, (100, 1, 40, 40)).copy()
    moved = (changed_by(Elastic(), ramp).astype(float) - ramp)[:, :, 12:28, 12:28] / 6
    assert abs(moved.mean()) < 0.2
    assert moved.std() == pytest.approx(34 / np.sqrt(3) / (2 * np.sqrt(np.pi) * 4), rel=0.1)
    neighbours = moved[..., 1:] - moved[..., :-1]
    assert neighbours.std() < moved.std() / 3
    assert np.abs(changed_by(Elastic(alpha=1e-3), ramp).astype(int) - ramp).max() == 0


@pytest.mark.parametrize("sigma", [1.0, 2.5, 4.0, 7.9])
def test_random_numbers_of_cells_are_smoothed_to_the_same_field_as_those_of_pixels(sigma: float) -> None:
    # Noise that ends far outside, so that both have as much of it.
    coarse, fine = (gaussian(20 * int(sigma), sigma, cell)[:, 8 * int(sigma) : -8 * int(sigma)] for cell in (None, 1))
    np.testing.assert_allclose(coarse.T @ coarse, fine.T @ fine, atol=2 * np.exp(-(np.pi**2)) * (fine**2).sum(0).max())


@pytest.mark.parametrize("mixture", [Mixup(alpha=1.0), Cutmix()])
def test_mixtures_share_pixels_and_labels_alike(mixture: Mixup | Cutmix) -> None:
    # Image i is all of byte i and the only one of class i: its pixels tell which classes are in it and how much.
    n = 64
    pixels = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None] * 4, (n, 2, 10, 10)).copy()
    targets = np.eye(n, dtype=np.float32)
    changed = pixels.copy()
    mixture.mix(changed, targets, np.random.default_rng(0))
    np.testing.assert_allclose(targets.sum(axis=0), 1, rtol=1e-6)
    assert ((targets > 0).sum(axis=0) == 2).mean() > 0.8
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), 4 * np.arange(n) @ targets, atol=0.51)


def test_an_augmentation_of_pixels_alone_leaves_labels() -> None:
    targets = np.eye(5, dtype=np.float32)
    Flip().mix(pictures(5, 1, 4, 4), targets, np.random.default_rng(0))
    np.testing.assert_array_equal(targets, np.eye(5))


def test_cutmix_takes_boxes() -> None:
    pixels = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 1, 12, 9)).copy()
    for label, image in enumerate(changed_by(Cutmix(), pixels)):
        rows, columns = np.nonzero(image[0] != label)
        if len(rows):
            assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows)
            assert len(np.unique(image[0])) <= 2
