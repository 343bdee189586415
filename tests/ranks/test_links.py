"""Two ranks in network namespaces of their own, joined by a cable that is slow, or cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnspec.cli import main
from tests.ranks.test_mpiexec import FAR, LIMIT, NET, environment, files, mpiexec

WIDE = """
cnnspec: 1
name: net
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 256, kernel_size: 3, padding: half, activation: relu}
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 512, kernel_size: 3, padding: half, activation: relu}
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 512, kernel_size: 3, padding: half}
  - flatten
  - {type: dense, units: 10}
data: {source: digits, train: {limit: 64}, validation: {fraction: 0.2}}
train: {epochs: 1, batch_size: 64, optimizer: {type: sgd, learning_rate: 0.01}}
"""
# The gradients are 14 MB, which take longer than a rank may be silent.
SLOW = ("tbf", "rate", "10mbit", "burst", "16kb", "latency", "200ms")
LAUNCHER = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec NAME-${host##*.} sh -c "$*"
"""


class Link:
    """A cable between two namespaces, NAME-1 and NAME-2."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.launcher = name, folder / "launcher.sh"
        self.launcher.write_text(LAUNCHER.replace("NAME", name))
        self.launcher.chmod(0o755)
        for number in (1, 2):
            self.ip("netns", "add", f"{name}-{number}")
        self.ip("link", "add", f"{name}-a1", "type", "veth", "peer", "name", f"{name}-a2")
        for number in (1, 2):
            self.ip("link", "set", f"{name}-a{number}", "netns", f"{name}-{number}")
            self.ip("-n", f"{name}-{number}", "addr", "add", f"10.99.8.{number}/24", "dev", f"{name}-a{number}")
            for device in ("lo", f"{name}-a{number}"):
                self.ip("-n", f"{name}-{number}", "link", "set", device, "up")
            self.ip("netns", "exec", f"{name}-{number}", "true")

    def ip(self, *words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine makes no network namespaces: ip {' '.join(words)}: {done.stderr.strip()}")

    def slow(self) -> None:
        for number in (1, 2):
            words = [
                "tc",
                "-n",
                f"{self.name}-{number}",
                "qdisc",
                "add",
                "dev",
                f"{self.name}-a{number}",
                "root",
                *SLOW,
            ]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the kernel has no token bucket: {done.stderr.strip()}")

    def train(self, *words: str) -> subprocess.Popen[str]:
        launch = [
            "-launcher",
            "ssh",
            "-launcher-exec",
            str(self.launcher),
            "-hosts",
            "10.99.8.1,10.99.8.2",
            "-ppn",
            "1",
        ]
        program = [sys.executable, "-m", "cnnspec", "train", *words, "--quiet", "--threads", "1"]
        return subprocess.Popen(
            ["ip", "netns", "exec", f"{self.name}-1", mpiexec(), *launch, "-n", "2", *program],
            env={**environment(), "UCX_TLS": "tcp,self"},
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    if shutil.which("ip") is None or shutil.which("tc") is None:
        pytest.skip("ip and tc are not here: apt-get install iproute2")
    mpiexec()
    name = f"c{os.getpid()}"
    try:
        yield Link(name, tmp_path)
    finally:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "del", f"{name}-{number}"], capture_output=True, check=False)


@pytest.mark.slow
def test_a_slow_link_changes_no_bits_and_is_no_silence(link: Link, tmp_path: Path) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(WIDE)
    assert main(["train", str(spec), "--quiet", "--out", str(tmp_path / "alone")]) == 0
    link.slow()
    with link.train(str(spec), "--out", str(tmp_path / "far")) as process:
        _, error = process.communicate(timeout=3 * LIMIT)
    assert process.returncode == 0, error
    assert files(tmp_path / "far" / "net") == files(tmp_path / "alone" / "net")


@pytest.mark.slow
def test_a_link_that_is_cut_ends_the_training_with_a_message(link: Link, tmp_path: Path) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(NET)
    with link.train(str(spec), "--out", str(tmp_path), "--set", FAR) as process:
        until = time.monotonic() + LIMIT
        while not (tmp_path / "net" / "metrics.jsonl").is_file() and process.poll() is None:
            assert time.monotonic() < until, "the training did not begin"
            time.sleep(0.05)
        link.ip("-n", f"{link.name}-1", "link", "set", f"{link.name}-a1", "down")
        _, error = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert "cnnspec: error: rank 1 on " in error
    assert "no sign of life for 7 seconds" in error
    assert main(["verify", str(tmp_path / "net")]) == 0
