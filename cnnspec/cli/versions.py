"""The versions that a result depends on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import cnnspec


def versions() -> dict[str, str]:
    """cnnspec, Python, NumPy and the instructions that it uses, its BLAS with the kernel that runs, the platform."""
    blas = [
        f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".rstrip()
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    return {
        "cnnspec": cnnspec.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "instructions": " ".join(_instructions()),
        "blas": ", ".join(sorted(set(blas))),
        "platform": platform.platform(),
    }


def _instructions() -> list[str]:
    """The sets of instructions that NumPy was built for or found here; which ones they are changes sums' last bits."""
    found = np.show_config(mode="dicts")
    known = found.get("SIMD Extensions", {}) if isinstance(found, dict) else {}
    return [*known.get("baseline", ()), *known.get("found", ())]


def latest(about: Mapping[str, Any]) -> dict[str, str]:
    """The versions that the last part of a run was trained with, as its run.json says."""
    parts = about.get("parts") or [about]
    return dict(parts[-1].get("versions", {}))


def differences(before: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """One line for each version that was another one."""
    return [
        f"{name} was {before.get(name) or 'not known'}, is {here[name]}"
        for name in here
        if before.get(name) != here[name]
    ]
