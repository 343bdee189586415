"""The layout is the pipeline: imports go one way and never in circles, and what is special stays in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "cnnspec"
MODULES = sorted(PACKAGE.rglob("*.py"))

RANKS = (
    ("diagnostics",),
    ("lock", "signals"),
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


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(path: Path) -> Iterator[ast.AST]:
    """All that a file may run; what stands under TYPE_CHECKING is for type checkers alone."""
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        yield node
        checked = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        waiting += [] if checked else ast.iter_child_nodes(node)


@cache
def imports(path: Path) -> list[str]:
    found = []
    for node in statements(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_imports_go_leftwards() -> None:
    wrong = []
    for path in MODULES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for imported in imports(path):
            package, _, rest = imported.partition(".")
            other = rest.partition(".")[0]
            if package == "cnnspec" and own in RANK and other in RANK and other != own and RANK[other] >= RANK[own]:
                wrong.append(f"{name_of(path)} imports {imported}, which stands to the right of {own}")
    assert not wrong


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


def test_an_import_within_a_function_says_why() -> None:
    silent = []
    for path in MODULES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for function in statements(path):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnspec"):
                        silent += [f"{name_of(path)}:{node.lineno}"] if "  # " not in lines[node.lineno - 1] else []
    assert not silent


def test_libraries_stay_where_they_belong() -> None:
    strays = []
    for path in MODULES:
        for imported in imports(path):
            allowed = ONLY_IN.get(imported.split(".")[0])
            if allowed is not None and not name_of(path).startswith(allowed):
                strays.append(f"{name_of(path)} imports {imported}")
    assert not strays


def test_only_the_command_line_prints_or_exits() -> None:
    found = []
    for path in MODULES:
        if not name_of(path).startswith(("cli/", "__main__")):
            calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
            names = [(node.func.id, node.lineno) for node in calls if isinstance(node.func, ast.Name)]
            banned = ("print", "exit", "quit", "eval", "exec")
            found += [f"{name_of(path)}:{line} calls {name}" for name, line in names if name in banned]
    assert not found


def test_every_file_is_named_for_its_subject() -> None:
    assert not VAGUE & {part.removesuffix(".py") for path in MODULES for part in path.relative_to(PACKAGE).parts}


def test_the_top_level() -> None:
    found = {path.name for path in PACKAGE.parent.iterdir() if not path.name.startswith((".", "__"))}
    found -= {"cnnspec.egg-info", "build", "runs"}
    assert found == {"LICENSE", "README.md", "cnnspec", "pyproject.toml", "specs", "tests"}
