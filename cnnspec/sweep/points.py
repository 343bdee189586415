"""The points that a sweep tries: a value for each path, by a method, in an order that depends on the seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np

from cnnspec.diagnostics import RunError
from cnnspec.spec.sweep import Choices, Domain, Range, Sweep

Point = dict[str, Any]  # the values of a trial, by path in the spec
DIGITS = 4  # the digits of a random real number, few enough to read and to copy into a spec
LIBRARIES = {"sobol": "scipy", "tpe": "optuna"}


def check_library(sweep: Sweep) -> None:
    """Raise RunError if the method of a sweep needs a library that is absent."""
    library = LIBRARIES.get(sweep.method)
    if library is not None and find_spec(library) is None:
        raise RunError(f"method: {sweep.method} needs {library}", "python -m pip install 'cnnspec[sweep]'")


def generation(sweep: Sweep, seed: int, known: Sequence[tuple[Point, float | None]], count: int) -> list[Point]:
    """The next points of a sweep, at most `count`, after the known ones, which have their figures.

    Only tpe uses the figures; a failed point has the figure None.
    """
    start = len(known)
    stop = min(start + count, sweep.count)
    if sweep.method == "grid":
        return list(_grid(sweep.values))[start:stop]
    if sweep.method == "tpe":
        return _tpe(sweep, seed, known, stop - start)
    if sweep.method == "sobol":
        positions = _sobol(len(sweep.values), seed, sweep.count)[start:stop]
    else:
        positions = np.array([np.random.default_rng([seed, n]).random(len(sweep.values)) for n in range(start, stop)])
    return [
        {path: value_at(domain, float(u)) for (path, domain), u in zip(sweep.values.items(), row, strict=True)}
        for row in positions
    ]


def value_at(domain: Domain, u: float) -> Any:
    """The value of a domain at position `u` from 0 to 1: choices and whole numbers have equal parts of this range.

    On a logarithmic scale equal parts are equal factors. Real numbers are rounded to four digits, within the bounds.
    """
    if isinstance(domain, Choices):
        return domain.values[min(int(u * len(domain.values)), len(domain.values) - 1)]
    if not domain.integer:
        return rounded(domain, _between(domain.low, domain.high, u, domain))
    # A whole number n stands for numbers from n - 1/2 to n + 1/2, so that the bounds are as likely as the others.
    value = _between(domain.low - 0.5, domain.high + 0.5, u, domain)
    return int(min(max(round(value), domain.low), domain.high))


def rounded(domain: Range, value: float) -> float:
    """Round a real number to a few digits, but never beyond the bounds of its domain."""
    return float(min(max(float(f"{value:.{DIGITS}g}"), domain.low), domain.high))


def _between(low: float, high: float, u: float, domain: Range) -> float:
    return low * (high / low) ** u if domain.logarithmic else low + (high - low) * u


def _grid(values: Mapping[str, Domain]) -> Iterator[Point]:
    """Yield all combinations of values; the last path varies fastest."""
    choices = [domain.values for domain in values.values() if isinstance(domain, Choices)]
    for chosen in product(*choices):
        yield dict(zip(values, chosen, strict=True))


def _sobol(paths: int, seed: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Points of a scrambled Sobol sequence, evenly spread for every count (Owen 1998, by SciPy)."""
    from scipy.stats import qmc

    drawn = qmc.Sobol(paths, scramble=True, rng=np.random.default_rng(seed)).random_base2(math.ceil(math.log2(count)))
    return np.asarray(drawn[:count])


def _tpe(sweep: Sweep, seed: int, known: Sequence[tuple[Point, float | None]], count: int) -> list[Point]:
    """Points by the tree-structured Parzen estimator (Bergstra et al. 2011, by Optuna), from the known ones."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {path: _distribution(domain) for path, domain in sweep.values.items()}
    # A new sampler for each generation draws the same points in a continued sweep as in one that never stopped.
    sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + len(known)) % 2**32)
    study = optuna.create_study(direction="minimize" if sweep.falls else "maximize", sampler=sampler)
    for point, figure in known:
        params = {path: _to_optuna(domain, point[path]) for path, domain in sweep.values.items()}
        state = optuna.trial.TrialState.FAIL if figure is None else optuna.trial.TrialState.COMPLETE
        trial = optuna.trial.create_trial(state=state, params=params, distributions=distributions, value=figure)
        study.add_trial(trial)
    drawn = [study.ask(distributions).params for _ in range(count)]
    return [{path: _from_optuna(domain, params[path]) for path, domain in sweep.values.items()} for params in drawn]


def _distribution(domain: Domain) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choices):
        return CategoricalDistribution(tuple(range(len(domain.values))))
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.logarithmic)
    return FloatDistribution(domain.low, domain.high, log=domain.logarithmic)


def _to_optuna(domain: Domain, value: Any) -> Any:
    """Convert a value for Optuna: a choice becomes its number."""
    if not isinstance(domain, Choices):
        return value
    return next(number for number, choice in enumerate(domain.values) if repr(choice) == repr(value))


def _from_optuna(domain: Domain, value: Any) -> Any:
    if isinstance(domain, Choices):
        return domain.values[value]
    return int(value) if domain.integer else rounded(domain, value)
