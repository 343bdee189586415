"""Layers that move elements, against NumPy on public arrays."""

from __future__ import annotations

import numpy as np

from cnnspec.layers.base import to_public
from cnnspec.layers.reshape import Flatten
from tests.layers.harness import Bench


def test_flatten_takes_channels_first() -> None:
    bench = Bench(Flatten(), [(2, 3, 4)], sizes=[5])
    images = to_public(bench.inputs[0])  # n, c, h, w
    np.testing.assert_array_equal(to_public(bench.forward()), images.reshape(5, 24))
    bench.backward()
    gradients = to_public(bench.output_grads[0]).reshape(images.shape)
    np.testing.assert_array_equal(to_public(bench.input_grads[0]), gradients)


def test_flatten_leaves_a_vector_as_it_is() -> None:
    bench = Bench(Flatten(), [(7,)])
    np.testing.assert_array_equal(bench.forward(), bench.inputs[0])
