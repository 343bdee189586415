"""A short name for the exact bits of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from cnnspec.kernels.step import Array


def fingerprint(network: Mapping[str, Array], averages: Mapping[str, Array]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over parameters, running statistics and their averages, by name."""
    digest = sha256()
    for name, array in [*sorted(network.items()), *sorted(averages.items())]:
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
