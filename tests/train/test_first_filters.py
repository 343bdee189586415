"""Filters that are learned from training images: whitening of patches, checked on patches that loops cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.cli import main
from cnnspec.data import Dataset
from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.spec import loads
from cnnspec.train.checkpoint import LAST, read_checkpoint
from cnnspec.train.first_filters import learn_first_filters

SPEC = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: FILTERS, kernel_size: 3, dilation: DILATION, trainable: TRAINED, weight_init: INIT}
  - relu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, preprocess: [{type: normalize, mean: 0.3, std: 0.35}]}
train: {epochs: 2, batch_size: 64}
"""
INIT = "{type: from_data, images: 150, epsilon: 1.0e-3}"


def text(filters: int = 18, dilation: int = 1, init: str = INIT, trained: str = "false") -> str:
    words = {"FILTERS": str(filters), "DILATION": str(dilation), "INIT": init, "TRAINED": trained}
    found = SPEC
    for word, value in words.items():
        found = found.replace(word, value)
    return found


def patches(images: Array, dilation: int) -> Array:
    found = []
    for image in images:
        for i in range(8 - 2 * dilation):
            for j in range(8 - 2 * dilation):
                taps = [image[0, i + u * dilation, j + v * dilation] for u in range(3) for v in range(3)]
                found.append([(tap / 255 - 0.3) / 0.35 for tap in taps])
    return np.array(found)


@pytest.mark.parametrize(("filters", "dilation"), [(18, 1), (18, 2), (7, 1)])
def test_what_the_filters_make_of_patches_is_white(filters: int, dilation: int) -> None:
    """Their answers have no second moments with one another, and l / (l + epsilon) with themselves."""
    spec = loads(text(filters, dilation))
    net = Model(spec, build(spec), threads=1, dtype="float64")
    images = np.random.default_rng(0).integers(0, 256, (120, 1, 8, 8)).astype(np.uint8)
    images[:, :, ::2] //= 3  # rows differ, so that eigenvalues do
    learn_first_filters(net, Dataset(images, np.zeros(120, np.int64)))
    weights = net.params["conv2d_1.weight"].reshape(filters, 9)
    half = -(-filters // 2)
    cut = patches(images, dilation)
    moments = cut.T @ cut / len(cut)
    found = weights[:half] @ moments @ weights[:half].T
    values = np.linalg.eigvalsh(moments)[::-1][:half]
    np.testing.assert_allclose(found, np.diag(values / (values + 1e-3)), atol=1e-5)
    np.testing.assert_array_equal(weights[half:], -weights[: filters - half])


def test_a_training_begins_with_them_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(text())
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "whole")]) == 0
    assert (
        main(["train", str(path), "--quiet", "--out", str(tmp_path / "cut"), "--max-steps", "30", "--threads", "1"])
        == 0
    )
    learned = read_checkpoint(tmp_path / "cut" / "net" / LAST).network["conv2d_1.weight"].copy()
    assert main(["train", "--resume", str(tmp_path / "cut" / "net"), "--quiet"]) == 0
    whole, cut = (read_checkpoint(tmp_path / name / "net" / LAST).network for name in ("whole", "cut"))
    assert {name: array.tobytes() for name, array in whole.items()} == {
        name: array.tobytes() for name, array in cut.items()
    }
    np.testing.assert_array_equal(whole["conv2d_1.weight"], learned)
    assert main(["verify", str(tmp_path / "whole" / "net"), "--all"]) == 0
    capsys.readouterr()
