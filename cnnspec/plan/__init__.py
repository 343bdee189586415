"""From a graph to programs of steps over preallocated arrays."""

from cnnspec.plan.choices import Choices
from cnnspec.plan.memory.arena import ArenaPool
from cnnspec.plan.memory.arrays import Entry
from cnnspec.plan.memory.footprint import Footprint, arena_bytes, inference_footprint, training_footprint
from cnnspec.plan.plan import Plan
from cnnspec.plan.schedule.lower import lower
from cnnspec.plan.schedule.partition import images_of_ranks, shards_of
from cnnspec.plan.state import Training, Weights

__all__ = [
    "ArenaPool",
    "Choices",
    "Entry",
    "Footprint",
    "Plan",
    "Training",
    "Weights",
    "arena_bytes",
    "images_of_ranks",
    "inference_footprint",
    "lower",
    "shards_of",
    "training_footprint",
]
