"""What is told of a mistake that many make: its cause by name and its cure, in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspec.check import checked
from cnnspec.cli import main
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.graph import build
from cnnspec.lints import lint
from cnnspec.optim.settings import TrainSettings
from cnnspec.spec import Spec, load, loads

ROOT = Path(__file__).parents[2]
HEAD = "cnnspec: 1\ninput: [3, 8, 8]\n"
NET = "layers: [{type: conv2d, filters: 4, kernel_size: 3}, batch_norm, flatten, {type: dense, units: 10}]\n"


def told(text: str, *overrides: str) -> list[Diagnostic]:
    try:
        spec = loads(HEAD + text, "f.yaml", overrides)
        return list(lint(spec, checked(spec)))
    except SpecError as error:
        return list(error.diagnostics)


def test_a_merge_of_one_input_is_warned_of() -> None:
    for kind in ("add", "concat", "multiply"):
        (found,) = told(f"layers: [{{type: conv2d, filters: 4, kernel_size: 3}}, {kind}]")
        assert (found.code, found.severity) == ("no-effect", "warning")
        assert "from: [a, b]" in (found.help or "")


def test_a_map_and_a_vector_in_one_sum() -> None:
    (found,) = told("layers: [{id: a, type: relu}, flatten, {type: add, from: [a, flatten_1]}]")
    assert "expected inputs of one shape, 3x8x8, got 192 as input 2" in found.message
    assert "global_avg_pool2d" in (found.help or "")


def test_tying_to_a_layer_that_is_tied_itself_names_the_owner() -> None:
    conv = "type: conv2d, filters: 3, kernel_size: 1"
    found = told(f"layers: [{{id: a, {conv}}}, {{id: b, {conv}, share: a}}, {{{conv}, share: b}}]")
    assert [(error.code, error.help) for error in found] == [("share-mismatch", "write share: a")]


def test_a_short_word_is_not_taken_for_another() -> None:
    data = "data: {source: digits, validation: {fraction: 0.2}}\ntrain: {epochs: 1}\n"
    sweep = "sweep: {values: {train.optimizer.learning_rate: {from: 1, to: 2, log: true}}}\n"
    (found,) = told(f"layers: [flatten, {{type: dense, units: 10}}]\n{data}{sweep}")
    assert (found.help, found.fix) == ("known keys of a range: from, to, scale, integer", None)


def test_a_second_head() -> None:
    (found,) = told("layers: [{id: a, type: tanh}, sigmoid, {type: tanh, from: a}]")
    assert found.message.endswith("the network's output is its last layer, here tanh_1")


@pytest.mark.parametrize(
    ("layers", "wanted", "note"),
    [
        (NET, 112 + 8 + 36 * 4 * 10 + 10 - 4, "the biases of 1 layers in front of a normalisation are as many"),
        (NET, 112 + 8 + 36 * 4 * 10 + 10 + 8, "running means and variances are as many"),
        (NET, 112 + 8 + (36 * 4 + 1) * 1000, "it would be met by units: 1000 in 'dense_1'"),
        (NET, 112 + 8 + 36 * 4 * 10 + 10 - 2 * 36, "it would be met by an input of 1 channels"),
        (
            NET.replace("size: 3", "size: 3, bias: none"),
            112 + 8 + 1450,
            "the 1 convolutions without biases",
        ),
    ],
)
def test_a_missed_count_is_broken_down_and_explained(layers: str, wanted: int, note: str) -> None:
    (found,) = told(f"{layers}expect: {{params: {wanted}}}")
    assert found.notes[0].startswith("parameters by layer: dense_1 1,450, conv2d_1 1")
    assert any(line.startswith(note) for line in found.notes[1:])


def test_a_count_that_nothing_explains_is_only_broken_down() -> None:
    (found,) = told(f"{NET}expect: {{params: 7}}")
    assert len(found.notes) == 1
    (found,) = told("layers: [relu]\nexpect: {params: 7}")
    assert found.notes == ("parameters by layer: no layer has any",)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "layers.logits.units=100",
            "dense 'logits' (weight 1000x512, bias 1000) in the place of dense 'logits' (weight 100",
        ),
        ("layers.conv2d_1.bias=channel", "conv2d 'conv2d_1' (weight 64x3x7x7) in the place of conv2d 'conv2d_1'"),
        ("layers.batch_norm_1={type: relu6}", "is batch_norm 'batch_norm_1' (weight 64, bias 64) too"),
        ("layers.relu_1={type: prelu}", "is no prelu 'prelu_1' (weight 64)"),
    ],
)
def test_a_missed_count_of_a_known_network_names_the_layers_that_differ(override: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked(load(ROOT / "specs" / "resnet18.yaml", [override]))
    notes = next(found.notes for found in caught.value.diagnostics if found.path == "expect.params")
    assert notes[-1].startswith("resnet18 of specs/ has that many: there ")
    assert said in notes[-1]


def test_a_known_network_is_read_as_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.zoo.PACKAGED", tmp_path)
    head, expect = "cnnspec: 1\nname: f\ninput: [4]\n", "expect: {params: 25}\n"
    known = tmp_path / "tiny.yaml"

    def last_note() -> str:
        with pytest.raises(SpecError) as caught:
            checked(loads(head + "layers: [{type: dense, units: 3}]\n" + expect))
        return caught.value.diagnostics[0].notes[-1]

    known.write_text(head + "layers: [{type: dense, units: 5}]\n" + expect)
    assert "there is dense 'dense_1' (weight 5x4, bias 5) in the place" in last_note()
    known.write_text(head + "layers: [{type: dense, units: 2}, {type: dense, units: 5}]\n" + expect)
    assert "there is dense 'dense_1' (weight 2x4, bias 2) and 1 more layer in the place" in last_note()
    known.write_text(head + "layers: [{type: dense, units: many}]\n" + expect)
    assert "tiny" not in last_note()  # what is wrong with it is told where it is checked itself


def changed(*overrides: str, text: str = NET) -> Spec:
    return loads(HEAD + text, "f.yaml", overrides)


def test_set_takes_positions_in_brackets_and_generated_ids() -> None:
    for path in ("layers[3].units", "layers.3.units", "layers.dense_1.units"):
        assert build(changed(f"{path}=7")).output.shape == (7,)
    dense = "{type: dense, units: 3}"
    two = f"layers: [relu, flatten, {dense}, {{id: dense_2, type: dense, units: 4}}, {dense}]"
    assert [node.shape for node in build(changed("layers.dense_3.units=9", text=two)).nodes][2:] == [(3,), (4,), (9,)]


def test_generated_ids_behind_a_condition_are_not_guessed() -> None:
    text = "layers: [{type: relu, when: false}, relu]\n"
    with pytest.raises(SpecError) as caught:
        changed("layers.relu_1.x=1", text=text)
    assert "layers.0 is the first" in (caught.value.diagnostics[0].help or "")


def test_set_reaches_into_a_default() -> None:
    text = NET + "data: {source: digits}\ntrain: {epochs: 1}\n"
    train = changed("train.optimizer.learning_rate=0.5", text=text).train
    assert isinstance(train, TrainSettings)
    assert (train.optimizer.type_name, train.optimizer.learning_rate) == ("sgd", 0.5)
    train = changed("train.optimizer.type=adam", text=text).train
    assert train is not None
    assert train.optimizer.type_name == "adam"
    train = changed("train.optimizer.momentum=0.5", "train.epochs=3", text=NET).train
    assert train is not None
    assert (train.epochs, train.optimizer.momentum) == (3, 0.5)
    (found,) = told(text, "train.lr=0.1")
    assert "train.optimizer.learning_rate" in (found.help or "")


def test_validate_takes_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + NET)
    assert main(["validate", str(path)]) == 0
    assert main(["validate", str(path), "--set", "layers[3].units=0"]) == 1
    assert "units: expected an integer at least 1, got 0" in capsys.readouterr().out


def test_every_spec_of_the_zoo_can_be_set_by_its_generated_ids() -> None:
    for path in sorted((ROOT / "specs").glob("*.yaml")):
        first = next(entry.name for entry in load(path).layers)
        with pytest.raises(SpecError) as caught:
            load(path, [f"layers.{first}.nothing=1"])
        assert {found.code for found in caught.value.diagnostics} <= {"unknown-path", "unknown-key", "invalid-value"}
