"""Mutated specs: never a traceback, never slow, findings where the fault is, and the word that was meant."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st

from cnnspec.check import checked
from cnnspec.cli import main
from cnnspec.cli.init import TEMPLATES, template
from cnnspec.data.settings import DataSettings, Validation
from cnnspec.diagnostics import Diagnostic, Span, SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.diagnostics.source import lines_and_breaks
from cnnspec.fields import Declaration, options
from cnnspec.optim.settings import Checkpoints, EarlyStopping, TrainSettings
from cnnspec.registry import PACKAGES, table
from cnnspec.spec import loads
from cnnspec.spec.load import BUDGETS, KEYS
from cnnspec.spec.reader import read
from cnnspec.spec.tree import Items, Mapping, Tree
from tests.spec.test_guide import EXAMPLES, whole

ROOT = Path(__file__).parents[2]
TEXTS = [template(name) for name in TEMPLATES] + [path.read_text() for path in sorted((ROOT / "specs").glob("*.yaml"))]
SAID = [*TEXTS, *(path.read_text() for path in sorted((ROOT / "tests" / "graph" / "architectures").glob("*.yaml")))]
SAID += [whole(example) for example in EXAMPLES if "extends" not in example]
LETTERS = "abcdefghijklmnopqrstuvwxyz_"

Draw = Callable[[st.SearchStrategy[Any]], Any]


def places(text: str) -> list[tuple[Span, Span]]:
    """Keys and their values, where both stand on one line; none of a text that is not YAML."""
    try:
        return [pair for pair in _places(read(text, "f")) if pair[0].line == pair[1].end_line]
    except SpecError:
        return []


def _places(tree: Tree) -> Iterator[tuple[Span, Span]]:
    if isinstance(tree, Mapping):
        for key, value in tree.values.items():
            yield tree.keys[key], value.span
            yield from _places(value)
    elif isinstance(tree, Items):
        for item in tree.items:
            yield from _places(item)


PLACES = {text: places(text) for text in SAID}


def word(text: str, span: Span) -> str:
    return lines_and_breaks(text)[2 * (span.line - 1)][span.column - 1 : span.end_column - 1]


def replaced(text: str, start: Span, end: Span, by: str) -> str:
    """The text with what lies from the beginning of one span to the end of the other replaced."""
    pieces, at = lines_and_breaks(text), 2 * (start.line - 1)
    pieces[at] = pieces[at][: start.column - 1] + by + pieces[at][end.end_column - 1 :]
    return "".join(pieces)


@st.composite
def misspelt(draw: Draw, word: str) -> str:
    """One letter too few, too many or another, or two in the wrong order."""
    at, letter = draw(st.integers(0, len(word) - 1)), draw(st.sampled_from(LETTERS))
    made = [
        word[:at] + word[at + 1 :],
        word[:at] + letter + word[at:],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
    ]
    return str(draw(st.sampled_from(made)))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["$x", "${1 +}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps(value, ensure_ascii=False))


@st.composite
def mutated(draw: Draw) -> bytes:
    """A spec with one to three changes: keys dropped, renamed, moved, retyped, text cut, lines moved, bytes flipped."""
    text = draw(st.sampled_from(SAID))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["drop", "rename", "misspell", "value", "value", "other", "cut", "line", "letter"]))
        spots = PLACES.get(text) or places(text)
        if kind in ("drop", "rename", "misspell", "value", "other") and spots:
            key, value = draw(st.sampled_from(spots))
            match kind:
                case "drop":
                    text = replaced(text, key, value, "")
                case "rename":
                    text = replaced(text, key, key, draw(st.text(max_size=8).map(json.dumps)))
                case "misspell":
                    text = replaced(text, key, key, draw(misspelt(word(text, key) or "key")))
                case "value":
                    text = replaced(text, value, value, draw(VALUES))
                case "other":
                    begin, end = draw(st.sampled_from(spots))[draw(st.integers(0, 1))], value
                    text = replaced(text, end, end, word(text, begin))
        elif kind == "cut":
            text = text[: draw(st.integers(0, len(text)))]
        elif kind == "line":
            lines = text.split("\n")
            at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines.insert(to, " " * draw(st.integers(0, 4)) + lines.pop(at))
            text = "\n".join(lines)
        elif text:
            at = draw(st.integers(0, len(text) - 1))
            text = (
                text[:at] + draw(st.sampled_from("{}[]:,#&*!|>'\"%@`\t\r\x00\x85\u2028\ufeff ~0-\n")) + text[at + 1 :]
            )
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 4])) if content else 0):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


def survives(content: bytes, path: Path) -> None:
    """Whatever the file holds: exit code 0 or 1, codes of the catalogue, places in the file."""
    path.write_bytes(content)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["validate", str(path), "--format", "json"])
    found = json.loads(out.getvalue())["diagnostics"]
    assert status == int(any(diagnostic["severity"] == "error" for diagnostic in found))
    lines = content.count(b"\n") + content.count(b"\r") + 1
    for diagnostic in found:
        assert diagnostic["code"] in CATALOGUE
        other = Path(diagnostic["file"])  # a block that the library ships has places of its own
        assert 1 <= diagnostic["line"] <= (lines if other == path else len(other.read_text().splitlines()))
        assert diagnostic["column"] >= 1


CHECKS = list(HealthCheck)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "spec.yaml"


@settings(max_examples=100, deadline=None, suppress_health_check=CHECKS)
@given(content=mutated())
def test_hundreds_of_mutations(content: bytes, path: Path) -> None:
    survives(content, path)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=CHECKS)
@given(content=mutated())
def test_ten_thousand_mutations(content: bytes, path: Path) -> None:
    survives(content, path)


def rates(count: int, strategy: st.SearchStrategy[Any], judge: Callable[[Any], list[str]]) -> dict[str, float]:
    """The share of `count` drawn cases in which each thing is true that the judge says of one."""
    true: Counter[str] = Counter()

    @seed(1)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=CHECKS)
    @given(strategy)
    def run(case: Any) -> None:
        true.update(["all", *judge(case)])

    run()
    assert true["all"] >= count
    return {name: times / true["all"] for name, times in true.items()}


def errors(text: str) -> list[Diagnostic]:
    try:
        checked(loads(text, str(ROOT / "specs" / "mutated.yaml")))  # beside the specs that others extend
    except SpecError as error:
        return [diagnostic for diagnostic in error.diagnostics if diagnostic.severity == "error"]
    return []


LAYER = ("id", "type", "from", "when", "weight_decay", "trainable", "rate_factor", "share")
HEAD = "cnnspec: 1\ninput: [3, 8, 8]\n"


def fields(cls: type[Declaration]) -> tuple[str, ...]:
    return tuple(option.name for option in options(cls))


ELSEWHERE = {  # where a key is told to be unknown: a text around it, and every key of that place
    f"{HEAD}layers: [relu]\nKEY: 1\n": KEYS,
    f"{HEAD}layers: [{{type: residual, KEY: []}}]\n": ("id", "from", "body", "shortcut"),
    f"{HEAD}layers: [{{type: parallel, KEY: []}}]\n": ("id", "from", "branches", "merge"),
    f"{HEAD}layers: [{{use: squeeze_excite, KEY: 1}}]\n": ("with", "repeat", "first", "last"),
    f"{HEAD}layers: [{{KEY: 1}}]\n": ("type", "use"),
    f"{HEAD}layers: [relu]\nexpect: {{KEY: 1}}\n": BUDGETS,
    f"{HEAD}layers: [relu]\ntrain: {{KEY: 1}}\n": fields(TrainSettings),
    f"{HEAD}layers: [relu]\ntrain: {{epochs: 1, early_stopping: {{KEY: 1}}}}\n": fields(EarlyStopping),
    f"{HEAD}layers: [relu]\ntrain: {{epochs: 1, checkpoint: {{KEY: 1}}}}\n": fields(Checkpoints),
    f"{HEAD}layers: [relu]\ndata: {{KEY: 1}}\n": fields(DataSettings),
    f"{HEAD}layers: [relu]\ndata: {{source: digits, validation: {{KEY: 1}}}}\n": fields(Validation),
}
SECTIONS = {  # how something of a kind is written
    "layer": "layers: [ONE]\n",
    "optimizer": "layers: [relu]\ntrain: {epochs: 1, optimizer: ONE}\n",
    "schedule": "layers: [relu]\ntrain: {epochs: 1, schedule: ONE}\n",
    "loss": "layers: [relu]\ntrain: {epochs: 1, loss: ONE}\n",
    "source": "layers: [relu]\ndata: {source: ONE}\n",
    "transform": "layers: [relu]\ndata: {source: digits, preprocess: [ONE]}\n",
    "augmentation": "layers: [relu]\ndata: {source: digits, augment: [ONE]}\n",
    "initializer": "layers: [{type: dense, units: 1, weight_init: ONE}]\n",
}


def keys() -> Iterator[tuple[str, str, set[str]]]:
    """Every key there is: a text with KEY in its place, the key, and all that can stand there."""
    for text, names in ELSEWHERE.items():
        yield from ((text, name, {*names, *LAYER}) for name in names)
    for kind in PACKAGES:
        for cls in table(kind).values():
            one = HEAD + SECTIONS[kind].replace("ONE", f"{{type: {cls.type_name}, KEY: 1}}")
            known = {*fields(cls), *(LAYER if kind == "layer" else ("type",))}
            yield from ((one, name, known) for name in fields(cls))


EVERY_KEY = list(keys())


@st.composite
def misspelt_keys(draw: Draw) -> tuple[str, str]:
    text, name, known = draw(st.sampled_from(EVERY_KEY))
    key = draw(misspelt(name))
    assume(key and key not in known and not key.startswith("x-"))
    return text.replace("KEY", key), name


def test_a_misspelt_key_gets_the_right_suggestion() -> None:
    def judge(case: tuple[str, str]) -> list[str]:
        text, name = case
        helps = [found.help or "" for found in errors(text) if found.code == "unknown-key"]
        suggested = [help.removeprefix("did you mean ").rstrip("?").split(" or ") for help in helps]
        return ["first"] * any(names[0] == name for names in suggested) + ["named"] * any(name in n for n in suggested)

    found = rates(600, misspelt_keys(), judge)
    assert found["named"] >= 0.95, found
    assert found["first"] >= 0.95, found


FAULTS = ("?!", "-1.5", "[[]]", "{a: {b: 1}}", "null_", '"4 "', "@", "true")


@st.composite
def faulty(draw: Draw) -> tuple[str, int]:
    """A good spec with one fault, and its line: a misspelt key, a value that cannot be, a word that nothing has."""
    text = draw(st.sampled_from(TEXTS))
    key, value = draw(st.sampled_from(PLACES[text]))
    if draw(st.booleans()):
        return replaced(text, key, key, draw(misspelt(word(text, key)))), key.line
    return replaced(text, value, value, draw(st.sampled_from(FAULTS))), key.line


def test_one_fault_gives_a_finding_on_its_line() -> None:
    def judge(case: tuple[str, int]) -> list[str]:
        text, line = case
        found = errors(text)
        assume(found)
        # A value that a block is given is wrong inside the block; the line of the use is told beside it.
        spans = [span for d in found for span in (d.span, *(place.span for place in d.related))]
        return ["there"] * any(span.line == line for span in spans) + ["few"] * (len(found) <= 2)

    found = rates(300, faulty(), judge)
    assert found["there"] >= 0.95, found
    assert found["few"] >= 0.95, found
