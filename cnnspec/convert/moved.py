"""Moves selections along an axis in front of the images before the Transpose that put it there.

Programs cut queries, keys and values out of one product so: (n, t, 3, heads, d) is turned to (3, n, heads, t, d), and
one of the three is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cnnspec.convert.onnx_file import Operator
from cnnspec.kernels.step import Array

SELECTED_BY_INPUTS = 10  # the opset from which Slice has its bounds as inputs
SQUEEZED_BY_INPUT = 13  # the opset from which Squeeze has its axes as an input


@dataclass(slots=True)
class MovedImages:
    """The values whose first axis is not that of the images, with what they are a permutation of."""

    opset: int
    constants: dict[str, Array]  # of the file, to which axes are added
    sources: dict[str, tuple[str, list[int]]] = field(default_factory=dict)

    def rewritten(self, operator: Operator) -> list[Operator]:
        """Return operators that compute the same; the operator itself unless it selects along a moved axis."""
        if operator.domain or not operator.inputs:
            return [operator]
        perm = [int(axis) for axis in operator.attributes.get("perm") or ()]
        if operator.type == "Transpose" and perm and perm[0] != 0:
            self.sources[operator.output] = (operator.inputs[0], perm)
        if operator.inputs[0] not in self.sources or operator.type not in ("Gather", "Slice", "Split", "Squeeze"):
            return [operator]
        source, perm = self.sources[operator.inputs[0]]
        if operator.type in ("Gather", "Split"):
            fits = operator.attributes.get("axis", 0) == 0
            moved = replace(operator, attributes={**operator.attributes, "axis": perm[0]})
        else:
            place, since = (3, SELECTED_BY_INPUTS) if operator.type == "Slice" else (1, SQUEEZED_BY_INPUT)
            fits = self._axes(operator, place) == [0]
            moved = self._along(operator, perm[0], place, since)
        if operator.type == "Gather":
            index = self.constants.get(operator.inputs[1])
            fits = fits and index is not None and index.ndim == 0
        if not fits:
            return [operator]
        names = {name: f"{name}.moved" for name in operator.outputs}
        moved = replace(moved, inputs=(source, *moved.inputs[1:]), outputs=tuple(names.values()))
        order = perm if operator.type in ("Slice", "Split") else [axis - (axis > perm[0]) for axis in perm[1:]]
        if order[0] != 0:
            self.sources |= {name: (before, order) for name, before in names.items()}
        turned = {"perm": order}
        return [moved, *(Operator("Transpose", operator.name, (names[name],), (name,), turned) for name in names)]

    def _axes(self, operator: Operator, place: int) -> Sequence[int] | None:
        name = operator.inputs[place] if place < len(operator.inputs) else ""
        axes = self.constants.get(name, operator.attributes.get("axes"))
        return None if axes is None else [int(axis) for axis in np.ravel(axes)]

    def _along(self, operator: Operator, axis: int, place: int, since: int) -> Operator:
        """Return the operator with another axis, in an attribute or, from opset `since` on, in the input `place`."""
        if self.opset < since:
            return replace(operator, attributes={**operator.attributes, "axes": [axis]})
        name = f"{operator.output}.axis"
        self.constants[name] = np.array([axis], np.int64)
        inputs = [*operator.inputs, *[""] * (place + 1 - len(operator.inputs))]
        return replace(operator, inputs=(*inputs[:place], name, *inputs[place + 1 :]))
