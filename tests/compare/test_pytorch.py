"""The library against PyTorch: the same weights give the same outputs, losses, gradients and next weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.compare import pytorch
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph, build
from cnnspec.graph.passes import remove_train_only
from cnnspec.plan import Entry, Plan, Training, Weights, lower, shards_of
from cnnspec.spec import Spec, load, loads
from cnnspec.target import Target
from cnnspec.workers import WorkerPool

torch = pytest.importorskip("torch")

SPECS = Path(__file__).parents[2] / "specs"
LARGE = {"alexnet", "densenet121", "googlenet", "resnet18", "resnet50", "squeezenet", "vgg16", "mobilenet-v2"}
SMALL = sorted(path for path in SPECS.glob("*.yaml") if path.stem not in LARGE)
EXPORTED = [path for path in SMALL if path.stem != "two-inputs"]  # which takes a mapping
BATCH = 6

# every layer that no spec in specs/ has
RARE = """\
cnnspec: 1
input: [4, 12, 12]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, stride: 2, groups: 2, bias: untied}
  - {type: conv_transpose2d, filters: 8, kernel_size: 4, stride: 2, padding: same}
  - {type: depthwise_conv2d, kernel_size: 3, padding: [0, 2, 1, 0], multiplier: 2}
  - {type: separable_conv2d, filters: 8, kernel_size: 3, padding: same, dilation: 2}
  - {type: weight_norm, layer: {type: conv2d, filters: 8, kernel_size: 3, padding: same, groups: 2}}
  - {type: group_norm, groups: 2}
  - silu
  - {type: layer_norm, over: map}
  - {type: layer_norm, over: channels}
  - rms_norm
  - gelu
  - instance_norm
  - {type: channel_shuffle, groups: 4}
  - mish
  - {type: zero_pad2d, padding: [1, 2, 0, 1], channels: [1, 1]}
  - {type: crop2d, cropping: 1}
  - prelu
  - {type: slice, channels: {start: 1, stop: 9}, rows: {stop: 10, step: 1}, columns: {start: 1}}
  - {type: permute, order: [0, 2, 1]}
  - hard_swish
  - {type: upsample2d, scale: 2, mode: bilinear}
  - {type: upsample2d, scale: [1, 2]}
  - elu
  - {type: adaptive_avg_pool2d, output_size: [7, 9]}
  - softplus
  - {type: local_response_norm, size: 4, k: 2.0}
  - {type: lp_pool2d, kernel_size: 2, stride: 1, padding: [1, 0, 0, 1]}
  - selu
  - {type: avg_pool2d, kernel_size: 3, stride: 2, padding: same}
  - {type: avg_pool2d, kernel_size: 2, stride: 1, padding: 1, count_include_pad: true}
  - hard_sigmoid
  - {type: pixel_shuffle, factor: 2}
  - relu6
  - {type: pad2d, mode: reflect, id: padded}
  - {type: channel_max, from: padded, id: most}
  - {type: channel_mean, from: padded, id: mean_of_channels}
  - {type: add, broadcast: true, from: [padded, most, mean_of_channels]}
  - positions
  - {type: clip, min: 0.1, max: 3}
  - {type: scale_shift, scale: 0.3, shift: 0.1}
  - {type: scale_shift, scale: 2, shift: none, learned: false, id: scaled}
  - {type: slice, channels: {part: 1, of: 2}, id: part}
  - square
  - exp
  - {type: slice, channels: {part: 2, of: 2}, from: scaled, id: other}
  - abs
  - {type: subtract, from: [part, other], id: difference}
  - {type: maximum, from: [difference, part, other]}
  - {type: minimum, from: [difference, part]}
  - {type: global_avg_pool2d, id: mean}
  - {type: add, broadcast: true, from: [difference, mean]}
  - {type: max_pool2d, kernel_size: 3, stride: 2, padding: same, ceil_mode: true}
  - {id: fork, type: leaky_relu}
  - {id: gate, type: global_max_pool2d, from: fork}
  - {type: multiply, from: [fork, gate]}
  - flatten
  - sigmoid
  - {type: dense, units: 10, bias: none}
  - tanh
  - softmax
train: {epochs: 1, batch_size: 6}
"""

# one layer's parameters used at three places, and layers that training leaves as they are
SHARED = """\
cnnspec: 1
input: [3, 8, 8]
layers:
  - {id: stem, type: conv2d, filters: 4, kernel_size: 3, padding: same, trainable: false}
  - {id: a, type: conv2d, filters: 4, kernel_size: 3, padding: same, activation: tanh}
  - {id: b, type: conv2d, filters: 4, kernel_size: 3, padding: same, share: a, activation: tanh}
  - {id: c, type: conv2d, filters: 4, kernel_size: 3, padding: same, share: a, from: a}
  - {type: add, from: [b, c]}
  - {type: residual, trainable: false, body: [{type: conv2d, filters: 6, kernel_size: 3, padding: same}, batch_norm]}
  - {type: parallel, merge: multiply, branches: [[], [global_avg_pool2d, {type: dense, units: 6, activation: sigmoid}]]}
  - global_avg_pool2d
  - {type: dense, units: 5}
train: {epochs: 1, batch_size: 6, optimizer: {type: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01}}
"""


class Pair:
    """One network here and there, in float64, with random weights and statistics."""

    def __init__(self, spec: Spec, graph: Graph) -> None:
        self.spec, self.graph = spec, graph
        random = np.random.default_rng(0)
        self.weights = Weights(graph, getattr(spec.train and spec.train.optimizer, "weight_decay", 0.0), "float64")
        self.weights.initialise(0)
        for array in self.weights.state.values():
            array[...] = random.uniform(0.5, 1.5, array.shape)
        for key, array in self.weights.params.items():
            if not key.endswith("weight"):
                array += random.normal(0, 0.1, array.shape)
        self.network = pytorch.module(graph, dict(self.weights.arrays()))
        self.images = random.random((BATCH, *graph.input_shape))
        labelled = spec.train is not None and not spec.train.loss.reads_input
        shape = graph.output.shape[1:] if labelled else ()  # of one image's labels: a map of classes has one a place
        self.labels = random.integers(0, graph.output.shape[0], (BATCH, *shape))

    def plan(self, mode: Any, **settings: Any) -> Plan:
        target = self.spec.data.target if self.spec.data else Target()
        entry = Entry("float64", target=target)
        plan = lower(self.graph, BATCH, mode, self.weights, WorkerPool(1), entry=entry, **settings)
        plan.images[...] = self.images
        if plan.labels.shape == self.labels.shape:  # inference without a loss takes one label an image
            plan.labels[...] = self.labels
        elif plan.labels.ndim == 2:  # numbers for all outputs: 1 at the class
            plan.labels[...] = np.eye(plan.labels.shape[1])[self.labels]
        return plan


@pytest.fixture(name="pair", params=[*SMALL, RARE, SHARED], ids=[*(path.stem for path in SMALL), "rare", "shared"])
def _pair(request: pytest.FixtureRequest) -> Pair:
    spec = loads(request.param) if isinstance(request.param, str) else load(request.param)
    return Pair(spec, remove_train_only(build(spec)))


def test_outputs_agree(pair: Pair) -> None:
    plan = pair.plan("infer")
    plan.compute()
    pair.network.eval()
    with torch.no_grad():
        expected = pair.network(torch.tensor(pair.images)).numpy()
    np.testing.assert_allclose(plan.output, expected, rtol=1e-8, atol=1e-9)


def test_a_training_step_agrees(pair: Pair) -> None:
    train = pair.spec.train
    if train is None:
        pytest.skip("a spec without a train section")
    if train.losses is not None:
        pytest.skip("several losses have no counterpart there; tests/train/test_losses_by_name.py compares them")
    training = Training(pair.weights, train.optimizer, len(shards_of(BATCH)))
    plan = pair.plan("train", loss=train.loss, training=training)
    pair.network.train()
    optimizer = pytorch.optimizer(pair.network, pair.graph, train.optimizer)
    images = torch.tensor(pair.images)
    expected = pytorch.loss(train.loss)(pair.network(images), images, torch.tensor(pair.labels))
    expected.backward()
    plan.compute()
    assert plan.losses.mean() == pytest.approx(expected.item(), rel=1e-9)
    trained = [slot for slot in pair.weights.slots if slot.stop <= pair.weights.trained]
    assert [slot.node.trainable for slot in pair.weights.slots] == [slot in trained for slot in pair.weights.slots]
    for slot in trained:
        gradient = getattr(pair.network, slot.key.replace(".", "__")).grad.numpy()
        own = training.gradients[0][slot.start : slot.stop].reshape(slot.shape)
        np.testing.assert_allclose(own, gradient, rtol=1e-6, atol=1e-9 + 1e-8 * abs(gradient).max(), err_msg=slot.key)
    optimizer.step()
    plan.step(train.optimizer.learning_rate)
    for slot in pair.weights.slots:
        after = getattr(pair.network, slot.key.replace(".", "__")).detach().numpy()
        np.testing.assert_allclose(pair.weights.params[slot.key], after, rtol=1e-5, atol=1e-7, err_msg=slot.key)


def test_a_layer_without_counterpart_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "FUNCTIONS", {"relu": pytorch.FUNCTIONS["relu"]})
    graph = build(loads(RARE))
    with pytest.raises(RunError, match=r"PyTorch has no counterpart of .*adaptive_avg_pool2d, "):
        pytorch.module(graph, dict(Weights(graph).arrays()))
