"""What `validate` loads: a check in an editor or before a commit must not wait for the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

NET = """\
cnnspec: 1
input: [1, 8, 8]
layers: [{type: conv2d, filters: 4, kernel_size: 3}, relu, flatten, {type: dense, units: 10}]
"""
SECTIONS = """\
data: {source: digits}
train: {epochs: 1}
expect: {params: {min: 1}}
require: {test.accuracy: "> 0.5"}
"""
PARTS = {
    "files",
    "target",
    "check",
    "cli",
    "diagnostics",
    "fields",
    "graph",
    "kernels",
    "layers",
    "lints",
    "listing",
    "memory",
    "optim",
    "period",
    "plugins",
    "ranks",  # only whether a launcher has started several
    "zoo",
    "settings",
    "registry",
    "shapes",
    "spec",
}
KERNELS = {"elementwise", "kernel", "problem", "step"}  # what layers are declared with; algorithms are loaded by plans

PROGRAM = """
import sys
import jsonschema, numpy, yaml  # with what they load themselves
before = set(sys.modules)
from cnnspec.cli import main
assert main(["validate", sys.argv[1]]) == 0
found = [
    [name, getattr(module, "__file__", None) or ""]
    for name, module in sys.modules.items()
    if name not in before and type(module).__name__ == "module"  # a module that waits for its first use is no load
]
import json
print(json.dumps(found))
"""


def loaded(tmp_path: Path, text: str) -> tuple[set[str], set[str]]:
    """The parts of the package, of `kernels` the modules, and the further libraries that a check loads."""
    path = tmp_path / "net.yaml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    modules = json.loads(output.splitlines()[-1])
    own = {name.split(".", 1)[1] for name, _ in modules if name.startswith("cnnspec.")}
    parts = {name if name.startswith("kernels.") else name.split(".")[0] for name in own}
    libraries = {name.split(".")[0] for name, file in modules if "site-packages" in file}
    return parts, libraries - {"cnnspec"}


def test_a_network_alone_needs_no_data_source(tmp_path: Path) -> None:
    parts, libraries = loaded(tmp_path, NET)
    assert parts <= PARTS | {f"kernels.{name}" for name in KERNELS}
    assert libraries <= {"numpy"}


def test_a_whole_spec_needs_neither_plan_nor_trainer(tmp_path: Path) -> None:
    parts, libraries = loaded(tmp_path, NET + SECTIONS)
    assert parts <= PARTS | {"data", "lock"} | {f"kernels.{name}" for name in KERNELS}
    assert libraries <= {"numpy"}


def test_budgets_of_memory_need_the_plan_but_no_trainer(tmp_path: Path) -> None:
    parts, libraries = loaded(tmp_path, NET + SECTIONS.replace("params: {min: 1}", "infer_memory: {max: 1 GiB}"))
    assert not parts & {"api", "compare", "export", "report", "train"}
    assert libraries <= {"numpy", "threadpoolctl"}
