"""Losses: what training minimises, and the gradient that the backward pass starts with."""

from cnnspec.optim.losses.base import Loss
from cnnspec.optim.losses.class_scores import ClassScores, Dice, SoftmaxCrossEntropy
from cnnspec.optim.losses.class_weights import ClassWeights, NamedWeights, Weighted
from cnnspec.optim.losses.combined import Losses, Term
from cnnspec.optim.losses.elementwise import BinaryCrossEntropy, Elementwise, Huber, MeanAbsoluteError, MeanSquaredError
from cnnspec.optim.losses.inner import Inner, KlDivergence, MeanOutput

__all__ = [
    "BinaryCrossEntropy",
    "ClassScores",
    "ClassWeights",
    "Dice",
    "Elementwise",
    "Huber",
    "Inner",
    "KlDivergence",
    "Loss",
    "Losses",
    "MeanAbsoluteError",
    "MeanOutput",
    "MeanSquaredError",
    "NamedWeights",
    "SoftmaxCrossEntropy",
    "Term",
    "Weighted",
]
