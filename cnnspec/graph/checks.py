"""Checks of a graph whose shapes fit: against its data, its loss, and the spec's `expect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph.counts import by_layer, explanations
from cnnspec.graph.heads import wrong
from cnnspec.graph.inputs import one_input, several_inputs
from cnnspec.graph.node import INPUT, Graph
from cnnspec.graph.published import zoo_differences
from cnnspec.shapes import ShapeError, text
from cnnspec.spec.model import Budget, Spec
from cnnspec.spec.place import Place
from cnnspec.target import FIGURES, KINDS, Kind, Target


def check(spec: Spec, graph: Graph) -> list[Diagnostic]:
    """Return findings about all misfits of the graph with its data, its loss, or `expect`, except about memory."""
    return [
        *one_input(spec),
        *several_inputs(spec, graph),
        *_splits(spec),
        *_loss(spec, graph),
        *_metrics(spec),
        *_augmentations(spec),
        *_averages(spec),
        *_first_filters(spec, graph),
        *_views(spec, graph),
        *over_budget(spec, counted(graph), graph),
    ]


def counted(graph: Graph) -> dict[str, int | tuple[int, ...]]:
    """The figures that `expect` may name and that follow from the graph alone."""
    return {
        "params": graph.parameter_count,
        "trained_params": graph.trainable_count,
        "macs": graph.macs,
        "output": graph.output.shape,
    }


def _splits(spec: Spec) -> Iterator[Diagnostic]:
    """Find splits that need more images than the source has, if it tells their number without reading them."""
    if spec.data is None:
        return
    counts = dict(spec.data.source.counts)
    validation = spec.data.validation
    if validation is not None:
        if validation.folds is not None:
            if (validation.fraction, validation.limit) != (None, None):
                message = "data.validation: expected fraction, limit or folds, got two of them"
                yield _of_split(spec, "validation", "folds", message, "leave two of them out")
            elif not validation.fold <= validation.folds or validation.folds < 2:
                message = f"data.validation: expected a fold of 2 or more, got {validation.fold} of {validation.folds}"
                yield _of_split(spec, "validation", "fold", message, "write validation: {folds: 5, fold: 1}")
        elif (validation.fraction is None) == (validation.limit is None):
            which_sets = "neither" if validation.limit is None else "both"
            message = f"data.validation: expected fraction, limit or folds, got {which_sets}"
            yield _of_split(spec, "validation", None, message, "write validation: {fraction: 0.1}")
        elif validation.fraction == 0:
            message = "data.validation.fraction: expected a share above 0, got 0"
            yield _of_split(spec, "validation", "fraction", message, "leave validation out, or write 0.1")
        elif "train" in counts:
            count = validation.limit or round((validation.fraction or 0) * counts["train"])
            if count >= counts["train"]:
                message = f"data.validation: expected at most {counts['train'] - 1:,} images, got {count:,}"
                yield _of_split(spec, "validation", "limit", message, "write validation: {fraction: 0.1}")
            counts["train"] -= count
    kind = spec.data.source.target_kind
    if spec.data.train.sampling == "balanced" and kind not in (None, "class"):
        message = f"data.train.sampling: balanced needs one class an image, the target is {KINDS[kind]}"
        yield _of_split(spec, "train", "sampling", message, "leave sampling out")
    for split, limit in (("train", spec.data.train.limit), ("test", spec.data.test.limit)):
        if limit is not None and 0 < counts.get(split, limit) < limit:
            message = f"data.{split}.limit: expected at most {counts[split]:,}, which is all there are, got {limit:,}"
            yield _of_split(spec, split, "limit", message, "lower the limit or leave it out")


def _of_split(spec: Spec, split: str, key: str | None, message: str, help: str) -> Diagnostic:
    path = f"data.{split}"
    return Diagnostic("split-mismatch", "error", message, _section(spec, path).of(key), path, help)


def _loss(spec: Spec, graph: Graph) -> list[Diagnostic]:
    if spec.train is None:
        return []
    target = spec.data.target if spec.data else Target()
    if spec.train.losses is not None:
        from cnnspec.graph.joining import loss_errors  # a spec without training needs no losses

        mistakes = loss_errors(graph, spec.train.loss, target, spec.input)
        return [wrong(spec, name, key, str(error), error.help) for name, key, error in mistakes]
    try:
        spec.train.loss.check(graph.output.shape, target, spec.input)
    except ShapeError as error:
        place = graph.output.place or spec.place
        return [
            Diagnostic(
                code="output-mismatch",
                severity="error",
                message=f"{graph.output.layer.type_name} '{graph.output.name}': {error}",
                span=place.of("units"),
                path=place.path,
                help=error.help,
                related=place.uses,
            )
        ]
    return []


def _metrics(spec: Spec) -> list[Diagnostic]:
    """Find settings that name figures which the target lacks, or figures of validation images that do not exist."""
    if spec.data is None:
        return []
    named = list(named_metrics(spec))
    target = spec.data.target if spec.data.source.target_kind is not None else None
    known = known_figures(spec, target)
    if known is not None:
        kind = "several losses" if spec.train and spec.train.losses else KINDS[_kind(spec, target)]
        unknown = [
            Diagnostic(
                "unknown-metric",
                "error",
                f"{section}: expected a figure of the target, which is {kind}, got {metric}",
                _section(spec, section).of(key),
                f"{section}.{key}",
                f"name one of {', '.join(known)}",
            )
            for section, key, metric in named
            if metric.partition(".")[2] not in known
        ]
        if unknown:
            return unknown
    if spec.data.validation is not None:
        return []
    return [
        Diagnostic(
            code="unknown-metric",
            severity="error",
            message=f"{section}: expected a figure that there is, got {metric} where no images are set apart",
            span=_section(spec, section).of(key),
            path=f"{section}.{key}",
            help="add data: {validation: {fraction: 0.1}}, or name a figure of train or test",
        )
        for section, key, metric in named
        if metric.startswith("validation.")
    ]


def _kind(spec: Spec, target: Target | None) -> Kind:
    learned = target if spec.train is None or target is None else spec.train.loss.learned(target)
    return "class" if learned is None else learned.kind


def known_figures(spec: Spec, target: Target | None) -> tuple[str, ...] | None:
    """The figures of the data's target, and of each of several losses by name; None if only the files tell them."""
    reads_labels = spec.train is None or spec.train.loss.reads_labels
    if target is None and reads_labels:
        return None
    figures = FIGURES[_kind(spec, target)] if reads_labels else FIGURES["input"]
    if spec.train is None or spec.train.losses is None:
        return figures
    from cnnspec.optim.losses.combined import evaluated, target_of  # a spec without training needs no losses

    terms = evaluated(spec.train.losses)
    kinds = {name: target_of(name, term, target or Target()).kind for name, term in terms.items()}
    return (*figures, *(f"{name}.{figure}" for name, kind in kinds.items() for figure in FIGURES[kind]))


def named_metrics(spec: Spec) -> Iterator[tuple[str, str, str]]:
    """Yield every figure that a spec names: the section, the key in it, and the figure."""
    yield from (("require", required.metric, required.metric) for required in spec.require)
    if spec.sweep is not None:
        yield "sweep", "metric", spec.sweep.metric
    if spec.train is not None:
        for key in ("early_stopping", "schedule"):
            metric = getattr(getattr(spec.train, key), "metric", None)
            if metric is not None:
                yield f"train.{key}", "metric", metric


def _views(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Find test-time augmentation of a network without one answer for each image that could be averaged."""
    if spec.data is None or spec.data.tta is None:
        return
    several = sum(not head.training_only for head in graph.heads) > 1
    if len(spec.input) == 3 and len(graph.output.shape) == 1 and not several:
        return
    subject = (
        "it has several losses"
        if several
        else "it reads vectors"
        if len(spec.input) != 3
        else f"its output is a map of {text(graph.output.shape)}"
    )
    message = f"tta: expected a network with one answer for each image, but {subject}"
    yield Diagnostic("invalid-value", "error", message, _section(spec, "data").of("tta"), "data.tta", "leave tta out")


def _first_filters(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Find initializers that learn from images in a layer that does not read them, or in a spec without data."""
    for node in graph.nodes:
        for name, parameter in node.params.items():
            if not getattr(parameter.initializer, "from_images", False) or node.place is None:
                continue
            kind = getattr(parameter.initializer, "type_name", "")
            if spec.data is None:
                problem, help = "the spec has no data section to learn from", "add data: {source: digits}"
            elif node.inputs != (INPUT,) or not node.layer.convolves or parameter.shape[1] != spec.input[0]:
                problem = "it needs a convolution that reads all channels of the network's input"
                help = "put it in the first layer, without groups"
            else:
                continue
            message = f"{node.layer.type_name} '{node.name}': {name} cannot start {kind}: {problem}"
            place, key = node.place, f"{name}_init"
            path = f"{place.path}.{key}"
            yield Diagnostic("invalid-value", "error", message, place.of(key), path, help, related=place.uses)


def _averages(spec: Spec) -> Iterator[Diagnostic]:
    """Find two averages of the weights, of which only one can be scored, or an average that begins too late."""
    swa = spec.train.swa if spec.train else None
    if spec.train is None or swa is None:
        return
    place, help = _section(spec, "train"), "leave one of them out"
    message = "train: expected ema or swa, got both" if spec.train.ema is not None else ""
    epochs = int(spec.train.epochs)
    if not message and swa.after >= epochs:
        message = f"swa.after: expected less than the {epochs} whole epochs of the training, got {swa.after:g}"
        help = "begin earlier, or train longer"
    if message:
        yield Diagnostic("invalid-value", "error", message, place.of("swa"), "train.swa", help)


def _augmentations(spec: Spec) -> Iterator[Diagnostic]:
    """Find augmentations that cannot change the labels together with the image."""
    kind = spec.data.target.kind if spec.data else None
    if spec.data is None or kind not in ("mask", "several"):
        return
    for i, augmentation in enumerate(spec.data.augment if kind == "several" else ()):
        if augmentation.mixes_labels:
            message = f"{augmentation.type_name}: it cannot mix labels of several targets"
            span = _section(spec, "data").of("augment")
            yield Diagnostic("invalid-value", "error", message, span, f"data.augment[{i}]", "leave it out")
    if kind == "several":
        return
    for i, augmentation in enumerate(spec.data.augment):
        if augmentation.moves is None:
            yield Diagnostic(
                "invalid-value",
                "error",
                f"{augmentation.type_name}: it does not say how a mask moves with its image",
                _section(spec, "data").of("augment"),
                f"data.augment[{i}]",
                "use flip, crop, shift, rotate, scale, elastic, brightness, contrast or cutout",
            )


def over_budget(
    spec: Spec, figures: Mapping[str, int | tuple[int, ...]], graph: Graph | None = None
) -> list[Diagnostic]:
    """Return a finding for each figure that differs from its value in `expect`; one of parameters lists the layers."""
    place = _section(spec, "expect")
    return [
        Diagnostic(
            code="expect-not-met",
            severity="error",
            message=f"expect.{name}: expected {_wanted(budget)}, got {_figure(figures[name])}",
            span=place.of(name),
            path=f"expect.{name}",
            help="change the network, or the figure if the change was meant",
            notes=_counted(name, graph, budget) if graph is not None else (),
        )
        for name, budget in spec.expect.items()
        if name in figures and not _is_within(budget, figures[name])
    ]


def _counted(name: str, graph: Graph, budget: Budget) -> tuple[str, ...]:
    """Notes on a count of parameters that differs from `expect`."""
    if name == "params":
        wanted = budget.exact
        reasons = [*explanations(graph, wanted), *zoo_differences(graph, wanted)] if isinstance(wanted, int) else []
        return (f"parameters by layer: {by_layer(graph)}", *reasons)
    if name == "trained_params":
        frozen = graph.parameter_count - graph.trainable_count
        return (f"{graph.parameter_count:,} parameters, of which trainable: false keeps {frozen:,} as they start",)
    return ()


def _section(spec: Spec, name: str) -> Place:
    return spec.sections.get(name, spec.place)


def _is_within(budget: Budget, figure: int | tuple[int, ...]) -> bool:
    if budget.exact is not None:
        return budget.exact == figure
    assert isinstance(figure, int)
    return (budget.minimum is None or figure >= budget.minimum) and (budget.maximum is None or figure <= budget.maximum)


def _wanted(budget: Budget) -> str:
    if budget.exact is not None:
        return _figure(budget.exact)
    bounds = (("at least", budget.minimum), ("at most", budget.maximum))
    return " and ".join(f"{word} {_figure(bound)}" for word, bound in bounds if bound is not None)


def _figure(figure: int | tuple[int, ...]) -> str:
    return text(figure) if isinstance(figure, tuple) else f"{figure:,}"
