"""Files with random damage: what cannot be read is one DataError, and nothing else is ever raised."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnspec.data import DataSettings, Images, Pipeline
from cnnspec.data.asked import read_asked
from cnnspec.data.cifar import Cifar10
from cnnspec.data.folder import ImageFolder
from cnnspec.data.idx import Idx
from cnnspec.data.npz import Npz
from cnnspec.data.synthetic import Synthetic
from cnnspec.data.tables import Csv
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

Reader = Callable[[], object]


def images() -> Images:
    return Synthetic(shape=(3, 8, 8), classes=3, train=30, test=1).read(None, False).splits["train"]


def npz(folder: Path) -> tuple[Path, Reader]:
    made = images()
    np.savez(folder / "train.npz", x=made.pixels, y=made.labels)
    return folder / "train.npz", lambda: Npz().read(folder, False)


def packed_npz(folder: Path) -> tuple[Path, Reader]:
    made = images()
    np.savez_compressed(folder / "train.npz", x=made.pixels, y=made.labels)
    return folder / "train.npz", lambda: Npz().read(folder, False)


def npy(folder: Path) -> tuple[Path, Reader]:
    path = folder / "images.npy"
    np.save(path, images().pixels)
    pipeline = Pipeline.of(DataSettings.of(source={"type": "npz", "shape": [3, 8, 8]}), (3, 8, 8))

    def read() -> Array:
        (asked,) = read_asked([path], pipeline, 1, 1)
        if asked.images is None:
            assert asked.error is not None
            raise asked.error
        return asked.images

    return path, read


def table() -> bytes:
    made, text = images(), io.BytesIO()
    np.savetxt(
        text, np.concatenate([made.labels[:, None], np.asarray(made.pixels).reshape(30, -1)], 1), "%d", delimiter=","
    )
    return text.getvalue()


def csv(folder: Path) -> tuple[Path, Reader]:
    (folder / "train.csv").write_bytes(table())
    return folder / "train.csv", lambda: Csv(shape=(3, 8, 8)).read(folder, False)


def packed_csv(folder: Path) -> tuple[Path, Reader]:
    (folder / "train.csv.gz").write_bytes(gzip.compress(table()))
    return folder / "train.csv.gz", lambda: Csv(train="train.csv.gz", shape=(3, 8, 8)).read(folder, False)


def idx(folder: Path, pack: Callable[[bytes], bytes] = bytes, suffix: str = "") -> tuple[Path, Reader]:
    made = images()
    path = folder / f"train-images-idx4-ubyte{suffix}"
    for name, array in (
        (path.name, np.asarray(made.pixels)),
        (path.name.replace("images-idx4", "labels-idx1"), np.asarray(made.labels)),
    ):
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        (folder / name).write_bytes(pack(header + array.astype(np.uint8).tobytes()))
    return path, lambda: Idx(train=path.name).read(folder, False)


def packed_idx(folder: Path) -> tuple[Path, Reader]:
    return idx(folder, gzip.compress, ".gz")


def picture(folder: Path, suffix: str) -> tuple[Path, Reader]:
    image = pytest.importorskip("PIL.Image")
    made = images()
    for number, label in enumerate(np.asarray(made.labels).tolist()):
        path = folder / "train" / str(label) / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(made.pixels[number].transpose(1, 2, 0)).save(path)
    return path, lambda: ImageFolder().read(folder, False)


def png(folder: Path) -> tuple[Path, Reader]:
    return picture(folder, "png")


def jpeg(folder: Path) -> tuple[Path, Reader]:
    return picture(folder, "jpg")


def archive(folder: Path) -> tuple[Path, Reader]:
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            content = np.random.default_rng(0).integers(0, 10, 2 * 3073).astype(np.uint8).tobytes()
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path, lambda: Cifar10().read(folder, False)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, and sometimes the end cut off."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 20])):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.2 else changed)


def told_or_harmless(kind: Callable[[Path], tuple[Path, Reader]], folder: Path, count: int) -> None:
    path, read = kind(folder)
    content, chance, told = path.read_bytes(), random.Random(0), 0
    for _ in range(count):
        path.write_bytes(damaged(content, chance))
        try:
            read()
        except DataError:
            told += 1
    assert told > 0


KINDS = [npz, packed_npz, npy, csv, packed_csv, idx, packed_idx, png, jpeg, archive]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_or_harmless(tmp_path: Path, kind: Callable[[Path], tuple[Path, Reader]]) -> None:
    told_or_harmless(kind, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_or_harmless_a_thousand_times(
    tmp_path: Path, kind: Callable[[Path], tuple[Path, Reader]]
) -> None:
    told_or_harmless(kind, tmp_path, 1000)
