"""Keras's files as specs: outputs are those of a forward pass written here, and of Keras where it is installed."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec.api import compile
from cnnspec.cli import BUG, WRONG_SPEC, main
from cnnspec.convert.conversion import convert
from cnnspec.convert.proof import prove
from cnnspec.convert.refusal import ConversionError
from cnnspec.kernels.step import Array

h5py: Any = pytest.importorskip("h5py")

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.normal(size=(3, 3, 2, 4)).astype(np.float32), RANDOM.normal(size=4).astype(np.float32)
SCALES = [RANDOM.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4)]  # gamma, beta, mean, variance
MATRIX = RANDOM.normal(size=(3 * 3 * 4, 5)).astype(np.float32)
ARRAYS = {"conv": [KERNEL, BIAS], "norm": SCALES, "out": [MATRIX]}


SHAPES = {"picture": (6, 5, 3), "known": (3,), "unread": (8,)}  # of inputs


def layer(kind: str, name: str, *inputs: str, **config: Any) -> dict[str, Any]:
    history = [{"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}} for source in inputs]
    args = [history] if kind in ("Add", "Concatenate") else history
    nodes: list[Any] = [{"args": args, "kwargs": {}}] if inputs else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def model(*more: dict[str, Any], output: str = "out") -> dict[str, Any]:
    """A convolution and its ReLU, added, normalised, made smaller, flattened, and a dense layer."""
    layers = [
        layer("InputLayer", "images", batch_shape=[None, 11, 10, 2]),
        layer("Conv2D", "conv", "images", filters=4, kernel_size=[3, 3], strides=[2, 2], padding="same"),
        layer("Activation", "act", "conv", activation="tanh"),
        layer("Add", "sum", "conv", "act"),
        layer("BatchNormalization", "norm", "sum", axis=-1, epsilon=0.01),
        layer("MaxPooling2D", "pool", "norm", pool_size=[2, 2], padding="same"),
        layer("Flatten", "flat", "pool"),
        layer("ReLU", "relu", "flat", max_value=None, negative_slope=0.0, threshold=0.0),
        layer("Dense", "out", "relu", units=5, use_bias=False, activation="softmax"),
        *more,
    ]
    config = {"layers": layers, "input_layers": [["images", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"class_name": "Functional", "config": config}


def forward(image: Array) -> Array:
    """What the model computes of one image (h, w, c), pixel by pixel."""
    x = np.pad(image.astype(np.float64), ((1, 1), (0, 1), (0, 0)))  # same: 6 rows and 5 columns
    y = np.zeros((6, 5, 4))
    for i in range(6):
        for j in range(5):
            y[i, j] = np.tensordot(x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3], KERNEL, 3) + BIAS
    y = y + np.tanh(y)
    gamma, beta, mean, variance = SCALES
    y = gamma * (y - mean) / np.sqrt(variance + 0.01) + beta
    y = np.pad(y, ((0, 0), (0, 1), (0, 0)), constant_values=-np.inf)
    y = np.maximum(y.reshape(3, 2, 3, 2, 4).max((1, 3)).reshape(-1), 0) @ MATRIX
    grown = np.exp(y - y.max())
    return np.asarray(grown / grown.sum())


def archived(described: dict[str, Any], *, named: bool = True) -> bytes:
    """A `.keras` file; arrays lie under classes, which newer versions of Keras name."""
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for key, name in (("conv2d", "conv"), ("batch_normalization", "norm"), ("dense", "out")):
            group = file.create_group(f"layers/{key}/vars")
            if named:
                group.attrs["name"] = name
            for place, array in enumerate(ARRAYS[name]):
                group[str(place)] = array
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", json.dumps(described))
        archive.writestr("model.weights.h5", stored.getvalue())
    return content.getvalue()


def whole(described: dict[str, Any], arrays: dict[str, list[Array]] = ARRAYS) -> bytes:
    """An `.h5` file."""
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        file.attrs["model_config"] = json.dumps(described)
        for name, own in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{place}".encode() for place in range(len(own))]
            for place, array in enumerate(own):
                group[f"{name}/{place}"] = array
    return stored.getvalue()


FILES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "keras": lambda: ("net.keras", archived(model())),
    "keras, arrays by class": lambda: ("net.keras", archived(model(), named=False)),
    "h5": lambda: ("net.h5", whole(model())),
    "h5 of an older version": lambda: ("net.h5", whole(of_version_2())),
}


def of_version_2() -> dict[str, Any]:
    described = model()
    for entry in described["config"]["layers"]:
        nodes = entry["inbound_nodes"]
        args = nodes[0]["args"] if nodes else []
        args = args[0] if args and isinstance(args[0], list) else args
        entry["inbound_nodes"] = [[[*given["config"]["keras_history"], {}] for given in args]] if nodes else []
    return described


def outputs(path: Path, images: Array) -> Array:
    """What the converted network gives for images (n, h, w, c)."""
    found = convert(path)
    network = compile(found.text, threads=1)
    network.weights.load(found.arrays)
    return np.asarray(network.outputs(images.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    called, content = FILES[name]()
    (tmp_path / called).write_bytes(content)
    images = np.random.default_rng(1).random((3, 11, 10, 2), np.float32)
    np.testing.assert_allclose(outputs(tmp_path / called, images), [forward(image) for image in images], atol=1e-5)


def test_the_spec_is_as_a_person_would_write_it(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps(model()), encoding="utf-8")
    found = convert(tmp_path / "net.json")
    assert not found.weighted
    assert "permute" not in found.text, "the dense layer's weights are turned instead"
    assert "  - {id: conv, type: conv2d, filters: 4, kernel_size: 3, stride: 2, padding: same}\n" in found.text
    assert "# Converted from net.json (Keras), without weights." in found.text


def test_the_verb_writes_spec_and_weights(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.keras").write_bytes(archived(model()))
    assert main(["convert", "net.keras"]) == 0
    assert "nothing was compared: Keras" in capsys.readouterr().err, "it has no metadata, which Keras asks for"
    image = np.random.default_rng(1).random((11, 10, 2), np.float32)
    predicted = cnnspec.load("net.npz").predict(image.transpose(2, 0, 1)[None])[0]
    np.testing.assert_allclose(predicted, forward(image), atol=1e-5)
    assert main(["validate", "net.yaml"]) == 0
    assert main(["convert", "net.keras", "--until", "pool", "-o", "part.yaml"]) == 0
    assert "output: [4, 3, 3]" in Path("part.yaml").read_text(encoding="utf-8")


def test_everything_that_cannot_be_said_is_named_at_once(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.json"
    strange = [
        layer("LSTM", "memory", "out"),
        layer("Dropout", "drop", "out", rate=0.5, noise_shape=[1, 2]),
        layer("Activation", "own", "drop", activation="celu"),
        layer("Concatenate", "end", "memory", "own", "out"),
    ]
    path.write_text(json.dumps(model(*strange, output="end")), encoding="utf-8")
    assert main(["convert", str(path)]) == WRONG_SPEC
    said = capsys.readouterr().err
    assert "memory (LSTM): no layer computes LSTM" in said
    assert "drop (Dropout): it drops numbers together: noise_shape; nearest: SpatialDropout2D" in said
    assert "own (" not in said, "it reads what is refused"


def test_a_layer_used_twice_is_shared(tmp_path: Path) -> None:
    described = model()
    conv = layer("Conv2D", "twice", "norm", filters=4, kernel_size=[1, 1])
    conv["inbound_nodes"] += layer("Conv2D", "twice", "twice")["inbound_nodes"]
    end = layer("Activation", "end", "twice", activation="relu")
    end["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["twice", 1, 0]
    described["config"]["layers"] += [conv, end]
    described["config"]["output_layers"] = ["end", 0, 0]
    arrays = {**ARRAYS, "twice": [np.eye(4, dtype=np.float32)[None, None], BIAS]}
    (tmp_path / "net.h5").write_bytes(whole(described, arrays))
    assert "share: twice" in convert(tmp_path / "net.h5").text


def test_layers_that_change_images_in_training_alone_are_left_out(tmp_path: Path) -> None:
    described = model(layer("RandomFlip", "flip", "images", mode="horizontal", seed=1))
    described["config"]["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["flip", 0, 0]
    (tmp_path / "net.h5").write_bytes(whole(described))
    assert "# RandomFlip left out: they change images in training alone" in convert(tmp_path / "net.h5").text
    image = np.random.default_rng(0).random((11, 10, 2), np.float32)
    np.testing.assert_allclose(outputs(tmp_path / "net.h5", image[None])[0], forward(image), rtol=0, atol=1e-5)


LAYERS: dict[str, Callable[[Any], Any]] = {
    "rescaling": lambda k: k.Rescaling(0.5, -0.1),
    "strided": lambda k: k.Conv2D(4, 3, strides=2, padding="same", activation="gelu"),
    "grouped": lambda k: k.Conv2D(4, (3, 2), groups=2, padding="same", use_bias=False),
    "dilated": lambda k: k.Conv2D(4, 3, dilation_rate=2),
    "depthwise": lambda k: k.DepthwiseConv2D(3, depth_multiplier=2, strides=2),
    "separable": lambda k: k.SeparableConv2D(4, 3, depth_multiplier=2, padding="same", activation="silu"),
    "transposed, same": lambda k: k.Conv2DTranspose(6, 3, strides=2, padding="same"),
    "transposed, valid": lambda k: k.Conv2DTranspose(6, 2, strides=3),
    "dense on a map": lambda k: k.Dense(5, activation="relu6"),
    "batch norm": lambda k: k.BatchNormalization(scale=False),
    "group norm": lambda k: k.GroupNormalization(2),
    "instance norm": lambda k: k.GroupNormalization(-1, center=False),
    "layer norm": lambda k: k.LayerNormalization(),
    "prelu": lambda k: k.PReLU(shared_axes=[1, 2]),
    "leaky": lambda k: k.LeakyReLU(0.2),
    "bounded": lambda k: k.ReLU(2.0),
    "elu": lambda k: k.ELU(0.5),
    "softmax": lambda k: k.Softmax(),
    "max pool": lambda k: k.MaxPooling2D(3, 2, padding="same"),
    "mean pool": lambda k: k.AveragePooling2D(2, padding="same"),
    "global": lambda k: k.GlobalMaxPooling2D(keepdims=True),
    "permute": lambda k: k.Permute((3, 1, 2)),
    "reshape": lambda k: k.Reshape((4, -1, 7)),
    "upsampling": lambda k: k.UpSampling2D((2, 1)),
    "bilinear": lambda k: k.UpSampling2D(2, interpolation="bilinear"),
    "padding": lambda k: k.ZeroPadding2D(((1, 0), (2, 1))),
    "cropping": lambda k: k.Cropping2D(((1, 0), (2, 1))),
    "noise": lambda k: k.GaussianNoise(0.5),
    "spatial dropout": lambda k: k.SpatialDropout2D(0.5),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_are_those_of_keras(name: str, tmp_path: Path) -> None:
    backend = next((name for name in ("jax", "tensorflow", "torch") if importlib.util.find_spec(name)), None)
    if backend is None or importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    os.environ.setdefault("KERAS_BACKEND", backend)
    keras: Any = importlib.import_module("keras")
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 7, 4)),
            LAYERS[name](layers),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Activation("softplus"),
            layers.Dense(3),
        ]
    )
    random = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(random.uniform(0.2, 1, variable.shape))
    images = random.normal(size=(2, 8, 7, 4)).astype(np.float32)
    expected = np.asarray(network(images))
    for suffix in ("keras", "h5"):
        network.save(tmp_path / f"net.{suffix}")
        got = outputs(tmp_path / f"net.{suffix}", images)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    ran = convert(tmp_path / "net.keras").run([images.transpose(0, 3, 1, 2)])
    assert not isinstance(ran, str), ran
    program, found = ran
    assert program == "Keras"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_several_inputs_have_the_names_of_the_model(tmp_path: Path) -> None:
    beside = [
        layer("InputLayer", "unread", batch_shape=[None, None, None, 1]),
        layer("InputLayer", "input", batch_shape=[None, 3]),
        layer("Dense", "known", "input", units=5, use_bias=False, activation="relu"),
        layer("Add", "both", "known", "out"),
    ]
    (tmp_path / "net.json").write_text(json.dumps(model(*beside, output="both")))
    text = convert(tmp_path / "net.json").text
    assert "inputs: {images: [2, 11, 10], input_1: [3]}" in text
    assert "from: input_1}" in text


@pytest.mark.filterwarnings("ignore")
def test_keras_itself_is_given_each_input(tmp_path: Path) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    keras: Any = importlib.import_module("keras")
    layers = keras.layers
    picture, known, unread = (keras.Input(shape, name=name) for name, shape in SHAPES.items())
    seen = layers.Flatten()(layers.Conv2D(2, 3)(picture))
    both = layers.Concatenate(name="both")([layers.Dense(4)(known), layers.Dense(4)(seen)])
    keras.Model([unread, known, picture], layers.Add()([both, unread])).save(tmp_path / "net.keras")
    for until in (None, "both"):
        found = convert(tmp_path / "net.keras", until=until)
        network = compile(found.text, threads=1)
        network.weights.load(found.arrays)
        proof = prove(found, network.outputs)
        assert not isinstance(proof, str), proof
        assert proof.agrees
        assert ("unread" in found.text) == (until is None)


@pytest.mark.parametrize("code", [{"module": "os"}, {"class_name": "__lambda__"}, {"class_name": "function"}])
def test_a_file_that_names_code_is_not_given_to_keras(code: dict[str, str], tmp_path: Path) -> None:
    described = model()
    described["config"]["layers"][1]["config"]["kernel_initializer"] = {"class_name": "Zeros", "config": [code]}
    (tmp_path / "net.keras").write_bytes(archived(described))
    assert (
        convert(tmp_path / "net.keras").run([np.zeros((2, 2, 11, 10))])
        == "it names code beside Keras's, which is not run"
    )


def test_arrays_of_other_files_are_never_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = KERNEL
    for kind in ("external link", "soft link", "external array", "compressed"):
        stored = io.BytesIO(whole(model()))
        with h5py.File(stored, "r+") as file:
            group = file["model_weights/conv/conv"]
            del group["0"]
            if kind == "external link":
                group["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/kernel")
            elif kind == "soft link":
                group["0"] = h5py.SoftLink("/model_weights/out/out/0")
            elif kind == "external array":
                place = [(str(tmp_path / "secret.h5"), 0, KERNEL.nbytes)]
                group.create_dataset("0", KERNEL.shape, np.float32, external=place)
            else:
                group.create_dataset("0", (1 << 14, 1 << 14), np.float32, compression="gzip", chunks=(64, 64))
        (tmp_path / "net.h5").write_bytes(stored.getvalue())
        tracemalloc.start()
        with pytest.raises(ConversionError, match=r"is a link|not in the file"):
            convert(tmp_path / "net.h5")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
        tracemalloc.stop()


def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(model()))
        archive.writestr("model.weights.h5", bytes(64 << 20))
    with pytest.raises(ConversionError, match="compressed, and longer than the file"):
        convert(tmp_path / "net.keras")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"class_name": "Sequential", "config": []}', b"\x89HDF\r\n\x1a\n"]
    + [json.dumps({**model(), "class_name": kind}).encode() for kind in ("Own", "Sequential")],
)
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_bytes(content)
    with pytest.raises(ConversionError):
        convert(tmp_path / "net.json")


VALUES: list[Any] = [
    None,
    -1,
    0,
    3,
    1 << 40,
    0.5,
    "x",
    [],
    [0, 2],
    [1, 2, 3],
    {},
    True,
    float("nan"),
    "tanh",
    "conv",
    "same",
]


def changed(node: Any, random: np.random.Generator) -> None:
    """Change one value somewhere in a description."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = keys[int(random.integers(len(keys)))]
        if isinstance(node[key], dict | list) and random.random() < 0.9:
            node = node[key]
            continue
        node[key] = copy.deepcopy(VALUES[int(random.integers(len(VALUES)))])
        return


def attack(seeds: range, folder: Path) -> dict[int, int]:
    """Convert files of which something was changed, and count the exit codes; a failure leaves nothing behind."""
    codes: dict[int, int] = {}
    for seed in seeds:
        random = np.random.default_rng(seed)
        described = model()
        for _ in range(int(random.integers(0, 3))):
            changed(described, random)
        name, content = [
            ("net.json", json.dumps(described).encode()),
            ("net.keras", archived(described)),
            ("net.h5", whole(described)),
        ][int(random.integers(3))]
        damaged = bytearray(content)
        if random.random() < 0.5:
            for place in random.integers(0, len(damaged), int(random.integers(1, 5))):
                damaged[place] = int(random.integers(256))
            damaged = damaged[: int(random.integers(1, 2 * len(damaged)))]
        path = folder / name
        path.write_bytes(damaged)
        code = main(["convert", str(path), "-o", str(folder / "net.yaml"), "--threads", "1"])
        assert code != BUG, f"seed {seed}"
        codes[code] = codes.get(code, 0) + 1
        assert (folder / "net.yaml").exists() == (code == 0), f"seed {seed}"
        for made in (path, folder / "net.yaml", folder / "net.npz"):
            made.unlink(missing_ok=True)
    return codes


@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path: Path) -> None:
    assert attack(range(40), tmp_path)[1] > 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_damaged_files(tmp_path: Path) -> None:
    attack(range(40, 2040), tmp_path)
