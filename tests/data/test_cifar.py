"""CIFAR's binary files and archives, made up and in part, and what is said of damaged ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnspec.data import DataSettings, open_data
from cnnspec.data.cifar import Cifar10, Cifar100
from cnnspec.data.download import file_checksum
from cnnspec.data.published import Remote
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

RECORD = 3073


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def records(count: int, label_bytes: int = 1, seed: int = 0) -> Array:
    table = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072)).astype(np.uint8)
    table[:, :label_bytes] %= 10
    return table


def write(folder: Path, count: int = 20) -> Array:
    parts = [records(count, seed=number) for number in range(1, 7)]
    for number, part in enumerate(parts[:5], 1):
        (folder / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    (folder / "test_batch.bin").write_bytes(parts[5].tobytes())
    return np.concatenate(parts[:5])


def pack(folder: Path, entries: dict[str, bytes], special: tarfile.TarInfo | None = None) -> Path:
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        if special is not None:
            archive.addfile(special)
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def whole_archive() -> dict[str, bytes]:
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return {f"cifar-10-batches-bin/{name}": records(4, seed=i).tobytes() for i, name in enumerate(names)}


def known(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let an archive be the published one."""
    remote = Remote(path.name, path.stat().st_size, file_checksum(path))
    monkeypatch.setattr(Cifar10, "remotes", (remote,))


def test_records_are_a_label_and_three_planes(tmp_path: Path) -> None:
    table = write(tmp_path)
    found = Cifar10().read(tmp_path, False)
    np.testing.assert_array_equal(found.splits["train"].labels, table[:, 0])
    pixels = found.splits["train"].pixels
    assert pixels.shape == (100, 3, 32, 32)
    assert pixels[7, 1, 2, 3] == table[7, 1 + 1024 + 2 * 32 + 3]
    assert len(found.splits["test"].labels) == 20
    assert found.class_names[3] == "cat"
    assert found.notes == (
        "cifar10: 100 of the published 50,000 train images are here",
        "cifar10: 20 of the published 10,000 test images are here",
    )


def test_cifar100_has_two_labels_and_the_fine_one_counts(tmp_path: Path) -> None:
    table = records(5, label_bytes=2)
    table[:, 1] = [99, 0, 7, 50, 98]
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(table.tobytes())
    found = Cifar100().read(tmp_path, False)
    assert np.asarray(found.splits["train"].labels).tolist() == [99, 0, 7, 50, 98]
    np.testing.assert_array_equal(np.asarray(found.splits["train"].pixels).reshape(5, -1), table[:, 2:])
    assert len(set(found.class_names)) == 100
    assert found.class_names == tuple(sorted(found.class_names))


def test_a_part_of_the_set(shared_data: Path) -> None:
    data = open_data(DataSettings.of(source="cifar10"), seed=0, data_dir=shared_data / "cifar10-small")
    assert (len(data.train), len(data.test)) == (5000, 1000)
    assert np.bincount(data.train.labels).tolist() == [505, 460, 519, 486, 519, 488, 519, 486, 520, 498]
    assert np.bincount(data.test.labels).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]


def test_missing_files_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cifar10: no cifar-10-binary.tar.gz or data_batch_1.bin and test_batch.bin in"
    ):
        Cifar10().read(tmp_path, False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.tobytes()[:-1], "truncated, expected records of 3,073 bytes, got 61,459 bytes"),
        (lambda t: b"", "truncated, expected records of 3,073 bytes, got 0 bytes"),
        (lambda t: np.pad(t, ((0, 9981), (0, 0))).tobytes(), "expected at most 10,000 images .* got 10,001"),
        (lambda t: np.pad(t, ((0, 9980), (0, 0))).tobytes(), "expected SHA-256 a591ca.* the file is damaged"),
        (lambda t: b"\x0b" + t.tobytes()[1:], "label 11 of image 0 is none of the 10 classes"),
    ],
    ids=["truncated", "empty", "too-long", "checksum", "label"],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Array], bytes], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(damage(np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, RECORD)))
    with pytest.raises(DataError, match=f"data_batch_2.bin: {message}"):
        Cifar10().read(tmp_path, False)


def test_the_archive_is_read_without_being_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = whole_archive()
    known(monkeypatch, pack(tmp_path, {"cifar-10-batches-bin/readme.html": b"x", **entries}))
    found = Cifar10().read(tmp_path, False)
    assert len(found.splits["train"].labels) == 20
    first = np.frombuffer(entries["cifar-10-batches-bin/data_batch_1.bin"], np.uint8)
    np.testing.assert_array_equal(found.splits["train"].pixels[0].ravel(), first[1:RECORD])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-binary.tar.gz"]


def test_another_archive_is_refused_by_its_checksum(tmp_path: Path) -> None:
    pack(tmp_path, whole_archive())
    with pytest.raises(DataError, match=r"tar.gz: expected SHA-256 c4a38c.*: the file is damaged"):
        Cifar10().read(tmp_path, False)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (special("../../etc/x", tarfile.REGTYPE), r"refused, the path '\.\./\.\./etc/x' leads out of the archive"),
        (special("a/../../x", tarfile.REGTYPE), r"refused, the path 'a/\.\./\.\./x' leads out"),
        (special("/etc/x", tarfile.REGTYPE), "refused, the path '/etc/x' leads out of the archive"),
        (special("..\\x", tarfile.REGTYPE), "leads out of the archive"),
        (special("C:/x", tarfile.REGTYPE), "refused, the path 'C:/x' leads out"),
        (special("x", tarfile.SYMTYPE, "/etc/passwd"), "refused, 'x' is a link to '/etc/passwd'"),
        (special("x", tarfile.LNKTYPE, "../y"), "refused, 'x' is a link to '../y'"),
        (special("x", tarfile.CHRTYPE), "refused, 'x' is neither a file nor a folder"),
    ],
    ids=["climbs", "climbs-later", "absolute", "backslash", "drive", "symlink", "hardlink", "device"],
)
def test_an_archive_that_leads_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: tarfile.TarInfo, message: str
) -> None:
    known(monkeypatch, pack(tmp_path, whole_archive(), entry))
    with pytest.raises(DataError, match=message):
        Cifar10().read(tmp_path, False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read as an archive"),
        (lambda content: b"no archive", "cannot be read as an archive"),
        (lambda content: content[:2000] + bytes(100) + content[2100:], "cannot be read as an archive|expected SHA-256"),
    ],
    ids=["truncated", "other", "corrupt"],
)
def test_a_broken_archive_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = pack(tmp_path, whole_archive())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"tar.gz: {message}"):
        Cifar10().read(tmp_path, False)


def test_an_archive_without_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = whole_archive()
    del entries["cifar-10-batches-bin/data_batch_3.bin"]
    known(monkeypatch, pack(tmp_path, entries))
    with pytest.raises(DataError, match=r"tar.gz: expected data_batch_3.bin in the archive, got none"):
        Cifar10().read(tmp_path, False)
