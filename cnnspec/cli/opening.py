"""Opens the data of a spec, from the folder that the arguments name."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from cnnspec.cli.output import console
from cnnspec.cli.output import note as tell
from cnnspec.cli.progress import reading_bar
from cnnspec.data import Data, Inputs, Pipeline, open_data
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.spec import Spec


def opened(
    spec: Spec,
    graph: Graph,
    arguments: argparse.Namespace,
    classes: Sequence[str] = (),
    pipeline: Pipeline | None = None,
    learned: Collection[str] | None = None,
) -> Data:
    """Open the spec's data as `add_data`'s arguments say; notes on it go to standard error.

    For a trained network, `classes` are those it was trained with, `pipeline` has the shape and scale of its images,
    and `learned` are the checksums of its training files, if others are opened.
    """
    if spec.data is None:
        raise RunError(f"{spec.path} has no data section, so there are no images", "add data: {source: digits}")
    with reading_bar(console(stderr=True)) as watch:
        data = open_data(
            spec.data,
            seed=spec.seed,
            data_dir=arguments.data,
            base=spec.base,
            download=arguments.download,
            input=spec.input,
            output=graph.output.shape,
            classes=classes,
            shape=None if pipeline is None else pipeline.shape,
            watch=watch,
            scale=None if pipeline is None else pipeline.scale,
            inputs=Inputs(spec.inputs) if pipeline is None else pipeline.inputs,
            learned=learned,
        )
    notes = list(data.notes)
    if spec.train is not None and spec.train.batch_size > len(data.train):
        notes.append(f"batch_size {spec.train.batch_size:,} is more than the {len(data.train):,} training images")
    outputs, named = graph.output.shape, len(data.class_names)
    classifies = spec.train is not None and not spec.train.loss.reads_input and data.target.kind == "class"
    if classifies and not classes and len(outputs) == 1 and outputs[0] > named:
        classes_named = "1 class" if named == 1 else f"{named} classes"
        spare = outputs[0] - named
        last = "last one has none" if spare == 1 else f"last {spare} have none"
        notes.append(f"{outputs[0]} outputs for {classes_named}: the {last}")
    for note in notes:
        tell(note)
    return data
