"""Images in two splits: against comparing every pair of them, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.data import Data, open_data
from cnnspec.kernels.step import Array
from cnnspec.report.duplicates import NEAR, duplicates, near_images, same_images
from cnnspec.spec import load


def images(count: int, shape: tuple[int, ...] = (3, 11, 13), seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def test_the_same_images_are_found() -> None:
    one, other = images(30), images(40, seed=1)
    other[17], other[33], other[5] = one[4], one[4], one[29]
    assert same_images(one, other) == {4: 17, 29: 5}
    assert same_images(other, one) == {17: 4, 33: 4, 5: 29}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 13), (1, 3, 40), (1, 28, 28)])
def test_near_images_are_those_of_every_pair(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(5)
    one, other = images(120, shape), images(150, shape, seed=1)
    for number in range(60):
        noise = random.normal(0, random.uniform(0, 16), shape)
        other[number] = np.clip(np.rint(one[2 * number] + noise), 0, 255).astype(np.uint8)
    one[119], other[149] = 200, 201  # no deviation: nothing is near
    expected = {}
    for i, a in enumerate(one.astype(np.float64)):
        distances = [float(np.sqrt(np.square(a - b).mean())) for b in other.astype(np.float64)]
        nearest = int(np.argmin(distances))
        if a.std() > 0 and distances[nearest] <= NEAR * a.std():
            expected[i] = (nearest, distances[nearest] / a.std())
    found = near_images(one, other)
    assert 10 < len(expected) < 60
    assert {i: j for i, (j, _) in found.items()} == {i: j for i, (j, _) in expected.items()}
    np.testing.assert_allclose([apart for _, apart in found.values()], [a for _, a in expected.values()], rtol=1e-4)
    assert near_images(one[:0], other) == near_images(one, other[:0]) == {}


def opened(folder: Path, train: Array, test: Array, labels: tuple[Array, Array]) -> Data:
    for name, pixels, own in (("train", train, labels[0]), ("test", test, labels[1])):
        np.savez(folder / f"{name}.npz", x=pixels, y=own)
    spec = "cnnspec: 1\ninput: [3, 11, 13]\nlayers: [flatten, {type: dense, units: 2}]\n"
    (folder / "net.yaml").write_text(spec + "data: {source: {type: npz, train: train.npz, test: test.npz}}\n")
    found = load(folder / "net.yaml")
    assert found.data is not None
    return open_data(found.data, seed=0, base=folder, input=(3, 11, 13), output=(2,))


def test_the_pairs_are_told_with_their_labels(tmp_path: Path) -> None:
    train, test = images(40), images(20, seed=1)
    test[3], test[8] = train[6], train[7]
    test[9] = np.clip(train[11].astype(int) + 3, 0, 255)
    labels = np.arange(40) % 2, np.arange(20) % 2
    found = duplicates(opened(tmp_path, train, test, labels))
    assert found is not None
    assert found.sentences == ("Of 20 test images 2 are in train too, pixel by pixel, and 1 more nearly so.",)
    told = [(*(image.number for image in pair.images), pair.words.split(",")[-1].strip()) for pair in found.pairs]
    assert told[:2] == [(3, 6, "other labels"), (8, 7, "other labels")]
    assert told[2][:2] == (9, 11)
    assert found.pairs[2].words.endswith("% apart")
