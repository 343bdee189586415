"""From a spec's entries to nodes: nesting becomes edges, shapes are inferred, errors are reported at their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from cnnspec.diagnostics import Diagnostic, Related, SpecError
from cnnspec.fields import create
from cnnspec.graph.heads import find
from cnnspec.graph.inputs import one_input
from cnnspec.graph.node import INPUT, Graph, Node
from cnnspec.layers.base import Layer, Parameter
from cnnspec.layers.part import Part
from cnnspec.period import ALWAYS
from cnnspec.shapes import MARGINS, Shape, ShapeError, size, text
from cnnspec.spec.grammar import LONGEST_PATH
from cnnspec.spec.model import BlockEntry, Entry, LayerEntry, ParallelEntry, ResidualEntry, Spec
from cnnspec.spec.names import ABOVE
from cnnspec.spec.place import Place

MOST_VALUES = 10**15  # the most values of one array: four petabytes
LONGEST_TRAIL = 50  # the most values that a message names


def build(spec: Spec) -> Graph:
    """Compile a spec into a graph; SpecError lists every shape that does not fit, at its line and column."""
    return follow(spec).graph()


@dataclass(frozen=True, slots=True)
class Trace:
    """The result of `follow`: the nodes of all layers that fit, and the findings about those that do not."""

    spec: Spec
    nodes: Sequence[Node]
    output: str
    values: Mapping[str, str]  # the name of each entry's output
    shapes: Mapping[str, Shape | None]  # by the name of a value; None: unknown after an error
    diagnostics: Sequence[Diagnostic]

    def graph(self) -> Graph:
        """Return the graph; SpecError if there are any findings."""
        spec = self.spec
        if len(self.nodes) == len(spec.inputs) and not self.diagnostics:
            message, help = "layers: expected at least one layer, all are left out", "look at their `when`"
            span = spec.place.of("layers")
            raise SpecError([Diagnostic("invalid-value", "error", message, span, "layers", help)])
        diagnostics = list(self.diagnostics)
        heads = find(spec, self.values, diagnostics)
        if diagnostics:
            # Shapes often do not fit because the first one is wrong.
            raise SpecError([*one_input(spec), *diagnostics])
        if not heads:
            return Graph(spec.name, spec.input, _output_last(self.nodes, self.output, spec), self.output)
        assert spec.train is not None
        main = next(head for head in heads if head.name == spec.train.loss.main)
        return Graph(spec.name, spec.input, tuple(self.nodes), main.values[0], heads)


def follow(spec: Spec) -> Trace:
    """Infer the shapes through a spec's layers; an error becomes a finding, and the other layers are still followed."""
    builder = _Builder(spec)
    output = builder.sequence(spec.layers, next(iter(spec.inputs), INPUT))
    return Trace(spec, builder.nodes, output, builder.values, builder.shapes, builder.diagnostics)


def _output_last(nodes: Sequence[Node], output: str, spec: Spec) -> tuple[Node, ...]:
    """Move the output's node to the end: it is an earlier one if the last entry is empty and passes on its input."""
    place = spec.layers[-1].place
    readers = [node.name for node in nodes if output in node.inputs]
    if output == INPUT or output in spec.inputs:
        problem, help = "the network's output would be its input", "leave the entry out, or look at the `when` in it"
    elif readers and nodes[-1].name != output:
        problem = f"the network's output would be '{output}', which '{readers[0]}' reads"
        help = f"remove '{readers[0]}', or end with a layer that reads what is meant, such as {{type: add, from: ...}}"
    else:
        return (*(node for node in nodes if node.name != output), *(node for node in nodes if node.name == output))
    message = f"layers: the last entry makes no layer, so {problem}"
    raise SpecError([Diagnostic("invalid-value", "error", message, place.span, place.path, help)])


@dataclass(frozen=True, slots=True)
class _Claim:
    """The owner of a name: what it is in words, where it stands, and whether the file gives the name as an id."""

    what: str
    place: Place
    given: bool = False


class _Builder:
    def __init__(self, spec: Spec) -> None:
        self.nodes: list[Node] = []
        self.diagnostics: list[Diagnostic] = []
        self.shapes: dict[str, Shape | None] = {INPUT: spec.input}  # by value; None: unknown after an error
        self.values: dict[str, str] = {INPUT: INPUT}  # the name of each entry's output
        self.claims: dict[str, _Claim] = {}  # the owner of each name: entries, and nodes that they add
        self.inputs(spec)

    def inputs(self, spec: Spec) -> None:
        """Add a node for each of several inputs, which takes its part of the plan's only input."""
        start = 0
        for name, shape in spec.inputs.items():
            self.nodes.append(Node(name, Part(start=start, shape=shape), (INPUT,), (spec.input,), shape))
            self.shapes[name], self.values[name] = shape, name
            start += size(shape)

    def sequence(self, entries: Iterable[Entry], value: str) -> str:
        """Add entries that read one another from top to bottom; return the name of the last one's value."""
        scope_input = value
        for entry in entries:
            sources = (
                (value,)
                if entry.inputs is None
                else tuple({INPUT: scope_input, ABOVE: value}.get(name) or self.values[name] for name in entry.inputs)
            )
            value = self.entry(entry, sources)
            self.values[entry.name] = value
            if isinstance(entry, BlockEntry) and entry.alias is not None:
                self.claim(entry.alias, _Claim(_kind(entry), entry.place))
                self.values[entry.alias] = value
        return value

    def claim(self, name: str, claim: _Claim) -> None:
        """Record the owner of a name; if it has another owner already, report that at the id in the file."""
        other = self.claims.setdefault(name, claim)
        if other is claim:
            return
        wrong, right = (claim, other) if claim.given or not other.given else (other, claim)
        place = wrong.place
        self.diagnostics.append(
            Diagnostic(
                code="duplicate-id",
                severity="error",
                message=f"id '{name}' is also the name of {right.what}",
                span=place.of("id"),
                path=f"{place.path}.id",
                help="choose another id",
                related=(Related("named here", right.place.of("id")), *place.uses),
            )
        )

    def entry(self, entry: Entry, sources: tuple[str, ...]) -> str:
        """Add one entry of any sort; return the name of its value."""
        self.claim(entry.name, _Claim(_kind(entry), entry.place, entry.named))
        match entry:
            case LayerEntry():
                return self.layer_entry(entry, sources)
            case BlockEntry():
                return self.block(entry, sources)
            case ResidualEntry():
                return self.residual(entry, sources[0])
            case ParallelEntry():
                outputs = tuple(self.sequence(branch, sources[0]) for branch in entry.branches)
                return self.add(entry.name, create("layer", entry.merge), outputs, entry.place)

    def block(self, entry: BlockEntry, sources: tuple[str, ...]) -> str:
        """Add the layers of a block; its value is that of its first output, or of its last layer."""
        prefix = entry.alias or entry.name
        for port, source in zip(entry.ports, sources, strict=False):  # an input without a name is `input`
            self.claim(f"{prefix}.{port}", _Claim(f"an input of block '{prefix}'", entry.place))
            self.values[f"{prefix}.{port}"] = source
        value = self.sequence(entry.body, sources[0])
        for name, inner in reversed(entry.outputs):
            value = self.values[inner]
            for block_name in {prefix, entry.name}:
                self.values[f"{block_name}.{name}"] = value
        return value

    def layer_entry(self, entry: LayerEntry, sources: tuple[str, ...]) -> str:
        """Add a layer, with a `pad2d` in front if its `padding` needs one, and its `activation` behind it."""
        layer = entry.layer
        if getattr(layer, "padding", None) in MARGINS:
            sources, layer = self.margin(entry, sources), layer.but(padding="valid")
        activation = getattr(layer, "activation", None)
        if activation is None:
            return self.add(entry.name, layer, sources, entry.place, entry)
        value = self.add(entry.name, layer.but(activation=None), sources, entry.place, entry)
        name = f"{entry.name}.{activation.type_name}"
        self.claim(name, _Claim(f"the activation of {entry.layer.type_name} '{entry.name}'", entry.place))
        share = f"{entry.share}.{activation.type_name}" if entry.as_block else None
        return self.add(name, activation, (value,), entry.place, trained=entry, share=share)

    def margin(self, entry: LayerEntry, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Add the `pad2d` of a convolution that pads with pixels of its map; return what the convolution reads."""
        layer: Any = entry.layer
        shape = self.shapes[sources[0]] if len(sources) == 1 else None
        margins = layer.windows(shape).padding if shape is not None and len(shape) == 3 else ()
        if not any(margins):
            return sources
        name = f"{entry.name}.pad2d"
        self.claim(name, _Claim(f"the margin of {layer.type_name} '{entry.name}'", entry.place))
        pad = create("layer", {"type": "pad2d", "padding": margins, "mode": layer.padding})
        return (self.add(name, pad, sources, entry.place),)

    def residual(self, entry: ResidualEntry, source: str) -> str:
        value = self.sequence(entry.body, source)
        before, after = self.shapes[source], self.shapes[value]
        left_out = entry.shortcut == "none" or (entry.shortcut == "if_same" and before != after)
        if before is None or after is None or left_out:
            return value
        projects = entry.shortcut == "projection" or (entry.shortcut == "auto" and before != after)
        try:
            shortcut = self.projection(entry, source, before, after) if projects else source
            if self.shapes[shortcut] not in (after, None):
                raise ShapeError(
                    f"expected a body that keeps {text(before)}, got one that makes {text(after)} of it",
                    field="shortcut",
                    help="use shortcut: auto, which projects where the shape changes",
                )
        except ShapeError as error:
            self.report(entry.name, "residual", error, (value,), entry.place)
            self.shapes[entry.name] = None
            return entry.name
        return self.add(entry.name, create("layer", "add"), (value, shortcut), entry.place)

    def projection(self, entry: ResidualEntry, source: str, before: Shape, after: Shape) -> str:
        """Add a 1x1 convolution from a residual's input to the shape of its body, or a dense layer for a vector.

        Batch normalisation follows it if the body has some (He et al. 2015, option B).
        """
        stride = tuple(-(-b // a) for b, a in zip(before[1:], after[1:], strict=False))
        if len(before) != len(after) or tuple(-(-b // s) for b, s in zip(before[1:], stride, strict=True)) != after[1:]:
            raise ShapeError(
                f"no projection makes {text(after)}, the body's output, of {text(before)}",
                help="pad the body so that it keeps the size or divides it, or write both ways under parallel",
            )
        normalised = any(node.layer.normalises_channels for node in self.inside(entry.name))
        bias = "none" if normalised else "channel"
        convolution = {"type": "conv2d", "filters": after[0], "kernel_size": 1, "stride": stride, "bias": bias}
        layer = create("layer", convolution if stride else {"type": "dense", "units": after[0], "bias": bias})
        name = f"{entry.name}.shortcut"
        self.claim(name, _Claim(f"the projection of residual '{entry.name}'", entry.place))
        share = entry.share and f"{entry.share}.shortcut"
        value = self.add(name, layer, (source,), entry.place, trained=entry, share=share)
        if normalised:
            name, norm = f"{name}.batch_norm", create("layer", "batch_norm")
            self.claim(name, _Claim(f"the normalisation in the projection of residual '{entry.name}'", entry.place))
            share = share and f"{share}.batch_norm"
            value = self.add(name, norm, (value,), entry.place, trained=entry, share=share)
        return value

    def inside(self, name: str) -> Iterator[Node]:
        """The nodes of a residual's body, nested ones included."""
        return (node for node in self.nodes if node.name.startswith(f"{name}."))

    def add(
        self,
        name: str,
        layer: Layer,
        sources: tuple[str, ...],
        place: Place,
        entry: LayerEntry | None = None,
        *,
        trained: LayerEntry | ResidualEntry | None = None,
        share: str | None = None,
    ) -> str:
        """Add one node and infer its shape; return the name of its value, which is the name of the node.

        It is trained as `entry` or `trained` says, with the parameters of `share`, if any.
        """
        self.check_name(name, place)
        self.shapes[name] = None
        shapes = tuple(shape for source in sources if (shape := self.shapes[source]) is not None)
        if len(shapes) < len(sources):
            return name
        try:
            shape, params = self.infer(name, layer, shapes)
        except ShapeError as error:
            self.report(name, layer.type_name, error, sources, place)
            return name
        self.check_size(name, layer, shape, params, place)
        if entry:
            share, trained = entry.share, entry
        period, factor = (trained.period, trained.rate_factor) if trained else (ALWAYS, 1.0)
        if not params and (entry is None or entry.as_block):
            share = None
        if share:  # tied parameters are trained if those of their owner are
            owner = next((node for node in self.nodes if node.name == share), None)
            period, factor = (owner.period, owner.rate_factor) if owner else (period, factor)
            if not self.can_share(name, layer, params, share, place):
                return name
        self.nodes.append(
            Node(
                name=name,
                layer=layer,
                inputs=sources,
                input_shapes=shapes,
                shape=shape,
                params=params,
                state=layer.state(*shapes),
                macs=layer.cost(*shapes),
                weight_decay=entry.weight_decay if entry else None,
                period=period,
                rate_factor=factor,
                share=share,
                place=place,
            )
        )
        return name

    def check_name(self, name: str, place: Place) -> None:
        """Report a name that is too long, with those of the blocks around it."""
        if len(name) > LONGEST_PATH:
            message = f"a name of {len(name):,} characters, with those of the blocks around: expected {LONGEST_PATH:,}"
            self.too_large(message, place, "choose shorter ids")

    def check_size(self, name: str, layer: Layer, shape: Shape, params: Mapping[str, Parameter], place: Place) -> None:
        """Report a layer whose output or parameters have more values than any machine holds."""
        if max(prod(shape), *(prod(parameter.shape) for parameter in params.values()), 0) > MOST_VALUES:
            message = (
                f"{layer.type_name} '{name}': expected at most {MOST_VALUES:,} values in its output and parameters"
            )
            self.too_large(message, place, "no machine holds them: look at its numbers and at the shapes above it")

    def infer(self, name: str, layer: Layer, shapes: tuple[Shape, ...]) -> tuple[Shape, Mapping[str, Parameter]]:
        """Return the shape of a layer's output and its parameters; ShapeError where inputs of these shapes do not fit.

        The shape is known to the layers below even if a parameter cannot be initialised.
        """
        self.check_arity(layer, len(shapes))
        self.shapes[name] = shape = layer.infer_shape(*shapes)
        params = layer.params(*shapes)
        check_initializers(layer, params)
        return shape, params

    def too_large(self, message: str, place: Place, help: str) -> None:
        self.diagnostics.append(
            Diagnostic("too-large", "error", message, place.span, place.path, help, related=place.uses)
        )

    def can_share(self, name: str, layer: Layer, params: Mapping[str, Parameter], share: str, place: Place) -> bool:
        """Whether a layer can use the parameters of another one; if not, report it."""
        owner = next((node for node in self.nodes if node.name == share), None)
        if owner is None and share in self.shapes and self.shapes[share] is None:
            return False  # that layer has an error itself
        wanted = {key: parameter.shape for key, parameter in owner.params.items()} if owner else {}
        got = {key: parameter.shape for key, parameter in params.items()}
        alike = owner is not None and owner.layer.type_name == layer.type_name
        if owner and alike and wanted == got and wanted and not owner.share:
            return True
        problem = f"expected {_shapes(wanted)}, got {_shapes(got)}"
        help = "share with a layer of the same type, fields and input channels"
        if owner and not alike:
            problem = f"that is a {owner.layer.type_name}"
        if owner and owner.share:
            problem, help = f"'{share}' itself uses those of '{owner.share}'", f"write share: {owner.share}"
        elif not wanted:
            problem = f"'{share}' has none"
        self.diagnostics.append(
            Diagnostic(
                code="share-mismatch",
                severity="error",
                message=f"{layer.type_name} '{name}' cannot use the parameters of '{share}': {problem}",
                span=place.of("share"),
                path=f"{place.path}.share",
                help=help,
                related=place.uses,
            )
        )
        return False

    @staticmethod
    def check_arity(layer: Layer, count: int) -> None:
        fewest, most = layer.arity
        if count < fewest or (most is not None and count > most):
            wanted = f"at least {fewest}" if most is None else str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ShapeError(
                f"expected {wanted} input{'s' if wanted != '1' else ''}, got {count}",
                field="from",
                help="name its inputs with from: [a, b]"
                if count < fewest
                else "merge the inputs first with add or concat",
            )

    def report(self, name: str, kind: str, error: ShapeError, sources: tuple[str, ...], place: Place) -> None:
        trail = " > ".join([*self.trail(sources[0]), f"{name} ?"])
        self.diagnostics.append(
            Diagnostic(
                code="shape-mismatch",
                severity="error",
                message=f"{kind} '{name}': {error}",
                span=place.of(error.field),
                path=f"{place.path}.{error.field}" if error.field in place.values else place.path,
                help=error.help,
                notes=(f"shapes so far: {trail}",),
                related=place.uses,
            )
        )

    def trail(self, value: str) -> list[str]:
        """The values on the way from the input to this one, as text with their shapes; of a long way only its end."""
        by_name = {node.name: node for node in self.nodes if not isinstance(node.layer, Part)}
        steps: list[str] = []
        while True:
            shape = self.shapes[value]
            steps.append(f"{value} {text(shape) if shape else '?'}")
            if value not in by_name or len(steps) == LONGEST_TRAIL:
                return ([] if value not in by_name else ["..."]) + steps[::-1]
            value = by_name[value].inputs[0]


def check_initializers(layer: Layer, params: Mapping[str, Parameter]) -> None:
    """Raise ShapeError, with the field's name, if an initializer cannot fill a parameter of its shape."""
    for parameter in params.values():
        try:
            parameter.initializer.check(parameter.shape)
        except ShapeError as error:
            field = next((key for key, value in vars(layer).items() if value is parameter.initializer), None)
            raise ShapeError(str(error), field=field, help=error.help) from error


def _kind(entry: Entry) -> str:
    match entry:
        case LayerEntry():
            return f"a layer of type {entry.layer.type_name}"
        case BlockEntry():
            return "a block"
        case ResidualEntry():
            return "a residual"
        case ParallelEntry():
            return "a parallel"


def _shapes(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {text(shape)}" for name, shape in shapes.items()) or "none"
