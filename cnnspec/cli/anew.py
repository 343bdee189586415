"""Restarts this program with other environment variables, which libraries that are loaded already cannot take up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from tempfile import TemporaryFile

from cnnspec.diagnostics.source import GIVEN
from cnnspec.spec.load import STDIN


def start_anew(environment: Mapping[str, str]) -> int:
    """Run the same command with further variables in place of this process; on Windows, wait for it to end.

    A spec that was read from standard input is supplied to the new process again.
    """
    if STDIN in GIVEN:
        with TemporaryFile() as file:
            file.write(GIVEN[STDIN].encode())
            file.seek(0)
            os.dup2(file.fileno(), 0)
    command = [sys.executable, *sys.orig_argv[1:]]
    wanted = {**os.environ, **environment}
    if os.name == "nt":  # there, `execve` would end this process before the new one, for any waiting parent
        return subprocess.run(command, env=wanted, check=False).returncode
    return os.execve(command[0], command, wanted)
