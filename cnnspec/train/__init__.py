"""The loop, metrics, checkpoints and the run directory."""

from cnnspec.train.fit import Epoch, Position, Progress, fit
from cnnspec.train.network import Network
from cnnspec.train.run import Run
from cnnspec.train.score import Score

__all__ = ["Epoch", "Network", "Position", "Progress", "Run", "Score", "fit"]
