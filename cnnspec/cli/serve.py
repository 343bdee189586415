"""`serve RUN`: a local page to try a trained network, and the same answers for programs."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress

from cnnspec.cli import CLEAN
from cnnspec.cli.arguments import add_data, add_run, count
from cnnspec.cli.opening import opened
from cnnspec.cli.output import complain, note, visible
from cnnspec.cli.trained import data_folder, open_run, trained_classes
from cnnspec.diagnostics import DataError, RunError
from cnnspec.files import real_path
from cnnspec.serve import Server, Service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_run(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=port, default=8000, help="0 takes one that is free (default: 8000)")
    add_data(parser)
    parser.add_argument(
        "--threads", type=count, default=1, metavar="N", help="threads that compute an answer (default: 1)"
    )


def port(text: str) -> int:
    """Parse a port, 0 to 65535."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 65535, got '{text}'")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Print the address of the page, and answer requests until Ctrl-C."""
    model = open_run(arguments.run, arguments.checkpoint, arguments.threads)
    if model.pipeline is None:
        raise RunError(f"{arguments.run}: its spec has no data section", "train a spec that has one")
    data = None
    arguments.data = arguments.data or data_folder(arguments.run)
    try:
        data = opened(model.spec, model.graph, arguments, trained_classes(arguments.run), model.pipeline)
    except DataError as error:
        note(f"there are no test images to pick from: {error}")
    directory = arguments.run.parent if arguments.run.suffix == ".npz" else arguments.run
    service = Service(model, data, real_path(directory).name)
    try:
        server = Server(service, arguments.host, arguments.port, log=complain)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise RunError(f"cannot listen at {arguments.host}:{arguments.port}: {why}", "name another --port") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    with suppress(KeyboardInterrupt), server:
        print(visible(f"{service.name} at {server.address} (Ctrl-C ends it)"), flush=True)
        if not server.local:
            note("whoever reaches this machine can ask the network and see its test images")
        server.serve_forever()
    print("ended", file=sys.stderr)
    return CLEAN
