"""Weight normalisation: each unit's weights are learned as a direction and a length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from cnnspec.fields import Registered
from cnnspec.kernels.step import Array, Buffer
from cnnspec.layers.base import Backward, Layer, Mode, Operands, Parameter, Steps
from cnnspec.registry import register
from cnnspec.shapes import MARGINS, Shape, ShapeError


@register("weight_norm")
class WeightNorm(Layer):
    """Another layer with weights w[f] = g[f] v[f] / |v[f]|: g, the length, and v, the direction, are learned.

    f counts filters or units, and |v[f]| is the root of the sum of the squares of all numbers of one. The lengths start
    as those that `weight_init` of the layer gives. Shapes are those of the layer. Errors: shape-mismatch.
    Source: Salimans and Kingma, "Weight normalization: a simple reparameterization to accelerate training of deep
    neural networks" (2016).
    """

    layer: Annotated[
        Any, Registered("layer", "{type: dense, units: 3}"), "dense, conv2d or depthwise_conv2d, with its options"
    ]

    retains = frozenset({"x"})
    scales = "length"

    @property
    def activation(self) -> Any:
        """The activation of the wrapped layer."""
        return self.layer.activation

    def but(self, **changes: Any) -> WeightNorm:
        """Return a copy in which some fields of the wrapped layer are changed."""
        return WeightNorm(layer=changes["layer"] if "layer" in changes else self.layer.but(**changes))

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return what the layer makes; ShapeError for a layer whose weights are not one row a channel of y."""
        if self.layer.scales != "weight" or isinstance(self.layer, WeightNorm):
            raise ShapeError(
                f"expected dense, conv2d or depthwise_conv2d, got {self.layer.type_name}",
                field="layer",
                help="for example layer: {type: dense, units: 10}",
            )
        if getattr(self.layer, "padding", None) in MARGINS:
            raise ShapeError(
                f"padding: {self.layer.padding} is a layer in front, which has no weights",
                field="layer",
                help=f"write {{type: pad2d, padding: 1, mode: {self.layer.padding}}} above it, and padding: valid here",
            )
        shape: Shape = self.layer.infer_shape(*inputs)
        return shape

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return direction, of the shape of the layer's weight, length (units,), and the layer's other parameters."""
        params = dict(self.layer.params(*inputs))
        weight = params.pop("weight")
        lengths = Parameter(weight.shape[:1], _Lengths(weight), weight.fans, decays=True)
        return {"direction": weight, "length": lengths, **params}

    def cost(self, *inputs: Shape) -> int:
        """Return that of the layer."""
        macs: int = self.layer.cost(*inputs)
        return macs

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the layer's buffers, its weight and the factors g / |v|; in training the gradient of the weight."""
        shape = self.layer.params(*inputs)["weight"].shape
        buffers = dict(self.layer.scratch(*inputs, n=n, mode=mode))
        buffers |= {"normed.weight": Buffer(shape, "prepare"), "normed.inverse": Buffer(shape[:1], "prepare")}
        if mode == "train":
            buffers |= {"normed.gradient": Buffer(shape, "params"), "normed.work": Buffer(shape, "params")}
        return buffers

    def prepare(self, o: Operands) -> Steps:
        """Bind w = g v / |v|, 0 where |v| is 0, and what the wrapped layer prepares from w."""
        weight, inverse = _rows(o.buffers["normed.weight"]), o.buffers["normed.inverse"]
        direction, length = _rows(o.params["direction"]), o.params["length"]

        def norm() -> None:
            np.multiply(direction, direction, out=weight)
            np.sum(weight, axis=1, out=inverse)
            np.sqrt(inverse, out=inverse)
            np.divide(1, inverse, out=inverse, where=inverse > 0)
            np.multiply(direction, (inverse * length)[:, None], out=weight)

        return [norm, *self.layer.prepare(self._bound(o))]

    def forward(self, o: Operands) -> Steps:
        """Bind the layer's forward pass with the weight w."""
        forward: Steps = self.layer.forward(self._bound(o))
        return forward

    def backward(self, o: Operands) -> Backward:
        """dg = dw . v / |v| and dv = g / |v| (dw - dg v / |v|), with the layer's own dw."""
        inner: Backward = self.layer.backward(self._bound(o))
        if "direction" not in o.grads:
            return inner
        gradient, work = _rows(o.buffers["normed.gradient"]), _rows(o.buffers["normed.work"])
        direction, length, inverse = _rows(o.params["direction"]), o.params["length"], o.buffers["normed.inverse"]
        d_direction, d_length = _rows(o.grads["direction"]), o.grads["length"]

        def divide() -> None:
            np.multiply(direction, inverse[:, None], out=d_direction)  # v / |v|
            np.multiply(gradient, d_direction, out=work)
            np.sum(work, axis=1, out=d_length)
            np.multiply(d_direction, d_length[:, None], out=d_direction)
            np.subtract(gradient, d_direction, out=d_direction)
            np.multiply(d_direction, (inverse * length)[:, None], out=d_direction)

        return replace(inner, params=[*inner.params, divide])

    def _bound(self, o: Operands) -> Operands:
        """The operands of the wrapped layer: its weight is w."""
        grads = {name: array for name, array in o.grads.items() if name not in ("direction", "length")}
        if "direction" in o.grads:
            grads["weight"] = o.buffers["normed.gradient"]
        return replace(o, params={**o.params, "weight": o.buffers["normed.weight"]}, grads=grads)


def _rows(array: Array) -> Array:
    """A view with all numbers of a filter or unit in one row."""
    return array.reshape(len(array), -1)


@dataclass(frozen=True)
class _Lengths:
    """The initializer of lengths: those of weights that the layer's own initializer draws.

    These weights are drawn separately: length and direction of normal numbers do not depend on one another.
    """

    weight: Parameter

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        """Draw weights, and write the length of each row of them."""
        drawn = np.empty(self.weight.shape, array.dtype)
        self.weight.initializer.fill(drawn, fans, random)
        array[...] = np.sqrt(np.square(_rows(drawn), dtype=np.float64).sum(1))

    def check(self, shape: Shape) -> None:
        """Accept every shape: the direction has the same initializer, which checks it."""
