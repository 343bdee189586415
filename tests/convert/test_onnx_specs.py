"""The spec of an ONNX file is one that a person would have written: names, blocks, and layers without detours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.convert.onnx_conversion import converted
from cnnspec.convert.onnx_file import parse
from cnnspec.convert.proof import prove
from cnnspec.convert.refusal import ConversionError

onnx: Any = pytest.importorskip("onnx", minversion="1.21")
RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def text_of(
    nodes: list[Any],
    arrays: dict[str, Any],
    shape: tuple[int, ...],
    output: str,
    *,
    until: str | None = None,
    more: Mapping[str, tuple[int | str, ...]] = {},
) -> str:
    """The lines of `blocks` and `layers`, after a proof that they compute what the file computes.

    The file has the input `image`, and `more` inputs.
    """
    infos = {"image": (2, *shape), **more}
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info(name, 1, lengths) for name, lengths in infos.items()],
        [onnx.helper.make_empty_tensor_value_info(output)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    found = converted(parse(model, Path("net.onnx")), "net.onnx", until=until)
    network = compile(found.text, threads=1)
    network.weights.load(found.arrays)
    proof = prove(found, network.outputs)
    assert not isinstance(proof, str)
    assert proof.agrees
    return "\n".join(line for line in found.text.splitlines() if line.startswith(("  ", "inputs")))


def node(operator: str, inputs: str, output: str, name: str = "", **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs.split(), [output], name=name, **attributes)


def test_dense_layers_on_channels_last_are_convolutions_without_permutations() -> None:
    """A block of ConvNeXt as PyTorch writes it."""
    arrays = {
        "depthwise": drawn(4, 1, 3, 3),
        "scale": drawn(4),
        "shift": drawn(4),
        "first": drawn(4, 16),
        "first_bias": drawn(16),
        "second": drawn(16, 4),
        "second_bias": drawn(4),
        "gamma": drawn(4),
    }
    nodes = [
        node("Conv", "image depthwise", "conv", "/block/dwconv/Conv", group=4, pads=[1, 1, 1, 1]),
        node("Transpose", "conv", "last", perm=[0, 2, 3, 1]),
        node("LayerNormalization", "last scale shift", "norm", "/block/norm/LayerNormalization", axis=-1),
        node("MatMul", "norm first", "product", "/block/pw1/MatMul"),
        node("Add", "first_bias product", "wide", "/block/pw1/Add"),
        node("Gelu", "wide", "active"),
        node("MatMul", "active second", "product_2", "/block/pw2/MatMul"),
        node("Add", "second_bias product_2", "narrow", "/block/pw2/Add"),
        node("Mul", "gamma narrow", "scaled"),
        node("Transpose", "scaled", "first_again", perm=[0, 3, 1, 2]),
        node("Add", "image first_again", "sum"),
    ]
    text = text_of(nodes, arrays, (4, 6, 5), "sum")
    assert "permute" not in text
    assert "positions" not in text
    assert "{id: block_pw1, type: conv2d, filters: 16, kernel_size: 1, activation: gelu}" in text


def test_a_value_with_other_readers_keeps_what_it_is() -> None:
    """The map before a permutation is read elsewhere, so that a bias behind it is no bias of the convolution."""
    arrays = {"weight": drawn(3, 3, 1, 1), "bias": drawn(3)}
    nodes = [
        node("Conv", "image weight", "conv"),
        node("Transpose", "conv", "last", perm=[0, 2, 3, 1]),
        node("Add", "last bias", "moved"),
        node("Relu", "last", "active"),
        node("Add", "moved active", "both"),
        node("Transpose", "both", "first", perm=[0, 3, 1, 2]),
        node("Add", "first conv", "sum"),
    ]
    text_of(nodes, arrays, (3, 4, 5), "sum")


def test_ids_are_the_modules_of_pytorch() -> None:
    arrays = {"a": drawn(2, 2, 1, 1), "b": drawn(2, 2, 1, 1), "c": drawn(2, 2, 1, 1)}
    nodes = [
        node("Conv", "image a", "/fire/e1/Conv_output_0", "/fire/e1/Conv"),
        node("Conv", "/fire/e1/Conv_output_0 b", "/u2/Conv_output_0", "/u2/Conv"),
        node("Conv", "/u2/Conv_output_0 c", "/0/Conv_output_0", "/0/Conv"),
        node("Relu", "/0/Conv_output_0", "out"),
    ]
    text = text_of(nodes, arrays, (2, 3, 3), "out")
    assert [line.split("id: ")[1].split(",")[0] for line in text.splitlines() if "id:" in line] == ["fire_e1", "u2"]


def test_a_size_of_windows_says_nothing_of_filters() -> None:
    """Blocks differ in both, which are equal by chance."""
    arrays, nodes, last = dict[str, Any](), list[Any](), "image"
    for number, size in enumerate((3, 5, 3, 5)):
        arrays |= {f"in{number}": drawn(size, 4, 1, 1), f"wide{number}": drawn(size, size, size, size)}
        arrays |= {f"out{number}": drawn(4, size, 1, 1)}
        nodes += [
            node("Conv", f"{last} in{number}", f"a{number}"),
            node("Conv", f"a{number} wide{number}", f"b{number}", pads=[size // 2] * 4),
            node("Conv", f"b{number} out{number}", f"c{number}"),
            node("Add", f"c{number} {last}", f"d{number}"),
        ]
        last = f"d{number}"
    text = text_of(nodes, arrays, (4, 7, 7), last)
    assert "params: {filters: required, kernel_size: required}" in text


def test_windows_of_one_number_are_left_out() -> None:
    nodes = [node("AveragePool", "image", "same", kernel_shape=[1, 1], strides=[1, 1]), node("Relu", "same", "out")]
    assert text_of(nodes, {}, (2, 3, 3), "out") == "  - relu"


def test_windows_that_programs_lay_differently_are_refused() -> None:
    pool: dict[str, Any] = {"kernel_shape": [1, 1], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    with pytest.raises(ConversionError, match="cut off at different ends"):
        text_of([node("MaxPool", "image", "out", **pool)], {}, (2, 6, 6), "out")
    conv = node("Conv", "image w", "out", strides=[2, 2], auto_pad="SAME_UPPER")
    assert "padding: same" in text_of([conv], {"w": drawn(3, 2, 1, 1)}, (2, 6, 6), "out")


def test_several_inputs_have_the_names_of_the_file() -> None:
    arrays = {"a": drawn(3, 2, 1, 1), "b": drawn(3, 2, 1, 1)}
    nodes = [
        node("Conv", "image a", "left"),
        node("Conv", "/other/picture b", "right"),
        node("Add", "right left", "sum"),
        node("Conv", "unread a", "aside"),
    ]
    more: dict[str, tuple[int | str, ...]] = {"/other/picture": ("n", 2, 4, 5), "unread": ("m", 2, "h", "w")}
    text = text_of(nodes, arrays, (2, 4, 5), "sum", more=more)
    assert text.splitlines()[0] == "inputs: {image: [2, 4, 5], other_picture: [2, 4, 5]}"
    assert "from: other_picture" in text
    assert "input" not in text_of(nodes, arrays, (2, 4, 5), "sum", until="left", more=more)


def test_inputs_with_other_first_axes_are_refused() -> None:
    nodes = [node("Add", "image state", "out")]
    with pytest.raises(ConversionError, match="image 2x3x4x5, state 1x3x4x5"):
        text_of(nodes, {}, (3, 4, 5), "out", more={"state": (1, 3, 4, 5)})
    with pytest.raises(ConversionError, match=r"its input 'state' open: nx3x\?x5"):
        text_of(nodes, {}, (3, 4, 5), "out", more={"state": (2, 3, "rows", 5)})


def test_attention_of_other_programs_is_products_of_maps() -> None:
    arrays: dict[str, Any] = {name: drawn(8, 8) for name in ("wq", "wk", "wv", "wo")}
    arrays |= {"cut": np.array([0, 15, 2, 4]), "joined": np.array([0, 15, 8]), "scale": np.float32(0.5)}
    nodes = [
        *(node("MatMul", f"image w{name}", f"{name}1") for name in "qkv"),
        *(node("Reshape", f"{name}1 cut", f"{name}2") for name in "qkv"),
        *(node("Transpose", f"{name}2", name, perm=[0, 2, 1, 3]) for name in "qkv"),
        node("Transpose", "k", "turned", perm=[0, 1, 3, 2]),
        node("Mul", "q scale", "scaled"),
        node("MatMul", "scaled turned", "products"),
        node("Softmax", "products", "weights", axis=-1),
        node("MatMul", "weights v", "mixed"),
        node("Transpose", "mixed", "heads", perm=[0, 2, 1, 3]),
        node("Reshape", "heads joined", "flat"),
        node("MatMul", "flat wo", "out"),
    ]
    text = text_of(nodes, arrays, (15, 8), "out")
    assert text.count("matmul") == 2


@pytest.mark.parametrize("operator", ["Gather", "Slice", "Split"])
def test_queries_keys_and_values_of_one_product_are_cut_apart(operator: str) -> None:
    """They lie in front of the images for a moment."""
    arrays: dict[str, Any] = {"w": drawn(8, 24), "wo": drawn(8, 8), "first": np.array([0])}
    arrays |= {"cut": np.array([0, 15, 3, 2, 4]), "joined": np.array([0, 15, 8])}
    taken = {
        "Gather": [node("Gather", f"turned at{place}", name) for place, name in enumerate("qkv")],
        "Slice": [node("Slice", f"turned from{place} to{place} first", f"{name}1") for place, name in enumerate("qkv")],
        "Split": [onnx.helper.make_node("Split", ["turned"], ["q1", "k1", "v1"], num_outputs=3, axis=0)],
    }[operator]
    arrays |= {f"at{place}": np.array(place) for place in range(3)}
    arrays |= {f"from{place}": np.array([place]) for place in range(3)}
    arrays |= {f"to{place}": np.array([place + 1]) for place in range(3)}
    nodes = [
        node("MatMul", "image w", "wide"),
        node("Reshape", "wide cut", "parts"),
        node("Transpose", "parts", "turned", perm=[2, 0, 3, 1, 4]),
        *taken,
        *([] if operator == "Gather" else [node("Squeeze", f"{name}1 first", name) for name in "qkv"]),
        node("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        node("MatMul", "q kt", "products"),
        node("Softmax", "products", "weights", axis=-1),
        node("MatMul", "weights v", "mixed"),
        node("Transpose", "mixed", "heads", perm=[0, 2, 1, 3]),
        node("Reshape", "heads joined", "flat"),
        node("MatMul", "flat wo", "out"),
    ]
    assert text_of(nodes, arrays, (15, 8), "out").count("matmul") == 2


def test_an_identity_behind_what_does_not_fit_is_no_reason() -> None:
    nodes = [
        node("MaxPool", "image", "small", kernel_shape=[2, 2]),
        node("Add", "small image", "sum", "sum_of_both"),
        node("Identity", "sum", "same"),
        node("Relu", "same", "out"),
    ]
    with pytest.raises(ConversionError) as refused:
        text_of(nodes, {}, (3, 4, 4), "out")
    assert [reason.split(" (")[0] for reason in refused.value.reasons] == ["sum_of_both"]
