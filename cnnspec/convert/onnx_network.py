"""Translates simplified operators to layers: groups of operators first, then single ones, in the file's order."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators import TRANSLATORS
from cnnspec.convert.patterns import Match, matches
from cnnspec.convert.refusal import MALFORMED, Refusal, Unknown, Unsaid
from cnnspec.convert.simplify import FOLDABLE, LEFT_OUT, Simplified

NEAREST = {  # for operators without a translation, the layers that come closest
    "Einsum": "dense, conv2d or matmul",
    "Erf": "gelu, which is made of it",
    "GRU": "conv1d",
    "LSTM": "conv1d",
    "Log": "softplus",
    "MultiHeadAttention": "attention",
    "RNN": "conv1d",
    "Softsign": "tanh",
    "Sqrt": "rms_norm, which has one in it",
    "ThresholdedRelu": "relu",
    **dict.fromkeys(
        """
        ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearAdd QLinearAveragePool QLinearConcat
        QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMatMul QLinearMul QLinearSigmoid QGemm
        QuantizeLinear
        """.split(),  # noqa: SIM905  (a table of names)
        "the model before it was quantised",
    ),
}


def translated(source: Simplified) -> tuple[Network, list[Refusal]]:
    """Return the translated layers, and the operators that no layer expresses, whose outputs keep the file's shapes."""
    groups = matches(source)
    needed = _needed(source, groups)
    made, refusals, behind = Network(source), list[Refusal](), list[Refusal]()
    for operator in source.operators:
        if not needed.intersection(operator.outputs):
            continue
        group = groups.get(operator.output)
        try:
            if group is not None:
                group.write(made, operator, group.found)
            elif operator.type not in TRANSLATORS or operator.domain:
                raise _without_layer(operator)
            else:
                TRANSLATORS[operator.type](made, operator)
        except Unknown as unknown:
            behind.append(Refusal(operator.name, operator.type, str(unknown), ""))
            _believe(made, operator)
        except Unsaid as unsaid:
            refusals.append(Refusal(operator.name, operator.type, str(unsaid), unsaid.nearest))
            _believe(made, operator)
        except MALFORMED as error:
            reason = f"its attributes or constants are not those of the operator: {error}"
            refusals.append(Refusal(operator.name, operator.type, reason, ""))
            _believe(made, operator)
    refusals = refusals or behind
    if source.output not in made.values and not refusals:
        refusals.append(Refusal(source.output, "output", "it does not depend on the input", ""))
    if not refusals:
        _shape_output(made, source)
    return made, refusals


def _without_layer(operator: Operator) -> Unsaid:
    where = f" of {operator.domain}" if operator.domain else ""
    return Unsaid(f"no layer computes {operator.type}{where}", NEAREST.get(operator.type, ""))


def without_layer(operators: Sequence[Operator]) -> list[Refusal]:
    """Return those operators of a file whose types alone tell that no layer computes them."""
    known = TRANSLATORS.keys() | FOLDABLE | LEFT_OUT
    found = [(operator, _without_layer(operator)) for operator in operators]
    return [
        Refusal(operator.name, operator.type, str(unsaid), unsaid.nearest)
        for operator, unsaid in found
        if operator.type not in known or operator.domain
    ]


def _shape_output(made: Network, source: Simplified) -> None:
    """Reshape the output to the file's shape, but keep a vector where the file has a map of one pixel.

    A network that returns its input unchanged becomes a single layer `reshape`.
    """
    value, output = made.values[source.output], Operator("Reshape", "", (), ("",))
    if value.layer in made.inputs:
        made.values[source.output] = made.add(output, "reshape", [value], {"shape": list(value.canonical)})
        return
    last = next((operator for operator in source.operators if source.output in operator.outputs), output)
    is_flattening = last.type in ("Reshape", "Unsqueeze") and len(source.lengths.get(last.inputs[0], ())) == 2
    if len(value.lengths) <= 4 and (is_flattening or not (len(value.shape) == 1 and prod(value.lengths[2:]) == 1)):
        made.values[source.output] = made.canonical(output, value)


def _needed(source: Simplified, groups: dict[str, Match]) -> set[str]:
    """Return the names of the values that are read, if the inside of a group of operators does not count."""
    needed = {source.output}
    for operator in reversed(source.operators):
        if needed.intersection(operator.outputs):
            group = groups.get(operator.output)
            needed.update(operator.inputs if group is None else group.inputs)
    return needed


def _believe(made: Network, operator: Operator) -> None:
    """Record the file's shapes for the outputs of a refused operator, so that later operators are checked too."""
    for name in operator.outputs:
        lengths = made.source.lengths.get(name)
        if name and lengths and lengths[0] == made.source.batch:
            value = Value(f"?{name}", (), lengths, False)
            made.values.setdefault(name, Value(value.layer, value.canonical, lengths, False))
