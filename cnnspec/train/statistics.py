"""New running statistics for weights that no step has passed images through, such as averages."""

from __future__ import annotations

import numpy as np

from cnnspec.data import Dataset
from cnnspec.plan import images_of_ranks
from cnnspec.train.network import Network

MOST_IMAGES = 4096  # the most images that are used, unless one batch is larger


def measure_statistics(network: Network, images: Dataset, batch_size: int) -> None:
    """Set running statistics to the means over several batches, drawn by the seed, without augmentation.

    The weights do not change. Nothing is done if no layer takes statistics of the batch.
    """
    nodes = [node for node in network.graph.nodes if node.layer.batch_statistics and node.state]
    if not nodes:
        return
    weights, size = network.weights, min(batch_size, len(images))
    order = np.random.default_rng([network.spec.seed, 4]).permutation(len(images))
    plan, before = network.plan(size, "train"), weights.statistics.copy()
    count, ranks = max(1, min(len(images), MOST_IMAGES) // size), network.exchange
    own = images_of_ranks(size, ranks.size)[ranks.rank]
    total = np.zeros(before.shape)
    for number in range(count):
        plan.images[...] = images.pixels[np.sort(order[number * size : (number + 1) * size])[own]]
        weights.statistics.fill(0)  # so that a pass leaves the batch's statistics there, times 1 - momentum
        plan.compute()
        total += weights.statistics
    weights.statistics[...] = before
    means = weights.state_in(total / count)
    for node in nodes:
        share = 1 - getattr(node.layer, "momentum", 0.0)
        for name, array in weights.node_state(node).items():
            array[...] = means[f"{node.name}.{name}"] / share
    weights.version += 1
