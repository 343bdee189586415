"""`smoke SPEC`: tests on synthetic data, in a few seconds, whether a network can learn at all."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from cnnspec.check import checked
from cnnspec.cli.arguments import add_spec, count, spec_of
from cnnspec.diagnostics import RunError
from cnnspec.train.smoke import smoke
from cnnspec.train.untold import with_training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    add_spec(parser, computes=True)
    parser.add_argument("--images", type=count, metavar="N", help="images (default: the batch size)")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest time to learn the batch (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Test the network and print the result; RunError says what failed, in which layer, and what to try."""
    spec = spec_of(arguments)
    graph = checked(spec)
    if spec.train is None:
        spec, graph = with_training(spec, graph)
        assert spec.train is not None
        print(
            f"cnnspec: note: no train section: adam, {spec.train.loss.type_name}, {spec.train.batch_size} images",
            file=sys.stderr,
        )
    proofs = []
    for proof in smoke(spec, graph, images=arguments.images, seconds=arguments.seconds):
        proofs.append(proof)
        if not arguments.json:
            print(f"{'ok  ' if proof.passed else 'FAIL'} {proof.name}: {proof.figure}", flush=True)
    failed = [proof for proof in proofs if not proof.passed]
    if arguments.json:
        shown = [dataclasses.asdict(proof) for proof in proofs]
        print(json.dumps({"passed": not failed, "proofs": shown}, indent=2))
    if failed:
        where = f" in '{failed[0].layer}'" if failed[0].layer else ""
        raise RunError(f"{failed[0].name}{where}: {failed[0].figure}", failed[0].advice)
    return 0
