"""Optimizers, learning-rate schedules, losses and initializers, each a registered class."""

from cnnspec.optim.from_data import FromData
from cnnspec.optim.initializers import Initializer
from cnnspec.optim.layerwise import Lamb, Muon
from cnnspec.optim.losses import Loss, Losses
from cnnspec.optim.optimizers import Optimizer, Update
from cnnspec.optim.schedules import Schedule
from cnnspec.optim.settings import TrainSettings

__all__ = [
    "FromData",
    "Initializer",
    "Lamb",
    "Loss",
    "Losses",
    "Muon",
    "Optimizer",
    "Schedule",
    "TrainSettings",
    "Update",
]
