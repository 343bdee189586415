"""Lints about habits that do not fit here: rates, scales, augmentations, and layers that defeat themselves."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.data import data_shape
from cnnspec.diagnostics import Diagnostic
from cnnspec.graph.findings import at, readers, warning
from cnnspec.graph.node import Graph
from cnnspec.graph.passes import remove_dead_nodes
from cnnspec.spec.model import Spec

BOUNDED = ("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "sigmoid", "hard_sigmoid", "tanh")
ON_LOGITS = ("softmax_cross_entropy", "binary_cross_entropy")
ADAPTIVE = ("adam", "adamw", "rmsprop", "lion")  # whose step is about the rate itself, whatever the gradient
HIGHEST_RATE = 0.1
CHIRAL = ("digits", "mnist")  # what is mirrored is something else, or nothing


def activation_before_loss(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Scores that cannot take every value, before a loss that has its own squashing function."""
    loss = spec.train.loss.type_name if spec.train else None
    kind = graph.output.layer.type_name
    if loss in ON_LOGITS and kind in BOUNDED:
        yield from at(graph.output, "activation-before-loss", f"{loss} expects scores of any size", "remove it")


def single_class(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A softmax over one output is 1, whatever the network does."""
    if spec.train and spec.train.loss.type_name == "softmax_cross_entropy" and graph.output.shape == (1,):
        message, help = "a softmax over one output is always 1", "use one output a class, or binary_cross_entropy"
        yield from at(graph.output, "single-class", message, help, "units")


def learning_rate(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """A rate that suits sgd, on an optimizer that divides the gradient by its size."""
    if spec.train is None:
        return
    optimizer = spec.train.optimizer
    if optimizer.type_name in ADAPTIVE and optimizer.learning_rate >= HIGHEST_RATE:
        place = spec.sections.get("train.optimizer", spec.sections.get("train", spec.place))
        message = f"{optimizer.type_name} moves every weight by about {optimizer.learning_rate:g} a step"
        yield warning("learning-rate-too-high", message, place.of("learning_rate"), place, "start with 0.001")


def dead_layers(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Layers that the output does not depend on."""
    alive = {node.name for node in remove_dead_nodes(graph).nodes} | {node.share for node in graph.nodes}
    for node in graph.nodes:
        if node.name not in alive:
            message, help = "the output does not depend on it", "read it with `from`, or remove it"
            yield from at(node, "dead-layer", message, help)


def linear_chains(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Two dense layers with nothing between them are one, unless the first is a bottleneck."""
    reads = readers(graph)
    for node in graph.nodes:
        chain = [node, *reads[node.name]]
        if [link.layer.type_name for link in chain] != ["dense", "dense"]:
            continue
        if node.shape[0] >= min(node.input_shapes[0][0], chain[1].shape[0]):
            message = f"no activation stands between it and {chain[1].name}: together they are one dense layer"
            yield from at(node, "linear-chain", message, "put an activation between them")


def no_effect(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Layers that give back what they get."""
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        kind, before = node.layer.type_name, nodes.get(node.inputs[0])
        if kind == "relu" and before is not None and before.layer.type_name in ("relu", "relu6", "sigmoid"):
            yield from at(node, "no-effect", f"its input comes from {before.name} and is never negative", "remove it")
        elif kind.startswith("global_") and node.input_shapes[0][1:] == (1, 1):
            yield from at(node, "no-effect", "its input has one pixel", "use flatten")


def dropout_before_norm(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Dropout changes the variance that batch_norm learns, but not at inference (Li et al. 2019)."""
    reads = readers(graph)
    for node in graph.nodes:
        if node.layer.train_only and any(reader.layer.type_name == "batch_norm" for reader in reads[node.name]):
            message = "batch_norm right behind it learns a variance that inference does not have"
            yield from at(node, "dropout-before-norm", message, "put it behind the last batch_norm")


def even_kernels(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """An even kernel has no centre: with `same` every layer moves the picture by half a pixel."""
    for node in graph.nodes:
        fields = (getattr(node.layer, name, None) for name in ("kernel_size", "padding", "stride"))
        match tuple(fields):
            case ((int(height), int(width)), "same", (1, 1)) if not (height % 2 and width % 2) and node.params:
                message = f"a kernel of {height}x{width} with padding: same moves the map by half a pixel"
                yield from at(node, "even-kernel", message, "use an odd kernel_size", "kernel_size")


def scales(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Means and deviations of bytes, where pixels are 0..1."""
    for i, transform in enumerate(spec.data.preprocess if spec.data else ()):
        if transform.type_name == "scale":
            return
        if transform.type_name == "normalize" and max(*transform.mean, *transform.std) > 1:
            place = spec.sections.get("data", spec.place)
            message = "normalize: mean and std are those of bytes, but pixels enter as 0..1"
            help = "divide both by 255, or put {type: scale, maximum: 255} before it"
            yield warning("normalize-scale", message, place.of("preprocess"), place, help, f"data.preprocess[{i}]")


def augmentations(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Mirrored digits, and changes that leave little of an image."""
    if spec.data is None:
        return
    place, shape = spec.sections.get("data", spec.place), data_shape(spec.data)
    for i, augmentation in enumerate(spec.data.augment):
        kind, path = augmentation.type_name, f"data.augment[{i}]"
        if kind == "flip" and spec.data.source.type_name in CHIRAL:
            message = "flip: a mirrored digit is another one, or none"
            yield warning("flip-of-digits", message, place.of("augment"), place, "use shift or rotate", path)
        reach = {"shift": "pixels", "crop": "padding", "cutout": "size"}.get(kind)
        if reach is None or shape is None:
            continue
        side, most = getattr(augmentation, reach), min(shape[1:]) // (1 if kind == "cutout" else 2)
        if side >= most:
            message = f"{kind}: {reach} {side} leaves little of images of {shape[1]}x{shape[2]}"
            help = f"use {reach} below {most}"
            yield warning("augmentation-too-strong", message, place.of("augment"), place, help, path)


HABITS = (
    activation_before_loss,
    single_class,
    learning_rate,
    dead_layers,
    linear_chains,
    no_effect,
    dropout_before_norm,
    even_kernels,
    scales,
    augmentations,
)
