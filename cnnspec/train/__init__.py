"""The loop, metrics, checkpoints and the run directory."""

from cnnspec.train.fit import Epoch, Position, Progress, fit
from cnnspec.train.model import Model, compile
from cnnspec.train.run import Run
from cnnspec.train.score import Score

__all__ = ["Epoch", "Model", "Position", "Progress", "Run", "Score", "compile", "fit"]
