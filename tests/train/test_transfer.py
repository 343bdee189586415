"""`train.init`: which weights come over from another training, what is told of the others, and that runs go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnspec
from cnnspec.cli import main

Captured = pytest.CaptureFixture[str]

BASE = """\
cnnspec: 1
name: base
input: [1, 8, 8]
layers:
  - {id: stem, type: conv2d, filters: 4, kernel_size: 3}
  - {id: norm, type: batch_norm}
  - relu
  - flatten
  - {id: logits, type: dense, units: 10}
data: {source: {type: digits}}
train: {epochs: 1, batch_size: 64}
"""
TWO = "data: {source: {type: synthetic, shape: [1, 8, 8], classes: 2, train: 200, test: 20}}"
FINE = BASE.replace("name: base", "name: fine").replace("units: 10", "units: 2").replace("logits", "head")
FINE = FINE.replace("data: {source: {type: digits}}", TWO)


def fine(init: str) -> str:
    return FINE.replace("epochs: 1,", f"epochs: 1, init: {init},")


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "base.yaml").write_text(BASE)
    assert main(["train", str(folder / "base.yaml"), "--out", str(folder / "runs"), "--quiet", "--threads", "1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def train(text: str, *words: str) -> int:
    Path("fine.yaml").write_text(text)
    return main(["train", "fine.yaml", "--threads", "1", *words])


def test_a_network_with_other_classes_starts_from_a_run(capsys: Captured) -> None:
    assert train(fine("{from: runs/base, missing: keep}"), "--max-steps", "1") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        "init: 2 of 3 layers with weights from runs/base",
        "init: head starts fresh: no layer head there",
        "init: not used from there: logits",
    ]
    about = json.loads(Path("runs/fine/run.json").read_text())["init"]
    assert about["taken"] == {"stem": "stem", "norm": "norm"}
    assert main(["verify", "runs/fine", "--threads", "1"]) == 0
    assert main(["train", "--resume", "runs/fine", "--threads", "1", "--quiet"]) == 0
    resumed = cnnspec.load("runs/fine", threads=1).fingerprint()
    assert train(fine("{from: runs/base, missing: keep}"), "--quiet") == 0
    assert cnnspec.load("runs/fine-2", threads=1).fingerprint() == resumed


def test_the_weights_are_those_of_the_run() -> None:
    frozen = fine("{from: ../base.npz, missing: keep}").replace("kernel_size: 3", "kernel_size: 3, trainable: false")
    base = cnnspec.load("runs/base", threads=1)
    base.save("base.npz")
    Path("specs").mkdir()
    Path("specs/fine.yaml").write_text(frozen)
    model = cnnspec.compile("specs/fine.yaml", threads=1)
    assert not np.array_equal(model.params["stem.weight"], base.params["stem.weight"])
    model.fit(progress=False)
    np.testing.assert_array_equal(model.params["stem.weight"], base.params["stem.weight"])


def test_an_id_that_weights_are_found_by_is_not_unused(capsys: Captured) -> None:
    Path("fine.yaml").write_text(fine("{from: runs/base, missing: keep}"))
    assert main(["validate", "fine.yaml"]) == 0
    assert "unused-id" not in capsys.readouterr().out
    Path("fine.yaml").write_text(FINE)
    assert main(["validate", "fine.yaml"]) == 0
    assert "nothing refers to the id 'stem'" in capsys.readouterr().out


def test_pytorchs_names_and_other_names(capsys: Captured) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "features.0.weight": random.normal(size=(4, 1, 3, 3)).astype("float32"),
        "features.0.bias": np.zeros(4, "float32"),
        "features.1.weight": np.ones(4, "float32"),
        "features.1.bias": np.zeros(4, "float32"),
        "features.1.running_mean": np.full(4, 0.25, "float32"),
        "features.1.running_var": np.full(4, 4.0, "float32"),
        "features.1.num_batches_tracked": np.array(7),
    }
    save_file(arrays, "torch.safetensors")
    init = "{from: torch.safetensors, layers: [stem, norm], rename: {stem: features.0, norm: features.1}}"
    assert train(fine(init), "--max-steps", "1") == 0
    assert "2 of 3 layers with weights from torch.safetensors (stem from features.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("init", "message", "help"),
    [
        ("{from: runs/base}", "init: head (no layer head there)", "missing: keep"),
        (
            "{from: runs/base, rename: {head: logits}}",
            "init: head (weight is 10x144 there, 2x144 here)",
            "missing: keep",
        ),
        ("{from: runs/none}", "there is no run or file of weights at runs/none", "relative to the spec"),
        ("{from: base.onnx}", "base.onnx is a file of another program", "`cnnspec convert` makes a spec"),
        ("{from: base.pth}", "base.pth is a file of another program", "write its state_dict with safetensors"),
        ("{from: runs/base, layers: [stam]}", "layers: no layer with weights is called 'stam'", "did you mean stem?"),
        ("{from: runs/base, rename: {haed: logits}}", "rename: no layer with weights is called 'haed'", "head?"),
        ("{from: runs/base, layers: [head], missing: keep}", "nothing in runs/base fits", "logits, norm, stem"),
        ("{from: fine.yaml}", "is damaged or no checkpoint", ""),
    ],
)
def test_what_does_not_fit_is_refused(init: str, message: str, help: str, capsys: Captured) -> None:
    for name in ("base.onnx", "base.pth"):
        Path(name).write_bytes(b"weights")
    assert train(fine(init)) == 4
    told = capsys.readouterr().err
    assert not Path("runs/fine").exists()
    assert message in told
    assert help in told


def test_a_mistake_in_the_section_has_its_place(capsys: Captured) -> None:
    Path("fine.yaml").write_text(fine("{form: runs/base}"))
    assert main(["validate", "fine.yaml", "--format", "concise"]) == 1
    told = capsys.readouterr().out
    assert "fine.yaml:11:27: error[unknown-key]: unknown key of train.init 'form'" in told
    assert main(["explain", "init"]) == 0
    assert "from: a text (required)" in capsys.readouterr().out


def test_another_origin_is_noticed(capsys: Captured) -> None:
    assert train(fine("{from: runs/base, missing: keep}"), "--max-steps", "1", "--quiet") == 0
    assert main(["train", "base.yaml", "--set", "seed=5", "--out", "other", "--quiet", "--threads", "1"]) == 0
    shutil.rmtree("runs/base")
    shutil.move("other/base", "runs/base")
    assert main(["verify", "runs/fine", "--threads", "1"]) == 4
    assert "has other weights than those that the training started from" in capsys.readouterr().err


def test_names_with_a_star(capsys: Captured) -> None:
    base = BASE.replace("id: stem", "id: body_stem").replace("id: norm", "id: body_norm")
    Path("stars.yaml").write_text(base.replace("name: base", "name: stars"))
    assert main(["train", "stars.yaml", "--max-steps", "1", "--quiet", "--threads", "1"]) == 0
    text = fine('{from: runs/stars, rename: {"*": "body_*"}, missing: keep}')
    assert train(text, "--max-steps", "1") == 0
    assert "2 of 3 layers with weights from runs/stars (stem from body_stem" in capsys.readouterr().out
