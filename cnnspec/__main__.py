"""`python -m cnnspec`, and the console script."""

import gc
import signal
import sys


def main() -> int:
    """Load the command line and run it; loaded modules stay in use, so garbage collection does not scan them.

    An interruption while loading, or when all is done, ends the program as any other program's: there is nothing to
    clean up, and an exception would meet an interpreter that begins or ends.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    raises = interrupted is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
    from cnnspec.cli import FAILED, INTERRUPTED, load_verb  # imported while garbage collection is off
    from cnnspec.cli import main as run  # as above
    from cnnspec.cli.output import lasting_streams, status_of  # as above
    from cnnspec.diagnostics import StartError  # as above

    load_verb(sys.argv[1:])
    gc.freeze()
    gc.enable()
    try:
        with lasting_streams() as output:
            if raises:
                signal.signal(signal.SIGINT, interrupted)
            status = run()
        return status_of(output, status, FAILED)
    except StartError as error:
        from cnnspec.cli.anew import start_anew  # needed by few programs

        return start_anew(error.environment)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if raises:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
