"""The bias of one image, which is added as a map, against that of several, which is added by channel."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.layers import bias
from cnnspec.plan import Weights, lower
from cnnspec.spec import loads
from cnnspec.workers import WorkerPool

SPEC = """
cnnspec: 1
name: net
input: [2, 24, 20]
layers: [{layers}, flatten, {{type: dense, units: 3}}]
"""
LAYERS = {
    "convolution": "{type: conv2d, filters: 4, kernel_size: 5}",
    "groups and padding": "{type: conv2d, filters: 4, kernel_size: 3, groups: 2, padding: same}, relu",
    "pooling": "{type: conv2d, filters: 4, kernel_size: 5}, relu, {type: max_pool2d, kernel_size: 2}",
    "normalised": "{type: conv2d, filters: 4, kernel_size: 5, bias: none}, batch_norm, relu",
    "untied": "{type: conv2d, filters: 4, kernel_size: 5, bias: untied}",
    "none": "{type: conv2d, filters: 4, kernel_size: 5, bias: none}",
    "large": "{type: conv2d, filters: 40, kernel_size: 3, padding: same}, {type: max_pool2d, kernel_size: 2}",
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_one_image_gets_what_it_gets_among_others(layers: str, threads: int) -> None:
    graph, random = build(loads(SPEC.format(layers=layers))), np.random.default_rng(0)
    weights, team = Weights(graph, dtype="float64"), WorkerPool(threads)
    one, three = (lower(graph, count, "infer", weights, team) for count in (1, 3))
    for _ in range(2):  # weights that change are prepared anew
        for array in [*weights.params.values(), *weights.state.values()]:
            array[...] = random.uniform(0.5, 1.5, array.shape)
        weights.version += 1
        three.images[...] = random.standard_normal(three.images.shape)
        three.compute()
        expected = three.output
        for image in range(3):
            one.images[...] = three.images[image]
            one.compute()
            np.testing.assert_allclose(one.output[0], expected[image], rtol=1e-10)
    team.close()


def test_only_few_elements_of_one_image_at_inference_are_spread() -> None:
    assert bias.bias_scratch("channel", (4, 8, 8), 1, "infer")["bias"].shape == (8, 4, 8, 1)
    assert not bias.bias_scratch("channel", (4, 8, 8), 2, "infer")
    assert not bias.bias_scratch("channel", (64, 56, 56), 1, "infer")
    assert not bias.bias_scratch("untied", (4, 8, 8), 1, "infer")
    assert not bias.bias_scratch("none", (4, 8, 8), 1, "infer")
    assert not bias.bias_scratch("channel", (4, 8, 8), 1, "train")
