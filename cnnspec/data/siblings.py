"""The usual names of the other splits' files and folders, beside those of the training images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

WORDS = {"validation": ("val", "valid", "validation"), "test": ("test", "testing")}  # in the place of "train"


def beside(train: Path, split: str, usable: Callable[[Path], bool]) -> Path | None:
    """Return the first path named like the training images', with the split in the place of `train`, that is usable."""
    named = (train.with_name(_renamed(train.name, word)) for word in WORDS[split])
    return next((path for path in named if path != train and usable(path)), None)


def _renamed(name: str, split: str) -> str:
    """Return a name in which the word `train` is replaced by the name of another split."""
    return name.replace("train", split).replace("Train", split.title()).replace("TRAIN", split.upper())
