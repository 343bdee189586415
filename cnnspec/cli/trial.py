"""The program of a single training in a sweep, which ends as soon as the sweep does, for whatever reason."""

from __future__ import annotations

import os
import sys
from threading import Thread

from cnnspec.cli import main
from cnnspec.cli.anew import start_anew
from cnnspec.diagnostics import StartError

ABANDONED = 137  # exit code of a killed program


def _end_with_the_sweep() -> None:
    """End this process when standard input closes, whose other end the sweep keeps open."""
    while os.read(0, 1):
        pass
    os._exit(ABANDONED)


if __name__ == "__main__":
    Thread(target=_end_with_the_sweep, daemon=True).start()
    sys.argv[1:1] = ["train"]
    try:
        sys.exit(main())
    except StartError as error:
        sys.exit(start_anew(error.environment))
