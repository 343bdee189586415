"""Emacs with the recipe of the guide: it shows a finding, applies its fix and formats."""

from __future__ import annotations

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
EMACS = shutil.which("emacs")
GUIDE = files("cnnspec").joinpath("guide", "editors.md").read_text(encoding="utf-8")
HAS_EGLOT = "(package-initialize) (unless (and (require 'eglot nil t) (require 'yaml-mode nil t)) (kill-emacs 1))"
SCRIPT = r"""
(package-initialize)
(setq eglot-connect-timeout 600 make-backup-files nil)
(load (expand-file-name "init.el"))
(defun wait-for (condition) (while (not (funcall condition)) (accept-process-output nil 0.1)))

(find-file "spec.yaml")
(run-hooks 'post-command-hook)  ; which Emacs runs after a command, and never in a batch
(wait-for #'flymake-diagnostics)
(princ (flymake-diagnostic-text (car (flymake-diagnostics))))
(goto-char (flymake-diagnostic-beg (car (flymake-diagnostics))))
(defun first-of (_ choices &rest _) (princ (format "\n%s\n" (caar choices))) (caar choices))
(cl-letf (((symbol-function 'completing-read) #'first-of) (last-nonmenu-event ?a))
  (call-interactively #'eglot-code-actions))
(eglot-format-buffer)
(princ (buffer-string))
(save-buffer)
"""


def has_eglot() -> bool:
    """Whether an Emacs is installed that has eglot and a mode for YAML."""
    if EMACS is None:
        return False
    return subprocess.run([EMACS, "--batch", "--eval", f"(progn {HAS_EGLOT})"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_eglot(), reason="no Emacs: apt-get install emacs-nox elpa-eglot elpa-yaml-mode")
def test_the_recipe_of_the_guide(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```elisp\n(.*?)```", GUIDE, re.DOTALL)
    program = f"#!{sys.executable}\nimport sys\nfrom cnnspec.__main__ import main\nsys.exit(main())\n"
    (tmp_path / "cnnspec").write_text(program)
    (tmp_path / "cnnspec").chmod(0o755)
    (tmp_path / "init.el").write_text(recipe)
    (tmp_path / "script.el").write_text(SCRIPT)
    spec = tmp_path / "spec.yaml"
    spec.write_text("cnnspec: 1\ninput: [1,8,8]\nlayers:\n- flatten\n- {type: dense, unit: 10}\n")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [str(EMACS), "--batch", "-l", str(tmp_path / "script.el")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "unknown key of dense 'unit'\nhelp: did you mean units?" in done.stdout
    assert "Replace unit by units" in done.stdout
    assert spec.read_text() == "cnnspec: 1\ninput: [1, 8, 8]\nlayers:\n  - flatten\n  - {type: dense, units: 10}\n"
