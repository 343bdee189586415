"""One process at a time holds a lock, on every system, and a process that ends holds none."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnspec import lock

ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pathlib import Path
from cnnspec.lock import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", [".", "file"])
def test_a_second_process_is_refused_until_the_first_one_ends(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), lock.locked(path, wait=False):
            pass
        other.kill()
    with lock.locked(path, wait=False):
        pass


class Msvcrt:
    """What Windows' C library does, for the files of one process."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.refused = 0

    def locking(self, file: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        if self.refused:
            self.refused -= 1
            raise PermissionError(13, "Permission denied")


@pytest.fixture
def msvcrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Msvcrt]:
    found = Msvcrt()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setitem(sys.modules, "msvcrt", found)
        importlib.reload(lock)
        patch.setattr(lock, "time", SimpleNamespace(sleep=lambda seconds: None))
        yield found
    importlib.reload(lock)


@pytest.mark.skipif(sys.platform == "win32", reason="this stands in for Windows on other systems")
@pytest.mark.parametrize("name", [".", "file"])
def test_windows_waits_by_trying_again(name: str, tmp_path: Path, msvcrt: Msvcrt) -> None:
    msvcrt.refused = 1
    with pytest.raises(BlockingIOError), lock.locked(tmp_path / name, wait=False):
        pass
    msvcrt.refused = 3
    with lock.locked(tmp_path / name, wait=True):
        assert not msvcrt.refused
