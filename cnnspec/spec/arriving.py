"""Follows shapes while layers are read, so that an expression can use the shape that arrives at its layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnspec.layers.base import Layer
from cnnspec.shapes import Shape, ShapeError, text
from cnnspec.spec.expression import ExpressionError
from cnnspec.spec.findings import Findings, Wrong
from cnnspec.spec.place import Place
from cnnspec.spec.tree import Where

AXES = {"in": "channels", "in_height": "height", "in_width": "width"}


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands for a shape that cannot be computed, with the error of its layer, or none if that was reported already."""

    what: str = ""
    error: ShapeError | None = None
    place: Place | None = None

    def report(self, findings: Findings) -> Wrong:
        """Report the layer's error at its place, and return the exception to raise where the shape is needed."""
        if self.error is None or self.place is None:
            return Wrong("the layer above is wrong itself")
        where = Where(self.place.path, self.place.uses)
        span = self.place.of(self.error.field)
        return findings.error("shape-mismatch", f"{self.what}: {self.error}", span, where, help=self.error.help)


Arrival = Shape | Unknown
Arriving = Callable[[], Sequence[Arrival]]  # the references in `from` are read when it is called


def shape_after(layer: Layer, inputs: Sequence[Arrival], name: str, place: Place) -> Arrival:
    """Return the shape that a layer makes of its inputs."""
    shapes = []
    for shape in inputs:
        if isinstance(shape, Unknown):
            return shape
        shapes.append(shape)
    fewest, most = layer.arity
    subject = f"{layer.type_name} '{name}'"
    if len(shapes) < fewest or (most is not None and len(shapes) > most):
        return Unknown(subject, ShapeError(f"cannot read {len(shapes)} inputs", field="from"), place)
    try:
        return layer.infer_shape(*shapes)
    except ShapeError as error:
        return Unknown(subject, error, place)


def length(name: str, arriving: Arriving, findings: Findings) -> int:
    """Return the value of `in`, `in_height` or `in_width`; ExpressionError if it has none, Wrong for a wrong layer."""
    lengths = set()
    for shape in arriving():
        if isinstance(shape, Unknown):
            raise shape.report(findings)
        axis = list(AXES).index(name)
        if axis >= len(shape):
            message = f"{name}: what arrives here is a vector of {text(shape)} features"
            raise ExpressionError(message, "use $in, which is the number of features")
        lengths.add(shape[axis])
    if len(lengths) > 1:
        several = " and ".join(map(str, sorted(lengths)))
        raise ExpressionError(
            f"{name}: the inputs that arrive here differ in {AXES[name]}: {several}", "write the number that is meant"
        )
    return lengths.pop()
