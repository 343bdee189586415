"""`python -m cnnspec`, and the console script."""

import gc
import sys


def main() -> int:
    """Load the command line and run it; what is loaded stays, so looking for garbage in it is left out."""
    gc.disable()
    from cnnspec.cli import main as run  # what it creates is loaded while no garbage is looked for

    gc.freeze()
    gc.enable()
    return run()


if __name__ == "__main__":
    sys.exit(main())
