"""What the README says holds: its spec, its mistake, its Python, its layer, its verbs and its links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import VERBS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
Captured = pytest.CaptureFixture[str]


def test_its_spec_is_the_one_that_the_first_line_trains() -> None:
    shipped = (ROOT / "specs" / "lenet.yaml").read_text(encoding="utf-8")
    assert shipped.endswith(SPEC)


def test_the_mistake_is_found_as_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lenet.yaml").write_text(SPEC.replace("filters: 50, kernel_size: 5", "filters: 50, kernel_size: 17"))
    assert main(["validate", "lenet.yaml"]) == 1
    found = capsys.readouterr().out.split("\n\n")[0]
    shown = README[README.index("    lenet.yaml:") :].split("\n\n")[0]
    assert re.sub("^    ", "", shown, flags=re.MULTILINE) == found


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    names: dict[str, Any] = {"images": random.integers(0, 256, (20, 1, 8, 8)), "labels": random.integers(0, 10, 20)}
    exec(compile(PYTHON[0], "README.md", "exec"), names)
    assert Path("lenet.npz").is_file()


def test_its_layer_trains_and_has_the_right_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(PYTHON[1].replace('"doubled"', '"doubled_in_the_readme"'))
    Path("net.yaml").write_text(
        "cnnspec: 1\ninput: [1, 8, 8]\nlayers: [flatten, doubled_in_the_readme, {type: dense, units: 10}]\n"
        "data: {source: digits}\ntrain: {epochs: 1}\n"
    )
    assert main(["gradcheck", "net.yaml", "--plugin", "own.py"]) == 0
    assert main(["train", "net.yaml", "--plugin", "own.py", "--max-steps", "2", "--quiet"]) == 0


def test_every_verb_is_named() -> None:
    named = set(re.findall(r"`([a-z]+)`", README[README.index("| verb | does |") :].split("\n\n")[0]))
    assert named == set(VERBS)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"cnnspec/guide/{p.name}" for p in sorted((ROOT / "cnnspec/guide").iterdir()))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not re.match("[a-z]+:", link):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
