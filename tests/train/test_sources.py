"""Every source can be trained on, from the files to a network that has learned them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.data import Images
from cnnspec.data.synthetic import Synthetic

SPEC = """
cnnspec: 1
name: source
input: [3, 8, 8]
layers: [flatten, {{type: dense, units: 3}}]
data: {{source: {source}}}
train: {{epochs: 4, batch_size: 16, optimizer: {{type: sgd, learning_rate: 0.05, momentum: 0.9}}}}
"""


def npz(folder: Path, images: Images) -> None:
    np.savez(folder / "train.npz", images=images.pixels, labels=images.labels)


def csv(folder: Path, images: Images) -> None:
    table = np.concatenate([np.asarray(images.pixels).reshape(len(images.labels), -1), images.labels[:, None]], axis=1)
    np.savetxt(folder / "train.csv", table, "%d", delimiter=",")


def pictures(folder: Path, images: Images) -> None:
    image = pytest.importorskip("PIL.Image")
    for number, (pixels, label) in enumerate(
        zip(np.asarray(images.pixels), np.asarray(images.labels).tolist(), strict=True)
    ):
        path = folder / "train" / f"class{label}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels.transpose(1, 2, 0)).save(path)


@pytest.mark.parametrize(
    ("source", "labels", "files"),
    [("cifar10", 1, ("data_batch_1.bin", "test_batch.bin")), ("cifar100", 2, ("train.bin", "test.bin"))],
)
def test_cifar_is_learned(tmp_path: Path, source: str, labels: int, files: tuple[str, str]) -> None:
    made = Synthetic(shape=(3, 32, 32), classes=3, train=300, test=60).read(None, False)
    for images, name in zip(made.splits.values(), files, strict=True):
        records = [
            np.repeat(images.labels[:, None], labels, axis=1),
            np.asarray(images.pixels).reshape(len(images.labels), -1),
        ]
        (tmp_path / name).write_bytes(np.concatenate(records, axis=1).astype(np.uint8).tobytes())
    text = SPEC.format(source=source).replace("[3, 8, 8]", "[3, 32, 32]").replace("0.05", "0.005")
    (tmp_path / "net.yaml").write_text(text.replace("units: 3", f"units: {source.removeprefix('cifar')}"))
    epochs = compile(tmp_path / "net.yaml").fit(data_dir=tmp_path)
    assert epochs[-1]["test.accuracy"] > 0.95


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("npz", npz),
        ("{type: npz, shape: [3, 8, 8], classes: 3}", npz),
        ("{type: csv, shape: [3, 8, 8], label: last}", csv),
        ("image_folder", pictures),
        ("{type: image_folder, mode: rgb, size: 8, on_error: skip}", pictures),
        ("{type: synthetic, shape: [3, 8, 8], classes: 3, train: 240, test: 60}", lambda *_: None),
    ],
)
def test_a_source_is_learned(tmp_path: Path, source: str, write: Callable[[Path, Images], None]) -> None:
    made = Synthetic(shape=(3, 8, 8), classes=3, train=300, test=1).read(None, False)
    write(tmp_path, made.splits["train"])
    (tmp_path / "net.yaml").write_text(SPEC.format(source=source))
    epochs = compile(tmp_path / "net.yaml").fit(data_dir=tmp_path)
    assert epochs[-1]["test.accuracy"] > 0.95
