"""The architectures in specs/: their published counts, and a step of training at a smaller input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model, compile
from cnnspec.check import checked
from cnnspec.graph import build
from cnnspec.spec import load
from tests.samples import sampled

SPECS = Path(__file__).parents[2] / "specs"

# Trainable parameters and multiply-accumulates at 224x224 of the weights IMAGENET1K_V1 in torchvision: `num_params` and
# `_ops` of their `meta`, in 10^9, which its documentation rounds to two decimals under the name of GFLOPS.
PUBLISHED = {
    "alexnet": (61_100_840, 0.714e9),
    "vgg16": (138_357_544, 15.470e9),
    "resnet18": (11_689_512, 1.814e9),
    "resnet50": (25_557_032, 4.089e9),
    "densenet121": (7_978_856, 2.834e9),
    "mobilenet-v2": (3_504_872, 0.301e9),
    "squeezenet": (1_235_496, 0.349e9),
    "googlenet": (6_624_904, 1.498e9),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    graph = checked(load(SPECS / f"{name}.yaml"))
    parameters, macs = PUBLISHED[name]
    assert graph.parameter_count == parameters
    assert graph.macs == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_right(path: Path) -> None:
    checked(load(path))


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_expects(path: Path) -> None:
    assert load(path).expect
    assert len(path.read_text().splitlines()) < 60


@pytest.mark.parametrize("name", sampled(["lenet5", *PUBLISHED], 4))
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


def test_option_a_adds_no_parameters_to_the_plain_net() -> None:
    """He et al. (2015), table 6: 0.27 million; a shortcut of option A has none, a projection weights and their norm."""
    plain, projected = (build(load(SPECS / f"{name}.yaml")).parameter_count for name in ("resnet20-a", "resnet20"))
    assert plain == 269_722
    assert projected - plain == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.slow
def test_resnet20_learns_a_thousand_images_by_heart(shared_data: Path) -> None:
    settings = ["data.augment=[]", "data.train.limit=1000", "train.epochs=30", "train.batch_size=50"]
    model = compile(SPECS / "resnet20.yaml", [*settings, "train.optimizer.learning_rate=0.05"])
    rows = model.fit(data_dir=shared_data / "cifar10-small")
    assert rows[-1]["train.accuracy"] >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-fashion", "resnet20-fashion"])
def test_fashion_is_learned_in_ten_epochs(name: str, shared_data: Path) -> None:
    rows = compile(SPECS / f"{name}.yaml").fit(data_dir=shared_data / "fashion-mnist")
    assert len(rows) <= 10
    assert rows[-1]["test.accuracy"] >= 0.93
