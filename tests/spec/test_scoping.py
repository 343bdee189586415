"""Scoping by substitution: a random nest of blocks, variables, repeats and conditions equals what it means by hand.

`guide/language.md` states the rules. The oracle here follows them with text replacement and Python's own arithmetic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspec.diagnostics import SpecError
from cnnspec.graph import Graph, build
from cnnspec.spec import loads

Draw = Callable[[st.SearchStrategy[Any]], Any]
Names = Mapping[str, int]

CHANNELS, HEIGHT, WIDTH = 3, 6, 5
VARIABLES = ("v0", "v1", "v2")
PARAMETERS = ("p0", "p1", "p2", "v0")  # one of which hides a variable
ARRIVING = ("in", "in_height", "in_width")


@st.composite
def sums(draw: Draw, names: Sequence[str], depth: int = 2) -> str:
    """Arithmetic over names and small numbers."""
    if depth == 0 or draw(st.booleans()):
        return str(draw(st.sampled_from([*names, "1", "2", "5"])))
    form = draw(st.sampled_from(["A + B", "A * B", "A - B", "max(A, B)", "min(A, B)", "A // 2", "A if B > C else D"]))
    parts = {letter: draw(sums(names, depth - 1)) for letter in "ABCD"}
    return "(" + "".join(parts.get(character, character) for character in form) + ")"


def numbers(names: Sequence[str]) -> st.SearchStrategy[Any]:
    """A value from 1 to 7."""
    return st.integers(1, 7) | sums(names).map(lambda text: f"${{{text} % 7 + 1}}")


def conditions(names: Sequence[str]) -> st.SearchStrategy[Any]:
    return sums(names).map(lambda text: f"${{{text} % 3 > 0}}")


@st.composite
def layers(draw: Draw, names: Sequence[str], blocks: Mapping[str, Any], depth: int) -> list[Any]:
    """A list of items, one of which is a layer without a condition; some are groups, some bare names of blocks."""
    kinds = [
        "layer",
        "layer",
        *(["residual", "parallel", "group"] if depth else []),
        *(["use", "use"] if blocks else []),
    ]
    bare = [name for name, block in blocks.items() if "required" not in block["params"].values()]
    items: list[Any] = [layer(draw, names)]
    for kind in draw(st.lists(st.sampled_from([*kinds, *(["bare"] if bare else [])]), max_size=3)):
        match kind:
            case "layer":
                item = layer(draw, names)
            case "residual":
                item = {"type": "residual", "body": draw(layers(names, blocks, depth - 1))}
            case "parallel":
                item = {"type": "parallel", "branches": [draw(layers(names, blocks, depth - 1)) for _ in range(2)]}
            case "group":
                item = {"layers": draw(layers(names, blocks, depth - 1)), "when": draw(conditions(names))}
            case "bare":
                items.append(draw(st.sampled_from(bare)))
                continue
            case _:
                item = draw(uses(names, blocks))
        if draw(st.integers(0, 3)) == 0:
            item["when"] = draw(conditions(names))
        items.insert(draw(st.integers(0, len(items))), item)
    return items


def layer(draw: Draw, names: Sequence[str]) -> dict[str, Any]:
    return {"type": "conv2d", "filters": draw(numbers(names)), "kernel_size": 1}


@st.composite
def uses(draw: Draw, names: Sequence[str], blocks: Mapping[str, Any]) -> dict[str, Any]:
    called = draw(st.sampled_from(sorted(blocks)))
    params, given = blocks[called]["params"], sorted({*names, "index"})
    item: dict[str, Any] = {"use": called}
    if draw(st.booleans()):
        item["repeat"] = draw(st.integers(1, 3) | sums(names).map(lambda text: f"${{{text} % 3 + 1}}"))
    chosen = {name for name in params if draw(st.booleans())}
    item["with"] = {name: draw(numbers(given)) for name in params if name in chosen or params[name] == "required"}
    for part in ("first", "last"):
        if params and draw(st.integers(0, 3)) == 0:
            item[part] = {draw(st.sampled_from(sorted(params))): draw(numbers(given))}
    return item


@st.composite
def nests(draw: Draw) -> dict[str, Any]:
    """A whole spec: variables, blocks that use those above them, and layers."""
    spec: dict[str, Any] = {"cnnspec": 1, "input": [CHANNELS, HEIGHT, WIDTH], "vars": {}, "blocks": {}}
    for i, name in enumerate(VARIABLES):
        spec["vars"][name] = draw(numbers(VARIABLES[:i]))
    for i in range(draw(st.integers(1, 3))):
        params: dict[str, Any] = {}
        for name in draw(st.lists(st.sampled_from(PARAMETERS), max_size=3, unique=True)):
            known = [*VARIABLES, *params, "index", *ARRIVING]
            params[name] = draw(st.just("required") | numbers(known) | numbers(known))
        inside = [*VARIABLES, *params, "index", *ARRIVING]
        spec["blocks"][f"b{i}"] = {"params": params, "layers": draw(layers(inside, spec["blocks"], 1))}
    spec["layers"] = [*draw(layers([*VARIABLES, *ARRIVING], spec["blocks"], 2)), layer(draw, VARIABLES)]
    return spec


def value(text: Any, names: Names) -> Any:
    """What a value means: every name replaced by its number, and Python for the rest."""
    if not isinstance(text, str):
        return text
    words = re.sub(r"\b[a-z]\w*", lambda word: f"({names[word[0]]})" if word[0] in names else word[0], text[2:-1])
    return eval(words, {"__builtins__": {}, "min": min, "max": max})


def by_hand(items: list[Any], names: Names, spec: dict[str, Any], channels: int) -> tuple[list[Any], int]:
    """The same layers without a block, a name or a condition, and the channels that they make."""
    made: list[Any] = []
    for written in items:
        item: dict[str, Any] = {"use": written} if isinstance(written, str) else written
        here = {**names, "in": channels, "in_height": HEIGHT, "in_width": WIDTH}
        if not value(item.get("when", True), here):
            continue
        if "use" in item:
            count = value(item.get("repeat", 1), here)
            for index in range(count):
                inner, channels = used(item, index, count, names, spec, channels)
                made += inner
        elif "layers" in item:
            inner, channels = by_hand(item["layers"], names, spec, channels)
            made += inner
        elif item["type"] == "residual":
            body, channels = by_hand(item["body"], names, spec, channels)
            made.append({"type": "residual", "body": body})
        elif item["type"] == "parallel":
            branches = [by_hand(branch, names, spec, channels) for branch in item["branches"]]
            made.append({"type": "parallel", "branches": [branch for branch, _ in branches]})
            channels = sum(width for _, width in branches)
        else:
            channels = value(item["filters"], here)
            made.append({**item, "filters": channels} | {"when": True})
    return made, channels


def used(
    item: dict[str, Any], index: int, count: int, names: Names, spec: dict[str, Any], channels: int
) -> tuple[list[Any], int]:
    """One repetition of a block by hand."""
    block = spec["blocks"][item["use"]]
    counter = index if "repeat" in item else names.get("index", 0)
    arriving = {"in": channels, "in_height": HEIGHT, "in_width": WIDTH}
    outside = {**names, **arriving, "index": counter}
    inside = {**variables(spec), **arriving, "index": counter}
    given = {**item.get("with", {}), **(item.get("first", {}) if index == 0 else {})}
    given |= item.get("last", {}) if index == count - 1 else {}
    for name, default in block["params"].items():
        inside[name] = value(given[name], outside) if name in given else value(default, inside)
    return by_hand(block["layers"], {name: n for name, n in inside.items() if name not in arriving}, spec, channels)


def variables(spec: dict[str, Any]) -> dict[str, int]:
    known: dict[str, int] = {}
    for name, text in spec["vars"].items():
        known[name] = value(text, known)
    return known


def outline(graph: Graph) -> list[Any]:
    """All of a graph but the names."""
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    return [(node.layer, [position.get(name) for name in node.inputs], node.shape) for node in graph.nodes]


def means_the_same(spec: dict[str, Any]) -> None:
    plain, _ = by_hand(spec["layers"], variables(spec), spec, CHANNELS)
    written = {"cnnspec": 1, "input": spec["input"], "layers": plain}
    assert outline(build(loads(json.dumps(spec)))) == outline(build(loads(json.dumps(written))))


ANY = list(HealthCheck)


@settings(max_examples=150, deadline=None, suppress_health_check=ANY)
@given(nests())
def test_a_nest_means_what_it_means_by_hand(spec: dict[str, Any]) -> None:
    means_the_same(spec)


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None, suppress_health_check=ANY)
@given(nests())
def test_a_thousand_nests_mean_what_they_mean_by_hand(spec: dict[str, Any]) -> None:
    means_the_same(spec)


HEAD = "cnnspec: 1\ninput: [3, 6, 5]\n"


def widths(text: str) -> list[int]:
    return [node.shape[0] for node in build(loads(HEAD + text)).nodes]


def only(text: str) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        loads(HEAD + text)
    (found,) = caught.value.diagnostics
    return found.code, found.message


CONV = '{type: conv2d, filters: "$F", kernel_size: 1}'


@pytest.mark.parametrize(
    ("params", "given", "width"),
    [
        ("{a: 1, b: $a}", "{a: 5}", 5),
        ("{a: 1, b: $a}", "{}", 1),
        ("{a: required, b: $a}", "{a: 5}", 5),
        ("{a: required, b: '${a * 2}'}", "{a: 5, b: 7}", 7),
        ("{a: 1, b: '${a + 1}', c: '${b * 2}'}", "{b: 3}", 3),
    ],
)
def test_a_default_reads_the_parameters_above_it(params: str, given: str, width: int) -> None:
    text = (
        f"blocks: {{u: {{params: {params}, layers: [{CONV.replace('F', 'b')}]}}}}\nlayers: [{{use: u, with: {given}}}]"
    )
    assert widths(text) == [width]


def test_a_default_knows_nothing_below_it() -> None:
    text = f"blocks: {{u: {{params: {{b: $a, a: 1}}, layers: [{CONV.replace('F', '{a + b}')}]}}}}\nlayers: [{{use: u}}]"
    assert only(text) == ("unknown-name", "unknown name 'a'")


def test_a_missing_parameter_is_told_once() -> None:
    text = (
        f"blocks: {{u: {{params: {{a: required, b: $a}}, layers: [{CONV.replace('F', 'b')}]}}}}\nlayers: [{{use: u}}]"
    )
    assert only(text) == ("missing-parameter", "block 'u' needs the parameter 'a'")


def test_index_is_that_of_the_nearest_repeat_around() -> None:
    blocks = f"blocks: {{u: {{layers: [{CONV.replace('F', '{index + 1}')}]}}, outer: {{layers: [{{use: u}}]}}}}\n"
    assert widths(blocks + "layers: [{use: outer, repeat: 3}]") == [1, 2, 3]
    assert widths(blocks + "layers: [{use: outer}]") == [1]
    assert widths(blocks.replace("{use: u}", "{use: u, repeat: 2}") + "layers: [{use: outer, repeat: 2}]") == [1, 2] * 2
    assert widths(blocks.replace("{use: u}", "{use: u, repeat: 1}") + "layers: [{use: outer, repeat: 2}]") == [1, 1]


@pytest.mark.parametrize("name", ["index", "in", "in_height", "in_width", "true"])
def test_some_names_are_taken(name: str) -> None:
    message = f"'{name}' can be no {{}}: it means something else in every expression"
    assert only(f"vars: {{{name}: 3}}\nlayers: [relu]") == ("invalid-value", message.format("variable"))
    block = f"blocks: {{u: {{params: {{{name}: 3}}, layers: [relu]}}}}\nlayers: [{{use: u}}]"
    assert only(block) == ("invalid-value", message.format("parameter"))


@pytest.mark.parametrize(
    ("expression", "width"), [("4 if true else 5", 4), ("v if v > 3 else 2", 2), ("1 // 0 if v > 9 else v", 3)]
)
def test_a_choice(expression: str, width: int) -> None:
    assert widths(f"vars: {{v: 3}}\nlayers: [{CONV.replace('F', f'{{{expression}}}')}]") == [width]


def test_a_misspelt_name_in_what_is_not_chosen_is_wrong_too() -> None:
    text = f"vars: {{v: 3}}\nlayers: [{CONV.replace('F', '{v if v > 1 else w}')}]"
    assert only(text) == ("unknown-name", "unknown name 'w'")
    text = f"vars: {{v: 3}}\nlayers: [{CONV.replace('F', '{1 if v else 2}')}]"
    assert only(text)[0] == "bad-expression"


def shapes(text: str) -> list[tuple[int, ...]]:
    return [node.shape for node in build(loads(HEAD + text)).nodes]


def test_in_is_what_arrives() -> None:
    conv = '{type: conv2d, filters: "${in * 2}", kernel_size: "${in_height // 2}", stride: 2}'
    assert shapes(f"layers: [{conv}, {{type: relu, id: a}}, {conv.replace('in_height', 'in_width')}]") == [
        (6, 2, 2),
        (6, 2, 2),
        (12, 1, 1),
    ]
    assert widths(
        f"layers: [{{id: a, {CONV[1:].replace('F', '{in + 1}')}, {{from: input, {CONV[1:].replace('F', '{in}')}]"
    ) == [4, 3]
    assert widths("layers: [flatten, {type: dense, units: $in}]") == [90, 90]
    assert widths("layers: [{use: squeeze_excite, with: {filters: $in, reduction: 3}}]")[-1] == 3


def test_in_is_what_arrives_in_each_repetition_and_in_a_default() -> None:
    block = f"blocks: {{u: {{params: {{wide: '${{in * 2}}'}}, layers: [{CONV.replace('F', 'wide')}]}}}}\n"
    assert widths(block + "layers: [{use: u, repeat: 3}]") == [6, 12, 24]
    assert widths(block + "layers: [{use: u, repeat: 3, with: {wide: '${in + index}'}}]") == [3, 4, 6]


def test_in_of_branches_and_of_several_inputs() -> None:
    branches = f"{{type: parallel, branches: [[relu], [{CONV.replace('F', '{in + 1}')}]]}}"
    assert widths(f"layers: [{branches}, {CONV.replace('F', 'in')}]")[-2:] == [7, 7]
    wider = f"{{id: b, {CONV[1:].replace('F', '{in + 1}')}"
    two = f"layers: [{{id: a, type: relu}}, {wider}, {{type: add, from: [a, b], x: $in}}]"
    assert only(two) == ("bad-expression", "in: the inputs that arrive here differ in channels: 3 and 4")


def test_where_in_is_not_known_the_layer_to_blame_is_told_at_its_place() -> None:
    wide = "{type: conv2d, filters: 4, kernel_size: 9}"
    with pytest.raises(SpecError) as caught:
        loads(f"{HEAD}layers:\n  - {wide}\n  - {CONV.replace('F', 'in')}\n")
    (found,) = caught.value.diagnostics
    assert found.code == "shape-mismatch"
    assert found.message == "conv2d 'conv2d_1': kernel 9x9 does not fit the 6x5 input (padding 0)"
    assert (found.span.line, found.span.column) == (4, 1 + f"  - {wide}".index("9"))
    assert only("layers: [flatten, {type: dense, units: $in_height}]") == (
        "bad-expression",
        "in_height: what arrives here is a vector of 90 features",
    )
    assert (
        only(f"layers: [{{type: conv2d, filtres: 3, kernel_size: 1}}, {CONV.replace('F', 'in')}]")[0] == "unknown-key"
    )
    assert only("vars: {a: $in}\nlayers: [relu]") == ("unknown-name", "unknown name 'in'")


def test_in_as_a_part_of_a_text_or_of_a_word_is_none() -> None:
    conv = CONV.replace("F", "{inner if p == 'in' else 2}")
    assert widths(f"vars: {{inner: 4, p: in}}\nlayers: [{conv}]") == [4]


def test_a_condition_on_a_list_of_layers() -> None:
    group = "{when: $deep, layers: [{id: a, type: relu}, tanh]}"
    assert widths(f"vars: {{deep: true}}\nlayers: [{group}, {{type: add, from: [a, tanh_1]}}]") == [3, 3, 3]
    assert widths("layers: [relu, {when: false, layers: [nothing]}]") == [3]
    made = build(
        loads(f"{HEAD}layers: [{{trainable: false, layers: [{CONV.replace('F', 'in')}]}}, {CONV.replace('F', 'in')}]")
    )
    assert [node.trainable for node in made.nodes] == [False, True]


def test_a_block_by_its_bare_name() -> None:
    block = f"blocks: {{pool: {{params: {{wide: 5}}, layers: [{CONV.replace('F', 'wide')}]}}}}\n"
    assert widths(block + "layers: [pool, pool]") == [5, 5]
    with pytest.raises(SpecError) as caught:
        loads(f"{HEAD}{block}layers: [{{type: pool}}]")
    (found,) = caught.value.diagnostics
    assert (found.message, found.help) == ("'pool' is a block, not a type of layer", "write use: pool")
    assert found.fix is not None
    assert found.fix.replacement == "use"


def test_a_shortcut_where_shapes_agree_and_none_where_not() -> None:
    body = "{type: residual, shortcut: if_same, body: [BODY]}"
    assert widths(f"layers: [{body.replace('BODY', CONV.replace('F', 'in'))}]") == [3, 3]
    assert widths(f"layers: [{body.replace('BODY', CONV.replace('F', '{in + 1}'))}]") == [4]
