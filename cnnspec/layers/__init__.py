"""Layer types, one file a family."""

from cnnspec.layers import activation, conv, curve, dense, dropout, group_norm, merge, norm, pool, reshape, resize
from cnnspec.layers.base import Layer, Operands, Parameter

__all__ = [
    "Layer",
    "Operands",
    "Parameter",
    "activation",
    "conv",
    "curve",
    "dense",
    "dropout",
    "group_norm",
    "merge",
    "norm",
    "pool",
    "reshape",
    "resize",
]
