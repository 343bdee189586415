"""The versions that a result depends on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import cnnspec


def versions() -> dict[str, str]:
    """Return the versions of cnnspec, Python, NumPy and its instruction sets, its BLAS and its kernel, the platform."""
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
    """Return the instruction sets that NumPy was built for or found here; they change the last bits of sums."""
    config = np.show_config(mode="dicts")
    known = config.get("SIMD Extensions", {}) if isinstance(config, dict) else {}
    return [*known.get("baseline", ()), *known.get("found", ())]


def latest(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions in run.json with which the last part of a run was trained."""
    parts = about.get("parts") or [about]
    return dict(parts[-1].get("versions", {}))


def differences(before: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return one line for each version that differs."""
    return [
        f"{name} was {before.get(name) or 'not known'}, is {here[name]}"
        for name in here
        if before.get(name) != here[name]
    ]
