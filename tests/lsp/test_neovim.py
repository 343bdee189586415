"""Neovim with the recipe of the guide: it shows findings and hints, and applies a fix."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="pygls is not installed: pip install 'cnnspec[lsp]'")

ROOT = Path(__file__).parents[2]
NEOVIM = shutil.which("nvim")
GUIDE = files("cnnspec").joinpath("guide", "editors.md").read_text(encoding="utf-8")
SCRIPT = r"""
local found = {}
vim.cmd("edit " .. SPEC)
assert(vim.wait(PATIENCE, function() return #vim.diagnostic.get(0) > 0 end))
found.diagnostic = vim.diagnostic.get(0)[1].message

local here = vim.diagnostic.get(0)[1].lnum
vim.api.nvim_win_set_cursor(0, { here + 1, 0 })
local about = vim.lsp.util.make_range_params()
about.context = { diagnostics = {} }
for _, answer in pairs(vim.lsp.buf_request_sync(0, "textDocument/codeAction", about, PATIENCE)) do
  local action = answer.result[1]
  found.action = action.title
  vim.lsp.util.apply_workspace_edit(action.edit, "utf-16")
end
assert(vim.wait(PATIENCE, function() return #vim.diagnostic.get(0) == 0 end))
found.line = vim.api.nvim_buf_get_lines(0, here, here + 1, false)[1]

CnnspecHints()
local hints = function()
  return vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_create_namespace("cnnspec"), 0, -1, { details = true })
end
assert(vim.wait(PATIENCE, function() return #hints() > 0 end))
found.hints = vim.tbl_map(function(mark) return { mark[2] + 1, mark[4].virt_text[1][1] } end, hints())
vim.fn.writefile({ vim.fn.json_encode(found) }, OUTPUT)
vim.cmd("qall!")
"""


@pytest.mark.skipif(NEOVIM is None, reason="nvim is not on the PATH: apt-get install neovim")
def test_the_recipe_of_the_guide(tmp_path: Path) -> None:
    recipes = re.findall(r"```lua\n(.*?)```", GUIDE, re.DOTALL)
    program = f"#!{sys.executable}\nimport sys\nfrom cnnspec.__main__ import main\nsys.exit(main())\n"
    (tmp_path / "cnnspec").write_text(program)
    (tmp_path / "cnnspec").chmod(0o755)
    spec, output = tmp_path / "spec.yaml", tmp_path / "found.json"
    spec.write_text("cnnspec: 1\ninput: [1, 8, 8]\nlayers:\n  - flatten\n  - {type: dense, unit: 10}\n")
    settings = f'PATIENCE = 600000\nSPEC = "{spec}"\nOUTPUT = "{output}"\n'
    (tmp_path / "init.lua").write_text(settings + "\n".join(recipes))
    (tmp_path / "script.lua").write_text(SCRIPT)
    command = [str(NEOVIM), "--headless", "-u", str(tmp_path / "init.lua"), "-c", f"luafile {tmp_path / 'script.lua'}"]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        **{f"XDG_{name}_HOME": str(tmp_path) for name in ("CONFIG", "DATA", "STATE", "CACHE")},
    }
    done = subprocess.run(
        [*command, "-c", "cquit"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert output.exists(), done.stderr
    found = json.loads(output.read_text())
    assert found["diagnostic"].startswith("unknown key of dense 'unit'")
    assert found["action"] == "Replace unit by units"
    assert found["line"] == "  - {type: dense, units: 10}"
    assert found["hints"] == [[4, " → 64"], [5, " → 10, 650 params, 640 MACs"]]
