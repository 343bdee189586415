"""Caffe's files as specs: outputs are those of a forward pass written here, and of OpenCV where it reads them."""

from __future__ import annotations

import importlib
import importlib.util
import tracemalloc
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.api import compile
from cnnspec.cli import BUG, WRONG_SPEC, main
from cnnspec.convert.conversion import convert
from cnnspec.convert.refusal import ConversionError
from cnnspec.kernels.step import Array

pytest.importorskip("google.protobuf")

NET = """\
name: "net"
input: "data"
input_shape { dim: 1 dim: 3 dim: 11 dim: 13 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 } convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false
    weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1"
  batch_norm_param { use_global_stats: true eps: 1e-3 } }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "mean1" type: "Pooling" bottom: "conv1" top: "mean1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "slice" type: "Slice" bottom: "mean1" top: "left" top: "right" slice_param { axis: 1 slice_point: 2 } }
layer { name: "depth" type: "Convolution" bottom: "pool1" top: "depth"
  convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 group: 6 } }
layer { name: "norm" type: "LRN" bottom: "depth" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "sum" type: "Eltwise" bottom: "norm" bottom: "pool1" top: "sum" eltwise_param { coeff: 1 coeff: 0.5 } }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" dropout_param { dropout_ratio: 0.25 } }
layer { name: "up" type: "Deconvolution" bottom: "left" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 stride: 1 } }
layer { name: "cut" type: "Pooling" bottom: "up" top: "cut" pooling_param { pool: MAX kernel_size: 2 stride: 1 } }
layer { name: "power" type: "Power" bottom: "right" top: "power" power_param { scale: 2 shift: -1 } }
layer { name: "joined" type: "Concat" bottom: "sum" bottom: "cut_2" bottom: "power_2" top: "joined" }
layer { name: "slope" type: "PReLU" bottom: "joined" top: "joined" }
layer { name: "fc" type: "InnerProduct" bottom: "joined" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include { phase: TRAIN } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
POOLS = "".join(
    f'layer {{ name: "{name}_2" type: "Pooling" bottom: "{name}" top: "{name}_2" '
    "pooling_param { pool: AVE kernel_size: 2 stride: 1 } }\n"
    for name in ("cut", "power")
)
NET = NET.replace('layer { name: "joined"', f'{POOLS}layer {{ name: "joined"')
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "conv1": [(6, 3, 3, 3)],
    "bn1": [(6,), (6,), (1,)],
    "scale1": [(6,), (6,)],
    "depth": [(6, 1, 1, 3), (6,)],
    "up": [(2, 2, 2, 2), (2,)],
    "slope": [(12,)],
    "fc": [(4, 12 * 3 * 3), (4,)],
}


def pooled(x: Array, k: int, s: int, p: int, reduce: Any) -> Array:
    """Caffe's windows: rounded up, and means over padding, but for what hangs over it."""
    sizes = []
    for length in x.shape[1:]:
        count = ceil((length + 2 * p - k) / s) + 1
        sizes.append(count - 1 if p and (count - 1) * s >= length + p else count)
    y = np.zeros((len(x), *sizes))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            top, left = i * s - p, j * s - p
            bottom, right = min(top + k, x.shape[1] + p), min(left + k, x.shape[2] + p)
            window = x[:, max(top, 0) : bottom, max(left, 0) : right].reshape(len(x), -1)
            y[:, i, j] = window.max(1) if reduce is np.max else window.sum(1) / ((bottom - top) * (right - left))
    return y


def convolved(x: Array, w: Array, s: int, pads: tuple[int, int]) -> Array:
    x = np.pad(x, ((0, 0), (pads[0],) * 2, (pads[1],) * 2))
    kh, kw = w.shape[2:]
    rows, columns = (x.shape[1] - kh) // s + 1, (x.shape[2] - kw) // s + 1
    y = np.zeros((len(w), rows, columns))
    for f in range(len(w)):
        own = x if w.shape[1] == len(x) else x[f : f + 1]
        for i in range(rows):
            for j in range(columns):
                y[f, i, j] = (w[f] * own[:, i * s : i * s + kh, j * s : j * s + kw]).sum()
    return y


def forward(image: Array, arrays: dict[str, list[Array]]) -> Array:
    """What NET computes of one image."""
    x = convolved(image.astype(np.float64), arrays["conv1"][0], 2, (1, 1))
    mean, variance, count = arrays["bn1"]
    gamma, beta = (array[:, None, None] for array in arrays["scale1"])
    x = (x - (mean / count)[:, None, None]) / np.sqrt((variance / count)[:, None, None] + 1e-3) * gamma + beta
    x = np.maximum(x, 0)
    largest, means = pooled(x, 3, 2, 0, np.max), pooled(x, 3, 2, 1, np.mean)
    left, right = means[:2], means[2:]
    depth = convolved(largest, arrays["depth"][0], 1, (0, 1)) + arrays["depth"][1][:, None, None]
    squares = np.pad(depth**2, ((1, 1), (0, 0), (0, 0)))
    depth = depth / (1 + 0.5 / 3 * (squares[:-2] + squares[1:-1] + squares[2:])) ** 0.75
    total = depth + 0.5 * largest
    w, b = arrays["up"]
    up = np.zeros((2, left.shape[1] + 1, left.shape[2] + 1))
    for c in range(2):
        for u in range(2):
            for v in range(2):
                up[:, u : u + left.shape[1], v : v + left.shape[2]] += w[c, :, u, v][:, None, None] * left[c]
    cut = pooled(up + b[:, None, None], 2, 1, 0, np.max)
    x = np.concatenate([total, *(pooled(part, 2, 1, 0, np.mean) for part in (cut, 2 * right - 1))])
    x = np.where(x > 0, x, arrays["slope"][0][:, None, None] * x)
    y = arrays["fc"][0] @ x.reshape(-1) + arrays["fc"][1]
    grown = np.exp(y - y.max())
    return np.asarray(grown / grown.sum())


def drawn() -> dict[str, list[Array]]:
    random = np.random.default_rng(0)
    arrays: dict[str, list[Array]] = {
        name: [random.uniform(0.1, 1, shape).astype(np.float32) for shape in own] for name, own in SHAPES.items()
    }
    arrays["bn1"][2][:] = 4
    arrays["fc"][0] -= 0.5
    return arrays


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffemodel(arrays: dict[str, list[Array]], *, old: bool = False) -> bytes:
    """Binary weights, in the current version of the format or with `layers` and four lengths for each array."""
    found = b""
    for name, own in arrays.items():
        layer = field(4 if old else 1, name.encode())
        for array in own:
            numbers = field(5, array.astype("<f4").tobytes())
            if old:
                lengths = (1,) * (4 - array.ndim) + array.shape
                blob = (
                    b"".join(varint(place << 3) + varint(length) for place, length in enumerate(lengths, 1)) + numbers
                )
            else:
                blob = numbers + field(7, field(1, b"".join(map(varint, array.shape))))
            layer += field(6 if old else 7, blob)
        found += field(2 if old else 100, layer)
    return found


def written(folder: Path, text: str = NET, *, old: bool = False) -> tuple[Path, dict[str, list[Array]], Array]:
    arrays = drawn()
    path = folder / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".caffemodel").write_bytes(caffemodel(arrays, old=old))
    return path, arrays, np.random.default_rng(1).random((3, 11, 13), np.float32)


def outputs(path: Path, images: Array) -> Array:
    found = convert(path)
    model = compile(found.text, threads=1)
    model.weights.load(found.arrays)
    return np.asarray(model.outputs(images))


@pytest.mark.parametrize("old", [False, True])
def test_outputs_are_those_of_caffe(old: bool, tmp_path: Path) -> None:
    path, arrays, image = written(tmp_path, old=old)
    np.testing.assert_allclose(outputs(path, image[None])[0], forward(image, arrays), atol=1e-5)


def test_outputs_are_those_of_opencv(tmp_path: Path) -> None:
    if importlib.util.find_spec("cv2") is None:
        pytest.skip("OpenCV is not installed")
    dnn: Any = importlib.import_module("cv2").dnn
    if not hasattr(dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV does not read Caffe's files")
    text = "".join(line for line in NET.splitlines(keepends=True) if "SoftmaxWithLoss" not in line)
    path, _, image = written(tmp_path, text)
    network = dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    network.setInput(image[None])
    np.testing.assert_allclose(outputs(path, image[None]), network.forward("prob"), atol=1e-5)


def test_the_spec_is_as_a_person_would_write_it(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    text = convert(path).text
    assert "{id: conv1, type: conv2d, filters: 6, kernel_size: 3, stride: 2, padding: 1, bias: none}" in text
    assert "{id: bn1, type: batch_norm, epsilon: 0.001, momentum: 0.999}  # scale1 is its weight and bias" in text
    assert "scale_shift, scale: 2" in text
    assert "ceil_mode: true" in text
    assert "SoftmaxWithLoss" not in text, "it is of the training phase"


def test_the_verb_writes_spec_and_weights(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    _, arrays, image = written(tmp_path)
    assert main(["convert", "net.prototxt"]) == 0
    assert "no program here runs Caffe's files" in capsys.readouterr().err
    np.testing.assert_allclose(cnnspec.load("net.npz").predict(image[None])[0], forward(image, arrays), atol=1e-5)
    assert main(["convert", "net.prototxt", "--until", "pool1", "-o", "part.yaml"]) == 0
    assert main(["convert", "net.prototxt", "--until", "left", "-o", "left.yaml"]) == 0
    Path("net.caffemodel").rename("other.caffemodel")
    assert main(["convert", "net.prototxt", "-o", "fresh.yaml"]) == 0
    assert not Path("fresh.npz").exists()
    assert main(["convert", "net.prototxt", "--weights", "other.caffemodel", "-o", "again.yaml"]) == 0
    assert main(["validate", "net.yaml", "part.yaml", "left.yaml", "fresh.yaml"]) == 0


def test_a_training_file_needs_the_size(tmp_path: Path) -> None:
    head = 'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "/x" backend: LMDB } }\n'
    tail = 'layer { name: "acc" type: "Accuracy" bottom: "prob" bottom: "label" top: "acc" }\n'
    path, arrays, image = written(tmp_path, head + NET.partition("13 }\n")[2] + tail)
    with pytest.raises(ConversionError, match="leaves lengths of its input open"):
        convert(path)
    found = convert(path, input_shape=(3, 11, 13))
    assert "# Accuracy left out: training alone has them." in found.text
    model = compile(found.text, threads=1)
    model.weights.load(found.arrays)
    np.testing.assert_allclose(model.outputs(image[None])[0], forward(image, arrays), atol=1e-5)


def test_everything_that_cannot_be_said_is_named_at_once(tmp_path: Path, capsys: Any) -> None:
    text = NET.replace('type: "LRN"', 'type: "Interp"').replace(
        "pool: MAX kernel_size: 2", "pool: STOCHASTIC kernel_size: 2"
    )
    path, _, _ = written(tmp_path, text)
    assert main(["convert", str(path)]) == WRONG_SPEC
    said = capsys.readouterr().err
    assert "norm (Interp): no layer computes Interp; nearest: upsample2d" in said
    assert "cut (Pooling): it draws an element of each window; nearest: pool: MAX or AVE" in said
    assert "prob (" not in said


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path, arrays, _ = written(tmp_path)
    del arrays["fc"]
    arrays["depth"] = arrays["depth"][:1]
    path.with_suffix(".caffemodel").write_bytes(caffemodel(arrays))
    with pytest.raises(ConversionError, match=r"(?s)depth .*it has 1 arrays in the weights, expected 2.*"):
        convert(path)


WRONG: Sequence[str] = (
    "", "{}", "layer {", 'layers { name: "a" }', 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }',
    'input: "x" input_dim: 1 layer { name: "a" type: "ReLU" bottom: "x" top: "y" }', "a { " * 20_000,
)  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_no_network_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(text, encoding="utf-8")
    with pytest.raises(ConversionError):
        convert(tmp_path / "net.prototxt")


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path, NET.replace("num_output: 4 }", "num_output: 4000000000 }"))
    blob = field(7, field(1, varint(1 << 40))) + field(5, bytes(16))
    path.with_suffix(".caffemodel").write_bytes(field(100, field(1, b"fc") + field(7, blob)))
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            convert(path)
        path.with_suffix(".caffemodel").unlink()
        with pytest.raises(ConversionError):
            convert(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def attack(seeds: range, folder: Path) -> dict[int, int]:
    """Convert files of which something was changed, and count the exit codes; a failure leaves nothing behind."""
    path, _, _ = written(folder)
    text, weights = path.read_text(encoding="utf-8"), path.with_suffix(".caffemodel").read_bytes()
    codes: dict[int, int] = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        words, stored = text.split(" "), bytearray(weights)
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(len(words)))
            other = words[int(random.integers(len(words)))]
            words[place] = str(
                random.choice(["0", "-1", "3", "4294967295", "99999999999", '"data"', "{", "}", "", other])
            )
        for place in random.integers(0, len(stored), int(random.integers(0, 3))):
            stored[place] = int(random.integers(256))
        path.write_text(" ".join(words), encoding="utf-8")
        path.with_suffix(".caffemodel").write_bytes(stored[: int(random.integers(1, 2 * len(stored)))])
        code = main(["convert", str(path), "-o", str(folder / "net.yaml"), "--threads", "1"])
        assert code != BUG, f"seed {seed}"
        codes[code] = codes.get(code, 0) + 1
        assert (folder / "net.yaml").exists() == (code == 0), f"seed {seed}"
        for made in (folder / "net.yaml", folder / "net.npz"):
            made.unlink(missing_ok=True)
    return codes


@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path: Path) -> None:
    assert attack(range(30), tmp_path)[1] > 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files(tmp_path: Path) -> None:
    attack(range(30, 2030), tmp_path)
