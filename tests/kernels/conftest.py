"""Kernels under every machine model, whatever this machine is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnspec.kernels.machine import MODELS, MachineModel, assuming


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def machine(request: pytest.FixtureRequest) -> Iterator[MachineModel]:
    """Blocks and prices of one machine model."""
    model: MachineModel = request.param
    with assuming(model):
        yield model
