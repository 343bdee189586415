"""One layer on arrays of its own, without a plan: to look at its output, to check its gradients, to test it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnspec.kernels.step import Array, step_state
from cnnspec.layers.base import Backward, Layer, Mode, Operands, RandomStream, Reduce, Steps, batch_shape
from cnnspec.shapes import Shape


@dataclass(frozen=True)
class SingleLayer:
    """A layer's arrays and the steps that are bound to them; without gradients `backward` is empty."""

    operands: Operands
    prepare: Steps
    forward: Steps
    backward: Backward

    def run_forward(self) -> None:
        """Compute the output."""
        _run([*self.prepare, *self.forward])

    def run_backward(self) -> None:
        """Compute the gradients of inputs and parameters, after `run_forward`."""
        _run([*self.backward.shared, *self.backward.input, *self.backward.params])


def bind_single(
    layer: Layer,
    shapes: Sequence[Shape],
    inputs: Sequence[Array],
    *,
    params: Mapping[str, Array],
    state: Mapping[str, Array],
    output_grads: Sequence[Array] = (),
    output: Array | None = None,
    input_grads: Sequence[Array | None] | None = None,
    buffers: Mapping[str, Array] | None = None,
    new: Callable[[Shape, Any], Array] = np.zeros,
    mode: Mode = "train",
    shard: int = 0,
    batch: int | None = None,
    random: RandomStream | None = None,
) -> SingleLayer:
    """Bind a layer to inputs (h, c, w, n) or (features, n), whose shapes for one image are `shapes`.

    `new` makes the arrays that the layer writes, from a shape and a type, unless they are given: an `output` in the
    place of an input, `input_grads` of which some are None, `buffers` that shards share. Gradients are computed if
    `output_grads` are given. `batch` counts the images of all shards; the default is the images of the inputs.
    """
    n, dtype = inputs[0].shape[-1], inputs[0].dtype
    given_buffers = buffers or {}
    scratch = layer.scratch(*shapes, n=n, mode=mode)
    if input_grads is None:
        input_grads = [new(x.shape, dtype) if output_grads else None for x in inputs]
    operands = Operands(
        inputs=tuple(inputs),
        output=new(batch_shape(layer.infer_shape(*shapes), n), dtype) if output is None else output,
        input_grads=tuple(input_grads),
        output_grads=tuple(output_grads),
        params=params,
        grads={name: new(array.shape, array.dtype) for name, array in params.items()} if output_grads else {},
        state=state,
        buffers={
            name: given_buffers[name] if name in given_buffers else new(buffer.shape, buffer.dtype or dtype)
            for name, buffer in scratch.items()
        },
        mode=mode,
        shard=shard,
        batch=n if batch is None else batch,
        random=random,
    )
    prepare, forward = layer.prepare(operands), layer.forward(operands)
    return SingleLayer(operands, prepare, forward, layer.backward(operands) if output_grads else Backward())


def _run(steps: Steps) -> None:
    with step_state():
        for item in steps:
            (item.after_sum if isinstance(item, Reduce) else item)()  # the sum over one shard is the shard's own
