"""The figures that early stopping and the plateau schedule may watch, which every epoch has."""

from typing import Annotated, Literal, get_args

from cnnspec.fields import FIGURE_PATTERN, Schema

LOWER = (".loss", ".mae", ".rmse")  # the endings of figures that fall as a network learns

OfAll = Literal[
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
# Beside the figures of the whole network there are those of each of several losses.
Watched = Annotated[
    str, Schema({"anyOf": [{"enum": list(get_args(OfAll))}, {"type": "string", "pattern": FIGURE_PATTERN}]})
]
