"""The architectures in specs/: their published counts, and a step of training at a smaller input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli.check import checked
from cnnspec.graph import build
from cnnspec.spec import load
from cnnspec.train import Model

SPECS = Path(__file__).parents[2] / "specs"

# Trainable parameters and multiply-accumulates at 224x224 as torchvision's documentation gives them (GFLOPS there).
PUBLISHED = {
    "alexnet": (61_100_840, 0.71e9),
    "vgg16": (138_357_544, 15.47e9),
    "resnet18": (11_689_512, 1.81e9),
    "resnet50": (25_557_032, 4.09e9),
    "densenet121": (7_978_856, 2.83e9),
    "mobilenet-v2": (3_504_872, 0.30e9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    graph = checked(load(SPECS / f"{name}.yaml"))
    parameters, macs = PUBLISHED[name]
    assert graph.parameter_count == parameters
    assert graph.macs == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("name", [*PUBLISHED, "lenet5"])
def test_a_step_of_training(name: str) -> None:
    size = "[1, 32, 32]" if name == "lenet5" else "[3, 64, 64]"
    spec = load(
        SPECS / f"{name}.yaml",
        [f"input={size}", "expect=", "train={epochs: 1, batch_size: 2, optimizer: {type: sgd, learning_rate: 1e-3}}"],
    )
    model = Model(spec, build(spec), threads=2)
    plan = model.plan(2, "train")
    plan.images[...] = np.random.default_rng(0).integers(0, 256, plan.images.shape)
    plan.step(1e-3)
    assert np.isfinite(plan.losses).all()
    assert np.isfinite(model.weights.values).all()
    assert model.training is not None
    for slot in model.weights.slots:
        assert model.training.gradients[0][slot.start : slot.stop].any(), slot.key
