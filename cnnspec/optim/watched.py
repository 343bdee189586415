"""The figures that early stopping and the plateau schedule can watch: those that every epoch has."""

from typing import Literal

Watched = Literal[
    "validation.loss",
    "validation.accuracy",
    "validation.precision",
    "validation.recall",
    "validation.f1",
    "validation.top_k",
    "train.loss",
    "train.accuracy",
]
