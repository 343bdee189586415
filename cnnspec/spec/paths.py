"""Finds the path of a setting, as `--set` takes it, for a single word such as `lr`."""

from __future__ import annotations

from cnnspec.fields import options
from cnnspec.spec.suggest import nearest
from cnnspec.spec.words import meant

SHORTEST = 4  # letters of a word that may be a misspelt one
OF_THE_OPTIMIZER = ("learning_rate", "momentum", "weight_decay")
OF_THE_DATA = ("source", "augment", "preprocess", "validation")


def path_of(word: str) -> str | None:
    """Return the path of the setting that a word names, here or in another framework, or None."""
    from cnnspec.optim.settings import TrainSettings  # imports all optimizers, which are only needed after a mistake

    paths = {option.name: f"train.{option.name}" for option in options(TrainSettings)}
    paths |= {name: f"train.optimizer.{name}" for name in OF_THE_OPTIMIZER}
    paths |= {name: f"data.{name}" for name in OF_THE_DATA}
    paths["seed"] = "seed"
    name = word.strip("-").replace("-", "_").lower()
    near = [name] if name in paths else nearest(name, paths)
    if len(name) < SHORTEST and near and near[0] != name and meant(name, paths) is None:
        return None  # a short word is similar to too many names
    return paths[near[0]] if near else None
