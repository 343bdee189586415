"""One layer bound to arrays of its own, with every array that a step has not yet written full of NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array
from cnnspec.layers.base import Layer, Mode, Operands, Program, Reduce, batch_shape
from cnnspec.shapes import Shape


class Constant:
    """An initializer that only has to be there."""

    def fill(self, array: Array, fans: tuple[int, int], random: np.random.Generator) -> None:
        array.fill(0)


@dataclass(frozen=True)
class Bound:
    """The operands and the programs of one layer for one shard."""

    operands: Operands
    prepare: Program
    forward: Program
    input: Program
    params: Program

    def run(self) -> None:
        """One step, after poisoning what it has to write."""
        o = self.operands
        for array in (o.y, *o.grads.values(), *o.buffers.values(), *(g for g in o.input_grads if g is not None)):
            array.fill(np.nan)
        for program in (self.prepare, self.forward, self.params, self.input):
            self.execute(program)

    @staticmethod
    def execute(program: Program) -> None:
        for step in program:
            assert not isinstance(step, Reduce)
            step()


def bind(
    layer: Layer, shape: Shape, n: int, *, dtype: Any = np.float64, mode: Mode = "train", wants_dx: bool = True
) -> Bound:
    """Bind a layer to random inputs, parameters and output gradients."""
    random = np.random.default_rng(0)

    def normal(size: Shape) -> Array:
        return random.standard_normal(size).astype(dtype)

    output = batch_shape(layer.infer_shape(shape), n)
    params = {name: normal(p.shape) for name, p in layer.params(shape).items()}
    buffers = layer.scratch(shape, n=n, mode=mode)
    x = normal(batch_shape(shape, n))
    o = Operands(
        inputs=(x,),
        output=np.empty(output, dtype),
        input_grads=(np.empty_like(x) if wants_dx else None,),
        output_grads=(normal(output),),
        params=params,
        grads={name: np.empty_like(value) for name, value in params.items()},
        buffers={name: np.empty(b.shape, b.dtype or dtype) for name, b in buffers.items()},
        mode=mode,
        batch=n,
    )
    backward = layer.backward(o) if mode == "train" else None
    return Bound(
        o,
        layer.prepare(o),
        layer.forward(o),
        backward.input if backward else [],
        backward.params if backward else [],
    )
