"""The `sweep` section of a spec: the values that vary, how they are chosen, and the figure that decides."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, ClassVar, Literal, get_args

from cnnspec.fields import FIGURE_PATTERN, Declaration, Json, Named, PositiveInt, Schema
from cnnspec.optim.watched import LOWER, OfAll
from cnnspec.spec.check import got
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.overrides import NoPathError, put, steps_of
from cnnspec.spec.suggest import did_you_mean
from cnnspec.spec.tree import Items, Mapping, Scalar, Tree, Where, plain
from cnnspec.spec.typed import Typing

MOST_POINTS = 10_000  # points of a sweep
MOST_VARIANTS = 400  # choices and bounds of all values together: a spec is checked with each
# Top-level keys that a sweep cannot vary:
FIXED = ("cnnspec", "name", "seed", "portable", "extends", "plugins", "expect", "require", "sweep")
LARGEST = 1e300  # bound of a range
INSIDE = 0.382  # where between the bounds of a range a number is tried: seldom a whole one
REAL = "write integer: true for whole numbers"  # the cure where such a number does not fit
SCALES = ("linear", "log")
BOUNDS = ("from", "to", "scale", "integer")


@dataclass(frozen=True, slots=True)
class Choices:
    """A value that is chosen from a list."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two bounds, both included, on a linear or a logarithmic scale."""

    low: float
    high: float
    logarithmic: bool = False
    integer: bool = False


Domain = Choices | Range
_NUMBER: Json = {"type": "number"}
_RANGE: Json = {
    "type": "object",
    "properties": {
        "from": {**_NUMBER, "description": "the least value"},
        "to": {**_NUMBER, "description": "the greatest value"},
        "scale": {"enum": list(SCALES), "description": "log: factors count, not differences"},
        "integer": {"type": "boolean", "description": "whole numbers only"},
    },
    "required": ["from", "to"],
    "additionalProperties": False,
}
_VALUES: Json = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, _RANGE]},
    "examples": ["{train.batch_size: [32, 64]}"],
}


def _domain(written: Any) -> Domain:
    if isinstance(written, (Choices, Range)):
        return written
    if isinstance(written, list):
        return Choices(tuple(written))
    low, high, integer = written["from"], written["to"], bool(written.get("integer"))
    return Range(low, high, written.get("scale") == "log", integer)


def _domains(written: Any) -> Named[Domain]:
    return Named({path: _domain(domain) for path, domain in written.items() if not path.startswith("x-")})


Values = Annotated[Named[Domain], Schema(_VALUES, _domains)]
_FIGURES = [name for name in get_args(OfAll) if name.startswith("validation.")]
Metric = Annotated[str, Schema({"anyOf": [{"enum": _FIGURES}, {"type": "string", "pattern": FIGURE_PATTERN}]})]
Factor = Annotated[int, Schema({"type": "integer", "minimum": 2})]


class Halving(Declaration):
    """Synchronous successive halving: all points of a generation train a while, and the best of them go on.

    Of n points n / factor, rounded up, train on to `factor` times as many epochs, until `train.epochs`. Source:
    Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization" (2016).
    """

    kind: ClassVar[str] = "section"
    first: Annotated[PositiveInt, "epochs after which points are compared for the first time"] = 1
    factor: Annotated[Factor, "one of so many points goes on"] = 3


class Sweep(Declaration):
    """Many trainings with other values each, of which validation chooses the best: `cnnspec sweep SPEC` runs them."""

    kind: ClassVar[str] = "section"
    values: Annotated[Values, "what varies, by the path that --set takes: a list, or {from, to, scale, integer}"]
    method: Annotated[
        Literal["grid", "random", "sobol", "tpe"],
        "grid tries all, random draws, sobol draws evenly (SciPy), tpe draws where it went well so far (Optuna)",
    ] = "random"
    trials: Annotated[PositiveInt | None, "points that are tried: 20 by default, of a grid always all"] = None
    generation: Annotated[
        PositiveInt | None, "points that are drawn before any of them is known: all by default, 5 for tpe"
    ] = None
    seeds: Annotated[PositiveInt, "trainings of each point, with as many seeds, from the spec's on"] = 1
    metric: Annotated[Metric, "the figure after the last epoch that chooses, its mean over the seeds"] = (
        "validation.loss"
    )
    halving: Annotated[Halving | None, "leaves out points that are behind after a few epochs"] = None

    @property
    def count(self) -> int:
        """The number of points that are tried."""
        if self.method == "grid":
            return prod(len(domain.values) for domain in self.values.values() if isinstance(domain, Choices))
        return self.trials or 20

    @property
    def size(self) -> int:
        """The number of points in a generation."""
        return self.generation or (5 if self.method == "tpe" else self.count)

    @property
    def falls(self) -> bool:
        """Whether a lower value of the figure is better."""
        return self.metric.endswith(LOWER)


def read_sweep(typing: Typing, tree: Tree, where: Where) -> tuple[Sweep | None, dict[str, Tree]]:
    """Build the sweep section of a tree, or None if an error in it was reported; also return its right domains."""
    values = tree.get("values") if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or not isinstance(values, Mapping):
        with suppress(Wrong):
            typing.section(Sweep, tree, where)
        return None, {}
    domains, right = _right_domains(typing, values, where.down("values"))
    right = _is_grid_right(typing.findings, tree, domains, where) and right
    given = tree if right else tree.with_value("values", Mapping({}, {}, values.span))
    try:
        sweep: Sweep = typing.section(Sweep, given, where)
        if sweep.count > MOST_POINTS:
            key = "values" if sweep.method == "grid" else "trials"
            message = f"sweep.{key}: expected at most {MOST_POINTS:,} points, got {sweep.count:,}"
            raise typing.findings.error("too-large", message, tree.keys[key], where.down(key))
    except Wrong:
        return None, domains
    return sweep if right else None, domains


def _right_domains(typing: Typing, values: Mapping, where: Where) -> tuple[dict[str, Tree], bool]:
    """Report errors in the values that vary; return the domains without one by path, and whether these are all.

    What they mean for the rest of the spec is checked elsewhere.
    """
    written = {path: tree for path, tree in values.values.items() if not path.startswith("x-")}
    if not written:
        typing.findings.error(
            "invalid-value",
            "values: expected at least one value that varies, got none",
            values.span,
            where,
            help="for example train.batch_size: [32, 64]",
        )
        return {}, False
    domains = {path: tree for path, tree in written.items() if _is_right(typing, path, tree, values, where.down(path))}
    return domains, len(domains) == len(written)


def _is_grid_right(findings: Findings, tree: Mapping, domains: abc.Mapping[str, Tree], where: Where) -> bool:
    """Report what a grid cannot have; True for any other method."""
    method, trials, right = tree.get("method"), tree.get("trials"), True
    if method is None or plain(method) != "grid":
        return True
    for path, domain in domains.items():
        if isinstance(domain, Mapping):
            message = f"{path}: expected a list under method: grid, got a range"
            help = "write the values that are tried, or method: random"
            findings.error("invalid-value", message, domain.span, where.down("values"), help=help)
            right = False
    if trials is not None and plain(trials) is not None:
        message = "trials: expected nothing under method: grid, which tries all points"
        help = "leave trials out, or write method: random"
        findings.error("invalid-value", message, tree.keys["trials"], where.down("trials"), help=help)
        right = False
    return right


def _is_right(typing: Typing, path: str, tree: Tree, values: Mapping, where: Where) -> bool:
    findings = typing.findings

    def wrong(message: str, at: Tree, help: str | None = None) -> bool:
        findings.error("invalid-value", f"{path}: {message}", at.span, where, help=help)
        return False

    first = steps_of(path)[0]
    if first in FIXED:
        help = "write seeds: 3 in the section itself" if first == "seed" else "it stays as the spec has it"
        message = f"{path}: {first} does not vary in a sweep"
        findings.error("invalid-value", message, values.keys[path], where, help=help)
        return False
    if isinstance(tree, Items):
        written = [repr(plain(item)) for item in tree.items]
        if not written:
            return wrong("expected at least one value, got an empty list", tree)
        twice = next((item for place, item in enumerate(tree.items) if written[place] in written[:place]), None)
        return True if twice is None else wrong(f"{got(plain(twice))} is there twice", twice, "leave one out")
    if not isinstance(tree, Mapping):
        return wrong(f"expected a list or {{from, to}}, got {got(plain(tree))}", tree, "write [32, 64]")
    if typing.known_keys(tree, BOUNDS, where, "key of a range", "sweep key") or {*tree.values} - {*BOUNDS}:
        return False
    bounds: list[float] = []
    for key in ("from", "to"):
        at = tree.values.get(key, tree)
        bound = plain(at) if key in tree.values else None
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not abs(bound) < LARGEST:
            return wrong(f"expected a number for {key}, got {got(bound)}", at)
        bounds.append(bound)
    low, high = bounds
    scale, integer = tree.get("scale"), tree.get("integer")
    if scale is not None and plain(scale) not in SCALES:
        return wrong(f"expected linear or log for scale, got {got(plain(scale))}", scale)
    if integer is not None and not isinstance(plain(integer), bool):
        return wrong(f"expected true or false for integer, got {got(plain(integer))}", integer)
    if low >= high:
        return wrong(f"expected from below to, got {low} and {high}", tree)
    if scale is not None and plain(scale) == "log" and low <= 0:
        return wrong(f"expected from above 0 on a logarithmic scale, got {low}", tree.values["from"])
    if integer is not None and plain(integer) and not (isinstance(low, int) and isinstance(high, int)):
        return wrong("expected whole numbers for from and to with integer: true", tree)
    return True


@dataclass(frozen=True, slots=True)
class Changed:
    """The tree of a spec with one value of its sweep put in place, and the cure for an error that it makes."""

    path: str
    value: Any
    tree: Tree
    help: str | None


def changed_trees(findings: Findings, tree: Mapping, domains: abc.Mapping[str, Tree]) -> Iterator[Changed]:
    """Yield the tree with each choice, each bound and a number between bounds put in place.

    A path that leads nowhere is reported.
    """
    section = tree.get("sweep")
    values = section.get("values") if isinstance(section, Mapping) else None
    base, where, count = tree.without("sweep"), Where("sweep").down("values"), 0
    for path, domain in domains.items():
        examples = domain.items if isinstance(domain, Items) else _bounds(domain)
        count += len(examples)
        if count > MOST_VARIANTS:
            message = f"sweep.values: expected at most {MOST_VARIANTS} choices and bounds in all"
            findings.error("too-large", message, domain.span, where.down(path))
            return
        between = _between(domain)
        for value in (*examples, *between):
            try:
                changed = _put(base, path, value)
            except NoPathError as error:
                help = f"write {error.meant}" if error.meant else error.help
                assert isinstance(values, Mapping)
                findings.error("unknown-path", f"{path}: {error}", values.keys[path], where.down(path), help=help)
                break
            yield Changed(path, plain(value), changed, REAL if value in between else None)


def _put(tree: Mapping, path: str, value: Tree) -> Tree:
    """Put a value in place, but make no variable that the spec does not have: nothing would read it."""
    section, *steps = steps_of(path)
    variables = tree.get(section)
    known = variables.keys if isinstance(variables, Mapping) else {}
    if section == "vars" and steps and steps[0] not in known:
        raise NoPathError(f"no '{steps[0]}' in vars", did_you_mean(steps[0], known, "known variables"))
    return put(tree, path, value)


def _bounds(domain: Tree) -> tuple[Tree, ...]:
    bounds = [domain.get(key) for key in ("from", "to")] if isinstance(domain, Mapping) else []
    return tuple(bound for bound in bounds if isinstance(bound, Scalar))


def _between(domain: Tree) -> tuple[Tree, ...]:
    """Return a real number of a range, as it is drawn between bounds that may be whole; nothing for whole numbers."""
    integer = domain.get("integer") if isinstance(domain, Mapping) else None
    if isinstance(domain, Items) or (integer is not None and plain(integer)):
        return ()
    low, high = (float(plain(bound)) for bound in _bounds(domain))
    return (Scalar(min(max(float(f"{low + INSIDE * (high - low):.4g}"), low), high), domain.span),)
