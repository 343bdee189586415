"""The figures that early stopping and the plateau schedule may watch: those that are computed in every epoch."""

from typing import Literal

LOWER = (".loss", ".mae", ".rmse")  # the ends of those that fall as a network learns

Watched = Literal[
    "validation.loss",
    "validation.accuracy",
    "validation.precision",
    "validation.recall",
    "validation.f1",
    "validation.top_k",
    "validation.mean_average_precision",
    "validation.mean_iou",
    "validation.mae",
    "validation.rmse",
    "validation.r2",
    "train.loss",
    "train.accuracy",
]
