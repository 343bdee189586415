"""Did you mean: the names that are nearest to a misspelt one, or mean the same elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

MOST_NAMES = 60  # that a help line lists

# what other systems call it: Keras, PyTorch, Caffe, and people
SYNONYMS = {
    "avgpool": "avg_pool2d",
    "average_pooling2d": "avg_pool2d",
    "averagepool": "avg_pool2d",
    "batchnorm": "batch_norm",
    "batchnorm2d": "batch_norm",
    "batch_normalization": "batch_norm",
    "batchnormalization": "batch_norm",
    "batch": "batch_size",
    "bottom": "from",
    "class_name": "type",
    "hidden_units": "units",
    "include": "extends",
    "input_shape": "input",
    "kind": "type",
    "name": "id",
    "output_dim": "units",
    "weight_regularizer": "weight_decay",
    "conv": "conv2d",
    "convolution": "conv2d",
    "cross_entropy": "softmax_cross_entropy",
    "crossentropyloss": "softmax_cross_entropy",
    "eps": "epsilon",
    "fc": "dense",
    "features": "units",
    "gap": "global_avg_pool2d",
    "global_average_pooling2d": "global_avg_pool2d",
    "globalaveragepooling2d": "global_avg_pool2d",
    "identity_shortcut": "shortcut",
    "inputs": "from",
    "innerproduct": "dense",
    "inner_product": "dense",
    "kernel": "kernel_size",
    "kernel_shape": "kernel_size",
    "linear": "dense",
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "maxpool": "max_pool2d",
    "maxpool2d": "max_pool2d",
    "maxpooling2d": "max_pool2d",
    "mse": "mean_squared_error",
    "mse_loss": "mean_squared_error",
    "num_epochs": "epochs",
    "num_filters": "filters",
    "num_output": "filters",
    "nb_filter": "filters",
    "out_channels": "filters",
    "out_features": "units",
    "p": "rate",
    "pad": "padding",
    "pads": "padding",
    "pool_size": "kernel_size",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "size": "kernel_size",
    "strides": "stride",
    "swish": "silu",
    "use_bias": "bias",
    "wd": "weight_decay",
}


@lru_cache(maxsize=4096)  # a mistake is often made more than once
def distance(a: str, b: str) -> int:
    """Edits between two words: insertions, deletions, replacements and swaps of neighbours (Damerau 1964)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The nearest names, best first; those that are near enough to be meant."""
    folded = word.lower().replace("-", "_")
    names = list(names)
    if SYNONYMS.get(folded) in names:
        return [SYNONYMS[folded]]
    reach = {name: max(2, len(name) // 3) for name in names}
    # Words of very different lengths are far apart, and a very long one would take long.
    alike = [name for name in reach if abs(len(folded) - len(name)) <= reach[name]]
    ranked = sorted((distance(folded, name.lower()), name) for name in alike)
    return [name for edits, name in ranked if edits <= reach[name]][:count]


def clearest(word: str, names: Iterable[str]) -> str | None:
    """The one name that is nearer than all others, and near enough to be put in unseen."""
    listed = list(names)
    near = nearest(word, listed, 2)
    if not near:
        return None
    if SYNONYMS.get(word.lower()) == near[0]:
        return near[0]
    first, *others = (distance(word.lower(), name.lower()) for name in near)
    return near[0] if first <= 2 and all(first < other for other in others) else None


def did_you_mean(word: str, names: Iterable[str], what: str) -> str:
    """A help line: the nearest names, or all where none is near."""
    listed = list(names)
    near = nearest(word, listed)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(listed[:MOST_NAMES]) + (", ..." if len(listed) > MOST_NAMES else "")
    return f"{what}: {shown}" if listed else f"there are no {what}"
