"""Mutated specs: never a traceback, never slow, and findings where the fault is."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnspec.cli.check import checked
from cnnspec.cli.init import TEMPLATES, template
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.diagnostics.catalogue import CATALOGUE
from cnnspec.fields import options
from cnnspec.graph.lints import lint
from cnnspec.registry import PACKAGES, table
from cnnspec.spec import loads
from cnnspec.spec.reader import decode

ROOT = Path(__file__).parents[2]
TEXTS = [template(name) for name in TEMPLATES] + [path.read_text() for path in sorted((ROOT / "specs").glob("*.yaml"))]
VALUES = [
    "-1",
    "0",
    "1e9",
    "3.0",
    "true",
    "null",
    "text",
    "[]",
    "{}",
    "[1, 2, 3]",
    "'4'",
    "$x",
    '"${1 +}"',
    "1e-400",
    ".nan",
]


def mutated(text: str, chance: random.Random) -> bytes:
    """One or two changes of a spec's text: keys, values, lines, bytes."""
    for _ in range(chance.choice((1, 1, 2))):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        line = lines[at]
        kind = chance.randrange(8)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif kind == 2:
            lines[at] = line[: chance.randrange(len(line) + 1)]
        elif kind == 3 and ": " in line:
            key, _, rest = line.partition(": ")
            lines[at] = f"{key}: {chance.choice(VALUES)}{rest[rest.find(',') :] if ',' in rest else ''}"
        elif kind == 4 and line:
            place = chance.randrange(len(line))
            lines[at] = line[:place] + chance.choice("{}[]:,#&*!|>'\"%@`\t ~x0-") + line[place + 1 :]
        elif kind == 5 and len(line) > 1:
            place = chance.randrange(len(line) - 1)
            lines[at] = line[:place] + line[place + 1] + line[place] + line[place + 2 :]
        elif kind == 6:
            lines[at] = " " * chance.randrange(1, 5) + line
        else:
            lines[at] = line.replace(chance.choice(("conv2d", "relu", "3", "10", "type")), chance.choice(VALUES))
        text = "\n".join(lines)
    content = text.encode()
    if chance.random() < 0.1:
        place = chance.randrange(len(content))
        content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
    return content


def findings(content: bytes) -> list[Diagnostic]:
    try:
        spec = loads(decode(content, "f.yaml"), "f.yaml")
        return [*spec.warnings, *lint(spec, checked(spec))]
    except SpecError as error:
        return list(error.diagnostics)


def survives(text: str, chance: random.Random) -> None:
    for diagnostic in findings(mutated(text, chance)):
        assert diagnostic.code in CATALOGUE, diagnostic.code
        assert diagnostic.span.line >= 1
        assert diagnostic.span.column >= 1


CHANCE = st.randoms(note_method_calls=False, use_true_random=False)
SECOND = timedelta(seconds=1)


@settings(max_examples=400, deadline=SECOND, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(TEXTS), CHANCE)
def test_hundreds_of_mutations(text: str, chance: random.Random) -> None:
    survives(text, chance)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=SECOND, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(TEXTS), CHANCE)
def test_ten_thousand_mutations(text: str, chance: random.Random) -> None:
    survives(text, chance)


def misspelt(word: str, chance: random.Random) -> str:
    place = chance.randrange(len(word))
    match chance.randrange(4):
        case 0:
            return word[:place] + word[place + 1 :]
        case 1:
            return word[:place] + chance.choice("aeinorst") + word[place:]
        case 2 if place + 1 < len(word):
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + chance.choice("aeinorst") + word[place + 1 :]


def test_a_misspelt_key_gets_the_right_suggestion() -> None:
    chance = random.Random(0)
    right = tried = 0
    layers = [cls for kind in PACKAGES if kind == "layer" for cls in table(kind).values()]
    for cls in layers:
        for option in options(cls):
            for _ in range(5):
                word = misspelt(option.name, chance)
                known = {other.name for other in options(cls)} | {"id", "type", "from", "when"}
                if len(option.name) < 3 or word in known:
                    continue
                text = f"cnnspec: 1\ninput: [3, 8, 8]\nlayers:\n  - {{type: {cls.type_name}, {word}: 1}}\n"
                found = [d for d in findings(text.encode()) if d.code == "unknown-key"]
                tried += 1
                with contextlib.suppress(IndexError):
                    right += (found[0].help or "").removeprefix("did you mean ").startswith(option.name)
    assert tried > 100
    assert right / tried >= 0.95, (right, tried)


def test_one_fault_gives_a_finding_on_its_line() -> None:
    """A bad value on a line of its own: the finding is there, and there are few others."""
    chance = random.Random(1)
    tried = there = few = 0
    for text in TEXTS:
        lines = text.split("\n")
        for at, line in enumerate(lines):
            body = line.partition("#")[0]
            spots = [i for i in range(len(body)) if body.startswith(": ", i) and body[i + 2 : i + 3] not in "[{\"'$ "]
            for spot in spots:
                stop = next((i for i in range(spot + 2, len(body)) if body[i] in ",}] "), len(body))
                if body[:spot].strip() in ("name", "- type"):
                    continue
                bad = body[: spot + 2] + chance.choice(("?!", "-1", "zzz", "[[]]")) + body[stop:]
                if bad == body:
                    continue
                found = findings("\n".join([*lines[:at], bad, *lines[at + 1 :]]).encode())
                errors = [d for d in found if d.severity == "error"]
                if not errors:
                    continue
                tried += 1
                # A value that a block is given is wrong inside the block; the line of the use is told beside it.
                spans = [span for d in errors for span in (d.span, *(place.span for place in d.related))]
                there += any(span.line <= at + 1 <= span.end_line for span in spans)
                few += len(errors) <= 2
    assert tried > 60
    assert there / tried >= 0.95, (there, tried)
    assert few / tried >= 0.95, (few, tried)
