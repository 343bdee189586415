"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cnnspec.fields import PositiveInt, Registered
from cnnspec.kernels import blocks, sums
from cnnspec.kernels.elementwise import accumulate
from cnnspec.kernels.step import Buffer
from cnnspec.layers.base import Backward, InitializerField, Layer, Mode, Operands, Parameter, Steps
from cnnspec.registry import register
from cnnspec.shapes import Shape, ShapeError, size, text


@register("dense")
class Dense(Layer):
    """Connects every feature with every unit: y = W x + b.

    (features,) -> (units,). Errors: shape-mismatch for a map, which `flatten` or a global pooling turns into a vector.
    """

    units: Annotated[PositiveInt, "output features"]
    bias: Annotated[Literal["channel", "none"], "one a unit, or none"] = "channel"
    activation: Annotated[Any, Registered("layer"), "a layer applied to the result, such as relu"] = None
    weight_init: Annotated[InitializerField, "how the weights start"] = "he"
    bias_init: Annotated[InitializerField, "how the bias starts"] = "zeros"

    fully_connected = True
    retains = frozenset({"x"})
    scales = "weight"
    row_reads = "units"

    def infer_shape(self, *inputs: Shape) -> Shape:
        """Return (units,); ShapeError for a map."""
        if len(inputs[0]) != 1:
            raise ShapeError(
                f"expected a vector of features, got a map of {text(inputs[0])}",
                help="put flatten or global_avg_pool2d before dense",
            )
        return (self.units,)

    def params(self, *inputs: Shape) -> Mapping[str, Parameter]:
        """Return weight (units, features) and bias (units,)."""
        features = size(inputs[0])
        fans = (features, self.units)
        params = {"weight": Parameter((self.units, features), self.weight_init, fans, decays=True)}
        if self.bias != "none":
            params["bias"] = Parameter((self.units,), self.bias_init, fans)
        return params

    def cost(self, *inputs: Shape) -> int:
        """Return units * features."""
        return self.units * size(inputs[0])

    def scratch(self, *inputs: Shape, n: int, mode: Mode) -> Mapping[str, Buffer]:
        """Return the partial sums of the input's gradient and of the bias gradient."""
        if mode == "infer":
            return {}
        bias = {"bias_rows": Buffer((1, self.units), "params")} if self.bias != "none" else {}
        return bias | blocks.transposed_scratch(self.units, size(inputs[0]), n)

    def forward(self, o: Operands) -> Steps:
        """Bind y = W x + b."""
        multiply = blocks.narrow_product(o.params["weight"], o.x, o.y)
        if "bias" not in o.params:
            return [multiply]
        return [multiply, accumulate(o.y, o.params["bias"][:, None])]

    def backward(self, o: Operands) -> Backward:
        """Bind dx = W^T dy, dW = dy x^T, db = sum of dy over the images."""
        params = [blocks.product(o.dy, o.x.T, o.grads["weight"])] if "weight" in o.grads else []
        if "bias" in o.grads:
            params.append(sums.channel_sum(o.dy, o.grads["bias"], o.buffers["bias_rows"]))
        if o.dx is None:
            return Backward(params=params)
        return Backward(blocks.transposed_product(o.params["weight"], o.dy, o.dx, o.buffers), params)
