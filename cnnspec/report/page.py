"""One HTML file about a run, or a comparison of several; ImportError where Jinja2, an extra, is missing.

The file contains its style, script and pictures, and forbids the browser any request.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from cnnspec.data import Data, Order
from cnnspec.data.batches import Batches
from cnnspec.duration import duration_text
from cnnspec.graph import Graph
from cnnspec.memory import bytes_text
from cnnspec.plan import training_footprint
from cnnspec.plan.memory.footprint import FLOAT
from cnnspec.report.answers import answers
from cnnspec.report.chart import Chart, Line, chart, line_of
from cnnspec.report.dataset import class_counts, evenly, label_words
from cnnspec.report.duplicates import duplicates
from cnnspec.report.inside import PICTURED, activations, ailing, filters, health
from cnnspec.report.outline import outline
from cnnspec.report.png import embedded, picture
from cnnspec.report.scene import as_svg
from cnnspec.report.template import rendered
from cnnspec.shapes import text
from cnnspec.spec import Spec
from cnnspec.train.network import Network
from cnnspec.train.norms import GRADIENT, WEIGHTS

Row = Mapping[str, Any]
SPLITS = ("train", "validation", "test")
FIGURES = {  # metrics that are drawn, in this order: title, and whether they are portions
    "loss": ("Loss", False),
    "accuracy": ("Accuracy", True),
    "mean_iou": ("Mean IoU", True),
    "mean_average_precision": ("Mean average precision", True),
    "mae": ("Mean absolute error", False),
}
SAMPLES = 12  # images of the first step that are shown
COLOURS = 8  # lines that the style sheet tells apart


@dataclass(frozen=True, slots=True)
class RunContent:
    """The content of a run's files: its name, run.json, the rows of metrics, the resolved spec without and with the
    places where its values were written, and the rows of norms.
    """

    name: str
    about: Mapping[str, Any]
    rows: Sequence[Row]
    spec: str
    origins: str = ""
    norms: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """Measured times of each layer: microseconds an image, forward and backward; `words` say how, or why none."""

    words: str
    layers: Mapping[str, tuple[float, float]]


def run_page(
    run: RunContent, model: Network, data: Data | None, notes: Sequence[str], weights: str, times: Times
) -> str:
    """Return the page of one run; without data the parts that need images are missing, and `notes` say why.

    `weights` names the checkpoint from which the network was loaded.
    """
    shown: dict[str, Any] = {}
    if data is not None:
        split = "test" if len(data.test) else "train"
        dataset = data.splits[split]
        shown["answers"] = answers(model, dataset, split, data.class_names or model.target.names)
        layers_health, count = health(model, dataset.pixels)
        shown |= {"health": {layer.layer: layer for layer in layers_health}, "measured": count}
        shown["ailing"] = ailing(model.graph, layers_health)
        layers, left_out = activations(model, dataset.pixels[:PICTURED])
        shown |= {"activations": layers, "left_out": left_out, "pictured": range(min(PICTURED, len(dataset)))}
        shown["inputs"] = [picture(image) for image in dataset.pixels[:PICTURED]]
        shown["samples"] = _samples(model, data)
        shown["counts"] = _class_counts(data)
        shown["duplicates"] = duplicates(data)
    return _rendered(
        "run.html",
        title=run.name,
        verdict=_verdict(run),
        tiles=list(_tiles(run)),
        charts=_charts([run]),
        rows=run.rows,
        metrics=_metrics(run.rows),
        notes=notes,
        weights=weights,
        filters=filters(model),
        norms=_norms(run.norms, model.graph),
        graph=embedded(as_svg(outline(model.graph)).encode(), "image/svg+xml"),
        layers=list(_layers(model.graph)),
        times=times,
        totals=_totals(model.spec, model.graph),
        spec=run.origins or run.spec,
        has_origins=bool(run.origins),
        facts=list(_facts(run)),
        **shown,
    )


def comparison_page(runs: Sequence[RunContent]) -> str:
    """Return the page of several runs: the differences of their specs, and their curves on common axes."""
    first, *others = runs
    facts = [dict(_facts(run)) for run in runs]
    differing = [key for key in dict.fromkeys(key for found in facts for key in found) if _differs(facts, key)]
    tiles = [dict(_tiles(run)) for run in runs]
    return _rendered(
        "comparison.html",
        title=" and ".join(run.name for run in runs),
        runs=runs,
        verdicts=[_verdict(run) for run in runs],
        headings=list(dict.fromkeys(key for found in tiles for key in found)),
        tiles=tiles,
        charts=_charts(runs),
        differences=[(first.name, other.name, list(_difference(first.spec, other.spec))) for other in others],
        differing=differing,
        facts=facts,
    )


def _rendered(template: str, **values: Any) -> str:
    defaults = dict.fromkeys(("answers", "health", "activations", "samples", "counts", "duplicates"), None)
    return rendered(template, **{**defaults, **values})


def _verdict(run: RunContent) -> str:
    """Return a sentence on how the training ended."""
    epochs = len(run.rows)
    trained = f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"
    if "results" in run.about:
        unmet = run.about.get("unmet") or []
        return f"Finished after {trained}." + (f" Required, and not reached: {'; '.join(unmet)}." if unmet else "")
    stopped = run.about.get("stopped")
    reason = f": {stopped}" if stopped else ": it was interrupted, diverged, or is still running"
    return f"Not finished after {trained}{reason}."


def _tiles(run: RunContent) -> Iterator[tuple[str, str]]:
    """Yield title and text of the most important figures."""
    rows = run.rows
    for metric, (title, percent) in FIGURES.items():
        for split in ("test", "validation"):
            values = [row[f"{split}.{metric}"] for row in rows if row.get(f"{split}.{metric}") is not None]
            if values:
                best = max(values) if percent else min(values)
                form = "{:.2%}" if percent else "{:.4g}"
                name = f"{split} {title[0].lower()}{title[1:]}" if title != "Mean IoU" else f"{split} mean IoU"
                best_text = "" if best == values[-1] else f" (best {form.format(best)})"
                yield name, form.format(values[-1]) + best_text
    if rows and all(rows[-1].get(f"{split}.loss") is None for split in ("test", "validation")):
        yield "train loss", f"{rows[-1]['train.loss']:.4g}"
    yield "epochs", str(len(rows))
    yield "parameters", f"{run.about.get('parameters', 0):,}"
    yield "training time", duration_text(sum(row.get("seconds") or 0.0 for row in rows))


def _charts(runs: Sequence[RunContent]) -> list[Chart]:
    single = len(runs) == 1
    made = []
    for metric, (title, percent) in FIGURES.items():
        lines: list[Line] = []
        for number, run in enumerate(runs):
            for place, split in enumerate(SPLITS):
                name = split if single else f"{run.name} {split}"
                colour = place if single else number % COLOURS
                lines.append(line_of(run.rows, f"{split}.{metric}", name, colour, place))
        made.append(chart(title, lines, percent=percent))
    rates = [
        line_of(run.rows, "learning_rate", "learning rate" if single else run.name, number % COLOURS, 0)
        for number, run in enumerate(runs)
    ]
    return [chart_drawn for chart_drawn in (*made, chart("Learning rate", rates)) if chart_drawn is not None]


def _norms(rows: Sequence[Row], graph: Graph) -> tuple[list[Chart], str]:
    """Return charts of the norms of weights and gradients of some layers, and a sentence on which layers these are."""
    layers = [node.name for node in graph.nodes if any(row.get(f"{node.name}{WEIGHTS}") is not None for row in rows)]
    chosen = [layers[place] for place in evenly(len(layers), min(len(layers), COLOURS)).tolist()] if layers else []
    made = []
    for ending, title in ((WEIGHTS, "Norm of the weights"), (GRADIENT, "Norm of the gradient")):
        lines = [line_of(rows, f"{layer}{ending}", layer, number, number % 3) for number, layer in enumerate(chosen)]
        made.append(chart(title, lines))
    words = f" Of {len(layers)} layers with weights these are {len(chosen)}, evenly chosen." * (
        len(layers) > len(chosen)
    )
    return [norm_chart for norm_chart in made if norm_chart is not None], words


def _metrics(rows: Sequence[Row]) -> list[str]:
    """Return the columns of the table of epochs: the metrics that are a number in any row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if any(isinstance(row.get(name), (int, float)) for row in rows)]


def _layers(graph: Graph) -> Iterator[tuple[str, ...]]:
    for node in graph.nodes:
        count, macs = node.parameter_count, node.macs
        memory = bytes_text(FLOAT * prod(node.shape))
        yield (
            node.name,
            node.layer.type_name,
            text(node.shape),
            f"{count:,}" if count else "",
            f"{macs:,}" if macs else "",
            memory,
        )


def _totals(spec: Spec, graph: Graph) -> str:
    sentence = f"{graph.parameter_count:,} parameters, {graph.macs:,} multiply-accumulates an image"
    if spec.train is not None:
        total = training_footprint(graph, spec.train.batch_size, spec.train).total
        sentence += f"; training at batch {spec.train.batch_size} takes {bytes_text(total)}"
    return sentence + "."


def _samples(model: Network, data: Data) -> list[tuple[str, str, str]]:
    """Return images of the first step, each plain, augmented and with its label; empty if the data is not images."""
    assert model.spec.data is not None
    size = model.spec.train.batch_size if model.spec.train else SAMPLES
    order = Order(len(data.train), size, model.spec.seed)
    chosen = next(order.epoch(0))[:SAMPLES]
    plain = [picture(image) for image in data.train.pixels[chosen]]
    if not all(plain):
        return []
    outputs = model.graph.output.shape[0] if model.mixes_labels else None
    batches = Batches(
        dataset=data.train,
        order=order,
        augmentations=model.spec.data.augment if model.spec.data else (),
        outputs=outputs,
    )
    with batches.epoch(0) as made:
        augmented = [picture(image) for image in next(made).images[:SAMPLES]]
    labels = [", ".join(label_words(data, label)) for label in data.train.labels[chosen]]
    return list(zip(plain, augmented if model.spec.data.augment else [""] * len(plain), labels, strict=True))


def _class_counts(data: Data) -> tuple[list[str], list[tuple[str, list[int], float]]] | None:
    """Return the images of each class by split, and their share of the largest training class in %, or None."""
    counted = class_counts(data)
    if not counted:
        return None
    most = max(*counted["train"], 1)
    rows = [
        (name, [counts[i] for counts in counted.values()], 100 * counted["train"][i] / most)
        for i, name in enumerate(data.class_names)
    ]
    return list(counted), rows


def _facts(run: RunContent) -> Iterator[tuple[str, str]]:
    record = run.about
    for key, name in (("command", "command"), ("started", "started"), ("seed", "seed"), ("threads", "threads")):
        if record.get(key) is not None:
            yield name, str(record[key])
    if run.rows and run.rows[-1].get("weights"):
        yield "fingerprint of the weights", str(run.rows[-1]["weights"])
    yield from (
        (f"{name} version" if name != "platform" else "machine", str(value))
        for name, value in _pairs(record, "versions")
    )
    yield from ((f"{split} images", f"{count:,}") for split, count in _pairs(record, "images"))
    yield from ((f"SHA-256 of {name}", str(value)) for name, value in _pairs(record, "data"))
    yield from (
        (f"plugin {number}", json.dumps(plugin)) for number, plugin in enumerate(record.get("plugins") or (), 1)
    )


def _pairs(about: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    value = about.get(key)
    return list(value.items()) if isinstance(value, dict) else []


def _differs(facts: Sequence[Mapping[str, str]], key: str) -> bool:
    return len({found.get(key) for found in facts}) > 1


def _difference(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that differ, each with `removed` or `added`."""
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0):
        if line.startswith(("---", "+++", "@@")):
            continue
        yield ("removed" if line.startswith("-") else "added"), line[1:]
