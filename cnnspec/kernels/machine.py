"""What kernels must know of the processor."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

WIDE = {"X86_V4", "AVX512_SKX"}  # what NumPy calls AVX-512, since 2.4 and before


def _extensions() -> set[str]:
    """The vector instructions that NumPy has found."""
    configuration = cast(dict[str, Any], np.show_config(mode="dicts"))
    return set(configuration.get("SIMD Extensions", {}).get("found", ()))


AVX512 = bool(WIDE & _extensions())  # with it OpenBLAS multiplies small matrices without packing them first
