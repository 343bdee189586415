"""What every verb that compiles a spec checks first, and how its data is opened."""

from __future__ import annotations

import argparse
import sys

from cnnspec.data import Data, open_data
from cnnspec.graph import Graph, build
from cnnspec.graph.checks import check
from cnnspec.spec import Spec


def checked(spec: Spec) -> Graph:
    """The graph of a spec that is right in itself, fits its data and keeps its budgets; else SpecError."""
    graph = build(spec)
    check(spec, graph)
    if {"train_memory", "infer_memory"} & set(spec.expect):
        from cnnspec.plan.budget import check_budgets  # loads the engine, which nothing else here needs

        check_budgets(spec, graph)
    return graph


def opened(spec: Spec, graph: Graph, arguments: argparse.Namespace) -> Data:
    """The spec's data, from where `add_data`'s arguments say; what was left out of it goes to standard error."""
    assert spec.data is not None
    data = open_data(
        spec.data,
        seed=spec.seed,
        data_dir=arguments.data,
        download=arguments.download,
        input=spec.input,
        output=graph.output.shape,
    )
    notes = list(data.notes)
    if spec.train is not None and spec.train.batch_size > len(data.train):
        notes.append(f"batch_size {spec.train.batch_size:,} is more than the {len(data.train):,} training images")
    for note in notes:
        print(f"cnnspec: note: {note}", file=sys.stderr)
    return data
