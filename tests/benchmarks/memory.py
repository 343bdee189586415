"""Peak resident memory of training LeNet on MNIST for one epoch, here or in PyTorch; each run in a fresh process.

Of processes that have forked from it, the most that was theirs alone is added: the rest is the same memory.

python tests/benchmarks/memory.py cnnspec DIR
python tests/benchmarks/memory.py torch DIR
"""

from __future__ import annotations

import gzip
import os
import resource
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

SPEC = Path(__file__).parents[2] / "specs" / "lenet-mnist.yaml"
BATCH = 64


def train_here(folder: Path) -> None:
    """One epoch by `Model.fit`."""
    from cnnspec.api import compile

    overrides = ["train.epochs=1", f"train.batch_size={BATCH}"]
    compile(SPEC, overrides).fit(data_dir=folder)


def train_in_pytorch(folder: Path, steps: int = 100) -> None:
    """All images as bytes, as here, and so many steps: the peak does not grow with their number."""
    from cnnspec.compare import pytorch
    from cnnspec.graph import build
    from cnnspec.plan import Weights
    from cnnspec.spec import load

    torch, spec = pytorch.torch(), load(SPEC)
    graph = build(spec)
    assert spec.train is not None
    weights = Weights(graph)
    weights.initialise(0)
    network = pytorch.module(graph, dict(weights.arrays()))
    optimizer = pytorch.optimizer(network, graph, spec.train.optimizer)
    measure = pytorch.loss(spec.train.loss)
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    images = torch.tensor(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28))
    raw = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    labels = torch.tensor(np.frombuffer(raw, np.uint8, offset=8).astype(np.int64))
    for step in range(steps):
        part = slice(step * BATCH, (step + 1) * BATCH)
        optimizer.zero_grad()
        x = images[part].float() / 255
        measure(network(x), x, labels[part]).backward()
        optimizer.step()


def private_to_children() -> int:
    """KiB that are in no other process, of all that have forked from this one."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # one that has ended meanwhile
            parent = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                lines = process.joinpath("smaps_rollup").read_text().splitlines()
                found += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return found


def main() -> None:
    """Train, and look at the children five times a second meanwhile."""
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.2):
            most = max(most, private_to_children())

    watcher = threading.Thread(target=watch)
    watcher.start()
    {"cnnspec": train_here, "torch": train_in_pytorch}[sys.argv[1]](Path(sys.argv[2]))
    over.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + most
    print(f"{sys.argv[1]}: peak resident memory {peak / 1024:.0f} MiB ({peak * 1024 / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
