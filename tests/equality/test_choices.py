"""Whatever the plan may choose, the network is the same: outputs, losses, gradients and weights agree.

A kernel joins by standing in the schema of a layer's `kernel`, a pass by standing in the table of passes, any other
choice by being a field of `Choices`, a kind of workers by being in `KINDS`. All are compared with the plainest plan,
which one worker runs; plans that differ in their workers alone must agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from cnnspec import registry
from cnnspec.fields import schema_of
from cnnspec.graph import Graph, build
from cnnspec.graph.passes import PASSES, Pass
from cnnspec.layers.base import Mode
from cnnspec.optim.optimizers import Nesterov
from cnnspec.optim.settings import TrainSettings
from cnnspec.plan import Choices, Entry, lower, shards_of
from cnnspec.spec import load
from cnnspec.workers import Processes, Threads, WorkerPool, Workers
from tests.equality.networks import draw
from tests.equality.result import Result, Setup, ours
from tests.samples import sampled

ROOT = Path(__file__).parents[2]
KINDS: tuple[type[Workers], ...] = (Threads, Processes) if Processes.supported() else (Threads,)
NEEDED = {"explicit-fan-out", "remove-dead-nodes"}  # passes that give every value one reader, which has a gradient
BOUND = 1e-8  # of the largest number of an array, in float64
PLAINEST = "patches"  # the kernel that is a product of matrices and nothing else
STEPS = 3
SMALL = {"lenet5"}
LARGER = {
    *("autoencoder", "classic-2016", "fashion-best", "lenet", "mnist-best", "mobilenet-v2", "resnet20", "resnet20-a"),
    *("resnet20-fashion", "shufflenet-v2", "squeezenet", "vgg-fashion"),
}


@dataclass(frozen=True)
class Variation:
    """One plan that may be chosen: what of it is not as usual."""

    name: str
    kernel: str | None = None  # pinned, where it applies
    without: frozenset[str] = frozenset()  # passes
    workers: int = 1
    kind: type[Workers] = Threads
    images: str = "float64"  # the type in which they enter; all are exact in float32
    choices: Mapping[str, Any] = field(default_factory=dict)  # fields of `Choices` but for the passes

    def plan(self, model: Any, batch: int, mode: Mode) -> Any:
        """Such a plan for a model's weights."""
        if mode == "train":
            model.training.grow(len(shards_of(batch)))
        passes: Mapping[str, Pass] = {name: each for name, each in PASSES[mode].items() if name not in self.without}
        return lower(
            self.pinned(model.graph),
            batch,
            mode,
            model.weights,
            WorkerPool(self.workers, self.kind),
            entry=Entry(self.images),
            loss=model.loss,
            training=model.training if mode == "train" else None,
            seed=model.spec.seed,
            choices=Choices(passes=passes, **self.choices),
        )

    def pinned(self, graph: Graph) -> Graph:
        """The graph with the kernel of every layer that may be told one."""
        if self.kernel is None:
            return graph
        nodes = (
            replace(node, layer=node.layer.but(kernel=self.kernel)) if hasattr(node.layer, "kernel") else node
            for node in graph.nodes
        )
        return replace(graph, nodes=tuple(nodes))


def kernels() -> list[str]:
    """Every name that a layer's `kernel` may have."""
    fields = [schema_of(cls)["properties"].get("kernel", {}) for cls in registry.table("layer").values()]
    return sorted({name for field in fields for part in field.get("anyOf", []) for name in part.get("enum", [])})


def removable() -> list[str]:
    """The passes that no network needs."""
    return sorted({name for passes in PASSES.values() for name in passes} - NEEDED)


def switches() -> list[str]:
    """What lowering may do or leave, by the fields of `Choices`; one that is no switch needs variations of its own."""
    found = [each.name for each in fields(Choices) if each.name != "passes"]
    assert all(getattr(Choices(), name) is True for name in found), "add variations of the field that is no switch"
    return found


USUAL = Variation("usual")
PLAIN = Variation("plain", PLAINEST, frozenset(removable()), choices=dict.fromkeys(switches(), False))
VARIATIONS = [
    USUAL,
    *(Variation(f"kernel {name}", kernel=name) for name in kernels()),
    *(Variation(f"without {name}", without=frozenset({name})) for name in removable()),
    Variation("without passes", without=frozenset(removable())),
    *(Variation(f"without {name}", choices={name: False}) for name in switches()),
    Variation("images of single precision", images="float32"),
]
SAME_BITS = [
    Variation(f"{count} workers, {kind.__name__}", workers=count, kind=kind) for kind in KINDS for count in (2, 3)
]


def run(setup: Setup, variation: Variation) -> Result:
    """The training by plans of that kind, of which a batch size and mode has one for all steps."""
    made: dict[tuple[int, int, Mode], Any] = {}

    def plans(model: Any, batch: int, mode: Mode) -> Any:
        key = id(model), batch, mode
        if key not in made:
            made[key] = variation.plan(model, batch, mode)
        return made[key]

    return ours(setup, plans=plans)


def differences(found: Result, expected: Result, bound: float) -> Iterator[str]:
    """What differs by more than the bound allows."""
    for what, arrays in expected.arrays().items():
        largest = max((abs(array).max() for array in arrays.values() if array.size), default=0.0)
        for name, right in arrays.items():
            own = found.arrays()[what][name]
            allowed = bound * (abs(right).max() + 1e-3 * largest)
            if not (abs(own - right) <= allowed).all():
                yield f"{what} {name}: off by {abs(own - right).max():.3g}, allowed {allowed:.3g}"


def check(setup: Setup, text: str) -> None:
    """All variations of one network; a failure names all that differ."""
    plain, usual = run(setup, PLAIN), run(setup, USUAL)
    wrong = [
        f"{variation.name}: {difference}"
        for variation in VARIATIONS
        for difference in differences(usual if variation is USUAL else run(setup, variation), plain, BOUND)
    ]
    wrong += [
        f"{variation.name}: {difference}"
        for variation in SAME_BITS
        for difference in differences(run(setup, variation), usual, 0.0)
    ]
    assert not wrong, "\n".join([*wrong, "", text])


def small(setup: Setup) -> Setup:
    """Three steps of an optimizer that follows the gradient as it is: no division makes much of rounding."""
    return replace(setup, steps=STEPS).with_training(optimizer=Nesterov(learning_rate=0.02, weight_decay=0.01))


def check_random(seed: int) -> None:
    case = draw(seed)
    check(small(case.setup), case.text)


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_few_random_networks(seed: int) -> None:
    check_random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3000, 3200))
def test_random_networks(seed: int) -> None:
    check_random(seed)


def paths(names: Collection[str]) -> list[Any]:
    """The specs of those names."""
    found = [*ROOT.glob("specs/*.yaml"), *ROOT.glob("tests/graph/architectures/*.yaml")]
    return [pytest.param(path, id=path.stem) for path in sorted(found) if path.stem in names]


def check_spec(path: Path, batch: int) -> None:
    spec = load(path)
    train = spec.train or TrainSettings(epochs=1)
    check(small(Setup(replace(spec, train=train), build(spec), batch)), path.read_text())


@pytest.mark.parametrize("batch", sampled([33, 5], 2))
@pytest.mark.parametrize("path", paths(SMALL))
def test_small_specs(path: Path, batch: int) -> None:
    check_spec(path, batch)


@pytest.mark.slow
@pytest.mark.parametrize("path", paths(LARGER))
def test_larger_specs(path: Path) -> None:
    check_spec(path, batch=3)
