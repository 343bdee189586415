"""How long a user waits for `validate`: start-up counts, so whole processes are timed, in alternation."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from cnnspec.cli import main
from cnnspec.spec.schema import schema_text

ROOT = Path(__file__).parents[2]
SPEC = "specs/resnet18.yaml"
VALIDATE = ["-m", "cnnspec", "validate"]
LIBRARIES = ["-c", "import yaml, jsonschema, numpy"]


def seconds(words: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def ratio(ours: list[str], theirs: list[str], folder: Path) -> float:
    """Median of nine alternating pairs, with compiled modules in a cache, as an installed program has them."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder)}
    for words in (ours, theirs):
        seconds(words, environment)
    return median(seconds(ours, environment) / seconds(theirs, environment) for _ in range(9))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC, "specs/lenet.yaml"])  # the second one asks for memory, which takes a plan
def test_one_file_takes_little_longer_than_its_libraries(spec: str, tmp_path: Path) -> None:
    assert ratio([*VALIDATE, spec], LIBRARIES, tmp_path) <= 1.5


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
def test_it_is_faster_than_a_plain_schema_check(tmp_path: Path) -> None:
    file = tmp_path / "cnnspec.schema.json"
    file.write_text(schema_text())
    check = ["-m", "check_jsonschema", "--schemafile", str(file), SPEC]
    assert ratio([*VALIDATE, SPEC], check, tmp_path) < 1


def test_validation_loads_neither_kernels_nor_what_draws(tmp_path: Path) -> None:
    program = f"import sys; from cnnspec.cli import main; main(['validate', {SPEC!r}]); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(loaded.stdout.splitlines()[-1].split())
    assert "cnnspec.layers.conv" in modules
    for unwanted in ("matplotlib", "rich", "numpy.random", "cnnspec.plan", "cnnspec.train"):
        assert unwanted not in modules


def test_a_thousand_layers_take_less_than_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    layers = "  - {type: conv2d, filters: 8, kernel_size: 3, padding: same}\n  - relu\n" * 500
    path.write_text(f"cnnspec: 1\ninput: [8, 8, 8]\nlayers:\n{layers}")
    started = time.perf_counter()
    assert main(["validate", str(path)]) == 0
    assert time.perf_counter() - started < 2


@pytest.mark.slow
def test_a_thousand_files_go_at_150_a_second(tmp_path: Path) -> None:
    text = (ROOT / "specs" / "lenet5.yaml").read_text()
    for number in range(1000):
        (tmp_path / f"spec{number}.yaml").write_text(text)
    started = time.perf_counter()
    assert main(["validate", str(tmp_path)]) == 0
    assert 1000 / (time.perf_counter() - started) >= 150


def test_thousands_of_mistakes_and_very_long_words_take_less_than_two_seconds(tmp_path: Path) -> None:
    layers = "  - {type: conv2d, filtres: 8, kernel_size: 3, strde: 2}\n" * 1000
    path = tmp_path / "wrong.yaml"
    path.write_text(f'cnnspec: 1\ninput: [8, 8, 8]\n"{"x" * 100_000}": 1\nlayers:\n{layers}')
    started = time.process_time()
    assert main(["validate", str(path), "--format", "concise"]) == 1
    assert time.process_time() - started < 2
