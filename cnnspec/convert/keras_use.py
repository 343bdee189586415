"""One call of a Keras layer during translation: its inputs, settings and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.translator import refuse_unless
from cnnspec.convert.refusal import Unsaid
from cnnspec.kernels.step import Array
from cnnspec.shapes import Shape

LAST = (1, 2, 0)  # axes of a map (c, h, w) in Keras's order
ACTIVATIONS: Mapping[str, list[dict[str, Any]]] = {
    "elu": [{"type": "elu"}],
    "exponential": [{"type": "exp"}],
    "gelu": [{"type": "gelu"}],
    "hard_sigmoid": [{"type": "hard_sigmoid"}],
    "hard_silu": [{"type": "hard_swish"}],
    "hard_swish": [{"type": "hard_swish"}],
    "linear": [],
    "mish": [{"type": "mish"}],
    "relu": [{"type": "relu"}],
    "relu6": [{"type": "relu6"}],
    "selu": [{"type": "selu"}],
    "sigmoid": [{"type": "sigmoid"}],
    "silu": [{"type": "silu"}],
    "softmax": [{"type": "softmax"}],
    "softplus": [{"type": "softplus"}],
    "swish": [{"type": "silu"}],
    "tanh": [{"type": "tanh"}],
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value; if it is a flattened map, `flattened` is the map's shape, and Keras orders its numbers channels last."""

    value: Value
    flattened: Shape | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One call of a layer: its settings, its inputs, its other arguments, and its arrays if the file has some."""

    made: Network
    operator: Operator
    config: Mapping[str, Any]
    inputs: Sequence[Tensor]
    others: tuple[Any, ...]
    arrays: Sequence[Array] | None

    def here(self, position: int = 0) -> Value:
        """Return an input; the numbers of a flattened map are brought into Keras's order."""
        tensor = self.inputs[position]
        value = tensor.value
        if tensor.flattened is None:
            return value
        above = self.made.drafts[value.layer]
        if above.type == "flatten":
            value = Value(above.sources[0], tensor.flattened, value.lengths, False)
        value = self.made.shaped(self.operator, value, tensor.flattened)
        return self.made.shaped(self.operator, self.made.permuted(self.operator, value, LAST), tensor.value.shape)

    def map(self) -> Value:
        """Return the input as a map; Unsaid for a vector."""
        value = self.here()
        refuse_unless(len(value.shape) == 3, f"it reads {len(value.shape)} axes, not a map")
        refuse_unless(self.config.get("data_format") != "channels_first", "its channels are first", "channels_last")
        return value

    def add(
        self, type: str, values: Sequence[Value], fields: Mapping[str, Any] | None = None, **arrays: Array | None
    ) -> Tensor:
        """Add a layer to the network under the name of the model's layer."""
        given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
        named = bool(given) or type in ("dense", "conv2d", "batch_norm")
        return Tensor(self.made.add(self.operator, type, values, fields, given, nameless=not named))

    def pointwise(self, type: str, fields: Mapping[str, Any] | None = None) -> Tensor:
        """Add an elementwise layer, for which the order of the numbers does not matter."""
        refuse_unless(not self.others and len(self.inputs) == 1, "it is given more than one value")
        tensor = self.inputs[0]
        return Tensor(self.add(type, [tensor.value], fields).value, tensor.flattened)

    def take(self, *names: str) -> dict[str, Array | None]:
        """Return the arrays, in the file's order, by the given names; Unsaid if their number differs."""
        if self.arrays is None:
            return dict.fromkeys(names)
        refuse_unless(len(self.arrays) == len(names), f"it has {len(self.arrays)} arrays, expected {', '.join(names)}")
        return dict(zip(names, self.arrays, strict=True))

    def number(self, name: str, default: float) -> float:
        """Return a setting as a number; Unsaid if it is not one."""
        value = self.config.get(name, default)
        value = value.get("value") if isinstance(value, Mapping) else value  # an array of one number
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise Unsaid(f"{name} is no number")
        return float(value)

    def pair(self, name: str, default: Any = 1) -> Any:
        """Return a setting of one or two whole numbers in the form that a spec uses."""
        value = self.config.get(name, default)
        value = [value, value] if isinstance(value, int) else value
        if not isinstance(value, list) or len(value) != 2 or not all(type(length) is int for length in value):
            raise Unsaid(f"{name} is {str(value)[:60]}, not two whole numbers")
        return value[0] if value[0] == value[1] else value

    def sides(self, name: str) -> list[int]:
        """Return a setting as numbers of rows above and below, columns left and right."""
        value = self.config.get(name, 0)
        value = [value, value] if isinstance(value, int) else value
        pairs = [[side, side] if isinstance(side, int) else side for side in value]
        refuse_unless(len(pairs) == 2 and all(len(pair) == 2 for pair in pairs), f"{name} is {str(value)[:60]}")
        return [int(length) for pair in pairs for length in pair]

    def activated(self, tensor: Tensor) -> Tensor:
        """Apply the layer's own activation to a value."""
        name = self.config.get("activation") or "linear"
        name = name.get("config", name.get("class_name")) if isinstance(name, Mapping) else name
        refuse_unless(isinstance(name, str) and name in ACTIVATIONS, f"no layer computes activation {str(name)[:60]}")
        for item in ACTIVATIONS[name]:
            fields = {key: value for key, value in item.items() if key != "type"}
            value = self.made.add(self.operator, item["type"], [tensor.value], fields, nameless=True)
            tensor = Tensor(value, tensor.flattened)
        return tensor
