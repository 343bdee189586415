"""A graph in JAX: one compiled function for inference, and one for a step of training."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnspec.compare import channels_last
from cnnspec.compare.channels_last import Tensor
from cnnspec.compare.frameworks import Program
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss, Optimizer

Arrays = dict[str, Tensor]


class Jax:
    """The functions of `channels_last.Framework` in JAX."""

    def __init__(self) -> None:
        try:
            self.jax: Any = importlib.import_module("jax")
        except ImportError as error:
            raise RunError("JAX is not installed", "pip install jax") from error
        self.array, self.activation, self.lax = self.jax.numpy, self.jax.nn, self.jax.lax
        self.key = self.jax.random.key(0)

    def convolution(
        self, x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int
    ) -> Tensor:
        """Correlate with `lax.conv_general_dilated`."""
        return self.lax.conv_general_dilated(
            x,
            weight,
            stride,
            "VALID",
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def maximum(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the maximum of each window with `lax.reduce_window`."""
        return self.lax.reduce_window(x, -np.inf, self.lax.max, (1, *kernel, 1), (1, *stride, 1), "VALID")

    def mean(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the mean of each window with `lax.reduce_window`."""
        total = self.lax.reduce_window(x, 0.0, self.lax.add, (1, *kernel, 1), (1, *stride, 1), "VALID")
        return total / (kernel[0] * kernel[1])

    def constant(self, values: Array, like: Tensor) -> Tensor:
        """Return an array with the type of another one."""
        return self.array.asarray(values, like.dtype)

    def keep(self, shape: tuple[int, ...], rate: float) -> Tensor:
        """Return a dropout mask drawn with `key`, which the program sets for every step."""
        self.key, key = self.jax.random.split(self.key)
        return self.jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)


def programs(
    graph: Graph,
    values: Mapping[str, Array],
    images: Array,
    labels: Array,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    threads: int = 1,
) -> dict[str, Program]:
    """Return inference, or with a loss and an optimizer a step of training, as JAX compiles it for the processor."""
    flag = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
    os.environ.setdefault("XLA_FLAGS", flag)  # read when JAX starts
    framework = Jax()
    network = JaxNetwork(framework, graph, values, images, labels)
    return {"jax": network.inference() if loss is None or optimizer is None else network.training(loss, optimizer)}


class JaxNetwork:
    """A graph with its arrays, images and labels in JAX."""

    def __init__(self, framework: Jax, graph: Graph, values: Mapping[str, Array], images: Array, labels: Array) -> None:
        self.framework, self.graph = framework, graph
        asarray = framework.array.asarray
        arrays = {name: asarray(array) for name, array in channels_last.native(graph, values).items()}
        states = {f"{node.name}.{name}" for node in graph.nodes for name in node.state}
        self.state: Arrays = {name: array for name, array in arrays.items() if name in states}
        self.params: Arrays = {name: array for name, array in arrays.items() if name not in states}
        self.images, self.labels = asarray(images.transpose(0, 2, 3, 1)), asarray(labels)

    def inference(self) -> Program:
        """Return a program that runs the network and waits for its output."""

        def infer(params: Arrays, state: Arrays, x: Tensor) -> Tensor:
            return channels_last.apply(self.framework, self.graph, {**params, **state}, x, training=False)[0]

        compiled = self.framework.jax.jit(infer)
        return lambda: compiled(self.params, self.state, self.images).block_until_ready()

    def gradients(self, loss: Loss) -> Callable[[Arrays, Arrays, Tensor, Tensor, Tensor], Any]:
        """Return a function of parameters, state, images, labels and a random key to (loss, new state), gradients."""
        measure = channels_last.loss(self.framework, loss, self.graph.output.shape[0])

        def forward(params: Arrays, state: Arrays, x: Tensor, labels: Tensor, key: Tensor) -> tuple[Tensor, Arrays]:
            self.framework.key = key
            y, after = channels_last.apply(self.framework, self.graph, {**params, **state}, x, training=True)
            return measure(y, x, labels), {**state, **after}

        return self.framework.jax.value_and_grad(forward, has_aux=True)  # type: ignore[no-any-return]

    def training(self, loss: Loss, optimizer: Optimizer) -> Program:
        """Return a program of one step, loss, gradients and update, that waits for the new weights."""
        jax, array = self.framework.jax, self.framework.array
        gradients, update = self.gradients(loss), _update(array, optimizer)
        decays = channels_last.decays(self.graph, optimizer)
        slots = {name: (array.zeros_like(self.params[name]),) * 2 for name in decays}

        def step(params: Arrays, state: Arrays, slots: Any, x: Tensor, labels: Tensor, count: Tensor) -> Any:
            (value, state), gradient = gradients(params, state, x, labels, jax.random.key(count))
            for name, decay in decays.items():
                after, slots[name] = update(params[name], gradient[name], slots[name], decay, count + 1)
                params = {**params, name: after}
            return params, state, slots, value

        compiled = jax.jit(step, donate_argnums=(0, 1, 2))
        held = [self.params, self.state, jax.tree.map(array.array, slots)]  # copies: each is given away once
        count = iter(range(1 << 30))

        def program() -> Tensor:
            *held[:], value = compiled(*held, self.images, self.labels, next(count))
            jax.block_until_ready(held)
            return value

        return program


def _update(array: Any, settings: Optimizer) -> Callable[..., tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Return a function for one step of sgd, with momentum or nesterov, of adam or of adamw: (weights, slots)."""
    fields, chosen, rate = vars(settings), settings.type_name, settings.learning_rate

    def sgd(w: Tensor, g: Tensor, slots: tuple[Tensor, Tensor], decay: float, count: Tensor) -> Any:
        momentum, g = fields["momentum"], g + decay * w
        velocity = momentum * slots[0] + g
        return w - rate * (g + momentum * velocity if fields["nesterov"] else velocity), (velocity, slots[1])

    def adam(w: Tensor, g: Tensor, slots: tuple[Tensor, Tensor], decay: float, count: Tensor) -> Any:
        b1, b2 = fields["beta1"], fields["beta2"]
        if chosen == "adam":
            g = g + decay * w
        else:
            w = w * (1 - rate * decay)
        mean, square = b1 * slots[0] + (1 - b1) * g, b2 * slots[1] + (1 - b2) * g * g
        root = array.sqrt(square / (1 - b2**count)) + fields["epsilon"]
        return w - rate * (mean / (1 - b1**count)) / root, (mean, square)

    known = {"sgd": sgd, "momentum": sgd, "nesterov": sgd, "adam": adam, "adamw": adam}
    if chosen not in known:
        raise RunError(f"no counterpart of the optimizer {chosen} is known here", "use sgd, adam or adamw")
    return known[chosen]
