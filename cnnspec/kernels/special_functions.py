"""Functions of one variable that several activations are made of, computed in the arrays that the caller gives."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from cnnspec.kernels.step import Array

# exp(z^2) erfc(z) / 2, z >= 0, as a Chebyshev series in u = 4/(2 + z) - 1 (as in Numerical Recipes, 6.2.2).
_SCALED_TAIL = (
    0.18868804981292975,
    0.2412545598253404,
    0.0611622976654885,
    0.008915574859638384,
    0.00016058682624719295,
    -0.00017519762823980006,
    -1.121940325311127e-05,
    5.268716559677736e-06,
    2.835665566270721e-07,
    -2.1488407885248786e-07,
    2.5524762511941468e-09,
    9.44984966897803e-09,
    -1.1213777661075082e-09,
    -3.4276272560992044e-10,
    1.0743977466957469e-10,
    2.757664467149349e-12,
    -6.738776203718544e-12,
    1.0431840576548741e-12,
    2.2413089902547273e-13,
    -1.1344166347034464e-13,
    9.242606680004428e-15,
    5.763907869512271e-15,
    -1.9521421516325668e-15,
    1.1102230246251565e-16,
)


def sigmoid(x: Array, out: Array) -> None:
    """1 / (1 + exp(-x)); `out` may be `x`."""
    limit = math.floor(math.log(np.finfo(x.dtype).max))  # beyond it exp(-x) overflows
    np.clip(x, -limit, limit, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)


def exponential_below(x: Array, out: Array, work: Array) -> None:
    """exp(min(x, 0)) - 1; `out` may be `x`, and `work` is another array.

    As 2t / (1 - t) with t = tanh(x/2), as exact near 0: NumPy has tanh, but not expm1, for several numbers at once.
    """
    np.clip(x, -100, 0, out=out)
    np.multiply(out, 0.5, out=out)
    np.tanh(out, out=out)
    np.subtract(1, out, out=work)
    np.divide(out, work, out=out)
    np.multiply(out, 2, out=out)


def softplus(x: Array, out: Array, rounded: Array, work: Array) -> None:
    """log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|); `out` may be `x`, the others are arrays of their own.

    With u the rounded 1 + e, log(1 + e) = log(u) + (e - (u - 1)) / u, where the last u may be left out.
    """
    np.absolute(x, out=work)
    np.negative(work, out=work)
    np.exp(work, out=work)
    np.add(work, 1, out=rounded)
    np.subtract(rounded, 1, out=rounded)
    np.subtract(work, rounded, out=work)
    np.add(rounded, 1, out=rounded)
    np.log(rounded, out=rounded)
    np.add(work, rounded, out=work)
    np.clip(x, 0, np.inf, out=out)
    np.add(out, work, out=out)


def normal(x: Array, distribution: Array, density: Array, work: Array) -> None:
    """(1 + erf(x / sqrt(2))) / 2, within two units of rounding, and exp(-x^2/2) / sqrt(2 pi), all in their own arrays.

    A caller that does not need the density may pass one array as both `density` and `work`.
    """
    highest, *middle, lowest = _tail_polynomial(x.dtype)
    np.absolute(x, out=density)
    np.multiply(density, math.sqrt(1 / 8), out=density)
    np.add(density, 1, out=density)
    np.divide(2, density, out=density)
    np.subtract(density, 1, out=density)
    np.multiply(density, highest, out=distribution)
    for coefficient in middle:
        np.add(distribution, coefficient, out=distribution)
        np.multiply(distribution, density, out=distribution)
    np.add(distribution, lowest, out=distribution)
    np.square(x, out=density)
    np.multiply(density, -0.5, out=density)
    np.exp(density, out=density)
    np.multiply(distribution, density, out=distribution)  # the tail beyond |x|
    np.multiply(density, 1 / math.sqrt(2 * math.pi), out=density)
    np.copysign(distribution, x, out=distribution)
    np.copysign(0.5, x, out=work)
    np.add(work, 0.5, out=work)
    np.subtract(work, distribution, out=distribution)


@cache
def _tail_polynomial(dtype: np.dtype[np.generic]) -> tuple[float, ...]:
    # Highest power first; float32 cannot see more than ten terms.
    terms = 10 if dtype == np.float32 else len(_SCALED_TAIL)
    return tuple(float(c) for c in np.polynomial.chebyshev.cheb2poly(_SCALED_TAIL[:terms])[::-1])
