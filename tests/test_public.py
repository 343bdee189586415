"""The public interface: a program that uses all of it runs; what it says of itself has shapes and errors."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import cnnspec
from tests import sample_program

METHODS = ("fit", "predict", "evaluate", "activations")  # that take arrays
FUNCTIONS = ("compile", "load", "load_spec")


def test_the_sample_program_runs(tmp_path: Path) -> None:
    accuracy, codes, cures = sample_program.main(tmp_path)
    assert accuracy is not None
    assert 0 <= accuracy <= 1
    assert codes == ["unknown-type"]
    assert len(cures) == 3
    assert all(cures)


def test_the_sample_program_uses_all_that_is_public() -> None:
    source = inspect.getsource(sample_program)
    assert {name for name in cnnspec.__all__ if f"cnnspec.{name}" not in source} == set()


@pytest.mark.parametrize("name", cnnspec.__all__)
def test_everything_has_a_docstring_and_so_have_its_methods(name: str) -> None:
    found = getattr(cnnspec, name)
    assert inspect.getdoc(found)
    members = inspect.getmembers(found, lambda member: inspect.isfunction(member) or isinstance(member, property))
    for method, member in members if inspect.isclass(found) else ():
        assert method.startswith("_") or inspect.getdoc(member), f"{name}.{method}"


def test_names_can_be_completed_before_they_are_imported() -> None:
    assert set(cnnspec.__all__) <= set(dir(cnnspec))


@pytest.mark.parametrize("name", METHODS)
def test_what_takes_arrays_says_shapes_and_errors(name: str) -> None:
    told = inspect.getdoc(getattr(cnnspec.Model, name)) or ""
    assert re.search(r"\(n[,)]", told)
    assert "ValueError" in told


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_reads_files_says_errors(name: str) -> None:
    assert "SpecError" in (inspect.getdoc(getattr(cnnspec, name)) or "")
