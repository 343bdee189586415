"""Races: who is faster, by how much, and whether the machine was quiet enough to say."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest

from cnnspec.cli import main
from cnnspec.compare import load
from cnnspec.compare.race import Race, race
from tests.compare.test_profile import SPEC

Captured = pytest.CaptureFixture[str]


def test_ratios_are_taken_round_by_round() -> None:
    found = Race("own", {"own": (1.0, 2.0, 1.0), "slow": (4.0, 6.0, 3.0), "fast": (2.0, 3.0, 2.5)})
    assert found.best == "fast"
    assert found.ratios("fast") == (1.5, 2.0, 2.5)


def test_programs_alternate_and_take_turns_in_going_first() -> None:
    order: list[str] = []
    race({"a": partial(order.append, "a"), "b": partial(order.append, "b")}, "a", rounds=2, seconds=0.0)
    assert "".join(order) == "aaabbb" * 3 + "bbbaaa" * 3  # two runs to warm up, and one that counts


class Clock:
    """A clock that only what is measured moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("cnnspec.compare.race.time", clock)
    return clock


def test_a_round_is_cut_into_slices(clock: Clock) -> None:
    order: list[str] = []

    def run(name: str) -> None:
        order.append(name)
        clock.sleep(0.0625)

    race({"a": partial(run, "a"), "b": partial(run, "b")}, "a", rounds=1, seconds=0.5)
    turns = [len(list(group)) for _, group in groupby(order)]
    assert turns == [5, 5, 5, 5]  # one to warm up, as it is long, and what 0.2 s hold


def test_a_slower_program_is_found_slower(clock: Clock) -> None:
    programs = {"own": partial(clock.sleep, 1e-4), "other": partial(clock.sleep, 2e-3)}
    found = race(programs, "own", rounds=3, seconds=0.01)
    assert found.ratios("other") == pytest.approx((20,) * 3)


def test_the_share_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(1000, 400), (1100, 420)])
    monkeypatch.setattr(load, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(load, "STATISTICS", tmp_path)
    assert load.others_share(0.0) == pytest.approx(0.8)
    monkeypatch.setattr(load, "STATISTICS", tmp_path / "none")
    assert load.others_share(0.0) is None


@pytest.fixture(name="spec")
def _spec(tmp_path: Path) -> str:
    (tmp_path / "s.yaml").write_text(SPEC)
    return str(tmp_path / "s.yaml")


@pytest.mark.slow
def test_against_onnxruntime(spec: str, capsys: Captured) -> None:
    pytest.importorskip("onnxruntime")
    words = ["bench", spec, "--against", "onnxruntime", "--inference", "--threads", "1", "--seconds", "1"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best_rival"] == "onnxruntime"
    assert found["ratio"]["lowest"] <= found["ratio"]["median"] <= found["ratio"]["highest"]
    assert main(words) == 0
    assert "times onnxruntime (" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--inference"]])
@pytest.mark.parametrize(("framework", "programs"), [("jax", {"jax"}), ("keras", {"keras", "keras xla"})])
def test_against_what_is_installed(spec: str, framework: str, programs: set[str], mode: list[str]) -> None:
    """In a process of its own, as these libraries learn their number of threads when they start."""
    if find_spec("tensorflow" if framework == "keras" else framework) is None:
        pytest.skip(f"{framework} is not installed")
    words = ["bench", spec, "--against", framework, "--threads", "2", "--seconds", "1", "--json", *mode]
    done = subprocess.run([sys.executable, "-m", "cnnspec", *words], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)["programs"]) == {"cnnspec", *programs}


def test_a_crowded_machine_is_said(spec: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # so that the verb leaves no trace in this process
    monkeypatch.setattr("cnnspec.compare.against.others_share", lambda: 0.9)
    assert main(["bench", spec, "--against", "onnxruntime", "--inference", "--seconds", "1", "--threads", "1"]) == 0
    assert "other programs used 90% of the processors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--against", "onnxruntime"], "onnxruntime does not train"),
        (["--against", "keras"], "Keras on TensorFlow is not installed"),
        (["--against", "jax"], "JAX is not installed"),
    ],
)
def test_what_cannot_be_raced_is_one_clear_error(
    spec: str, capsys: Captured, words: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("jax", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["bench", spec, *words]) == 4
    assert text in capsys.readouterr().err


def test_a_missing_package_is_one_clear_error(spec: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnspec.compare import pytorch

    monkeypatch.delitem(pytorch.LOADED, "torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["bench", spec, "--against", "torch"]) == 4
    assert "PyTorch is not installed\nhelp: pip install torch" in capsys.readouterr().err
