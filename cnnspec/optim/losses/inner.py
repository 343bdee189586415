"""Losses on values inside of a network, without a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from cnnspec.kernels.step import Array, Buffer, Step
from cnnspec.optim.losses.base import Loss, batch_shape
from cnnspec.registry import register
from cnnspec.shapes import Shape
from cnnspec.target import Kind


class Inner(Loss):
    """Base of losses without a target."""

    targets: ClassVar[frozenset[Kind]] = frozenset({"none"})


@register("kl_divergence")
class KlDivergence(Inner):
    """L = 1/2 sum_j (m_j^2 + e^v_j - v_j - 1) of means m and logarithms of variances v, `layer: [m, v]`.

    It is the divergence of these normal distributions from the standard one, and 0 where they are alike. dL/dm = m,
    dL/dv = (e^v - 1) / 2. Source: Kingma and Welling, "Auto-encoding variational Bayes" (2013), appendix B.
    """

    reads: ClassVar[int] = 2

    def scratch(self, output: Shape, n: int) -> Mapping[str, Buffer]:
        """Return an array for the terms of the sum."""
        return {"terms": Buffer(batch_shape((output[0] // 2,), n))}

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind the loss of a prediction that holds all means, and behind them all logarithms of variances."""
        mean, log_variance = np.split(prediction, 2)
        dmean, dlog = (None, None) if gradient is None else np.split(gradient, 2)
        terms = buffers["terms"]

        def step() -> None:
            np.exp(log_variance, out=terms)
            np.subtract(terms, 1, out=terms)
            if dmean is not None and dlog is not None:
                np.multiply(terms, 0.5 / batch, out=dlog)
                np.multiply(mean, 1 / batch, out=dmean)
            np.subtract(terms, log_variance, out=terms)
            np.add.reduce(terms, axis=0, out=losses)
            np.multiply(mean, mean, out=terms)
            np.add(losses, np.add.reduce(terms, axis=0), out=losses)
            np.multiply(losses, 0.5, out=losses)

        return step


@register("mean_output")
class MeanOutput(Inner):
    """L = 1/K sum_k y_k: the mean of what a layer gives, such as a penalty that layers compute. dL/dy = 1/K."""

    def bind(
        self,
        prediction: Array,
        target: Array,
        gradient: Array | None,
        losses: Array,
        buffers: Mapping[str, Array],
        batch: int,
    ) -> Step:
        """Bind the sum over each image's outputs, and its constant gradient."""
        count = prediction.size // prediction.shape[-1]
        axes = tuple(range(prediction.ndim - 1))

        def step() -> None:
            np.add.reduce(prediction, axis=axes, out=losses)
            np.divide(losses, count, out=losses)
            if gradient is not None:
                gradient.fill(1 / (count * batch))

        return step
