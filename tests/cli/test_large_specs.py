"""What `validate` loads, and specs that are large: thousands of layers, files and mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnnspec.cli import main

ROOT = Path(__file__).parents[2]
SPEC = "specs/resnet18.yaml"
HEAD = "cnnspec: 1\ninput: [8, 8, 8]\n"


def test_validation_loads_neither_kernels_nor_what_draws() -> None:
    program = f"import sys; from cnnspec.cli import main; main(['validate', {SPEC!r}]); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(loaded.stdout.splitlines()[-1].split())
    assert "cnnspec.layers.conv" in modules
    for unwanted in ("matplotlib", "rich", "numpy.random", "cnnspec.plan", "cnnspec.train"):
        assert unwanted not in modules


def test_a_thousand_layers(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    layers = "  - {type: conv2d, filters: 8, kernel_size: 3, padding: same}\n  - relu\n" * 500
    path.write_text(f"{HEAD}layers:\n{layers}")
    assert main(["validate", str(path)]) == 0


def test_a_hundred_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "specs" / "lenet5.yaml").read_text()
    for number in range(100):
        (tmp_path / f"spec{number}.yaml").write_text(text)
    assert main(["validate", str(tmp_path)]) == 0
    (tmp_path / "spec50.yaml").write_text(text.replace("dense", "dence"))
    capsys.readouterr()
    assert main(["validate", str(tmp_path), "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["diagnostics"]
    errors = {Path(found_in["file"]).name for found_in in found if found_in["severity"] == "error"}
    assert errors == {"spec50.yaml"}


def test_thousands_of_mistakes_and_very_long_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = "  - {type: conv2d, filtres: 8, kernel_size: 3, strde: 2}\n" * 1000
    path = tmp_path / "wrong.yaml"
    path.write_text(f'{HEAD}? "{"x" * 100_000}"\n: 1\nlayers:\n{layers}')
    assert main(["validate", str(path), "--format", "concise"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("error[unknown-key]" in line for line in lines) == 1000
    assert sum("error[too-large]: expected fewer than 1,000 findings" in line for line in lines) == 1
