"""The layout is the pipeline: imports go one way and never in circles, and what is special stays in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnnspec"
MODULES = sorted(PACKAGE.rglob("*.py"))

RANKS = (
    ("diagnostics",),
    ("lock",),
    ("shapes",),
    ("target",),
    ("registry",),
    ("fields",),
    ("plugins",),
    ("kernels",),
    ("workers",),
    ("ranks",),
    ("layers", "optim", "data"),
    ("spec",),
    ("graph",),
    ("lints",),
    ("keys", "examples"),
    ("pages",),
    ("plan",),
    ("check",),
    ("train",),
    ("sweep",),
    ("report", "export", "convert"),
    ("code", "compare"),
    ("callbacks",),
    ("api",),
    ("sklearn",),
    ("lsp", "serve"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
ONLY_IN = {
    "yaml": ("spec/reader.py", "graph/render.py"),
    "jsonschema": ("spec/check.py",),
    "rich": ("cli/",),
    "pygls": ("lsp/",),
    "lsprotocol": ("lsp/",),
}
VAGUE = {"utils", "common", "core", "misc", "helpers"}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def statements(path: Path) -> Iterator[ast.AST]:
    """All that a file may run; what stands under TYPE_CHECKING is for type checkers alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        yield node
        checked = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        waiting += [] if checked else ast.iter_child_nodes(node)


def imports(path: Path) -> list[str]:
    found = []
    for node in statements(path):
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


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports within functions count too: they would only hide a circle."""
    files = {module_of(path): path for path in MODULES}
    needs = {
        name: {
            other
            for imported in imports(path)
            for other in (imported, imported.rpartition(".")[0])
            if other in files and other != name
        }
        for name, path in files.items()
    }
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    assert not needs, f"in a circle, or behind one: {', '.join(sorted(needs))}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_an_import_within_a_function_says_why(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for function in statements(path):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnspec"):
                    assert "  # " in lines[node.lineno - 1], f"{name_of(path)}:{node.lineno}"


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
