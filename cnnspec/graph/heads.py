"""The values that several losses read, found by the names that the spec gives to layers."""

from __future__ import annotations

from collections.abc import Mapping

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph.node import INPUT, Head
from cnnspec.spec.model import Spec
from cnnspec.spec.place import Place
from cnnspec.spec.suggest import did_you_mean


def place_of(spec: Spec, name: str) -> Place:
    """The place of a loss in the spec."""
    return spec.sections.get(f"train.losses.{name}", spec.sections.get("train", spec.place))


def wrong(spec: Spec, name: str, key: str | None, message: str, help: str | None) -> Diagnostic:
    """Return a finding about a loss, at one of its keys."""
    place = place_of(spec, name)
    path = f"train.losses.{name}{f'.{key}' if key else ''}"
    return Diagnostic("loss-mismatch", "error", f"losses.{name}: {message}", place.of(key), path, help)


def find(spec: Spec, values: Mapping[str, str], diagnostics: list[Diagnostic]) -> tuple[Head, ...]:
    """Find the values that each loss reads, by the names of the spec's layers; report names that lead to none."""
    losses = spec.train.losses if spec.train else None
    heads = []
    for name, term in (losses or {}).items():
        layers = term.layer or (name,)
        known = [layer for layer in values if layer != INPUT]
        missing = [layer for layer in layers if layer not in known]
        if missing:
            help = did_you_mean(missing[0], known, "layers")
            help = help if term.layer else f"name one with layer; {help}"
            diagnostics.append(wrong(spec, name, "layer", f"no layer '{missing[0]}'", help))
        elif len(layers) != term.loss.reads:
            wanted = "one layer" if term.loss.reads == 1 else f"{term.loss.reads} layers"
            message = f"{term.loss.type_name} reads {wanted}, got {len(layers)}"
            help = (
                "merge them first, for example with concat" if len(layers) > 1 else "write layer: [mean, log_variance]"
            )
            diagnostics.append(wrong(spec, name, "layer", message, help))
        else:
            heads.append(Head(name, tuple(values[layer] for layer in layers), term.training_only))
    if losses and all(term.training_only for term in losses.values()):
        message = "every loss is there in training only, so the network has no output"
        diagnostics.append(
            wrong(spec, next(iter(losses)), "training_only", message, "leave it out where the output is")
        )
    labelled = [term for term in (losses or {}).values() if term.loss.reads_labels]
    if losses and labelled and all(term.training_only for term in labelled) and len(labelled) < len(losses):
        message = "what it learns, the labels, no loss is measured by outside of training"
        name = next(name for name, term in losses.items() if term.loss.reads_labels)
        diagnostics.append(
            wrong(spec, name, "training_only", message, "leave training_only out of one that reads labels")
        )
    return tuple(heads)
