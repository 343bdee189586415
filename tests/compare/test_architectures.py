"""The architectures of tests/graph against PyTorch with the same weights: outputs, and the gradients of all parameters.

Three of them have twins that are written by hand as their authors' code has them; the others are compared operation by
operation, at a small input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cnnspec.compare import pytorch
from cnnspec.graph import Graph, build
from cnnspec.graph.passes import remove_dead_nodes, remove_train_only
from cnnspec.optim.losses import MeanSquaredError
from cnnspec.optim.optimizers import Sgd
from cnnspec.plan import Entry, Training, Weights, lower, shards_of
from cnnspec.spec import loads
from cnnspec.target import Target
from cnnspec.workers import WorkerPool

torch = pytest.importorskip("torch")

FOLDER = Path(__file__).parents[1] / "graph" / "architectures"
BATCH = 3
# Rows and columns of the small input, where they are not the published ones.
SIZES = {
    "dcgan-discriminator": 64,
    "dcgan-generator": 1,
    "inception-v3": 299,
    "regnet-y-400mf": 64,
    "wide-resnet-28-10": 16,
}
MAPS = ("dcgan-generator", "unet", "yolov8n-backbone")  # which end in a map: the means of its channels are compared
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
QUICK = ("dcgan-generator", "shufflenet-v2", "yolov8n-backbone")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILES]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: its threads spin while they wait, and so slow each other down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pair:
    """An architecture with random weights at a small input, in float64, and what it makes of random images."""

    def __init__(self, name: str) -> None:
        path, size = FOLDER / f"{name}.yaml", SIZES.get(name, 32)
        text = path.read_text()
        if name in MAPS:
            text = text.replace("\nexpect:", "  - global_avg_pool2d\nexpect:")
        text = text.replace("[768, 196, 1]", "[768, 4, 1]")  # the patches of the small input
        settings = [f"input=[{yaml.safe_load(text)['input'][0]}, {size}, {size}]", "expect="]
        graph = build(loads(text, overrides=settings)).without_losses
        self.graph: Graph = remove_dead_nodes(remove_train_only(graph))
        random = np.random.default_rng(0)
        self.weights = Weights(self.graph, 0.0, "float64")
        self.weights.initialise(0)
        for key, array in self.weights.params.items():
            if not key.endswith("weight"):
                array[...] = array.mean() + random.normal(0, 0.1, array.shape)
        self.images = random.random((BATCH, *self.graph.input_shape))
        self.wanted = random.integers(-2, 3, (BATCH, *self.graph.output.shape))

    def outputs_agree(self, twin: Any) -> None:
        """Compare what a twin makes of the images at inference."""
        plan = lower(self.graph, BATCH, "infer", self.weights, WorkerPool(1), entry=Entry("float64"))
        plan.images[...] = self.images
        plan.compute()
        with torch.no_grad():
            expected = twin.eval()(torch.tensor(self.images)).numpy()
        np.testing.assert_allclose(plan.output, expected, rtol=1e-6, atol=1e-8)

    def gradients_agree(self, forward: Callable[[Any], Any], parameters: Sequence[Any]) -> None:
        """Compare the loss and the gradients of a step; the parameters are those of the graph, in its order."""
        training = Training(self.weights, Sgd(learning_rate=0.1), len(shards_of(BATCH)))
        entry = Entry("float64", target=Target("values"))
        workers = WorkerPool(1)
        plan = lower(
            self.graph, BATCH, "train", self.weights, workers, loss=MeanSquaredError(), training=training, entry=entry
        )
        plan.images[...], plan.labels[...] = self.images, self.wanted
        plan.compute()
        loss = ((forward(torch.tensor(self.images)) - torch.tensor(self.wanted)) ** 2).mean()
        loss.backward()
        assert plan.losses.mean() == pytest.approx(loss.item(), rel=1e-9)
        assert len(parameters) == len(self.weights.params)
        slots = {slot.key: slot for slot in self.weights.slots}
        for key, parameter in zip(self.weights.params, parameters, strict=True):
            slot, expected = slots[key], parameter.grad.numpy().ravel()
            own = training.gradients[0][slot.start : slot.stop]
            tolerance = 1e-9 + 1e-7 * abs(expected).max()
            np.testing.assert_allclose(own, expected, rtol=1e-5, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", EVERY)
def test_outputs_and_gradients_agree(name: str) -> None:
    pair = Pair(name)
    twin = pytorch.module(pair.graph, dict(pair.weights.arrays()))
    pair.outputs_agree(twin)
    pair.gradients_agree(twin.train(), list(twin.parameters()))


def convnext_tiny(x: Any, parameters: Iterator[Any]) -> Any:
    """Liu et al. (2022), figure 4 and the depths and widths of ConvNeXt-T, without stochastic depth."""
    functional = torch.nn.functional

    def normalised(x: Any) -> Any:
        y = functional.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], next(parameters), next(parameters), 1e-6)
        return y.permute(0, 3, 1, 2)

    def convolved(x: Any, **settings: int) -> Any:
        return functional.conv2d(x, next(parameters), next(parameters), **settings)

    x = normalised(convolved(x, stride=4))
    for width, depth in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if width > 96:
            x = convolved(normalised(x), stride=2)
        for _ in range(depth):
            y = normalised(convolved(x, padding=3, groups=width))
            y = convolved(functional.gelu(convolved(y)))
            x = x + next(parameters)[:, None, None] * y
    x = functional.layer_norm(x.mean((2, 3)), (768,), next(parameters), next(parameters), 1e-6)
    return functional.linear(x, next(parameters), next(parameters))


def yolov8n_backbone(x: Any, parameters: Iterator[Any]) -> Any:
    """The layers 0 to 9 of yolov8n.yaml at depth 0.33 and width 0.25, and a mean of each channel at the end."""
    functional = torch.nn.functional

    def conv(x: Any, kernel: int = 3, stride: int = 1) -> Any:
        y = functional.conv2d(x, next(parameters), stride=stride, padding=kernel // 2)
        y = functional.batch_norm(y, None, None, next(parameters), next(parameters), training=True, eps=1e-3)
        return functional.silu(y)

    def c2f(x: Any, depth: int) -> Any:
        found = list(conv(x, 1).chunk(2, 1))
        for _ in range(depth):
            found.append(found[-1] + conv(conv(found[-1])))
        return conv(torch.cat(found, 1), 1)

    x = conv(x, stride=2)
    for depth in (1, 2, 2, 1):
        x = c2f(conv(x, stride=2), depth)
    found = [conv(x, 1)]
    for _ in range(3):
        found.append(functional.max_pool2d(found[-1], 5, 1, 2))
    return conv(torch.cat(found, 1), 1).mean((2, 3))


def inception_v3(x: Any, parameters: Iterator[Any]) -> Any:
    """Szegedy et al. (2015) as torchvision has it: two stems, mixed layers 5b to 7c, and a dense layer."""
    functional = torch.nn.functional

    def conv(x: Any, *, stride: int = 1, padded: bool = True) -> Any:
        weight = next(parameters)
        padding = [(length - 1) // 2 if padded else 0 for length in weight.shape[2:]]
        y = functional.conv2d(x, weight, stride=stride, padding=padding)
        y = functional.batch_norm(y, None, None, next(parameters), next(parameters), training=True, eps=1e-3)
        return functional.relu(y)

    def row(x: Any, count: int) -> Any:
        for _ in range(count):
            x = conv(x)
        return x

    def down(x: Any) -> Any:
        return conv(x, stride=2, padded=False)

    def small(x: Any) -> Any:
        return functional.max_pool2d(x, 3, 2)

    def pooled(x: Any) -> Any:
        return conv(functional.avg_pool2d(x, 3, 1, 1))

    x = conv(conv(down(x), padded=False))
    x = small(conv(conv(small(x)), padded=False))
    for _ in range(3):
        x = torch.cat([conv(x), row(x, 2), row(x, 3), pooled(x)], 1)
    x = torch.cat([down(x), down(row(x, 2)), small(x)], 1)
    for _ in range(4):
        x = torch.cat([conv(x), row(x, 3), row(x, 5), pooled(x)], 1)
    x = torch.cat([down(conv(x)), down(row(x, 3)), small(x)], 1)
    for _ in range(2):
        found = [conv(x)]
        for count in (1, 2):
            y = row(x, count)
            found += [conv(y), conv(y)]
        x = torch.cat([*found, pooled(x)], 1)
    return functional.linear(x.mean((2, 3)), next(parameters), next(parameters))


BY_HAND = {"convnext-tiny": convnext_tiny, "inception-v3": inception_v3, "yolov8n-backbone": yolov8n_backbone}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("convnext-tiny", "inception-v3")]


@pytest.mark.parametrize("name", [*SLOW, "yolov8n-backbone"])
def test_gradients_are_those_of_a_twin_written_by_hand(name: str) -> None:
    pair = Pair(name)
    parameters = [torch.nn.Parameter(torch.tensor(array)) for array in pair.weights.params.values()]
    pair.gradients_agree(lambda x: BY_HAND[name](x, iter(parameters)), parameters)
