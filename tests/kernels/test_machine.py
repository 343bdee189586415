"""The machine model follows the loaded BLAS, and nobody asks for it to check a spec."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from cnnspec.kernels.machine import AVX2, AVX512, MODELS, MachineModel, assuming, current, loaded

ROOT = Path(__file__).parents[2]


def of_blas(monkeypatch: pytest.MonkeyPatch, *libraries: dict[str, Any], extensions: tuple[str, ...]) -> MachineModel:
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: list(libraries))
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"found": list(extensions)}})
    loaded.cache_clear()
    try:
        return current()
    finally:
        loaded.cache_clear()


@pytest.mark.parametrize(
    ("architecture", "model"),
    [("Haswell", AVX2), ("Zen", AVX2), ("neoversen1", AVX2), ("SkylakeX", AVX512), ("Cooperlake", AVX512)],
)
@pytest.mark.parametrize("extensions", [(), ("X86_V3", "X86_V4")])
def test_openblas_says_which_kernels_it_runs_whatever_the_processor_has(
    monkeypatch: pytest.MonkeyPatch, architecture: str, model: MachineModel, extensions: tuple[str, ...]
) -> None:
    openmp = {"internal_api": "openmp", "user_api": "openmp"}
    openblas = {"internal_api": "openblas", "user_api": "blas", "architecture": architecture}
    assert of_blas(monkeypatch, openmp, openblas, extensions=extensions) is model


@pytest.mark.parametrize(
    ("extensions", "model"),
    [((), AVX2), (("X86_V3",), AVX2), (("X86_V3", "X86_V4"), AVX512), (("AVX2", "AVX512_SKX"), AVX512)],
)
def test_with_another_blas_the_processor_decides(
    monkeypatch: pytest.MonkeyPatch, extensions: tuple[str, ...], model: MachineModel
) -> None:
    mkl = {"internal_api": "mkl", "user_api": "blas"}
    assert of_blas(monkeypatch, mkl, extensions=extensions) is model
    assert of_blas(monkeypatch, extensions=extensions) is model


def test_an_assumed_model_holds_until_its_end() -> None:
    before = current()
    for model in MODELS:
        with assuming(model):
            assert current() is model
            with assuming(AVX2):
                assert current() is AVX2
            assert current() is model
    assert current() is before


def test_validate_asks_no_machine() -> None:
    """Its budgets are judged by all models; to ask the BLAS would take longer than to read the spec."""
    program = (
        "import sys\n"
        "from cnnspec.cli import main\n"
        "from cnnspec.kernels import machine\n"
        "code = main(['validate', 'specs/lenet.yaml'])\n"
        "assert machine.loaded.cache_info().currsize == 0\n"
        "sys.exit(code)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
