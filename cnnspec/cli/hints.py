"""Suggests what to write instead of an argument that a verb does not take."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from cnnspec.spec.paths import path_of
from cnnspec.spec.suggest import nearest

EXAMPLES = {"train.epochs": "3", "train.batch_size": "64", "train.optimizer.learning_rate": "0.01", "seed": "1"}
NO_DEVICE = "cnnspec computes on processors; --threads says on how many"
DEVICES = {"device", "gpu", "gpus", "cuda", "accelerator"}


def instead(refused: str, words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Return the cure for one of the words that a verb's parser refused: its own nearest flag, or the key of a spec."""
    flag, equals, given = refused.partition("=")
    if not flag.startswith("--"):
        return f"see {parser.prog} --help"
    word = flag.strip("-")
    behind = words[words.index(refused) + 1 :]
    value = given if equals else next((text for text in behind[:1] if not text.startswith("-")), "")
    known = _flags(parser)
    path = path_of(word) if "set" in known else None
    near = nearest(word, known)
    if near and (path is None or path.rpartition(".")[2] != word.replace("-", "_")):
        return f"did you mean --{near[0]}?"
    if word in DEVICES:
        return NO_DEVICE
    if path is None:
        return f"see {parser.prog} --help"
    return f"the spec says it: change it with --set {path}={value or EXAMPLES.get(path, '...')}"


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    options: Iterable[str] = (text for action in parser._actions for text in action.option_strings)
    return [text.removeprefix("--") for text in options if text.startswith("--")]
