"""Explains one of a network's outputs by the parts of the image: occlusion, saliency and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.graph import INPUT, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import batch_shape, to_public
from cnnspec.plan.single import SingleLayer, bind_single
from cnnspec.spec.suggest import did_you_mean
from cnnspec.train.answer import class_map
from cnnspec.train.diagnose import entered
from cnnspec.train.network import Network

WINDOWS = 7  # squares side by side along the shorter side of an image
AT_ONCE = 256  # occluded images computed at once


@dataclass(frozen=True, slots=True)
class Score:
    """The number to explain: `sign` times an output, which for a map of outputs is summed over its pixels."""

    output: int
    name: str
    sign: float = 1.0

    def of(self, outputs: Array) -> Array:
        """Return the score of each of n images by the network's outputs (n, k) or (n, k, h, w)."""
        chosen = outputs[:, self.output].astype(np.float64)
        return np.asarray(self.sign * chosen.reshape(len(chosen), -1).sum(axis=1))


@dataclass(frozen=True, slots=True)
class Gradients:
    """By layer, and for the network's input: the values at inference, and the gradients of a score by them (n, ...)."""

    values: dict[str, Array]
    gradients: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Maps of one image: how much each place contributes to the score."""

    score: Score
    occlusion: Array  # (h, w): how far the score falls where a window is covered
    saliency: Array  # (h, w): how fast the score changes with the pixel, the channel that counts most
    grad_cam: Array  # (h', w') of the layer: where its maps raise the score
    layer: str


def score_of(model: Network, output: Array, names: Sequence[str], wanted: str | None = None) -> Score:
    """Choose the score to explain for one image's output: the class `wanted`, else the network's answer.

    That is the likeliest class or label, the first of several values, or the most frequent class of a mask except 0.
    RunError if there is no such class, or if outputs are of another kind.
    """
    kind = model.learned.kind
    if model.output_names or kind not in ("class", "shares", "classes", "values", "mask"):
        raise RunError("only outputs that are classes, labels, values or masks can be explained", "leave --explain out")
    threshold = 0.5 if model.loss is None else model.loss.threshold
    two = len(output) == 1 and kind in ("class", "mask")  # a single output is that of the second class
    known = [*names, *map(str, range(len(names), 2 if two else len(output)))]
    if wanted is not None:
        if wanted not in known:
            raise RunError(f"no class '{wanted}'", did_you_mean(wanted, known, "classes"))
        chosen = known.index(wanted)
    elif kind == "values":
        chosen = 0
    elif kind == "mask":
        counts = np.bincount(class_map(model, output).ravel(), minlength=2)
        chosen = 1 + int(counts[1:].argmax()) if counts[1:].any() else 0
    else:
        chosen = int(output[0] > threshold) if two else int(output.argmax())
    return Score(0, known[chosen], 2.0 * chosen - 1.0) if two else Score(chosen, known[chosen])


def attribution(model: Network, image: Array, score: Score, layer: str | None = None) -> Attribution:
    """Explain a score of one prepared image (c, h, w) by three maps; Grad-CAM uses `layer`, or the last map.

    RunError if the image has no height and width, or if the layer has no map.
    """
    if image.ndim != 3 or min(image.shape[1:]) < 2:
        raise RunError("only images can be explained, and the network's input is none", "leave --explain out")
    layer = layer or last_map(model)
    result = gradients(model, image[None], score)
    if layer not in result.gradients or result.gradients[layer].ndim != 4:
        maps = [name for name, of in result.gradients.items() if of.ndim == 4 and name != INPUT]
        raise RunError(f"layer '{layer}' has no map on the way to the output", did_you_mean(layer, maps, "layers"))
    return Attribution(
        score,
        occlusion(model, image, score),
        np.abs(result.gradients[INPUT][0]).max(axis=0),
        grad_cam(result.values[layer][0], result.gradients[layer][0]),
        layer,
    )


def last_map(model: Network) -> str:
    """Return the last layer whose maps are as large as those of the last convolution; RunError if there is none.

    The output depends on it. Without a convolution it is the last layer with a map.
    """
    needed = model.graph.without_losses.needed
    maps = [
        node
        for node in model.graph.nodes
        if node.name in needed and len(node.shape) == 3 and min(node.shape[1:]) > 1
        if node.name != model.graph.output_name
    ]
    if not maps:
        raise RunError("no layer has maps, which Grad-CAM looks at", "explain a network with convolutions")
    size = next((node.shape[1:] for node in reversed(maps) if node.layer.convolves), maps[-1].shape[1:])
    return next(node.name for node in reversed(maps) if node.shape[1:] == size)


def grad_cam(values: Array, gradients: Array) -> Array:
    """Return max(0, sum over channels of values times the mean of their gradients), (h, w) of (c, h, w).

    Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization" (2017).
    """
    return np.asarray(np.maximum(0, np.einsum("chw,c->hw", values, gradients.mean(axis=(1, 2)))))


def occlusion(model: Network, image: Array, score: Score) -> Array:
    """Return how far the score falls when a square is covered, (h, w): the mean over the squares around each pixel.

    Squares measure a seventh of the shorter side and overlap by half; they are filled with the image's mean of each
    channel. Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).
    """
    height, width = image.shape[1:]
    side = max(1, round(min(height, width) / WINDOWS))
    mean = image.mean(axis=(1, 2), keepdims=True)
    cover = np.rint(mean).astype(image.dtype) if image.dtype == np.uint8 else mean.astype(image.dtype)
    corners = [(y, x) for y in _starts(height, side) for x in _starts(width, side)]
    unchanged = score.of(model.outputs(image[None]))[0]
    fall, covered = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(corners), AT_ONCE):
        part = corners[start : start + AT_ONCE]
        images = np.repeat(image[None], len(part), axis=0)
        for copy, (y, x) in zip(images, part, strict=True):
            copy[:, y : y + side, x : x + side] = cover
        for value, (y, x) in zip(score.of(model.outputs(images)), part, strict=True):
            fall[y : y + side, x : x + side] += unchanged - value
            covered[y : y + side, x : x + side] += 1
    return fall / covered


def _starts(length: int, side: int) -> list[int]:
    """Return where squares begin along an axis: half a square apart, the last one at the end."""
    return sorted({*range(0, length - side, max(1, side // 2)), length - side})


def gradients(model: Network, images: Array, score: Score) -> Gradients:
    """Return every layer's values for prepared images at inference, and the gradients of their scores by them.

    Values are in the units that the network computes in, for its input after normalisation. RunError for layers
    whose gradient at inference is not known: those with running statistics, except `batch_norm`.
    """
    needed = model.graph.without_losses.needed
    nodes = [node for node in model.graph.nodes if node.name in needed]
    values = {INPUT: entered(model, images)}
    passes: dict[str, _Pass] = {}
    for node in nodes:
        passes[node.name] = made = _Pass(model, node, [values[name] for name in node.inputs])
        values[node.name] = made.output
    totals = {name: np.zeros_like(array) for name, array in values.items()}
    to_public(totals[model.graph.output_name])[:, score.output] = score.sign
    for node in reversed(nodes):
        for name, gradient in zip(node.inputs, passes[node.name].back(totals[node.name]), strict=True):
            totals[name] += gradient
    return Gradients(
        {name: to_public(array) for name, array in values.items()},
        {name: to_public(array) for name, array in totals.items()},
    )


class _Pass:
    """The pass of one layer on arrays of its own: its output at inference, and the gradients of its inputs."""

    def __init__(self, model: Network, node: Node, inputs: Sequence[Array]) -> None:
        self.slope: Array | float = 1.0  # for a layer that is the identity, or multiplies each channel
        self.single: SingleLayer | None = None
        if node.layer.train_only:
            self.output = inputs[0]
            return
        params, state = model.weights.views(model.weights.values, node), model.weights.node_state(node)
        scales = node.layer.normalises_channels
        if state and not scales:
            raise RunError(
                f"the gradient of {node.layer.type_name} '{node.name}' at inference is not known: it has statistics",
                "leave --explain out",
            )
        n, dtype = inputs[0].shape[-1], inputs[0].dtype
        single = bind_single(
            node.layer,
            node.input_shapes,
            inputs,
            params=params,
            state={name: array.copy() for name, array in state.items()},
            output_grads=() if scales else (np.zeros(batch_shape(node.shape, n), dtype),),
            mode="infer" if scales else "train",
        )
        single.run_forward()
        self.output = single.operands.output
        if scales:
            slope = params["weight"] / np.sqrt(state["running_variance"] + getattr(node.layer, "epsilon", 0.0))
            self.slope = slope.reshape(-1, 1, 1) if self.output.ndim == 4 else slope.reshape(-1, 1)
        else:
            self.single = single

    def back(self, gradient: Array) -> Sequence[Array]:
        """Return the gradient of each input for a gradient of the output."""
        if self.single is None:
            return [gradient * self.slope]
        self.single.operands.dy[...] = gradient
        self.single.run_backward()
        return [dx for dx in self.single.operands.input_grads if dx is not None]
