"""The guide to Python: its examples run as they stand, one behind the other."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

PAGE = files("cnnspec").joinpath("guide", "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_examples_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in EXAMPLES:
        if "sklearn" in example:
            pytest.importorskip("sklearn")
        exec(compile(example, "guide/python.md", "exec"), names)
    assert len(EXAMPLES) == 7
    assert "<text>:8:5: error[unknown-type]: unknown layer 'flaten'" in capsys.readouterr().out
