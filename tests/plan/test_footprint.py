"""Memory budgets: the same on every machine, and never less than what a plan takes on any."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnspec.check import checked
from cnnspec.diagnostics import SpecError
from cnnspec.graph import build
from cnnspec.kernels import machine
from cnnspec.kernels.machine import MODELS, MachineModel, assuming
from cnnspec.plan import arena_bytes, inference_footprint, training_footprint
from cnnspec.spec import load, loads
from cnnspec.train import Network

SPECS = Path(__file__).parents[2] / "specs"
TRAINED = [path for path in sorted(SPECS.glob("*.yaml")) if load(path).train is not None]


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose BLAS must not be asked."""

    def asked() -> MachineModel:
        raise AssertionError("a verdict asked for the machine at hand")

    monkeypatch.setattr(machine, "loaded", asked)


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_footprints_are_the_same_on_every_machine_and_cover_its_plan(path: Path) -> None:
    spec = load(path)
    assert spec.train is not None
    graph, batch, loss = build(spec), spec.train.batch_size, spec.train.loss
    training, inference = training_footprint(graph, batch, spec.train), inference_footprint(graph, batch, spec.train)
    for model in MODELS:
        with assuming(model):
            assert training_footprint(graph, batch, spec.train) == training
            assert inference_footprint(graph, batch, spec.train) == inference
            assert arena_bytes(graph, batch, "train", loss=loss) <= training.arena
            assert arena_bytes(graph, batch, "infer", loss=loss) <= inference.arena


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("name", ["autoencoder", "lenet", "classic-2016"])
def test_no_plan_exceeds_its_footprint(name: str, model: MachineModel) -> None:
    spec = load(SPECS / f"{name}.yaml")
    assert spec.train is not None
    batch = spec.train.batch_size
    with assuming(model):
        made = Network(spec, build(spec), threads=1)
        assert made.plan(batch, "train").arena.nbytes <= training_footprint(made.graph, batch, spec.train).arena
        assert made.plan(batch, "infer").arena.nbytes <= inference_footprint(made.graph, batch, spec.train).arena


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize(("more", "refused"), [(0, False), (-1, True)])
def test_a_budget_is_judged_alike_on_every_machine(model: MachineModel, more: int, refused: bool) -> None:
    text = (SPECS / "lenet.yaml").read_text()
    graph, train = build(loads(text)), loads(text).train
    assert train is not None
    bound = training_footprint(graph, train.batch_size, train).total + more
    spec = loads(text.replace("train_memory: {max: 64 MiB}", f"train_memory: {{max: {bound}}}"))
    with assuming(model):
        if refused:
            with pytest.raises(SpecError, match="train_memory"):
                checked(spec)
        else:
            checked(spec)
