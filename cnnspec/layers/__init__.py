"""Layer types, one file a family."""

from cnnspec.layers import (
    activation,
    conv,
    curve,
    dense,
    depthwise,
    dropout,
    group_norm,
    merge,
    norm,
    pool,
    resample,
    reshape,
    resize,
    response_norm,
    selection,
    transposed,
)
from cnnspec.layers.base import Layer, Operands, Parameter

__all__ = [
    "Layer",
    "Operands",
    "Parameter",
    "activation",
    "conv",
    "curve",
    "dense",
    "depthwise",
    "dropout",
    "group_norm",
    "merge",
    "norm",
    "pool",
    "resample",
    "reshape",
    "resize",
    "response_norm",
    "selection",
    "transposed",
]
