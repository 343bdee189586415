"""The versions that a result depends on."""

from __future__ import annotations

import platform

import numpy as np
from threadpoolctl import threadpool_info

import cnnspec


def versions() -> dict[str, str]:
    """cnnspec, Python, NumPy, its BLAS with the processor that it is tuned for, and the platform."""
    blas = [
        f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".rstrip()
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    return {
        "cnnspec": cnnspec.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": ", ".join(sorted(set(blas))),
        "platform": platform.platform(),
    }
