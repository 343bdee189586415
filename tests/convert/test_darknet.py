"""Darknet's files as specs: outputs are those of a forward pass written here, and of OpenCV where it reads them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import struct
import tracemalloc
from importlib.resources import files
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

DETECTOR = """\
[net]
width=32
height=24
channels=3  # of pixels

[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=4
size=1
activation=mish

[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
groups=4
activation=swish

[shortcut]
from=-3
activation=linear

[convolutional]
filters=16
size=3
stride=2
padding=1
activation=relu

[maxpool]
size=3
stride=1

[upsample]
stride=2

[route]
layers=-1,3

[route]
layers=-1
groups=2
group_id=1

[maxpool]
size=5
stride=2

[reorg]
stride=2

[convolutional]
filters=5
size=1
activation=logistic
"""
CLASSIFIER = """\
[network]
height=11
width=13
channels=2
; a classifier of maps that no stride divides

[crop]
crop_height=9
crop_width=11
flip=1

[convolutional]
filters=6
size=2
stride=2
pad=1
activation=elu

[lrn]
size=3
alpha=0.3

[maxpool]
size=2
stride=2

[dropout]
probability=.25

[connected]
output=7
batch_normalize=1
activation=tanh

[connected]
output=5
activation=linear

[softmax]
temperature=2

[cost]
type=sse
"""
GLOBAL = """\
[net]
inputs=12
height=4
width=3
channels=1
[convolutional]
filters=5
size=3
pad=1
activation=linear
[avgpool]
[softmax]
"""
NETWORKS = {"detector": DETECTOR, "classifier": CLASSIFIER, "global": GLOBAL}
HEADERS = {  # by version: the header's bytes, and whether connected layers lie by their inputs
    "0.1": (struct.pack("<iiii", 0, 1, 0, 640), False),
    "0.2": (struct.pack("<iiiq", 0, 2, 5, 640), False),
    "1.0": (struct.pack("<iiiq", 1, 0, 0, 640), False),
    "0.1001": (struct.pack("<iiii", 0, 1001, 0, 640), True),
}


def sections(text: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        line = "".join(line.split("#")[0].split())
        if line.startswith("["):
            found.append((line.strip("[]"), {}))
        elif "=" in line:
            name, value = line.split("=")
            found[-1][1][name] = value
    return found


ACTIVATIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "tanh": np.tanh,
}


class Forward:
    """A network of Darknet, computed section by section, pixel by pixel; it draws its weights as it goes."""

    def __init__(self, text: str, *, transposed: bool = False) -> None:
        self.sections = sections(text)[1:]
        self.options = sections(text)[0][1]
        self.random = np.random.default_rng(0)
        self.transposed = transposed
        self.stored: list[Array] = []
        self.drawn: dict[int, list[Array]] = {}

    def draw(self, number: int, *shapes: tuple[int, ...]) -> list[Array]:
        """The arrays of a section, in the file's order; drawn at the first image."""
        if number not in self.drawn:
            arrays = [
                self.random.uniform(0.1, 1.0, shape).astype(np.float32) - 0.3 * (i < 1)
                for i, shape in enumerate(shapes)
            ]
            self.drawn[number] = [array.astype(np.float32) for array in arrays]
            self.stored += self.drawn[number]
        return self.drawn[number]

    def weights(self, header: bytes) -> bytes:
        return header + b"".join(array.astype("<f4").tobytes() for array in self.stored)

    def __call__(self, image: Array) -> Array:
        made: list[Array] = []
        x = image.astype(np.float64)
        for number, (kind, options) in enumerate(self.sections):
            x = self.layer(number, kind, options, x, made)
            made.append(x)
        return x

    def layer(self, number: int, kind: str, options: dict[str, str], x: Array, made: list[Array]) -> Array:
        value = {name: float(text) for name, text in options.items() if text.replace(".", "").lstrip("-").isdigit()}
        activate = ACTIVATIONS[options.get("activation", "logistic")]
        size, stride = int(value.get("size", 1)), int(value.get("stride", 1))
        if kind in ("convolutional", "conv"):
            groups, filters = int(value.get("groups", 1)), int(value["filters"])
            pad = size // 2 if value.get("pad") else int(value.get("padding", 0))
            rest = [(filters,)] * 3 if value.get("batch_normalize") else []
            bias, *norm, w = self.draw(number, (filters,), *rest, (filters, len(x) // groups, size, size))
            x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
            rows, columns = ((length - size) // stride + 1 for length in x.shape[1:])
            y = np.zeros((filters, rows, columns))
            per = filters // groups
            for f in range(filters):
                own = x[f // per * w.shape[1] : (f // per + 1) * w.shape[1]]
                for i in range(rows):
                    for j in range(columns):
                        y[f, i, j] = (
                            w[f] * own[:, i * stride : i * stride + size, j * stride : j * stride + size]
                        ).sum()
            return np.asarray(activate(self.normalised(y, norm) + bias[:, None, None]))
        if kind == "connected":
            units, flat = int(value["output"]), x.reshape(-1)
            shape = (flat.size, units) if self.transposed else (units, flat.size)
            rest = [(units,)] * 3 if value.get("batch_normalize") else []
            bias, w, *norm = self.draw(number, (units,), shape, *rest)
            y = flat @ w if self.transposed else w @ flat
            return np.asarray(activate(self.normalised(y[:, None, None], norm)[:, 0, 0] + bias))
        if kind == "maxpool":
            pad = size - 1
            rows, columns = ((length + pad - size) // stride + 1 for length in x.shape[1:])
            y = np.full((len(x), rows, columns), -np.inf)
            for i in range(rows):
                for j in range(columns):
                    for u in range(size):
                        for v in range(size):
                            row, column = i * stride + u - pad // 2, j * stride + v - pad // 2
                            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                                y[:, i, j] = np.maximum(y[:, i, j], x[:, row, column])
            return y
        if kind == "shortcut":
            return x + made[number + int(value["from"])]
        if kind == "upsample":
            return x.repeat(stride, 1).repeat(stride, 2)
        if kind == "route":
            chosen = [int(part) for part in options["layers"].split(",")]
            parts = [made[number + place if place < 0 else place] for place in chosen]
            groups, part_of = int(value.get("groups", 1)), int(value.get("group_id", 0))
            return np.concatenate([np.split(part, groups)[part_of] for part in parts])
        if kind == "reorg":
            c, h, w_ = x.shape
            out, y = c // stride**2, np.zeros(x.size)
            for k in range(c):
                for j in range(h):
                    for i in range(w_):
                        offset = k // out
                        column, row = i * stride + offset % stride, j * stride + offset // stride
                        place = column + w_ * stride * (row + h * stride * (k % out))
                        y[i + w_ * (j + h * k)] = x.reshape(-1)[place]
            return y.reshape(c * stride**2, h // stride, w_ // stride)
        if kind == "crop":
            height, width = int(value["crop_height"]), int(value["crop_width"])
            top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
            return x[:, top : top + height, left : left + width] * 2 - 1
        if kind == "lrn":
            squares = np.pad(x * x, (((size - 1) // 2, size // 2), (0, 0), (0, 0)))
            total: Array = np.sum([squares[shift : shift + len(x)] for shift in range(size)], 0)
            return np.asarray(x * (1 + value["alpha"] * total) ** -0.75)
        if kind == "softmax":
            grown = np.exp((x.reshape(-1) - x.max()) / value.get("temperature", 1))
            return np.asarray(grown / grown.sum())
        return x.mean((1, 2)) if kind == "avgpool" else x

    @staticmethod
    def normalised(y: Array, norm: list[Array]) -> Array:
        if not norm:
            return y
        scale, mean, variance = (array[:, None, None].astype(np.float64) for array in norm)
        return np.asarray(scale * (y - mean) / (np.sqrt(variance) + 1e-6))


def written(text: str, folder: Path, version: str = "0.2") -> tuple[Path, Forward, Array]:
    """The files of a network, its forward pass, and an image."""
    header, transposed = HEADERS[version]
    forward = Forward(text, transposed=transposed)
    sizes = [int(forward.options[name]) for name in ("channels", "height", "width")]
    image = np.random.default_rng(1).random(sizes, np.float32)
    forward(image)
    path = folder / "net.cfg"
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".weights").write_bytes(forward.weights(header))
    return path, forward, image


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_darknet(name: str, version: str, tmp_path: Path) -> None:
    path, forward, image = written(NETWORKS[name], tmp_path, version)
    found = convert(path)
    model = compile(found.text, threads=1)
    model.weights.load(found.arrays)
    expected = forward(image)
    got = model.outputs(image[None])[0]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["detector", "global"])
def test_outputs_are_those_of_opencv(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("cv2") is None:
        pytest.skip("OpenCV is not installed")
    dnn: Any = importlib.import_module("cv2").dnn
    if not hasattr(dnn, "readNetFromDarknet"):
        pytest.skip("this OpenCV does not read Darknet's files")
    path, _, image = written(NETWORKS[name].replace("groups=2\ngroup_id=1", "groups=1"), tmp_path)
    network = dnn.readNetFromDarknet(str(path), str(path.with_suffix(".weights")))
    network.setInput(image[None])
    expected = network.forward()
    found = convert(path)
    model = compile(found.text, threads=1)
    model.weights.load(found.arrays)
    got = model.outputs(image[None])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got.reshape(expected.shape) / scale, expected / scale, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_recipe_of_the_guide(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    if importlib.util.find_spec("cv2") is None or not hasattr(importlib.import_module("cv2").dnn, "readNetFromDarknet"):
        pytest.skip("no OpenCV that reads Darknet's files is installed")
    page = files("cnnspec").joinpath("guide", "convert.md").read_text(encoding="utf-8")
    (recipe,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "cv2" in code)
    path, _, image = written(GLOBAL, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("specs").mkdir()
    assert main(["convert", path.name, "-o", "specs/net.yaml"]) == 0
    capsys.readouterr()
    exec(recipe.replace("(1, 3, 416, 416)", str((1, *image.shape))), {})
    assert float(capsys.readouterr().out) < 1e-4


def test_the_spec_is_short(tmp_path: Path) -> None:
    path, _, _ = written(DETECTOR, tmp_path)
    text = convert(path).text
    assert "  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, bias: none}\n" in text
    assert "  - {type: leaky_relu, negative_slope: 0.1}\n" in text or "  - leaky_relu\n" in text
    assert "# Its weights are those of net.weights." in text


def test_the_verb_writes_spec_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, forward, image = written(CLASSIFIER, tmp_path)
    assert main(["convert", "net.cfg"]) == 0
    assert "no program here runs Darknet's files" in capsys.readouterr().err
    np.testing.assert_allclose(cnnspec.load("net.npz").predict(image[None])[0], forward(image), atol=1e-5)
    (tmp_path / "net.weights").rename("other.weights")
    assert main(["convert", "net.cfg", "-o", "a.yaml", "--weights", "other.weights"]) == 0
    assert main(["convert", "net.cfg", "-o", "b.yaml"]) == 0
    assert "the spec starts fresh" in capsys.readouterr().err
    assert Path("a.npz").exists()
    assert not Path("b.npz").exists()
    assert main(["validate", "a.yaml", "b.yaml"]) == 0


@pytest.mark.parametrize(
    ("change", "said"), [(-4, "too short"), (4, "too long"), (-1, "no whole number"), (-(1 << 20), "header")]
)
def test_the_length_of_the_weights_is_exact(change: int, said: str, tmp_path: Path) -> None:
    path, _, _ = written(CLASSIFIER, tmp_path)
    stored = path.with_suffix(".weights")
    content = stored.read_bytes()
    stored.write_bytes(content + bytes(change) if change > 0 else content[: max(len(content) + change, 0)])
    with pytest.raises(ConversionError, match=said):
        convert(path)


def test_everything_that_cannot_be_said_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(DETECTOR + "antialiasing=1\n[lstm]\noutput=3\n[yolo]\nmask=0\n", encoding="utf-8")
    assert main(["convert", str(path)]) == WRONG_SPEC
    said = capsys.readouterr().err
    assert "convolutional_12 (convolutional): nothing here does antialiasing=1" in said
    assert "lstm_13 (lstm): no layer computes [lstm]" in said
    assert "yolo_14 (yolo): no layer computes [yolo]; nearest: --until" in said
    assert [found.name for found in tmp_path.iterdir()] == ["net.cfg"]


def test_until_converts_what_comes_before(tmp_path: Path) -> None:
    path, _, _ = written(DETECTOR, tmp_path)
    for name in ("maxpool_1", "1"):
        assert "expect: {params: 232," in convert(path, until=name).text
    with pytest.raises(ConversionError, match="no layer 'yolo_3'"):
        convert(path, until="yolo_3")


def test_a_head_that_the_wanted_layer_does_not_read_is_left_out(tmp_path: Path) -> None:
    """As in YOLOv3, where the finer map comes behind the head of the coarser one."""
    convolution = "[convolutional]\nfilters=4\nsize=1\nstride=1\nactivation=linear\n"
    text = f"[net]\nwidth=8\nheight=8\nchannels=3\n{convolution}[yolo]\nmask=0\n[route]\nlayers=-2\n{convolution}"
    path = tmp_path / "net.cfg"
    path.write_text(f"{text}[yolo]\nmask=1\n", encoding="utf-8")
    assert "output: [4, 8, 8]" in convert(path, until="convolutional_3").text
    path.write_text(text.replace("[yolo]", "[lstm]"), encoding="utf-8")  # which has weights, that come before others
    with pytest.raises(ConversionError, match="lstm_1"):
        convert(path, until="convolutional_3")


@pytest.mark.parametrize(
    "text", ["", "[convolutional]\n", "[net]\nwidth\n", "[net]\nwidth=x\n", "[net]\nwidth=4\n", "{}"]
)
def test_what_is_no_network_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "net.cfg").write_text(text, encoding="utf-8")
    with pytest.raises(ConversionError):
        convert(tmp_path / "net.cfg")


def attack(seeds: range, folder: Path) -> dict[int, int]:
    """Convert files of which something was changed, and count the exit codes; a failure leaves nothing behind."""
    path, _, _ = written(DETECTOR, folder)
    text, weights = path.read_text(encoding="utf-8"), path.with_suffix(".weights").read_bytes()
    codes: dict[int, int] = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        lines, stored = text.splitlines(), bytearray(weights)
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(len(lines)))
            name, equals, _ = lines[place].partition("=")
            number = random.choice(["-1", "0", "2", "7", "1e9", "99999999999", "x", "", "-3,2", "1" * 5000])
            lines[place] = str(random.choice([f"{name}{equals}{number}", lines[int(random.integers(len(lines)))], ""]))
        for place in random.integers(0, len(stored), int(random.integers(0, 3))):
            stored[place] = int(random.integers(256))
        path.write_text("\n".join(lines), encoding="utf-8")
        path.with_suffix(".weights").write_bytes(stored[: int(random.integers(0, 2 * len(stored)))])
        code = main(["convert", str(path), "-o", str(folder / "net.yaml"), "--threads", "1"])
        assert code != BUG, f"seed {seed}"
        codes[code] = codes.get(code, 0) + 1
        made = [folder / "net.yaml", folder / "net.npz"]
        assert [found.exists() for found in made] == [code == 0] * 2, f"seed {seed}"
        for found in made:
            found.unlink(missing_ok=True)
    return codes


@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path: Path) -> None:
    assert attack(range(25), tmp_path)[1] > 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files(tmp_path: Path) -> None:
    attack(range(25, 2025), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[net]\nwidth=1000000\nheight=1000000\nchannels=3\n[avgpool]\n",
        "[net]\ninputs=9\n[connected]\noutput=16777216\n[connected]\noutput=16777216\n",
        "[net]\nwidth=64\nheight=64\nchannels=3\n[upsample]\nstride=100000\n",
        "[net]\nwidth=64\nheight=64\nchannels=1024\n[convolutional]\nfilters=1000000\nsize=64\n",
    ],
)
def test_a_small_file_takes_little_memory(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".weights").write_bytes(bytes(20))
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            convert(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
