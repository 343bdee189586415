"""The editor's schema: current, valid draft-07, and of one mind with the program about good and bad specs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import fastjsonschema
import jsonschema_rs
import pytest
from jsonschema import Draft7Validator

from cnnspec.cli import main
from cnnspec.diagnostics import SpecError
from cnnspec.spec.reader import decode, read
from cnnspec.spec.schema import schema
from cnnspec.spec.tree import plain

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "cnnspec" / "spec" / "cnnspec.schema.json"

GOOD = """
cnnspec: 1
input: [1, 8, 8]
x-note: free
vars: {width: 4}
blocks:
  unit: {params: {filters: required}, layers: [{type: conv2d, filters: $filters, kernel_size: 3}, relu]}
  unit_by_name: {layers: [relu]}
layers:
  - {use: unit, repeat: "${width - 2}", with: {filters: $width}}
  - {type: residual, body: [relu], shortcut: identity}
  - {type: parallel, branches: [[relu], []], merge: concat}
  - unit_by_name
  - {when: "${width > 3}", layers: [relu, {type: tanh}]}
  - flatten
  - {id: logits, type: dense, units: "${width * 2}", weight_init: {type: he, mode: fan_out}}
data: {source: {type: digits}, preprocess: [{type: scale, minimum: -1}]}
train: {epochs: 3, optimizer: {type: sgd, momentum: 0.9}, schedule: {type: step, every: 2}, loss: mean_squared_error}
expect: {params: 2.5M, train_memory: {max: 64 MiB}, output: [8]}
require: {test.accuracy: ">= 0.9"}
"""


def problems(text: str) -> list[Any]:
    return list(Draft7Validator(schema()).iter_errors(plain(read(text, "f"))))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The package as it is installed, built without a network from a copy of the repository."""
    pytest.importorskip("setuptools")
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__", SHIPPED.name)
    shutil.copytree(ROOT / "cnnspec", source / "cnnspec", ignore=unwanted)
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([sys.executable, *command, "--wheel-dir", built, source], check=True)
    (path,) = built.glob("*.whl")
    return ZipFile(path)


def test_a_wheel_has_the_schema_and_the_guide(wheel: ZipFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert wheel.read("cnnspec/spec/cnnspec.schema.json").decode() == capsys.readouterr().out
    assert json.loads(wheel.read("cnnspec/spec/cnnspec.schema.json")) == schema()
    assert "cnnspec/guide/plugins.md" in wheel.namelist()


def test_it_is_draft_07() -> None:
    Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_specs_are_valid_and_point_to_it(path: Path) -> None:
    assert problems(path.read_text()) == []
    modeline = path.read_text().splitlines()[0]
    assert (path.parent / modeline.removeprefix("# yaml-language-server: $schema=")).resolve() == SHIPPED


def test_a_good_spec() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("units:", "unitz:"),
        ("type: dense", "type: dens"),
        ("kernel_size: 3", "kernel_size: three"),
        ("shortcut: identity", "shortcut: maybe"),
        ("epochs: 3", "epochs: 0"),
        ("momentum: 0.9", "momentum: 2"),
        ("source: {type: digits}", "source: {type: digitz}"),
        ("- flatten", "- {type: flaten}"),
        ("test.accuracy", "test.acuracy"),
        ("cnnspec: 1", "cnnspec: 2"),
        ("vars:", "wars:"),
        (", every: 2", ""),
    ],
)
def test_a_bad_spec(old: str, new: str) -> None:
    assert old in GOOD
    assert problems(GOOD.replace(old, new, 1)) != []


def test_independent_validators_agree() -> None:
    """Two more implementations of draft-07 take and refuse the same files as the one that is used here."""
    whole = schema()
    compiled, rust = fastjsonschema.compile(whole), jsonschema_rs.Draft7Validator(whole)
    refused = 0
    for path in [*(ROOT / "specs").glob("*.yaml"), *(ROOT / "tests" / "spec" / "bad").glob("*.yaml")]:
        try:
            value = plain(read(decode(path.read_bytes(), path.name), path.name))
            json.dumps(value, allow_nan=False)
        except (SpecError, ValueError):
            continue  # no document, or one that JSON cannot say
        right = Draft7Validator(whole).is_valid(value)
        refused += not right
        assert rust.is_valid(value) == right, path.name
        try:
            compiled(value)
            assert right, path.name
        except fastjsonschema.JsonSchemaException:
            assert not right, path.name
    assert refused > 30
