"""Losses: what training minimises, and the gradient that the backward pass starts with."""

from cnnspec.optim.losses.base import Loss
from cnnspec.optim.losses.class_scores import ClassScores, Dice, SoftmaxCrossEntropy
from cnnspec.optim.losses.class_weights import ClassWeights, NamedWeights
from cnnspec.optim.losses.elementwise import BinaryCrossEntropy, Elementwise, Huber, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "BinaryCrossEntropy",
    "ClassScores",
    "ClassWeights",
    "Dice",
    "Elementwise",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "NamedWeights",
    "SoftmaxCrossEntropy",
]
