"""The layout is the pipeline: imports go leftwards only, and what is special stays in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnnspec"
MODULES = sorted(PACKAGE.rglob("*.py"))

RANKS = (
    ("diagnostics",),
    ("shapes",),
    ("registry",),
    ("fields",),
    ("plugins",),
    ("kernels",),
    ("workers",),
    ("layers", "optim", "data"),
    ("spec",),
    ("graph",),
    ("lints",),
    ("plan",),
    ("check",),
    ("train",),
    ("report", "export"),
    ("compare",),
    ("api",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
ONLY_IN = {"yaml": ("spec/reader.py", "graph/render.py"), "jsonschema": ("spec/check.py",), "rich": ("cli/",)}
VAGUE = {"utils", "common", "core", "misc", "helpers"}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_leftwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for imported in imports(path):
        parts = imported.split(".")
        if own not in RANK or parts[0] != "cnnspec" or len(parts) < 2 or parts[1] not in RANK or parts[1] == own:
            continue
        assert RANK[parts[1]] < RANK[own], f"{name_of(path)} imports {imported}, which stands to the right of {own}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    for imported in imports(path):
        allowed = ONLY_IN.get(imported.split(".")[0])
        assert allowed is None or name_of(path).startswith(allowed), f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if name_of(path).startswith(("cli/", "__main__")):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit", "eval", "exec"), f"{name_of(path)}:{node.lineno}"


def test_every_file_is_named_for_its_subject() -> None:
    assert not VAGUE & {part.removesuffix(".py") for path in MODULES for part in path.relative_to(PACKAGE).parts}


def test_the_top_level() -> None:
    found = {path.name for path in PACKAGE.parent.iterdir() if not path.name.startswith((".", "__"))}
    found -= {"cnnspec.egg-info", "build", "runs"}
    assert found == {"LICENSE", "README.md", "cnnspec", "pyproject.toml", "specs", "tests"}
