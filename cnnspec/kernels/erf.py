"""The error function, which NumPy does not have, to the last digits of float64."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from cnnspec.kernels.step import Array, Step

TERMS = 30
_FAR = 20.0  # from here on the asymptotic series is exact to float64


def _scaled_complement(x: float) -> float:
    """exp(x^2) erfc(x), Abramowitz and Stegun 7.1.23 where erfc(x) would underflow."""
    if x < _FAR:
        return math.exp(x * x) * math.erfc(x)
    term, total = 1.0, 1.0
    for k in range(1, 8):
        term *= -(2 * k - 1) / (2 * x * x)
        total += term
    return total / (x * math.sqrt(math.pi))


@cache
def _coefficients() -> tuple[float, ...]:
    """Chebyshev coefficients of log(exp(x^2) erfc(x) / t) over t = 2 / (2 + x), which maps x >= 0 to (0, 1]."""

    def smooth(nodes: Array) -> Array:
        t = (nodes + 1) / 2
        return np.array([math.log(_scaled_complement(2 / s - 2) / s) for s in t.tolist()])

    return tuple(np.polynomial.chebyshev.chebinterpolate(smooth, TERMS).tolist())


def bind_erf(x: Array, out: Array, work: tuple[Array, Array, Array, Array]) -> Step:
    """out = erf(x) = sign(x) (1 - t exp(-x^2 + P(t))), P by Clenshaw's recurrence; `work` is scratch of x's shape."""
    first, *others = _coefficients()
    t, u, b, c = work

    def step() -> None:
        np.absolute(x, out=t)
        np.add(t, 2, out=t)
        np.divide(2, t, out=t)
        np.multiply(t, 4, out=u)
        np.subtract(u, 2, out=u)  # twice the Chebyshev variable 2t - 1
        b.fill(0)
        c.fill(0)
        for coefficient in reversed(others):  # b, c = u b - c + coefficient, b
            np.multiply(u, b, out=out)
            np.subtract(out, c, out=out)
            np.add(out, coefficient, out=out)
            np.copyto(c, b)
            np.copyto(b, out)
        np.multiply(u, 0.5, out=u)
        np.multiply(u, b, out=out)
        np.subtract(out, c, out=out)
        np.add(out, first, out=out)
        np.multiply(x, x, out=u)
        np.subtract(out, u, out=out)
        np.exp(out, out=out)
        np.multiply(out, t, out=out)
        np.subtract(1, out, out=out)
        np.copysign(out, x, out=out)

    return step
