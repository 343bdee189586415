"""The figures that early stopping and the plateau schedule may watch: those that are computed in every epoch."""

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
