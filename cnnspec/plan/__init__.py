"""From a graph to steps over preallocated arrays."""

from cnnspec.plan.lower import Entry, arena_bytes, lower, shards_of
from cnnspec.plan.plan import Plan
from cnnspec.plan.team import Team
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights

__all__ = ["Entry", "Plan", "Team", "Training", "Weights", "arena_bytes", "lower", "shards_of"]
