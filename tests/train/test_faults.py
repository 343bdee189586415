"""What goes wrong around a training, on purpose: one clear line, exit code 4, and the last checkpoint whole."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.kernels.step import Array
from cnnspec.train.checkpoint import BEST, LAST, read_checkpoint
from cnnspec.train.records import read_spec, spec_text
from cnnspec.train.run import ABOUT, Run
from cnnspec.workers import Processes
from tests.train.signalled import ROOT, signalled
from tests.train.test_resume import SPEC, weights

AVERAGE = "optimizer/average/batch_norm_1.running_mean"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of one epoch, which no test changes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.yaml").write_text(SPEC)
    assert main(["train", str(folder / "net.yaml"), "--quiet", "--out", str(folder), "--set", "train.epochs=1"]) == 0
    return folder / "net"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a training of one epoch."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "net"))


def fails(words: list[str], capsys: Captured, *messages: str) -> None:
    """Exit code 4, and one error with one line of help at most."""
    capsys.readouterr()
    assert main(words) == 4
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert error.count("cnnspec: error: ") == 1
    assert len(error.splitlines()) <= 2, error


class Disk:
    """A file system in memory, of a size that can change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.mount("size=64k")

    def mount(self, options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if done.returncode:
            pytest.skip(f"a file system may not be mounted here: {done.stderr.strip()}")

    def change(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def clear(self) -> None:
        for path in self.path.iterdir():
            shutil.rmtree(path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    yield disk
    subprocess.run(["umount", str(disk.path)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_moment(spec: Path, disk: Disk, tmp_path: Path, capsys: Captured) -> None:
    """Sizes that end the training at a checkpoint, at the metrics, at the best weights, at run.json, at the curves."""
    spec.write_text(SPEC.replace("epochs: 4", "epochs: 2").replace("every: 7 steps", "every: 30 steps, keep: 9"))
    words = ["train", str(spec), "--quiet"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    whole, resumed = weights(tmp_path / "whole" / "net"), 0
    for size in range(84, 484, 40):
        disk.change(f"size={size}k")
        fails([*words, "--out", str(disk.path)], capsys, "cannot write ", "No space left on device")
        run = disk.path / "net"
        for path in run.glob("*.npz"):
            read_checkpoint(path)
        disk.change("size=4m")
        if (run / LAST).exists():
            resumed += 1
            assert main(["train", "--resume", str(run), "--quiet"]) == 0
            assert weights(run) == whole
        disk.clear()
    assert resumed >= 6


def test_a_folder_that_is_read_only(spec: Path, disk: Disk, tmp_path: Path, capsys: Captured) -> None:
    disk.change("size=4m")
    assert main(["train", str(spec), "--quiet", "--out", str(disk.path), "--max-steps", "50"]) == 0
    before = weights(disk.path / "net")
    disk.change("ro")
    fails(["train", str(spec), "--out", str(disk.path)], capsys, "cannot make a run directory", "choose another")
    capsys.readouterr()
    assert main(["train", "--resume", str(disk.path / "net"), "--quiet"]) == 4
    assert "Read-only file system" in capsys.readouterr().err
    assert main(["eval", str(disk.path / "net")]) == 0
    disk.change("rw")
    assert weights(disk.path / "net") == before


def test_a_data_folder_that_vanished(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a training runs nothing reads it; one that goes on looks for it where it was, or where --data says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "train.npz", x=images, y=np.arange(60) % 10)
    path = tmp_path / "net.yaml"
    path.write_text(SPEC.replace("source: digits", "source: {type: npz, shape: [1, 8, 8], classes: 10}"))
    words = ["train", str(path), "--quiet", "--out", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert main([*words, "--max-steps", "3"]) == 0
    run = tmp_path / "runs" / "net"
    before = weights(run)
    (tmp_path / "data").rename(tmp_path / "moved")
    for verb in (["train", "--resume"], ["eval"], ["verify"]):
        fails([*verb, str(run)], capsys, str(tmp_path / "data"))
    assert weights(run) == before
    assert main(["verify", str(run), "--data", str(tmp_path / "moved")]) == 0
    np.savez(tmp_path / "moved" / "train.npz", x=images[::-1], y=np.arange(60) % 10)
    words = ["train", "--resume", str(run), "--data", str(tmp_path / "moved")]
    fails(words, capsys, "was written by a training with another data", "run.json")
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(60) % 10)
    (tmp_path / "moved").rename(tmp_path / "data")
    (tmp_path / "data.npz").replace(tmp_path / "data" / "train.npz")
    assert main(["train", "--resume", str(run), "--quiet"]) == 0


def member(array: Any, header: dict[str, object] | None = None) -> bytes:
    """An .npy file, perhaps under a header that lies."""
    stream = io.BytesIO()
    if header is None:
        np.save(stream, array, allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(array.tobytes())
    return stream.getvalue()


def forge(path: Path, content: bytes, *, packed: bool = False) -> None:
    """Put something else in place of the first array, with the right checksum."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[next(iter(members))] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, held in members.items():
            archive.writestr(name, held)


HUGE = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}


@pytest.mark.parametrize(
    ("content", "packed", "message"),
    [
        (member(np.zeros(9, np.float32), HUGE), False, "cannot reshape array of size 9 into shape (1000000000000,)"),
        (member(np.array([{}], object)), False, "pickled objects are never read"),
        (member(np.array(["text"])), False, "expected arrays of numbers, got <U4"),
        (member(np.zeros(10**7)), True, "bytes of arrays, got 80,"),
        (member(np.zeros(1000)), True, "expected uncompressed arrays within"),
        (member(np.zeros(5, np.float32)), False, "its checksum is that of another content"),
        (b"\x93NUMPY", False, "is damaged or no checkpoint"),
        (b"\x93NUMPY\x01\x00\x09\x00{'descr':", False, "an array's header cannot be read"),
    ],
    ids=["huge", "pickle", "text", "bomb", "packed", "another shape", "cut", "header"],
)
def test_forged_arrays_are_refused_before_anything_is_allocated(
    run: Path, content: bytes, packed: bool, message: str, capsys: Captured
) -> None:
    forge(run / LAST, content, packed=packed)
    for verb in (["eval", str(run)], ["train", "--resume", str(run), "--set", "train.epochs=2"]):
        fails(verb, capsys, message)


def test_a_header_with_a_huge_size_costs_no_memory(run: Path) -> None:
    """A process that may not have 3 GiB more reads the file to the clear error."""
    forge(run / LAST, member(np.zeros(9, np.float32), HUGE))
    program = (
        "import resource, sys; from cnnspec.cli import main, eval;"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (3 << 30);"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size)); sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "eval", str(run)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "cannot reshape array" in done.stderr


def test_a_checkpoint_that_was_cut_off(run: Path, capsys: Captured) -> None:
    content = (run / LAST).read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        (run / LAST).write_bytes(content[:length])
        fails(["train", "--resume", str(run), "--set", "train.epochs=2"], capsys, "is damaged or no checkpoint")
    (run / LAST).unlink()
    fails(["eval", str(run)], capsys, f"no checkpoint at {run / LAST}")


def test_a_spec_of_another_training_in_the_run_directory(run: Path, capsys: Captured) -> None:
    path = run / "spec.yaml"
    path.write_text(spec_text(read_spec(path).replace("rate: 0.2", "rate: 0.3")))
    message = "was written by a training with another spec"
    fails(["train", "--resume", str(run), "--set", "train.epochs=2"], capsys, message, "only train.epochs may grow")
    fails(["verify", str(run)], capsys, message)


@pytest.mark.parametrize("name", [LAST, BEST])
@pytest.mark.parametrize("key", ["network/dense_1.bias", AVERAGE])
def test_weights_that_were_changed_are_told_by_verify(run: Path, name: str, key: str, capsys: Captured) -> None:
    arrays = contents(run / name)
    arrays[key][3] += 1e-6
    np.savez(run / name, allow_pickle=False, **arrays)
    fails(["verify", str(run)], capsys, f"{name} is damaged or no checkpoint: its checksum is that of another content")


def test_a_checkpoint_without_an_average_is_refused(run: Path, capsys: Captured) -> None:
    arrays = contents(run / LAST)
    average = arrays.pop(AVERAGE)
    for wrong in ({}, {AVERAGE: average[:1]}):
        np.savez(run / LAST, allow_pickle=False, **arrays, **wrong)
        for verb in (["eval", str(run)], ["train", "--resume", str(run), "--set", "train.epochs=2"]):
            fails(verb, capsys, "its checksum is that of another content")


def contents(path: Path) -> dict[str, Array]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def test_two_trainings_in_one_directory(run: Path, capsys: Captured) -> None:
    with Run.existing(run).held():
        words = ["train", "--resume", str(run), "--set", "train.epochs=2"]
        fails(words, capsys, f"another process is training in {run}", "wait for it")


def test_divergence_names_step_and_layer(spec: Path, tmp_path: Path, capsys: Captured) -> None:
    words = ["train", str(spec), "--quiet", "--out", str(tmp_path), "--set", "train.schedule=constant"]
    fails(
        [*words, "--set", "train.optimizer={type: sgd, learning_rate: 1e38}"],
        capsys,
        "the loss became ",
        " at step 3 (epoch 1), first in ",  # the first update is behind step 2
        "_1'\nhelp: ",
        "lower the learning rate (it was 1e+38)",
    )
    read_checkpoint(tmp_path / "net" / LAST)
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert "\nnet: not finished: the loss became " in capsys.readouterr().out


def test_weights_that_overflowed_never_replace_the_last_good_checkpoint(
    spec: Path, tmp_path: Path, capsys: Captured
) -> None:
    spec.write_text(SPEC.replace("every: 7 steps", "every: 1 steps").replace("accumulate: 2", "accumulate: 1"))
    words = ["train", str(spec), "--quiet", "--out", str(tmp_path), "--set", "train.schedule=constant"]
    fails(
        [*words, "--set", "train.optimizer={type: sgd, learning_rate: 1e42}", "--set", "train.clip={value: 9}"],
        capsys,
        "training diverged: at step 1 ",
        "lower the learning rate",
    )
    found = read_checkpoint(tmp_path / "net" / LAST)
    assert found.progress["step"] == 0
    assert all(np.isfinite(array).all() for array in found.network.values())


def test_checkpoints_by_the_minute(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec.write_text(SPEC.replace("every: 7 steps", "every: 2 minutes, keep: 99").replace("epochs: 4", "epochs: 1"))
    moments = iter(range(0, 10_000, 15))  # every look at the clock is 15 s later
    monkeypatch.setattr("cnnspec.train.session.time", SimpleNamespace(monotonic=lambda: float(next(moments))))
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path)]) == 0
    steps = sorted(int(path.stem.partition("-")[2]) for path in (tmp_path / "net").glob("step-*.npz"))
    assert steps[:4] == [0, 8, 16, 24]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(number: int, status: int, tmp_path: Path) -> None:
    """The second one comes in the same step: the training does not wait for its end."""
    path = tmp_path / "net.yaml"
    path.write_text(SPEC.replace("every: 7 steps", "every: 1 steps"))
    found, error = signalled(number, 2, [1000, 1100], str(path), "--out", str(tmp_path / "out"))
    assert found == status, error
    assert "interrupted at once; the last checkpoint is " in error
    assert len(error.splitlines()) == 1
    assert read_checkpoint(tmp_path / "out" / "net" / LAST).progress["step"] == 1


def test_threads_that_the_system_refuses(
    spec: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        if thread.name == "cnnspec-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(Processes, "supported", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        words = ["train", str(spec), "--quiet", "--threads", "3", "--out", str(tmp_path)]
        fails(words, capsys, "the system refuses to start thread 3 of 3", "use fewer: --threads N")
        assert not (tmp_path / "net").exists()


def test_run_json_that_is_damaged(run: Path, capsys: Captured) -> None:
    (run / ABOUT).write_text(json.dumps({"name": "net"})[:-4])
    fails(["train", "--resume", str(run)], capsys, f"cannot read {run / ABOUT}")
