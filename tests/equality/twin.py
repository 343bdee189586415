"""The same trainings by PyTorch in float64: layers as `cnnspec.compare.pytorch` has them, the rest by its formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnspec.compare import pytorch
from cnnspec.graph import INPUT, Graph, Node
from cnnspec.kernels.step import Array
from cnnspec.layers.base import batch_shape, to_public
from cnnspec.layers.noise import Noisy
from cnnspec.plan import shards_of
from tests.equality import values
from tests.equality.result import Result, Setup

Tensor = Any
Tensors = dict[str, Tensor]


def _lp_pool(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    """With the gradient 0 where all of a window is 0, for which PyTorch has none."""
    t, layer = pytorch.torch(), node.layer
    powers = pytorch._mean_of_windows(node, inputs[0].abs() ** layer.p, count_padding=False)  # type: ignore[attr-defined]
    positive = powers > 0
    return t.where(positive, t.where(positive, powers, 1.0) ** (1 / layer.p), 0.0)  # type: ignore[attr-defined]


def _avg_pool(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    """Padding counts where the layer says so; what `ceil_mode` adds behind it never does."""
    t, layer = pytorch.torch(), node.layer
    functional, x = t.nn.functional, inputs[0]
    laid, declared = (each.windows(node.input_shapes[0]) for each in (layer, layer.but(ceil_mode=False)))  # type: ignore[attr-defined]
    top, bottom, left, right = laid.padding
    margins, own = (left, right, top, bottom), declared.padding if layer.count_include_pad else (0, 0, 0, 0)  # type: ignore[attr-defined]
    counts = functional.pad(t.ones_like(x[:1, :1]), (own[2], own[3], own[0], own[1]), value=1.0)
    counts = functional.pad(counts, (left - own[2], right - own[3], top - own[0], bottom - own[1]))
    sums, counted = (
        functional.avg_pool2d(each, laid.kernel, laid.stride, divisor_override=1)
        for each in (functional.pad(x, margins), counts)
    )
    return sums / counted


def _softplus(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    return pytorch.torch().nn.functional.softplus(inputs[0], threshold=60)


def _hard_sigmoid(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    """PyTorch's own gradient multiplies by 1/6 in single precision."""
    return (inputs[0] / 6 + 0.5).clamp(0, 1)


def _hard_swish(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    return inputs[0] * _hard_sigmoid(node, arrays, inputs, training)


def _batch_norm(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    """PyTorch's own gradient is wrong for a single image whose channels lie together (seen in 2.13)."""
    layer: Any = node.layer
    x, running = inputs[0], (arrays["running_mean"], arrays["running_variance"])
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    mean, variance = running
    if training:
        count = x.numel() // x.shape[1]
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
        for kept, found in zip(running, (mean, variance * count / max(count - 1, 1)), strict=True):
            kept.mul_(layer.momentum).add_(found.detach(), alpha=1 - layer.momentum)
    normal = (x - mean.reshape(shape)) / (variance.reshape(shape) + layer.epsilon).sqrt()
    return normal * arrays["weight"].reshape(shape) + arrays["bias"].reshape(shape)


def _group_norm(groups_of: Callable[[Any, int], int]) -> pytorch.Function:
    """PyTorch's own ends the process on some maps that are views with their axes in another order (seen in 2.13)."""

    def function(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
        layer: Any = node.layer
        x = inputs[0]
        parts = x.reshape(x.shape[0], groups_of(layer, x.shape[1]), -1)
        variance, mean = parts.var(2, unbiased=False, keepdim=True), parts.mean(2, keepdim=True)
        normal = ((parts - mean) / (variance + layer.epsilon).sqrt()).reshape(x.shape)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        return normal * arrays["weight"].reshape(shape) + arrays["bias"].reshape(shape)

    return function


_OF_IMAGES = _group_norm(lambda layer, channels: 1)


def _layer_norm(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    layer: Any = node.layer
    if inputs[0].ndim == 2 or layer.over == "map":
        return _OF_IMAGES(node, arrays, inputs, training)
    return pytorch.FUNCTIONS["layer_norm"](node, arrays, inputs, training)


def _clip(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    """PyTorch's own gradient is 1 at a bound, where relu's at 0 is 0."""
    t, layer, x = pytorch.torch(), node.layer, inputs[0]
    x = x if layer.min is None else t.where(x > layer.min, x, layer.min)  # type: ignore[attr-defined]
    return x if layer.max is None else t.where(x < layer.max, x, layer.max)  # type: ignore[attr-defined]


def _normal(node: Node, seed: int, step: int, batch: int) -> Tensor:
    """The numbers of the normal distribution that a layer draws for the images of a step, by Box and Muller (1958).

    Each shard draws two uniform numbers for each of them, images last and rows first, from a counter of the step.
    """
    parts = []
    for shard, n in enumerate(shards_of(batch)):
        seeds = np.random.SeedSequence([seed, shard, *node.name.encode()])
        uniform = np.random.Generator(np.random.Philox(seeds, counter=[0, 0, step + 1, 0]))
        length, angle = uniform.random((2, *batch_shape(node.shape, n)))
        parts.append(to_public(np.sqrt(-2 * np.log(1 - length)) * np.cos(2 * np.pi * angle)))
    return pytorch.torch().tensor(np.concatenate(parts))


def _noise(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    return inputs[0] + node.layer.std * arrays["z"] if training else inputs[0]  # type: ignore[attr-defined]


def _reparameterize(node: Node, arrays: Any, inputs: Any, training: bool) -> Tensor:
    mean, log_variance = inputs
    return mean + (log_variance / 2).exp() * arrays["z"] if training else mean


# where PyTorch's own is less exact than float64 or wrong, or has no gradient
OWN: Mapping[str, pytorch.Function] = {
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "clip": _clip,
    "group_norm": _group_norm(lambda layer, channels: int(layer.groups)),
    "instance_norm": _group_norm(lambda layer, channels: channels),
    "layer_norm": _layer_norm,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "lp_pool2d": _lp_pool,
    "noise": _noise,
    "reparameterize": _reparameterize,
    "softplus": _softplus,
}
FUNCTIONS: Mapping[str, pytorch.Function] = {**pytorch.FUNCTIONS, **OWN}


def forward(
    graph: Graph, params: Tensors, state: Tensors, x: Tensor, training: bool, *, seed: int = 0, step: int = 0
) -> Tensor:
    """The network's output; in training with the noise of a step."""
    found = {INPUT: x}
    for node in graph.nodes:
        arrays = {name: params[key] for name, key in node.keys.items()}
        arrays |= {name: state[f"{node.name}.{name}"] for name in node.state}
        if training and isinstance(node.layer, Noisy):
            arrays["z"] = _normal(node, seed, step, len(x))
        inputs = [found[name] for name in node.inputs]
        found[node.name] = FUNCTIONS[node.layer.type_name](node, arrays, inputs, training).contiguous()
    return found[graph.output.name]


def _hot(y: Tensor, classes: Tensor) -> Tensor:
    return pytorch.torch().nn.functional.one_hot(classes, y.shape[1]).to(y.dtype)


def _weighted_mean(settings: Any, losses: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """The mean of losses (n,) or (n, ...), in which an image of class k counts as often as weight k says."""
    if settings.class_weights is not None:
        weights = _hot(y, classes) @ pytorch.torch().tensor(settings.class_weights, dtype=y.dtype)
        losses = losses * weights.reshape(-1, *(1,) * (losses.ndim - 1))
    return losses.mean()


def _softmax_cross_entropy(settings: Any, y: Tensor, x: Tensor, classes: Tensor) -> Tensor:
    e = settings.label_smoothing
    target = _hot(y, classes) * (1 - e) + e / y.shape[1]
    logarithms = pytorch.torch().nn.functional.log_softmax(y, 1)
    return _weighted_mean(settings, -(target * logarithms).sum(1), y, classes)


def _elementwise(name: str, *options: str) -> Callable[[Any, Tensor, Tensor, Tensor], Tensor]:
    """A loss of PyTorch that compares each output with its target, with options that our loss has too."""

    def loss(settings: Any, y: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        target = x if settings.reads_input else _hot(y, classes)
        chosen = {option: getattr(settings, option) for option in options}
        losses = getattr(pytorch.torch().nn.functional, name)(y, target, reduction="none", **chosen)
        return _weighted_mean(settings, losses, y, classes)

    return loss


LOSSES: Mapping[str, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {  # the mean loss of a batch
    "binary_cross_entropy": _elementwise("binary_cross_entropy_with_logits"),
    "huber": _elementwise("huber_loss", "delta"),
    "mean_absolute_error": _elementwise("l1_loss"),
    "mean_squared_error": _elementwise("mse_loss"),
    "softmax_cross_entropy": _softmax_cross_entropy,
}


Update = Callable[[Any, dict[str, Array], Array, Array, float, float, int], Array]


def _sgd(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    g = g + decay * w
    s["v"] = o.momentum * s.get("v", 0.0) + g
    return np.asarray(w - rate * (g + o.momentum * s["v"] if o.nesterov else s["v"]))


def _adam(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    g = g + decay * w
    s["m"] = o.beta1 * s.get("m", 0.0) + (1 - o.beta1) * g
    s["v"] = o.beta2 * s.get("v", 0.0) + (1 - o.beta2) * g * g
    mean, square = s["m"] / (1 - o.beta1**t), s["v"] / (1 - o.beta2**t)
    return np.asarray(w - rate * mean / (np.sqrt(square) + o.epsilon))


def _adamw(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    return _adam(o, s, w - rate * decay * w, g, rate, 0.0, t)


def _rmsprop(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    g = g + decay * w
    s["v"] = o.memory * s.get("v", 0.0) + (1 - o.memory) * g * g
    s["b"] = o.momentum * s.get("b", 0.0) + g / (np.sqrt(s["v"]) + o.epsilon)
    return np.asarray(w - rate * s["b"])


def _adagrad(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    g = g + decay * w
    s["v"] = s.get("v", 0.0) + g * g
    return np.asarray(w - rate * g / (np.sqrt(s["v"]) + o.epsilon))


def _lion(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    mean = s.get("m", np.zeros_like(g))
    s["m"] = o.beta2 * mean + (1 - o.beta2) * g
    return np.asarray(w - rate * (np.sign(o.beta1 * mean + (1 - o.beta1) * g) + decay * w))


def _lamb(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    direction = -_adam(o, s, np.zeros_like(w), g, 1.0, 0.0, t) + decay * w
    lengths = np.linalg.norm(w), np.linalg.norm(direction)
    return np.asarray(w - rate * (lengths[0] / lengths[1] if all(lengths) else 1.0) * direction)


def _muon(o: Any, s: dict[str, Array], w: Array, g: Array, rate: float, decay: float, t: int) -> Array:
    """Of a matrix: five iterations X -> a X + b X X'X + c X X'X X'X from its mean gradient of length 1."""
    s["m"] = o.momentum * s.get("m", 0.0) + (1 - o.momentum) * g
    moved = (1 - o.momentum) * g + o.momentum * s["m"] if o.nesterov else s["m"]
    x = moved.reshape(len(g), -1) / (np.linalg.norm(moved) + 1e-7)
    for _ in range(o.steps):
        cube = x @ (x.T @ x)
        x = 3.4445 * x - 4.7750 * cube + 2.0315 * (cube @ (x.T @ x))
    scale = max(1.0, x.shape[0] / x.shape[1]) ** 0.5
    return np.asarray(w - rate * (scale * x.reshape(w.shape) + decay * w))


UPDATES: Mapping[str, Update] = {
    "muon": _muon,
    "lamb": _lamb,
    "sgd": _sgd,
    "momentum": _sgd,
    "nesterov": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "lion": _lion,
}


def without_counterpart(setup: Setup) -> list[str]:
    """The types of a setup that PyTorch's side has no formula of, such as a layer that is new."""
    assert setup.spec.train is not None
    missing = {node.layer.type_name for node in setup.graph.nodes} - FUNCTIONS.keys()
    missing |= {setup.spec.train.loss.type_name} - LOSSES.keys()
    optimizer: Any = setup.spec.train.optimizer
    used = {optimizer.type_name} | ({optimizer.rest.type_name} if optimizer.type_name == "muon" else set())
    return sorted(missing | (used - UPDATES.keys()))


class Twin:
    """A training as PyTorch computes it; `shaken` changes every weight by that share, to see what rounding may do."""

    def __init__(self, setup: Setup, shaken: float = 0.0) -> None:
        self.setup, self.graph = setup, setup.graph
        self.torch = pytorch.torch()
        settings = setup.spec.train
        assert settings is not None
        self.settings = settings
        self.params: dict[str, Array] = {}
        self.state: Tensors = {}
        self.decays: dict[str, float] = {}  # of what is trained
        self.optimizers: dict[str, Any] = {}  # of each parameter: muon leaves some to another
        for node in self.graph.nodes:
            for name, parameter in () if node.share else node.params.items():
                key = f"{node.name}.{name}"
                start = values.weights(key, parameter.shape)
                self.params[key] = start * (1 + shaken * values.noise(f"shaken {key}", parameter.shape))
                if node.trainable:
                    own = settings.optimizer.weight_decay if node.weight_decay is None else node.weight_decay
                    self.decays[key] = own if parameter.decays else 0.0
                    chosen = settings.optimizer.for_parameter(parameter.shape, weight=parameter.decays)
                    self.optimizers[key] = chosen
            for name, state in node.state.items():
                self.state[f"{node.name}.{name}"] = self.torch.full(state.shape, state.fill, dtype=self.torch.float64)
        self.unreached: set[str] = set()
        self.vague: dict[str, Array] = {}  # which elements ever had a gradient that is rounding alone

    def predict(self) -> Array:
        images = self.torch.tensor(values.images(0, self.setup.batch, self.graph.input_shape))
        tensors = {key: self.torch.tensor(array) for key, array in self.params.items()}
        with self.torch.no_grad():
            return np.asarray(forward(self.graph, tensors, self.state, images, False).numpy())

    def gradients(self, step: int) -> tuple[float, dict[str, Array]]:
        """The loss of a step and its gradient."""
        t, setup = self.torch, self.setup
        x = t.tensor(values.images(step, setup.batch, self.graph.input_shape))
        classes = t.tensor(setup.labels(step))
        tensors = {key: t.tensor(array, requires_grad=key in self.decays) for key, array in self.params.items()}
        settings = self.settings.loss
        output = forward(self.graph, tensors, self.state, x, True, seed=setup.spec.seed, step=step)
        loss = LOSSES[settings.type_name](settings, output, x, classes)
        keys = list(self.decays)
        found = (
            t.autograd.grad(loss, [tensors[key] for key in keys], allow_unused=True)
            if loss.requires_grad
            else [None] * len(keys)
        )
        self.unreached = {key for key, gradient in zip(keys, found, strict=True) if gradient is None}
        return loss.item(), {
            key: np.zeros_like(self.params[key]) if gradient is None else gradient.numpy()
            for key, gradient in zip(keys, found, strict=True)
        }

    def run(self) -> Result:
        """All steps."""
        settings, optimizer = self.settings, self.settings.optimizer
        before, losses, first = self.predict(), [], dict[str, Array]()
        total = {key: np.zeros_like(self.params[key]) for key in self.decays}
        slots: dict[str, dict[str, Array]] = {key: {} for key in self.decays}
        averages, updates = {key: array.copy() for key, array in self.params.items()}, 0
        self.vague = {key: np.zeros(self.params[key].shape, bool) for key in self.decays}
        for step in range(self.setup.steps):
            loss, found = self.gradients(step)
            losses.append(loss)
            first = first or found
            total = {key: total[key] + found[key] for key in total}
            if (step + 1) % settings.accumulate:
                continue
            updates += 1
            mean = {key: array / settings.accumulate for key, array in total.items()}
            total = {key: np.zeros_like(array) for key, array in total.items()}
            largest = max((abs(array).max() for array in mean.values()), default=0.0)
            for key, array in mean.items():
                self.vague[key] |= abs(array) <= 1e-10 * largest
            norm = np.sqrt(sum(float((array**2).sum()) for array in mean.values()))
            if settings.clip.norm is not None and norm > settings.clip.norm:
                mean = {key: array * (settings.clip.norm / norm) for key, array in mean.items()}
            if settings.clip.value is not None:
                mean = {key: np.clip(array, -settings.clip.value, settings.clip.value) for key, array in mean.items()}
            rate = values.rate(step, optimizer.learning_rate)
            for key, decay in self.decays.items():
                own, before_it = self.optimizers[key], self.params[key]
                factor = own.learning_rate / optimizer.learning_rate
                update = UPDATES[own.type_name]
                self.params[key] = update(own, slots[key], before_it, mean[key], rate * factor, decay, updates)
            if settings.ema is not None:
                share = max(1 - settings.ema, 10 / (9 + updates))
                for key in self.decays:
                    averages[key] = averages[key] + share * (self.params[key] - averages[key])
        if settings.ema is None or not updates:
            averages = dict(self.params)
        return Result(before, np.array(losses), first, self.params, averages, self.predict())


def _before_overflow(found: Result, expected: Result) -> str | None:
    """What differs before PyTorch's numbers become infinite: the first outputs, and the losses up to that step."""
    if np.isfinite(expected.outputs_before).all() != np.isfinite(found.outputs_before).all():
        return "outputs before are finite on one side alone"
    finite = np.isfinite(expected.losses)
    steps = len(finite) if finite.all() else int(finite.argmin())
    if not np.allclose(found.losses[:steps], expected.losses[:steps], rtol=1e-6, atol=0):
        return f"losses {found.losses[:steps]} for PyTorch's {expected.losses[:steps]}, before it overflows"
    return None


def compared(found: Result, setup: Setup, tolerance: float = 1e-9) -> str | None:
    """What of a result differs from PyTorch's by more than rounding explains, in one line; None where nothing does.

    What rounding explains is asked of PyTorch itself, on weights that differ in the twelfth digit. Elements whose
    gradient is rounding alone, such as that of a bias before a normalisation, are left out where the optimizer divides
    by the gradient's length or takes its sign. So are parameters that the loss does not depend on. Of a training whose
    numbers grow beyond float64 in PyTorch, only what comes before is compared.
    """
    twin, shaken = Twin(setup), Twin(setup, 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):
        expected, moved = twin.run(), shaken.run()
    if not all(np.isfinite(array).all() for arrays in expected.arrays().values() for array in arrays.values()):
        return _before_overflow(found, expected)
    adaptive = twin.settings.optimizer.type_name not in ("sgd", "momentum", "nesterov")
    for what, arrays in expected.arrays().items():
        largest = max((abs(array).max() for array in arrays.values() if array.size), default=0.0)
        for name, right in arrays.items():
            if name in twin.unreached:
                continue
            if name not in found.arrays()[what] and what == "gradients":
                return f"{what} of {name} are missing"
            own = found.arrays()[what][name]
            near = abs(moved.arrays()[what][name] - right)
            difference = abs(own - right)
            if adaptive and what in ("weights", "averages") and name in twin.vague:
                difference = np.where(twin.vague[name], 0.0, difference)
            bound = tolerance * abs(right).max() + 1e-3 * tolerance * largest + 100 * near.max()
            if not (difference <= bound).all():
                place = (
                    np.unravel_index(int(np.nanargmax(difference)), difference.shape)
                    if np.isfinite(difference).any()
                    else ()
                )
                return (
                    f"{what} {name} {[int(i) for i in place]}: {own[place]!r} for PyTorch's {right[place]!r} "
                    f"(off by {difference.max():.3g}, allowed {bound:.3g})"
                )
    return None
