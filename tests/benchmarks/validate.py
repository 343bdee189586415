"""How long a user waits for `validate`. Start-up counts, so whole processes are timed, in alternation.

    python tests/benchmarks/validate.py

Prints the ratio to Python importing the libraries that it needs and, where it is installed, to check-jsonschema; and
the time that a thousand files, a thousand mistakes, a thousand layers and DenseNet-121 take. It should be at most 1.5
times the libraries, faster than check-jsonschema, at most 0.5 s for a thousand layers and 50 ms for DenseNet-121.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from cnnspec.cli import main
from cnnspec.spec.schema import schema_text

ROOT = Path(__file__).parents[2]
SPECS = ["specs/resnet18.yaml", "specs/lenet.yaml"]  # the second one asks for memory, which takes a plan
LIBRARIES = ["-c", "import yaml, jsonschema, numpy"]
ROUNDS = 9


def seconds(words: list[str], environment: dict[str, str]) -> float:
    """The time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def ratio(ours: list[str], theirs: list[str], folder: Path) -> float:
    """The median of alternating pairs, with compiled modules in a cache, as an installed program has them."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder)}
    for words in (ours, theirs):
        seconds(words, environment)
    return median(seconds(ours, environment) / seconds(theirs, environment) for _ in range(ROUNDS))


def validated(path: Path) -> float:
    """The seconds that a file or a folder takes in this process."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        main(["validate", str(path), "--format", "concise"])
    return time.perf_counter() - started


def measure(folder: Path) -> None:
    """Print all figures."""
    for spec in SPECS:
        ours = ["-m", "cnnspec", "validate", spec]
        print(f"{spec}: {ratio(ours, LIBRARIES, folder / 'cache'):.2f} times its libraries")
        if importlib.util.find_spec("check_jsonschema") is not None:
            schema = folder / "cnnspec.schema.json"
            schema.write_text(schema_text())
            theirs = ["-m", "check_jsonschema", "--schemafile", str(schema), spec]
            print(f"{spec}: {ratio(ours, theirs, folder / 'cache'):.2f} times check-jsonschema")
    head = "cnnspec: 1\ninput: [8, 8, 8]\n"
    deep, wrong, many = folder / "deep.yaml", folder / "wrong.yaml", folder / "many"
    layers = "  - {type: conv2d, filters: 8, kernel_size: 3, padding: same}\n  - relu\n" * 500
    deep.write_text(f"{head}layers:\n{layers}")
    layers = "  - {type: conv2d, filtres: 8, kernel_size: 3, strde: 2}\n" * 1000
    wrong.write_text(f'{head}? "{"x" * 100_000}"\n: 1\nlayers:\n{layers}')
    many.mkdir()
    for number in range(1000):
        (many / f"spec{number}.yaml").write_text((ROOT / "specs" / "lenet5.yaml").read_text())
    for path, what in ((wrong, "two thousand mistakes"), (many, "a thousand files")):
        print(f"{what}: {validated(path):.2f} s")
    for path, what in ((deep, "a thousand layers"), (ROOT / "specs" / "densenet121.yaml", "DenseNet-121")):
        print(f"{what}, in a running process: {min(validated(path) for _ in range(ROUNDS)) * 1000:.0f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
