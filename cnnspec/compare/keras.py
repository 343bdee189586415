"""A graph in Keras on TensorFlow: functions for inference and for a step of training, with and without XLA."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from cnnspec.compare import channels_last
from cnnspec.compare.channels_last import Tensor
from cnnspec.compare.frameworks import Program
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.kernels.step import Array
from cnnspec.optim import Loss, Optimizer

BACKEND = "tensorflow"


class Keras:
    """The functions of `channels_last.Framework` in Keras on TensorFlow."""

    def __init__(self) -> None:
        os.environ.setdefault("KERAS_BACKEND", BACKEND)  # read when Keras starts, as is the next one
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            self.tensorflow: Any = importlib.import_module("tensorflow")
            self.keras: Any = importlib.import_module("keras")
        except ImportError as error:
            raise RunError("Keras on TensorFlow is not installed", "pip install keras tensorflow") from error
        if self.keras.backend.backend() != BACKEND:
            raise RunError(f"Keras runs on {self.keras.backend.backend()} here", f"set KERAS_BACKEND={BACKEND}")
        self.array = self.activation = self.keras.ops

    def convolution(
        self, x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int
    ) -> Tensor:
        """Use `ops.conv`, `ops.depthwise_conv`, or a call for each group: TensorFlow has no gradient of groups."""
        ops, settings = self.array, {"strides": stride, "dilation_rate": dilation, "data_format": "channels_last"}
        if groups == 1:
            return ops.conv(x, weight, **settings)
        kh, kw, c, filters = weight.shape
        if c == 1:
            by_channel = ops.reshape(weight, (kh, kw, groups, filters // groups))
            return ops.depthwise_conv(x, by_channel, **settings)
        parts = zip(ops.split(x, groups, -1), ops.split(weight, groups, -1), strict=True)
        return ops.concatenate([ops.conv(part, weights, **settings) for part, weights in parts], -1)

    def maximum(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the maximum of each window with `ops.max_pool`."""
        return self.array.max_pool(x, kernel, stride, data_format="channels_last")

    def mean(self, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Return the mean of each window with `ops.average_pool`."""
        return self.array.average_pool(x, kernel, stride, data_format="channels_last")

    def constant(self, values: Array, like: Tensor) -> Tensor:
        """Return an array with the type of another one."""
        return self.array.convert_to_tensor(values, like.dtype)

    def keep(self, shape: tuple[int, ...], rate: float) -> Tensor:
        """Return a dropout mask drawn with TensorFlow's own generator."""
        return self.tensorflow.cast(self.tensorflow.random.uniform(shape) >= rate, "float32") / (1 - rate)


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
    """Return inference, or with a loss and an optimizer a step of training, as a graph function, and with XLA."""
    framework = Keras()
    threading = framework.tensorflow.config.threading
    threading.set_intra_op_parallelism_threads(threads)
    threading.set_inter_op_parallelism_threads(1)
    result = {}
    for name, compiled in (("keras", False), ("keras xla", True)):
        network = KerasNetwork(framework, graph, values, images, labels, compiled=compiled)
        result[name] = network.inference() if loss is None or optimizer is None else network.training(loss, optimizer)
    return result


class KerasNetwork:
    """A graph with its arrays as variables, and with images and labels in TensorFlow."""

    def __init__(
        self,
        framework: Keras,
        graph: Graph,
        values: Mapping[str, Array],
        images: Array,
        labels: Array,
        *,
        compiled: bool = False,
    ) -> None:
        self.framework, self.graph, self.compiled = framework, graph, compiled
        variable = framework.keras.Variable
        native = channels_last.native(graph, values)
        self.arrays = {name: variable(array, dtype=str(array.dtype)) for name, array in native.items()}
        convert = framework.tensorflow.convert_to_tensor
        self.images, self.labels = convert(images.transpose(0, 2, 3, 1)), convert(labels)

    def inference(self) -> Program:
        """Return a program that runs the network; its output is a NumPy array, so that it is complete."""
        function = self._function(lambda x: self._apply(x, training=False)[0])
        return lambda: function(self.images).numpy()

    def gradients(self, loss: Loss, names: list[str], x: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and its gradients by the named parameters; running statistics are updated."""
        measure = channels_last.loss(self.framework, loss, self.graph.output.shape[0])
        with self.framework.tensorflow.GradientTape() as tape:
            y, state = self._apply(x, training=True)
            value = measure(y, x, labels)
        for name, after in state.items():
            self.arrays[name].assign(after)
        return value, tape.gradient(value, [self.arrays[name].value for name in names])

    def training(self, loss: Loss, optimizer: Optimizer) -> Program:
        """Return a program of one step: loss, gradients, update."""
        decays = channels_last.decays(self.graph, optimizer)
        names, update = list(decays), _optimizer(self.framework.keras, optimizer)
        variables = [self.arrays[name] for name in names]
        update.build(variables)
        coupled = optimizer.type_name != "adamw"
        rate = optimizer.learning_rate

        def step(x: Tensor, labels: Tensor) -> Tensor:
            value, gradient = self.gradients(loss, names, x, labels)
            for i, variable in enumerate(variables):
                decay = decays[names[i]]
                if decay and coupled:
                    gradient[i] = gradient[i] + decay * variable.value
                elif decay:
                    variable.assign(variable.value * (1 - rate * decay))
            update.apply(gradient)
            return value

        function = self._function(step)
        return lambda: function(self.images, self.labels).numpy()

    def _function(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return self.framework.tensorflow.function(function, jit_compile=self.compiled)  # type: ignore[no-any-return]

    def _apply(self, x: Tensor, *, training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        arrays = {name: array.value for name, array in self.arrays.items()}
        return channels_last.apply(self.framework, self.graph, arrays, x, training=training)


def _optimizer(keras: Any, settings: Optimizer) -> Any:
    """Return Keras's optimizer with the same settings; weight decay is left to the program."""
    fields, chosen, rate = vars(settings), settings.type_name, settings.learning_rate
    if chosen in ("sgd", "momentum", "nesterov"):
        return keras.optimizers.SGD(rate, momentum=fields["momentum"], nesterov=fields["nesterov"])
    if chosen in ("adam", "adamw"):
        return keras.optimizers.Adam(rate, beta_1=fields["beta1"], beta_2=fields["beta2"], epsilon=fields["epsilon"])
    raise RunError(f"no counterpart of the optimizer {chosen} in Keras is known here", "use sgd, adam or adamw")
