"""`bench SPEC --against FRAMEWORK`: the same network there and here, in alternation."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from cnnspec.compare.frameworks import Program, onnxruntime_programs, pytorch_programs
from cnnspec.compare.load import BUSY, others_share
from cnnspec.compare.profile import fill
from cnnspec.compare.race import Race, race
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.layers.base import Mode
from cnnspec.plan import Training, Weights, lower, shards_of
from cnnspec.spec import Spec
from cnnspec.workers import WorkerPool

RIVALS = ("torch", "keras", "jax", "onnxruntime")
OWN = "cnnspec"
ROUNDS = 5
SETTLE = 0.5  # seconds in which what the race leaves behind ends, before others are looked for


def against(spec: Spec, graph: Graph, batch: int, mode: Mode, threads: int, arguments: argparse.Namespace) -> int:
    """Race and print; RunError where the framework is missing or cannot run this network."""
    if arguments.against == "onnxruntime" and mode == "train":
        raise RunError("onnxruntime does not train", "add --inference")
    train, busy = spec.train, others_share()
    crowded = busy is not None and busy > BUSY
    if crowded:
        _say(f"other programs use {busy:.0%} of the processors: rivals are made to wait without spinning")
        # Threads that spin while they wait lose whole time slices to others: PyTorch took ten times as long so.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch loads its OpenMP
    weights, team = Weights(graph, getattr(train and train.optimizer, "weight_decay", 0.0)), WorkerPool(threads)
    weights.initialise(spec.seed)
    training = Training(weights, train.optimizer, len(shards_of(batch))) if mode == "train" and train else None
    with threadpool_limits(1, user_api="blas"):
        plan = lower(
            graph, batch, mode, weights, team, loss=train.loss if training and train else None, training=training
        )
        fill(plan, graph)
        values = {name: array.copy() for name, array in weights.arrays()}
        images, labels = np.ascontiguousarray(plan.images), plan.labels.copy()
        if arguments.against == "onnxruntime":
            rivals: Mapping[str, Program] = onnxruntime_programs(
                graph, values, images, threads=threads, spin=not crowded
            )
        elif arguments.against in ("jax", "keras"):
            translation = importlib.import_module(f"cnnspec.compare.{arguments.against}")
            _say(f"compiling with {arguments.against}")
            rivals = translation.programs(
                graph,
                values,
                images,
                labels,
                loss=train.loss if training and train else None,
                optimizer=train.optimizer if training and train else None,
                threads=threads,
            )
        else:
            rivals = pytorch_programs(
                graph,
                values,
                images,
                labels,
                mode,
                loss=train.loss if train else None,
                optimizer=train.optimizer if train else None,
                threads=threads,
                say=_say,
            )
        rate = train.optimizer.learning_rate if train else 0.0

        def own() -> None:
            if training is None:
                plan.images[...] = images
                plan.compute()
                _ = plan.output
            else:
                plan.step(rate)

        seconds = arguments.seconds / ROUNDS
        found = race({OWN: own, **rivals}, OWN, rounds=ROUNDS, seconds=seconds, progress=lambda: _say("one round more"))
    team.close()
    if busy is not None:
        time.sleep(SETTLE)
        busy = max(busy, others_share() or 0.0)  # others may have come meanwhile
        crowded = busy > BUSY
    if arguments.json:
        print(json.dumps(_figures(found, batch, mode, threads, busy), indent=2))
    else:
        _print(found, batch, mode, threads)
        if crowded:
            print(f"other programs used {busy:.0%} of the processors: these ratios are not those of a quiet machine")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _figures(found: Race, batch: int, mode: Mode, threads: int, busy: float | None) -> dict[str, Any]:
    ratios = found.ratios(found.best)
    return {
        "mode": mode,
        "batch": batch,
        "threads": threads,
        "used_by_others": busy,
        "programs": {
            name: {"seconds": list(values), "images_per_second": batch / found.median(name)}
            for name, values in found.seconds.items()
        },
        "best_rival": found.best,
        "ratio": {"median": ratios[len(ratios) // 2], "lowest": ratios[0], "highest": ratios[-1]},
    }


def _print(found: Race, batch: int, mode: Mode, threads: int) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("program")
    for heading in ("ms", "images/s", "cnnspec is faster by", "from", "to"):
        table.add_column(heading, justify="right")
    for name in found.seconds:
        seconds = found.median(name)
        ratios = [] if name == OWN else found.ratios(name)
        spread = (f"{ratios[len(ratios) // 2]:.2f}", f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}") if ratios else ()
        table.add_row(name, f"{seconds * 1e3:,.3f}", f"{batch / seconds:,.0f}", *spread)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    ratios = found.ratios(found.best)
    print(
        f"\n{mode} at batch {batch} on {threads} threads: {ratios[len(ratios) // 2]:.2f} times {found.best} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds, in alternation)"
    )
