"""The portable level: all processors compute with the kernels for AVX2, which give the same bits on each of them.

OpenBLAS and NumPy choose among kernels by the processor, and each kernel adds in an order of its own. Both choose when
they are loaded, and let the environment narrow the choice: a process that has loaded them has to be started anew.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from threadpoolctl import threadpool_info

from cnnspec.diagnostics import RunError, StartError
from cnnspec.kernels.machine import vector_instructions

BLAS, DISABLED, ENABLED = "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"
KERNEL = "Haswell"  # OpenBLAS's name of the kernels for AVX2
# NumPy's names of what processors with AVX2 have, from version 2.4 on and before:
LEVEL = {"X86_V3", "SSSE3", "SSE41", "POPCNT", "SSE42", "AVX", "F16C", "FMA3", "AVX2"}
NEEDED = ({"X86_V3"}, {"AVX2", "FMA3"})


def require_level() -> None:
    """Raise RunError unless this process computes at the portable level; StartError if a restarted one would."""
    if pinned():
        return
    reason = obstacle()
    if reason is not None:
        raise RunError(f"portable: {reason}", "leave portable out, or train on an x86-64 processor that has AVX2")
    raise StartError(
        "portable: this process has loaded OpenBLAS and NumPy for its own processor, and they cannot be changed",
        pinning(),
    )


def pinned() -> bool:
    """Whether this process computes with kernels and instructions of the portable level, and no others."""
    return _kernels() == {KERNEL} and vector_instructions() <= LEVEL and _has_level()


def obstacle() -> str | None:
    """Why no process on this machine can compute at the portable level; None if one can."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"this processor is {platform.machine()}, not x86-64"
    if not _has_level():
        return "this processor has no AVX2 and FMA, or NumPy was told not to use them"
    if not _kernels():
        return "NumPy has another BLAS here than OpenBLAS, as its wheels have it"
    setting = pinning()
    if not pinned() and all(os.environ.get(name, "") == value for name, value in setting.items()):
        return f"OpenBLAS and NumPy do not follow {' and '.join(setting)}"
    return None


def pinning(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables with which a process starts at the portable level."""
    before = environment.get(DISABLED, "").replace(",", " ").split()
    disabled = dict.fromkeys([*before, *sorted(vector_instructions() - LEVEL)])
    return {BLAS: KERNEL} | ({DISABLED: " ".join(disabled)} if disabled else {})


def _has_level() -> bool:
    return any(needed <= vector_instructions() for needed in NEEDED)


def _kernels() -> set[str]:
    """The names of the kernels that the loaded OpenBLAS libraries have chosen."""
    return {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
