"""The arrays that outlive a plan: parameters, running statistics, gradients, optimizer slots, averages, the clock."""

from cnnspec.plan.state.all_reduce import AllReduce, tree_sum
from cnnspec.plan.state.parameters import Weights
from cnnspec.plan.state.random import Stream
from cnnspec.plan.state.training import Chunk, Training

__all__ = ["AllReduce", "Chunk", "Stream", "Training", "Weights", "tree_sum"]
