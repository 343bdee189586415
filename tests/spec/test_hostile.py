"""Files that ask for more than any spec needs end with a finding at its place: soon, in little memory, as no bug."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnspec.check import checked
from cnnspec.diagnostics import SpecError
from cnnspec.lints import lint
from cnnspec.spec import loads
from tests.samples import sampled

ROOT = Path(__file__).parent.parent.parent
HEAD = "cnnspec: 1\nname: x\ninput: [1, 8, 8]\n"
LAYERS = "layers: [flatten, {type: dense, units: 10}]\n"
DIGITS = "9" * 5000


DOUBLING = "".join(f"  a{i}: $a{i - 1}$a{i - 1}\n" for i in range(1, 40))
KEYS = "".join(f"key{i}: 1\n" for i in range(20_000))
VARIABLES = "".join(f"  a{i}: 1\n" for i in range(20_000))


CASES = {  # a file, and the code of its first finding
    "text-that-doubles": (
        f"{HEAD}vars:\n  a0: aaaaaaaaaa\n{DOUBLING}layers: [$a39]\n",
        "bad-expression",
    ),
    "list-that-doubles": (
        f"{HEAD}blocks:\n"
        + "".join(
            f"  b{i}: {{params: {{k: [1]}}, layers: [{{use: b{i + 1}, with: {{k: [$k, $k]}}}}]}}\n" for i in range(45)
        )
        + "  b45: {params: {k: 1}, layers: [{type: pad, padding: $k}]}\nlayers: [{use: b0}]\n",
        "too-large",
    ),
    "branches-that-double": (
        f"{HEAD}blocks:\n"
        + "".join(
            f"  b{i}: {{layers: [{{type: parallel, branches: [[{{use: b{i + 1}}}], [{{use: b{i + 1}}}]]}}]}}\n"
            for i in range(20)
        )
        + "  b20: {layers: []}\nlayers: [{use: b0}]\n",
        "too-large",
    ),
    "repeats-of-nothing": (
        f"{HEAD}blocks: {{a: {{layers: [{{use: b, repeat: 2000}}]}}, b: {{layers: [{{use: c, repeat: 2000}}]}}, "
        "c: {layers: []}}\nlayers: [relu, {use: a}]\n",
        "too-large",
    ),
    "blocks-in-a-long-chain": (
        f"{HEAD}blocks:\n"
        + "".join(f"  b{i}: {{layers: [{{use: b{i + 1}}}]}}\n" for i in range(1000))
        + "  b1000: {layers: [relu]}\nlayers: [{use: b0}]\n",
        "too-large",
    ),
    "list-times-a-number": (
        f"{HEAD}blocks:\n  b:\n    params: {{k: [3, 3]}}\n"
        "    layers: [{type: max_pool2d, kernel_size: '${k * 100000000}'}]\nlayers: [{use: b}]\n",
        "bad-expression",
    ),
    "text-times-a-number": (f"{HEAD}vars: {{k: ab}}\nlayers: ['${{k * 100000000}}']\n", "bad-expression"),
    "factors-of-a-trillion": (
        f"{HEAD}vars: {{k: 999999999999}}\nlayers: [{{type: dense, units: '${{{' * '.join(['k'] * 200)}}}'}}]\n",
        "bad-expression",
    ),
    "signs": (f"{HEAD}layers: [{{type: dense, units: '${{{'-' * 990}1}}'}}]\n", "bad-expression"),
    "long-expression": (f"{HEAD}layers: [{{type: dense, units: '${{{'1+' * 1000}1}}'}}]\n", "bad-expression"),
    "digits": (f"{HEAD}layers: [flatten, {{type: dense, units: {DIGITS}}}]\n", "too-large"),
    "hexadecimal": (f"{HEAD}layers: [flatten, {{type: dense, units: 0x{'f' * 5000}}}]\n", "too-large"),
    "octal": (f"{HEAD}layers: [flatten, {{type: dense, units: 0o{'7' * 5000}}}]\n", "too-large"),
    "digits-of-a-budget": (f"{HEAD}{LAYERS}expect: {{params: {DIGITS}M}}\n", "invalid-value"),
    "digits-of-a-size": (f"{HEAD}{LAYERS}expect: {{infer_memory: {DIGITS} GiB}}\n", "invalid-value"),
    "digits-of-an-interval": (
        f"{HEAD}{LAYERS}data: {{source: digits}}\ntrain: {{epochs: 1, checkpoint: {{every: {DIGITS} steps}}}}\n",
        "invalid-value",
    ),
    "digits-of-a-requirement": (f"{HEAD}{LAYERS}require: {{test.loss: '< {DIGITS}'}}\n", "invalid-value"),
    "digits-of-a-directive": (f"%YAML 1.{DIGITS}\n---\n{HEAD}{LAYERS}", "yaml-syntax"),
    "character-beyond-all": (f'{HEAD}{LAYERS}x-a: "\\UFFFFFFFF"\n', "yaml-syntax"),
    "units-of-a-trillion": (f"{HEAD}layers: [flatten, {{type: dense, units: 100000000000000000}}]\n", "too-large"),
    "classes-of-a-trillion": (
        f"{HEAD}{LAYERS}data: {{source: {{type: synthetic, shape: [1, 8, 8], classes: 999999999999999999}}}}\n",
        "invalid-value",
    ),
    "groups-of-a-quintillion": (
        f"{HEAD}layers: [{{type: conv2d, filters: 4, kernel_size: 1, groups: 0x7fffffffffffffff}}]\n",
        "shape-mismatch",
    ),
    "groups-and-filters-of-a-trillion": (
        f"cnnspec: 1\ninput: [{10**12}, 1, 1]\n"
        f"layers: [{{type: conv2d, filters: {10**12}, kernel_size: 1, groups: {10**12 - 1}}}]\n",
        "shape-mismatch",
    ),
    "unknown-keys": (f"{HEAD}{LAYERS}{KEYS}", "unknown-key"),
    "equal-keys": (f"{HEAD}{LAYERS}x-a: {{{', '.join(['a: 1'] * 20_000)}}}\n", "duplicate-key"),
    "variables": (f"{HEAD}vars:\n{VARIABLES}{LAYERS}", "too-large"),
    "parameters": (
        f"{HEAD}blocks: {{b: {{params: {{{', '.join(f'a{i}: 1' for i in range(5000))}}}, layers: [relu]}}}}\n"
        "layers: [{use: b, repeat: 1000}]\n",
        "too-large",
    ),
    "misspelt-references": (
        f"{HEAD}layers:\n"
        + "".join(f"  - {{type: relu, id: some_long_name_of_a_layer_{i}}}\n" for i in range(900))
        + "".join(f"  - {{type: relu, from: some_lang_name_of_a_layer_{i}x}}\n" for i in range(900)),
        "unknown-reference",
    ),
    "comments-that-ignore": (f"{HEAD}{LAYERS}x-a: 1  {'# cnnspec: ignore[' * 20_000}x]\n", "unused-ignore"),
    "names-that-grow": (
        f"{HEAD}blocks:\n"
        + "".join(f"  {'b' * 90}{i}: {{layers: [{{use: {'b' * 90}{i + 1}}}]}}\n" for i in range(30))
        + f"  {'b' * 90}30: {{layers: [relu]}}\nlayers: [{{use: {'b' * 90}0}}]\n",
        "too-large",
    ),
}
RUN = """
import resource, sys
from pathlib import Path
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))  # of addresses: those of the libraries too
from cnnspec.cli import main
sys.exit(main(["validate", sys.argv[1], "--format", "concise"]))
"""


def first_code(text: str) -> str:
    """The code of the first finding, as `validate` prints it; every finding has a place in the file."""
    try:
        spec = loads(text, "hostile.yaml")
        found = [*spec.warnings, *lint(spec, checked(spec))]
    except SpecError as error:
        found = list(error.diagnostics)
    lines = len(text.split("\n"))
    assert all(1 <= diagnostic.span.line <= lines for diagnostic in found)
    return found[0].code if found else ""


@pytest.mark.parametrize("name", [name for name in CASES if name != "comments-that-ignore"])
def test_what_asks_for_too_much_is_a_finding_at_its_place(name: str) -> None:
    text, code = CASES[name]
    assert first_code(text) == code


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
@pytest.mark.parametrize("name", sampled(CASES, 3))
def test_it_takes_little_memory_and_is_no_bug(name: str, tmp_path: Path) -> None:
    text, code = CASES[name]
    (tmp_path / "hostile.yaml").write_text(text)
    words = [sys.executable, "-c", RUN, str(tmp_path / "hostile.yaml"), "limited"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if code == "unused-ignore" else 1), done.stderr
    assert f"[{code}]" in done.stdout
    assert not done.stderr
    assert len(done.stdout.splitlines()) <= 1002


def grown(text: str, chances: random.Random) -> str:
    """A spec in which something is repeated, nested, lengthened or replaced by something huge."""
    lines = text.splitlines()
    at = chances.randrange(len(lines))
    huge = [
        "9" * 400,
        "1e400",
        "-1",
        "'" + "x" * 3000 + "'",
        "[" * 30 + "]" * 30,
        "${" + "(" * 300,
        "$a",
        "0x" + "f" * 40,
    ]
    changes: list[Callable[[], None]] = [
        lambda: lines.__setitem__(slice(at, at + 1), [lines[at]] * chances.choice((2, 50, 1000))),
        lambda: lines.__setitem__(at, lines[at].replace(": ", f": {chances.choice(huge)} ", 1)),
        lambda: lines.__setitem__(at, lines[at] * chances.choice((2, 100))),
        lambda: lines.insert(at, chances.choice(lines)),
        lambda: lines.__delitem__(at),
        lambda: lines.__setitem__(
            at,
            "".join(
                chances.choice(("9999999999999", "0", "-5", "1.5", "1000000")) if c.isdigit() else c for c in lines[at]
            ),
        ),
        lambda: lines.__setitem__(at, lines[at][: chances.randrange(len(lines[at]) + 1)]),
    ]
    for _ in range(chances.randrange(1, 4)):
        if not lines:
            break
        at = chances.randrange(len(lines))
        chances.choice(changes)()
    return "\n".join(lines) + "\n"


def hostile(count: int, seed: int) -> None:
    """Grow the shipped specs; whatever comes out is a spec, or findings with places."""
    chances = random.Random(seed)
    sources = [path.read_text() for path in sorted((ROOT / "specs").glob("*.yaml"))]
    for number in range(count):
        text = grown(chances.choice(sources), chances)
        try:
            first_code(text)
        except Exception as error:  # the text is what one needs to mend it
            raise AssertionError(f"example {number}: {type(error).__name__}: {error}\n{text[:5000]}") from error


def test_grown_specs_are_specs_or_findings() -> None:
    hostile(60, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_thousands_of_grown_specs_are_specs_or_findings(seed: int) -> None:
    hostile(500, seed)
