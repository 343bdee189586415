"""Programs that a signal ends: no traceback at any moment, no process left that works on, no file left."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cnnspec.cli import main
from tests.samples import slow

ROOT = Path(__file__).parents[2]
# The program is interrupted by itself when its work is done, while the interpreter ends.
AT_THE_END = """
import atexit, os, signal, sys
from cnnspec.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.exit(main())
"""
LONG = """\
cnnspec: 1
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 10}]
data: {source: digits, train: {limit: 256}}
train: {epochs: 100000, batch_size: 32}
require: {test.accuracy: ">= 0.2"}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_an_interruption_while_the_program_ends_is_silent() -> None:
    words = [sys.executable, "-c", AT_THE_END, "explain", "relu"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    assert done.stdout.startswith("relu")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize("verb", ["smoke", slow("train")])
def test_a_test_that_is_interrupted_ends_the_program_that_it_waits_for(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.yaml").write_text(LONG)
    started: list[subprocess.Popen[str]] = []

    class Interrupting(subprocess.Popen[str]):
        """A program for which this process waits as it is interrupted."""

        def communicate(self, *arguments: Any, **options: Any) -> tuple[str, str]:
            if f"'{verb}'" in str(self.args):
                started.append(self)
                signal.raise_signal(signal.SIGTERM)
            return super().communicate(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Interrupting)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert main(["test", str(tmp_path / "net.yaml"), "--threads", "1"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "cnnspec: error: SIGTERM ended the test\n"
    assert [one.returncode for one in started] == [-signal.SIGKILL]
    assert not list((tmp_path / "temporary").iterdir())
