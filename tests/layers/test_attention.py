"""Attention against loops over its formula and against PyTorch's own module; matrix products against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnspec.kernels.step import Array
from cnnspec.layers.attention import Attention, Matmul
from cnnspec.layers.base import to_public
from cnnspec.shapes import ShapeError
from tests.layers.harness import Bench


def naive(x: Array, params: dict[str, Array], heads: int) -> Array:
    """Of one image's pixels (pixels, c), by the definition."""
    pixels, c = x.shape
    projected = x @ params["in_weight"].T + params["in_bias"]
    d = c // heads
    mixed = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        query, key, value = (projected[:, i * c : (i + 1) * c][:, part] for i in range(3))
        for i in range(pixels):
            fits = np.array([np.exp(query[i] @ key[j] / np.sqrt(d)) for j in range(pixels)])
            mixed[i, part] = sum(share * value[j] for j, share in enumerate(fits / fits.sum()))
    found: Array = mixed @ params["out_weight"].T + params["out_bias"]
    return found


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_agrees_with_loops_over_its_formula(heads: int) -> None:
    bench = Bench(Attention(heads=heads), [(6, 2, 3)], sizes=[2])
    y = to_public(bench.forward())
    for image, found in zip(to_public(bench.inputs[0]), y, strict=True):
        expected = naive(image.reshape(6, -1).T, bench.params, heads).T
        np.testing.assert_allclose(found.reshape(6, -1), expected, rtol=1e-10, atol=1e-12)


def test_windows_are_attended_to_by_themselves() -> None:
    whole, cut = Bench(Attention(heads=2), [(4, 2, 3)]), Bench(Attention(heads=2, window=(2, 3)), [(4, 4, 6)])
    y = cut.forward()
    for top in (0, 2):
        for left in (0, 3):
            window = slice(top, top + 2), slice(None), slice(left, left + 3)
            for name, array in cut.params.items():
                whole.params[name][...] = array
            whole.shards[0].operands.x[...] = cut.inputs[0][window]
            np.testing.assert_allclose(whole.forward(), y[window], rtol=1e-10, atol=1e-12)


def test_attention_agrees_with_pytorchs_module() -> None:
    torch: Any = pytest.importorskip("torch")
    bench = Bench(Attention(heads=3), [(6, 4, 5)], sizes=[2])
    module = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    names = {"in_proj_weight": "in_weight", "in_proj_bias": "in_bias"}
    names |= {"out_proj.weight": "out_weight", "out_proj.bias": "out_bias"}
    module.load_state_dict({theirs: torch.tensor(bench.params[ours]) for theirs, ours in names.items()})
    x = torch.tensor(to_public(bench.inputs[0]).copy(), requires_grad=True)
    pixels = x.flatten(2).mT
    y = module(pixels, pixels, pixels, need_weights=False)[0].mT.reshape(x.shape)
    np.testing.assert_allclose(to_public(bench.forward()), y.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.backward(torch.tensor(to_public(bench.output_grads[0]).copy()))
    bench.backward()
    np.testing.assert_allclose(to_public(bench.input_grads[0]), x.grad.numpy(), rtol=1e-9, atol=1e-11)
    for theirs, ours in names.items():
        expected = module.get_parameter(theirs).grad.numpy()
        np.testing.assert_allclose(bench.grads[ours], expected, rtol=1e-9, atol=1e-10)


def test_attention_of_what_does_not_divide() -> None:
    with pytest.raises(ShapeError, match="expected a number of heads that divides 6 channels, got 4"):
        Attention(heads=4).infer_shape((6, 2, 2))
    with pytest.raises(ShapeError, match="expected a window that divides the 4x6 map, got 3x3") as caught:
        Attention(heads=2, window=(3, 3)).infer_shape((6, 4, 6))
    assert caught.value.field == "window"


def test_its_cost_is_that_of_all_four_projections_and_both_products() -> None:
    assert Attention(heads=3).cost((384, 14, 14)) == 4 * 384**2 * 196 + 2 * 384 * 196**2


@pytest.mark.parametrize("transpose", ["none", "first", "second"])
def test_matmul_multiplies_each_channel(transpose: str) -> None:
    shapes = {"none": [(2, 3, 4), (2, 4, 5)], "first": [(2, 4, 3), (2, 4, 5)], "second": [(2, 3, 4), (2, 5, 4)]}
    bench = Bench(Matmul.of(transpose=transpose), shapes[transpose])
    left, right = (to_public(x) for x in bench.inputs)
    expected = (left.swapaxes(-1, -2) if transpose == "first" else left) @ (
        right.swapaxes(-1, -2) if transpose == "second" else right
    )
    np.testing.assert_allclose(to_public(bench.forward()), expected, rtol=1e-12)


def test_matrices_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="as many columns of the first as rows of the second"):
        Matmul().infer_shape((2, 3, 4), (2, 5, 4))
