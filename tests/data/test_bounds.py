"""Files that claim or hold more than any data set: refused before memory or time is spent on them."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnspec.data.cifar import Cifar10
from cnnspec.data.class_labels import class_names, read_labels
from cnnspec.data.idx import Idx
from cnnspec.data.mnist import Mnist
from cnnspec.data.npz import Npz
from cnnspec.data.svhn import Svhn
from cnnspec.data.tables import Csv
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array


def header(*shape: int) -> bytes:
    """The beginning of an IDX file of bytes."""
    return bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()


def idx(folder: Path, images: bytes, suffix: str = "") -> Idx:
    (folder / f"images{suffix}").write_bytes(images)
    (folder / f"labels{suffix}").write_bytes(header(2) + bytes((0, 1)))
    return Idx(train=f"images{suffix}", test=f"images{suffix}")


def test_a_header_that_claims_more_than_there_is_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its array of 4294967295x65536x65536 needs \d+.* GiB of memory"):
        idx(tmp_path, header(2**32 - 1, 2**16, 2**16)).read(tmp_path, False)
    with pytest.raises(DataError, match="truncated, expected 2,000,000,016 bytes, got 16"):
        idx(tmp_path, header(2, 10**5, 10**4)).read(tmp_path, False)


def test_a_packed_file_that_holds_more_than_its_header_says(tmp_path: Path) -> None:
    source = idx(tmp_path, gzip.compress(header(2, 4, 4) + bytes(1 << 26)), ".gz")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected 48 bytes, got more"):
            source.read(tmp_path, False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_member_that_unpacks_to_more_than_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "train.npz", x=np.zeros((100, 100, 100), np.uint8), y=np.arange(100) % 2)
    Npz().read(tmp_path, False)
    monkeypatch.setattr("cnnspec.memory.available_bytes", lambda: 1 << 19)
    with pytest.raises(DataError, match=r"train\.npz: x needs 976\.7 KiB of memory, 512\.0 KiB is there"):
        Npz().read(tmp_path, False)


def test_an_array_whose_header_claims_more_than_the_archive_holds(tmp_path: Path) -> None:
    stream = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 8, 8)}
    np.lib.format.write_array_header_1_0(stream, claim)
    np.savez(tmp_path / "train.npz", y=np.arange(3))
    with zipfile.ZipFile(tmp_path / "train.npz", "a") as archive:
        archive.writestr("x.npy", stream.getvalue() + bytes(640))
    with pytest.raises(DataError, match=r"train\.npz: cannot be read as an \.npz archive"):
        Npz().read(tmp_path, False)


def test_an_archive_of_more_than_any_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.data.archive.MOST", 1000)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, size in (("a", 600), ("b", 601)):
            member = tarfile.TarInfo(name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    with pytest.raises(DataError, match="refused, it holds more than 1,000 bytes, up to 'b'"):
        Cifar10().read(tmp_path, False)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_an_archive_that_claims_a_name_of_gigabytes(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("a")
    member.size, member.type = 3 << 30, kind
    with gzip.open(tmp_path / "cifar-10-binary.tar.gz", "wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    with pytest.raises(DataError, match="expected at most 268,435,456 bytes in a file or a header"):
        Cifar10().read(tmp_path, False)


def test_a_member_without_a_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(""))
    with pytest.raises(DataError, match="expected SHA-256"):
        Cifar10().read(tmp_path, False)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Cifar10, ["cifar-10-binary.tar.gz"]),
        (Cifar10, [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]),
        (Svhn, ["train_32x32.mat", "test_32x32.mat"]),
        (Mnist, [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]),
    ],
)
def test_published_files_of_a_terabyte_are_not_read(
    source: type[Cifar10 | Svhn | Mnist], names: list[str], tmp_path: Path
) -> None:
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"expected at most 1,073,741,824 bytes|expected magic number"):
        source().read(tmp_path, False)


def test_a_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.data.delimited.MOST_LINE", 100)
    (tmp_path / "train.csv").write_text("0,1,2,3,4\n" * 5 + "1" * 101)
    with pytest.raises(DataError, match=r"train\.csv:6: expected at most 100 characters a line"):
        Csv(shape=(1, 2, 2)).read(tmp_path, False)


def test_labels_far_apart_are_classes() -> None:
    labels = read_labels(np.array([0, 10**12, 1]), 3, "y")
    names, note = class_names(labels, None, "y")
    assert names == ("0", "1", "1000000000000")
    assert "no image has label 2" in note
    many = read_labels(np.array([f"class {number}" for number in range(50_000)]), 50_000, "y")
    assert len(set(many.positions.tolist())) == 50_000


def test_labels_that_look_like_numbers_are_names(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("".join(f"{label},1,2,3,4\n" for label in ("--5", "a", "--5", "a", "٣", "٣")))
    assert Csv(shape=(1, 2, 2)).read(tmp_path, False).class_names == ("--5", "a", "٣")
    with pytest.raises(DataError, match="label '--5' of image 0 is no number"):
        Csv(shape=(1, 2, 2), classes=4).read(tmp_path, False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([2**63 + 5, 1], np.uint64), "got labels up to 9223372036854775813"),
        (np.array(["9" * 5000, "1"]), "expected labels of at most 256 characters, got up to 5,000"),
    ],
    ids=["number", "text"],
)
def test_labels_beyond_what_a_class_can_be(labels: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labels(labels, 2, "y")
