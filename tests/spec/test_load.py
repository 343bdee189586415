"""Loading: defaults, names, references, blocks, and each mistake at its place with its cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import build
from cnnspec.graph.render import render
from cnnspec.spec import Spec, load, loads
from cnnspec.spec.model import LayerEntry

ROOT = Path(__file__).parents[2]
HEAD = "cnnspec: 1\nname: t\ninput: [3, 8, 8]\n"
LAYERS = "layers:\n  - {id: c, type: conv2d, filters: 4, kernel_size: 3}\n  - flatten\n  - {type: dense, units: 2}\n"


def errors(text: str, overrides: tuple[str, ...] = ()) -> list[Diagnostic]:
    with pytest.raises(SpecError) as caught:
        loads(text, "f.yaml", overrides)
    return list(caught.value.diagnostics)


def only(text: str, overrides: tuple[str, ...] = ()) -> Diagnostic:
    found = errors(text, overrides)
    assert len(found) == 1, [d.message for d in found]
    return found[0]


def names(spec: Spec) -> list[str]:
    return [node.name for node in build(spec).nodes]


def layer(spec: Spec, index: int) -> Any:
    entry = spec.layers[index]
    assert isinstance(entry, LayerEntry)
    return entry.layer


def test_defaults() -> None:
    spec = loads(HEAD + LAYERS)
    assert (spec.name, spec.seed, spec.input) == ("t", 0, (3, 8, 8))
    assert layer(spec, 0).kernel_size == (3, 3)
    assert layer(spec, 0).bias == "channel"


def test_numbers_with_units() -> None:
    spec = loads(HEAD + LAYERS + "expect: {params: 2.5M, train_memory: {max: 64 MiB}, macs: {min: 1K, max: 3K}}\n")
    assert spec.expect["params"].exact == 2_500_000
    assert spec.expect["train_memory"].maximum == 64 << 20
    assert (spec.expect["macs"].minimum, spec.expect["macs"].maximum) == (1000, 3000)


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "message", "help"),
    [
        (LAYERS.replace("filters", "filtres"), "unknown-key", 5, 27, "unknown key of conv2d 'filtres'", "filters"),
        (LAYERS.replace("conv2d", "conv3d"), "unknown-type", 5, 19, "unknown layer 'conv3d'", "conv2d"),
        (LAYERS.replace("- flatten", "- flaten"), "unknown-type", 6, 5, "unknown layer 'flaten'", "flatten"),
        (
            LAYERS.replace("filters: 4", "filters: 4.0"),
            "invalid-value",
            5,
            36,
            "filters: expected an integer at least 1, got 4.0",
            None,
        ),
        (
            LAYERS.replace("filters: 4", "filters: true"),
            "invalid-value",
            5,
            36,
            "filters: expected an integer at least 1, got true",
            None,
        ),
        (
            LAYERS.replace("filters: 4", 'filters: "4"'),
            "invalid-value",
            5,
            36,
            "filters: expected an integer at least 1, got '4'",
            "remove the quotes",
        ),
        (
            LAYERS.replace("kernel_size: 3", "kernel_size: [3, 3, 3]"),
            "invalid-value",
            5,
            52,
            "kernel_size: expected an integer at least 1 or a list of 2 values, each an integer at least 1, "
            "got [3, 3, 3]",
            None,
        ),
        (
            LAYERS.replace("kernel_size: 3", "kernel_size: 3, bias: both"),
            "invalid-value",
            5,
            61,
            "bias: expected one of channel, untied, none, got 'both'",
            None,
        ),
        (LAYERS.replace(", units: 2", ""), "missing-key", 7, 5, "dense: units is missing (output features)", "units"),
        (LAYERS.replace("units: 2", "units: 2, from: cc"), "unknown-reference", 7, 35, "unknown layer above 'cc'", "c"),
        (LAYERS.replace("dense,", "dense, id: c,"), "duplicate-id", 7, 23, "id 'c' is given twice", "another id"),
        (LAYERS + "trian: {}\n", "unknown-key", 8, 1, "unknown key 'trian'", "train"),
        (
            LAYERS + "train: {epochs: 0}\n",
            "invalid-value",
            8,
            17,
            "epochs: expected a number above 0, got 0",
            None,
        ),
        (
            LAYERS + "train: {epochs: 1, optimizer: {type: sdg}}\n",
            "unknown-type",
            8,
            38,
            "unknown optimizer 'sdg'",
            "sgd",
        ),
        (
            LAYERS + "train: {epochs: 1, schedule: {type: exponential}}\n",
            "missing-key",
            8,
            30,
            "exponential: gamma is missing (the factor of one fall)",
            "add gamma: a number above 0",
        ),
        (LAYERS + "data: {source: minst}\n", "unknown-type", 8, 16, "unknown source 'minst'", "mnist"),
        (
            LAYERS + "require: {test.acuracy: '>= 1'}\n",
            "unknown-metric",
            8,
            11,
            "unknown metric 'test.acuracy'",
            "test.acc",
        ),
        (
            LAYERS + "require: {test.accuracy: 0.9}\n",
            "invalid-value",
            8,
            26,
            'require.test.accuracy: expected a comparison such as ">= 0.98", got 0.9',
            None,
        ),
        (
            LAYERS + "expect: {params: many}\n",
            "invalid-value",
            8,
            18,
            "expect.params: expected a count such as 431080 or 2.5M, got 'many'",
            None,
        ),
        ("layers: []\n", "invalid-value", 4, 9, "layers: expected at least one layer", None),
        (
            LAYERS.replace("filters: 4", "filters: $wide"),
            "unknown-name",
            5,
            36,
            "unknown name 'wide'",
            "known names: in, in_height, in_width",
        ),
        (
            "vars: {width: 4}\n" + LAYERS.replace("filters: 4", 'filters: "${widht * 2}"'),
            "unknown-name",
            6,
            36,
            "unknown name 'widht'",
            "did you mean width?",
        ),
        (
            "vars: {w: 4}\n" + LAYERS.replace("filters: 4", 'filters: "${__import__(w)}"'),
            "bad-expression",
            6,
            36,
            "expressions know + - * / // %, comparisons, and, or, not, a if b else c, min and max",
            None,
        ),
        (
            "vars: {w: 4}\n" + LAYERS.replace("filters: 4", 'filters: "${w - 4}"'),
            "invalid-value",
            6,
            36,
            "filters: expected an integer at least 1, got 0",
            None,
        ),
    ],
)
def test_a_mistake_is_marked_where_it_is(
    text: str, code: str, line: int, column: int, message: str, help: str | None
) -> None:
    found = only(HEAD + text)
    assert (found.code, found.span.line, found.span.column) == (code, line, column)
    assert found.message == message
    assert help is None or help in (found.help or "")


def test_all_mistakes_come_in_one_run_sorted_by_place() -> None:
    text = HEAD + LAYERS.replace("filters", "filtres").replace("units: 2", "units: two") + "train: {epochs: -1}\n"
    assert [(d.code, d.span.line) for d in errors(text)] == [
        ("unknown-key", 5),
        ("invalid-value", 7),
        ("invalid-value", 8),
    ]


def test_missing_sections() -> None:
    assert [d.message for d in errors("name: t\n")] == ["cnnspec is missing", "input is missing", "layers is missing"]
    assert only(HEAD.replace("cnnspec: 1", "cnnspec: 2") + LAYERS).code == "unsupported-version"


def test_annotations_are_free() -> None:
    loads(HEAD + "x-note: {any: thing}\n" + LAYERS.replace("kernel_size: 3", "kernel_size: 3, x-why: because"))


BLOCKS = """
vars: {width: 4, depth: 2}
blocks:
  unit:
    params: {filters: required, stride: 1}
    layers:
      - {type: conv2d, filters: $filters, kernel_size: 3, padding: 1, stride: $stride}
      - {type: relu, when: "${stride == 1}"}
layers:
  - {id: stage, use: unit, repeat: $depth, with: {filters: "${width * 2}"}, first: {stride: 2}}
  - {id: more, use: unit, with: {filters: "${width * (stage_index)}"}}
"""


def test_blocks_repeat_with_their_parameters() -> None:
    spec = loads(HEAD + BLOCKS.replace("${width * (stage_index)}", "$width"))
    graph = build(spec)
    assert [(node.name, node.shape) for node in graph.nodes] == [
        ("stage.1.conv2d_1", (8, 4, 4)),
        ("stage.2.conv2d_1", (8, 4, 4)),
        ("stage.2.relu_1", (8, 4, 4)),
        ("more.conv2d_1", (4, 4, 4)),
        ("more.relu_1", (4, 4, 4)),
    ]


def test_a_mistake_in_a_block_says_where_it_was_used() -> None:
    text = HEAD + BLOCKS.replace("kernel_size: 3", "kernel_size: 0").replace("(stage_index)", "1")
    found = errors(text)[0]
    assert (found.code, found.span.line) == ("invalid-value", 10)
    assert found.message == "kernel_size: expected an integer at least 1 or a list of 2 values, " + (
        "each an integer at least 1, got 0"
    )
    assert [(r.message, r.span.line) for r in found.related] == [("block 'unit' used here", 13)]


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("use: unit, repeat", "use: unti, repeat", "unknown-block", "unknown block 'unti'"),
        ("first: {stride", "first: {strid", "unknown-parameter", "unknown parameter 'strid'"),
        (', with: {filters: "${width * 2}"}', "", "missing-parameter", "block 'unit' needs the parameter 'filters'"),
        ("repeat: $depth", "repeat: 0", "invalid-value", "repeat: expected an integer of at least 1, got 0"),
        (
            '{type: relu, when: "${stride == 1}"}',
            "{use: unit, with: {filters: 2}}",
            "block-recursion",
            "block uses itself: unit > unit",
        ),
    ],
)
def test_mistakes_in_uses(old: str, new: str, code: str, message: str) -> None:
    text = BLOCKS.replace("${width * (stage_index)}", "$width")
    assert old in text
    found = errors(HEAD + text.replace(old, new))
    assert (found[0].code, found[0].message) == (code, message)


def test_unused_names_are_warnings() -> None:
    spec = loads(HEAD + "vars: {a: 1}\nblocks: {b: {layers: [relu]}}\n" + LAYERS)
    assert [(d.code, d.severity, d.span.line) for d in spec.warnings] == [
        ("unused-var", "warning", 4),
        ("unused-block", "warning", 5),
    ]


def test_extends_merges_maps_replaces_lists_and_deletes(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(HEAD + LAYERS + "train: {epochs: 3, batch_size: 8}\nseed: 4\n")
    (tmp_path / "own.yaml").write_text(
        "extends: base.yaml\nname: own\nseed: null\ntrain: {epochs: 5}\nlayers: [relu]\n"
    )
    spec = load(tmp_path / "own.yaml")
    assert spec.train is not None
    assert (spec.name, spec.seed, spec.train.epochs, spec.train.batch_size) == ("own", 0, 5, 8)
    assert names(spec) == ["relu_1"]


def test_extends_in_a_circle_shows_the_chain(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(SpecError, match=r"extends in a circle: .*a\.yaml > .*b\.yaml > .*a\.yaml"):
        load(tmp_path / "a.yaml")


def test_overrides() -> None:
    text = HEAD + LAYERS + "train: {epochs: 3, optimizer: sgd}\n"
    settings = ("train.epochs=5", "layers.c.filters=7", "layers.2.units=9", "train.optimizer.momentum=0.5", "seed=3")
    spec = loads(text, overrides=settings)
    assert spec.train is not None
    assert (spec.train.epochs, spec.train.optimizer.momentum, spec.seed) == (5, 0.5, 3)
    assert (layer(spec, 0).filters, layer(spec, 2).units) == (7, 9)


@pytest.mark.parametrize(
    ("setting", "message", "help"),
    [
        ("layers.d.filters=7", "no 'd' in layers", "did you mean c?"),
        ("trian.epochs=7", "no 'trian' in the spec", "did you mean train?"),
        ("train.epochs", "expected PATH=VALUE, got 'train.epochs'", "for example --set train.epochs=5"),
    ],
)
def test_overrides_that_lead_nowhere(setting: str, message: str, help: str) -> None:
    found = only(HEAD + LAYERS + "train: {epochs: 3}\n", (setting,))
    assert found.code == "unknown-path"
    assert found.message == f"--set {setting}: {message}"
    assert help in (found.help or "")


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_rendered_means_the_same(path: Path) -> None:
    spec = load(path)
    graph = build(spec)
    again = loads(render(spec, graph))
    assert (again.data, again.train, again.expect, again.require) == (spec.data, spec.train, spec.expect, spec.require)
    pairs = zip(build(again).nodes, graph.nodes, strict=True)
    assert all(
        (a.name, a.layer, a.inputs, a.weight_decay) == (b.name, b.layer, b.inputs, b.weight_decay) for a, b in pairs
    )


def test_blocks_keep_their_names_when_rendered() -> None:
    spec = loads(HEAD + BLOCKS.replace("${width * (stage_index)}", "$width"))
    again = loads(render(spec, build(spec)))
    assert names(again) == names(spec)


def test_extends_stays_in_the_specs_folder(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(HEAD + LAYERS)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "own.yaml").write_text("extends: ../base.yaml\n")
    with pytest.raises(SpecError, match=r"extends: \.\./base\.yaml lies outside of inner/, the spec's own folder"):
        load(tmp_path / "inner" / "own.yaml")
    (tmp_path / "inner" / "own.yaml").write_text("extends: /etc/passwd\n")
    with pytest.raises(SpecError, match="lies outside of inner/"):
        load(tmp_path / "inner" / "own.yaml")


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("layers: [{type: relu, when: maybe}]\n", "invalid-value", "when: expected true or false, got 'maybe'"),
        ("layers: [{type: residual, body: []}]\n", "invalid-value", "body: expected at least one layer, got none"),
        (f"layers: [relu]\nseed: {'9' * 5000}\n", "too-large", "expected an integer of at most 18 characters"),
        ("layers: [relu]\nextends: 'a\\0b'\n", "extends", "extends: cannot read"),
        ("layers: [!!python/name:os.system relu]\n", "yaml-syntax", "tags such as tag:yaml.org,2002:python/name"),
        (
            "layers: [relu]\nrequire: {test.loss: '>= 1e'}\n",
            "invalid-value",
            "require.test.loss: expected a comparison",
        ),
        (
            "blocks: {b: {layrs: [], layers: [relu]}}\nlayers: [{use: b}]\n",
            "unknown-key",
            "unknown key of a block 'layrs'",
        ),
        (
            "blocks: {a: {layers: [{use: b, repeat: 200}]}, b: {layers: [{use: c, repeat: 200}]}, c: {layers: [relu]}}"
            "\nlayers: [{use: a, repeat: 200}]\n",
            "too-large",
            "expected at most 2,000 layers",
        ),
    ],
)
def test_odd_input_is_one_finding(text: str, code: str, message: str) -> None:
    found = only(HEAD + text)
    assert found.code == code
    assert found.message.startswith(message)


def test_a_network_of_nothing() -> None:
    with pytest.raises(SpecError, match="layers: expected at least one layer, all are left out"):
        build(loads(HEAD + "layers: [{type: relu, when: false}]\n"))


def test_a_wrong_value_is_told_where_it_is_used_and_where_it_was_given() -> None:
    text = HEAD + "vars: {n: 2, k: 0}\nlayers:\n  - {type: conv2d, filters: '${n * k}', kernel_size: 3}\n"
    with pytest.raises(SpecError) as caught:
        loads(text)
    (found,) = caught.value.diagnostics
    assert (found.span.line, found.message) == (6, "filters: expected an integer at least 1, got 0")
    assert [(place.message, place.span.line, place.span.column) for place in found.related] == [
        ("'k' is given here", 4, 17),
        ("'n' is given here", 4, 11),
    ]
