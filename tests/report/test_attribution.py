"""Maps that explain an answer: gradients against central differences, occlusion against one image after another."""

from __future__ import annotations

import numpy as np
import pytest

from cnnspec.diagnostics import RunError
from cnnspec.graph import INPUT, build
from cnnspec.kernels.step import Array
from cnnspec.report.attribution import (
    Score,
    attribution,
    grad_cam,
    gradients,
    last_map,
    occlusion,
    score_of,
)
from cnnspec.spec import loads
from cnnspec.train.network import Network

CLASSES = """
cnnspec: 1
name: net
input: [2, 9, 7]
layers:
  - {type: conv2d, filters: 4, kernel_size: 3, padding: same, bias: channel, id: stem}
  - batch_norm
  - gelu
  - type: residual
    body:
      - {type: conv2d, filters: 4, kernel_size: 3, padding: same, id: body}
      - silu
      - {type: dropout, rate: 0.3}
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 3, kernel_size: 1, bias: channel, id: last}
  - tanh
  - flatten
  - {type: dense, units: 8}
  - batch_norm
  - {type: dense, units: UNITS}
train: {epochs: 1}
"""
MASKS = """
cnnspec: 1
name: masks
input: [1, 6, 6]
layers:
  - {type: conv2d, filters: 3, kernel_size: 3, padding: same}
  - relu
  - {type: conv2d, filters: 2, kernel_size: 1}
data: {source: {type: synthetic, shape: [1, 6, 6], classes: 2, target: mask}}
train: {epochs: 1}
"""


def network(text: str) -> Network:
    """In float64, with random weights and running statistics, as after a training."""
    spec = loads(text, "<test>")
    made = Network(spec, build(spec), dtype="float64")
    random = np.random.default_rng(3)
    for name, array in made.weights.arrays():
        array[...] = 0.5 + random.random(array.shape) if "variance" in name else random.normal(0, 0.4, array.shape)
    made.weights.version += 1
    return made


def random_images(model: Network, count: int) -> Array:
    return np.random.default_rng(0).random((count, *model.graph.input_shape))


@pytest.mark.parametrize(("text", "output"), [(CLASSES.replace("UNITS", "5"), 3), (MASKS, 1)])
def test_the_inputs_gradient_is_that_of_central_differences(text: str, output: int) -> None:
    model = network(text)
    images, score = random_images(model, 2), Score(output, "", -1.0)
    found = gradients(model, images, score)
    np.testing.assert_allclose(score.of(model.outputs(images)), score.of(found.values[model.graph.output_name]))
    step, expected = 1e-6, np.zeros(images.shape)
    for place in np.ndindex(images.shape[1:]):
        sides = []
        for way in (step, -step):
            moved = images.copy()
            moved[(slice(None), *place)] += way
            sides.append(score.of(model.outputs(moved)))
        expected[(slice(None), *place)] = (sides[0] - sides[1]) / (2 * step)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found.gradients[INPUT], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", ["stem", "last"])
def test_a_layers_gradients_add_up_to_what_its_bias_does(layer: str) -> None:
    model = network(CLASSES.replace("UNITS", "5"))
    images, score = random_images(model, 1), Score(2, "")
    found = gradients(model, images, score)
    bias, step = model.params[f"{layer}.bias"], 1e-6
    expected = []
    for channel in range(len(bias)):
        sides = []
        for way in (step, -2 * step):
            bias[channel] += way
            model.weights.version += 1
            sides.append(score.of(model.outputs(images))[0])
        bias[channel] += step
        expected.append((sides[0] - sides[1]) / (2 * step))
    np.testing.assert_allclose(found.gradients[layer][0].sum(axis=(1, 2)), expected, rtol=1e-5, atol=1e-8)
    values, slopes = found.values[layer][0], found.gradients[layer][0]
    weights = np.array(expected) / values[0].size
    by_hand = np.zeros(values.shape[1:])
    for weight, of_channel in zip(weights, values, strict=True):
        by_hand += weight * of_channel
    np.testing.assert_allclose(grad_cam(values, slopes), np.where(by_hand > 0, by_hand, 0), rtol=1e-4, atol=1e-9)


def test_occlusion_is_what_covering_one_square_after_the_other_does() -> None:
    model = network(CLASSES.replace("UNITS", "5"))
    image, score = (random_images(model, 1)[0] * 255).astype(np.uint8), Score(1, "")
    rows, columns = [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6]  # squares of one pixel
    whole = model.outputs(image[None])[0, 1]
    expected = np.zeros((9, 7))
    for y in rows:
        for x in columns:
            covered = image.copy()
            for channel in range(2):
                covered[channel, y, x] = round(float(image[channel].mean()))
            expected[y, x] = whole - model.outputs(covered[None])[0, 1]
    np.testing.assert_allclose(occlusion(model, image, score), expected, rtol=1e-6, atol=1e-9)


def test_squares_of_several_pixels_overlap_and_reach_the_edges() -> None:
    model = network(MASKS.replace("[1, 6, 6]", "[1, 23, 20]"))
    image, score = random_images(model, 1)[0], Score(1, "")
    whole = score.of(model.outputs(image[None]))[0]
    fall, count = np.zeros((23, 20)), np.zeros((23, 20))
    for y in [*range(21)]:
        for x in [*range(18)]:
            covered = image.copy()
            covered[0, y : y + 3, x : x + 3] = image.mean()
            fall[y : y + 3, x : x + 3] += whole - score.of(model.outputs(covered[None]))[0]
            count[y : y + 3, x : x + 3] += 1
    np.testing.assert_allclose(occlusion(model, image, score), fall / count, rtol=1e-6, atol=1e-9)


def test_what_is_explained_is_what_the_network_says_or_what_is_named() -> None:
    model = network(CLASSES.replace("UNITS", "3"))
    names = ["cat", "dog"]
    output = np.array([0.1, 2.0, 0.3])
    assert score_of(model, output, names) == Score(1, "dog")
    assert score_of(model, output, names, "2") == Score(2, "2")
    with pytest.raises(RunError, match="no class 'cot'") as raised:
        score_of(model, output, names, "cot")
    assert raised.value.help == "did you mean cat?"
    one = network(CLASSES.replace("UNITS", "1").replace("{epochs: 1}", "{epochs: 1, loss: binary_cross_entropy}"))
    assert score_of(one, np.array([-1.0]), names) == Score(0, "cat", -1.0)
    assert score_of(one, np.array([3.0]), names) == Score(0, "dog", 1.0)
    assert Score(0, "cat", -1.0).of(np.array([[-1.0], [2.0]])).tolist() == [1.0, -2.0]


def test_the_layer_is_the_last_map_or_the_one_that_is_named() -> None:
    model = network(CLASSES.replace("UNITS", "5"))
    image, score = random_images(model, 1)[0], Score(0, "")
    assert attribution(model, image, score).layer == last_map(model) == "tanh_1"
    made = attribution(model, image, score, "stem")
    assert made.layer == "stem"
    assert made.grad_cam.shape == made.occlusion.shape == made.saliency.shape == (9, 7)
    with pytest.raises(RunError, match="layer 'stam' has no map") as raised:
        attribution(model, image, score, "stam")
    assert raised.value.help == "did you mean stem?"
    with pytest.raises(RunError, match="layer 'dense_1' has no map"):
        attribution(model, image, score, "dense_1")
