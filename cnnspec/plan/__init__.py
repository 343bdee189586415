"""From a graph to steps over preallocated arrays."""

from cnnspec.plan.footprint import Footprint, inference_footprint, training_footprint
from cnnspec.plan.lower import arena_bytes, lower
from cnnspec.plan.lowering import Entry, shards_of
from cnnspec.plan.memory import Pool
from cnnspec.plan.plan import Plan
from cnnspec.plan.update import Training
from cnnspec.plan.weights import Weights

__all__ = [
    "Entry",
    "Footprint",
    "Plan",
    "Pool",
    "Training",
    "Weights",
    "arena_bytes",
    "inference_footprint",
    "lower",
    "shards_of",
    "training_footprint",
]
