"""Systems that lack what Linux has: cnnspec imports, validates, trains and resumes there, on threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import sampled
from tests.train.test_resume import SPEC, weights

ROOT = Path(__file__).parents[1]
WITHOUT = """
import os, signal, sys
for name in ("fcntl", "_multiprocessing", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for module, names in (
    (os, ("fork", "sched_getaffinity", "sched_setaffinity", "waitid", "getppid")),
    (signal, ("SIGHUP", "pthread_sigmask", "setitimer", "SIGKILL", "SIGSTOP")),
):
    for name in names:
        delattr(module, name)
"""
MACOS = "import sys; sys.platform = 'darwin'"
RUN = """
import json
from cnnspec.cli import main
statuses = [main(words) for words in json.loads(sys.argv[1])]
from cnnspec.workers import WorkerPool
print(json.dumps([statuses, WorkerPool(2).forks]))
"""


@pytest.mark.parametrize("system", sampled([WITHOUT, MACOS], 2), ids=["without", "macos"])
def test_a_training_goes_on_without_what_other_systems_lack(system: str, tmp_path: Path) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 2"))
    words = ["train", str(spec), "--quiet", "--threads", "2"]
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    there = [
        ["validate", str(spec)],
        [*words, "--out", str(cut), "--max-steps", "45"],
        ["train", "--resume", str(cut / "net"), "--quiet", "--threads", "2"],
        ["verify", str(cut / "net")],
        ["eval", str(cut / "net")],
    ]
    for lists, program in ((there, system), ([[*words, "--out", str(whole)]], "")):
        command = [sys.executable, "-c", program + "\nimport sys\n" + RUN, json.dumps(lists)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        statuses, forks = json.loads(done.stdout.splitlines()[-1])
        assert statuses == [0] * len(lists), done.stdout + done.stderr
        assert not (program and forks)
    assert weights(cut / "net") == weights(whole / "net")
