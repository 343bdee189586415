"""Checkpoints: written whole, read with suspicion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import Model
from cnnspec.diagnostics import RunError
from cnnspec.graph import build
from cnnspec.spec import loads
from cnnspec.train.checkpoint import read_checkpoint, restore, write_checkpoint

SPEC = """
cnnspec: 1
name: small
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 4, kernel_size: 3}
  - batch_norm
  - flatten
  - {id: logits, type: dense, units: 10}
train: {epochs: 1, batch_size: 8, optimizer: {type: adam}, ema: 0.9}
"""


def model(text: str = SPEC) -> Model:
    spec = loads(text)
    return Model(spec, build(spec), threads=1)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    trained = model()
    trained.plan(8, "train").step(0.01)
    write_checkpoint(tmp_path / "a.npz", trained.weights, trained.training, {"step": 1, "epoch": 1})
    return tmp_path / "a.npz"


def test_everything_comes_back(file: Path) -> None:
    trained, fresh = model(), model()
    trained.plan(8, "train").step(0.01)
    checkpoint = read_checkpoint(file)
    restore(checkpoint, fresh.weights, fresh.training)
    assert checkpoint.progress["step"] == 1
    assert fresh.weights.values.tobytes() == trained.weights.values.tobytes()
    for name, array in trained.weights.state.items():
        assert fresh.weights.state[name].tobytes() == array.tobytes()
    assert trained.training is not None
    assert fresh.training is not None
    assert {name for name in trained.training.arrays() if "running" in name} == {
        "average/batch_norm_1.running_mean",
        "average/batch_norm_1.running_variance",
    }
    for name, array in trained.training.arrays().items():
        assert fresh.training.arrays()[name].tobytes() == array.tobytes()
    assert fresh.fingerprint() == trained.fingerprint() == checkpoint.progress["weights"]


def test_no_pickles(file: Path) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        assert sorted(name for name in arrays.files if name.startswith("network/")) == [
            "network/batch_norm_1.bias",
            "network/batch_norm_1.running_mean",
            "network/batch_norm_1.running_variance",
            "network/batch_norm_1.weight",
            "network/conv2d_1.bias",
            "network/conv2d_1.weight",
            "network/logits.bias",
            "network/logits.weight",
        ]
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_another_network_is_refused(file: Path) -> None:
    other = model(SPEC.replace("filters: 4", "filters: 5"))
    before = other.weights.values.copy()
    with pytest.raises(RunError, match=r"does not fit this network: .*expected shape \(5,\), got \(4,\)"):
        restore(read_checkpoint(file), other.weights, other.training)
    assert other.weights.values.tobytes() == before.tobytes()
    with pytest.raises(RunError, match=r"it has no 'network/other.bias'|it has no 'other.bias'"):
        restore(read_checkpoint(file), model(SPEC.replace("logits", "other")).weights, None)


def test_damage_is_found(file: Path) -> None:
    whole = file.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        file.write_bytes(whole[:cut])
        with pytest.raises(RunError, match="is damaged or no checkpoint"):
            read_checkpoint(file)


def test_another_format_is_told_from_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr("cnnspec.train.checkpoint.FORMAT", 2)
        write_checkpoint(tmp_path / "a.npz", model().weights, None, {})
    with pytest.raises(RunError, match="has format 2, this version reads 8"):
        read_checkpoint(tmp_path / "a.npz")


def test_a_flipped_bit_is_found_or_harmless(file: Path) -> None:
    whole, reference = file.read_bytes(), read_checkpoint(file)
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 200).tolist():
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            read = read_checkpoint(file)
        except RunError:
            continue
        for name, array in reference.network.items():
            assert read.network[name].tobytes() == array.tobytes()


def test_another_checkpoint_in_the_place_of_the_best_one_is_told(tmp_path: Path) -> None:
    path, weights = tmp_path / "best.npz", model().weights
    write_checkpoint(path, weights, None, {"step": 30, "best": [0.9, -0.1, 20], "part": None})
    with pytest.raises(RunError, match="the checkpoint behind step 30, the best one was behind step 20"):
        read_checkpoint(path)
    path.rename(tmp_path / "last.npz")
    read_checkpoint(tmp_path / "last.npz")
    row = {"epoch": 3, "step": 25, "train.loss": 0.1, "weights": "0" * 16}
    for progress in ({"step": 20, "part": None}, {"step": 25, "part": row}):
        write_checkpoint(path, weights, None, {"best": [0.9, -0.1, 20], **progress})
        assert read_checkpoint(path).progress["step"] == progress["step"]


def test_a_failed_write_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(RunError, match=r"cannot write the checkpoint .*: No space left on device"):
        write_checkpoint(file, model().weights, None, {})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["a.npz"]


def test_a_model_saves_and_loads(tmp_path: Path) -> None:
    first, second = model(), model(SPEC.replace("name: small", "name: small\nseed: 9"))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)
    assert not np.array_equal(first.predict(images), second.predict(images))
    first.save(tmp_path / "weights.npz")
    second.load(tmp_path / "weights.npz")
    np.testing.assert_array_equal(first.predict(images), second.predict(images))
