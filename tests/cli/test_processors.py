"""Portable trainings: a program that starts anew with instructions that others have too, and the same bits there."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cnnspec
from cnnspec.cli import main
from cnnspec.diagnostics import RunError, StartError
from cnnspec.kernels import portable
from cnnspec.kernels.portable import DISABLED, obstacle, pinning, require_level
from cnnspec.train.checkpoint import LAST
from cnnspec.train.run import Run
from tests.ranks.test_mpiexec import NET, environment, mpiexec

SHORT = ("--quiet", "--max-steps", "5", "--threads", "1")
EMULATOR = "qemu-x86_64"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


@pytest.fixture
def level() -> None:
    if obstacle() is not None:
        pytest.skip(f"no training is portable here: {obstacle()}")


def native() -> dict[str, str]:
    """An environment that leaves the choice of instructions to the processor."""
    return {
        name: value for name, value in environment().items() if name not in pinning() and "CPU_FEATURES" not in name
    }


def started(*words: str, launcher: tuple[str, ...] = (), given: str | None = None) -> str:
    """What a program prints that ends well, which an environment of its own chose no instructions for."""
    command = [*launcher, sys.executable, "-m", "cnnspec", *words]
    done = subprocess.run(command, env=native(), input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def computed_by(run: Path) -> tuple[str, str]:
    """The kernel of the BLAS and NumPy's instructions that a run was trained with."""
    versions = Run.existing(run).about()["versions"]
    return versions["blas"].split()[-1], versions["instructions"]


@pytest.mark.slow
@pytest.mark.usefixtures("level")
def test_a_portable_training_starts_anew_and_so_does_its_verification(spec: Path, tmp_path: Path) -> None:
    run = tmp_path / "net"
    said = started("train", str(spec), "--portable", *SHORT[1:], "--out", str(tmp_path))
    assert said.count("portable: the kernels of AVX2") == 1
    assert computed_by(run)[0] == "Haswell"
    assert "AVX512" not in computed_by(run)[1]
    assert "the same bits: " in started("verify", str(run))


@pytest.mark.slow
@pytest.mark.usefixtures("level")
def test_a_portable_training_goes_on_as_one(spec: Path, tmp_path: Path) -> None:
    run = tmp_path / "net"
    started("train", "-", *SHORT, "--out", str(tmp_path), given=spec.read_text() + "portable: true\n")
    started("train", "--resume", str(run), "--quiet")
    assert computed_by(run)[0] == "Haswell"
    assert "parts" not in Run.existing(run).about()  # no versions changed on the way
    assert "accuracy" in json.loads(started("eval", str(run), "--json"))


@pytest.mark.slow
@pytest.mark.usefixtures("level")
def test_ranks_and_sweeps_are_portable_too(spec: Path, tmp_path: Path) -> None:
    words = ["train", str(spec), "--portable", *SHORT]
    started(*words, "--out", str(tmp_path / "alone"))
    started(*words, "--out", str(tmp_path / "ranks"), launcher=(mpiexec(), "-n", "2"))
    alone, ranks = (tmp_path / name / "net" / LAST for name in ("alone", "ranks"))
    assert alone.read_bytes() == ranks.read_bytes()
    spec.write_text(NET.replace("epochs: 3", "epochs: 1") + "sweep: {values: {train.batch_size: [50, 100]}}\n")
    started("sweep", str(spec), "--set", "portable=true", "--out", str(tmp_path / "sweep"), "--quiet")
    for name in ("best", "trials/trial-1-seed-0", "trials/trial-2-seed-0"):
        assert computed_by(tmp_path / "sweep" / name)[0] == "Haswell"


@pytest.mark.slow
@pytest.mark.usefixtures("level")
def test_another_processor_computes_the_same_bits(spec: Path, tmp_path: Path) -> None:
    """Five steps here, and by an emulator of a processor that has AVX2 and nothing beyond it."""
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        pytest.skip(f"there is no {EMULATOR}: apt-get install qemu-user")
    words = ["train", str(spec), "--portable", *SHORT]
    started(*words, "--out", str(tmp_path / "here"))
    started(*words, "--out", str(tmp_path / "there"), launcher=(emulator, "-cpu", "Haswell"))
    here, there = (tmp_path / name / "net" for name in ("here", "there"))
    assert (here / LAST).read_bytes() == (there / LAST).read_bytes()


def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one that computes with more than the portable level, and say so of the next one too."""
    monkeypatch.setattr(portable, "pinned", lambda: False)
    monkeypatch.setattr(portable, "obstacle", lambda: None)


def test_a_process_that_is_no_program_says_what_to_set(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    unpinned(monkeypatch)
    assert main(["train", str(spec), "--portable", *SHORT, "--out", str(tmp_path)]) == 4
    assert "help: set before Python starts: OPENBLAS_CORETYPE='Haswell'" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()
    with pytest.raises(StartError, match="cannot be changed"):
        cnnspec.compile(spec, ["portable=true"]).fit()


def test_a_processor_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "pinned", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(RunError, match="portable: this processor is arm64, not x86-64") as caught:
        require_level()
    assert not isinstance(caught.value, StartError)


def test_what_was_disabled_stays_so() -> None:
    assert pinning({DISABLED: "AVX512_FAR, X86_V5"})[DISABLED].startswith("AVX512_FAR X86_V5")
