"""Peak resident memory of training LeNet on MNIST for one epoch, here or in PyTorch; each run in a fresh process.

python tests/benchmarks/memory.py cnnspec DIR
python tests/benchmarks/memory.py torch DIR
"""

from __future__ import annotations

import gzip
import resource
import sys
from pathlib import Path

import numpy as np

SPEC = Path(__file__).parents[2] / "specs" / "lenet-mnist.yaml"
BATCH = 64


def train_here(folder: Path) -> None:
    """One epoch by `Model.fit`."""
    from cnnspec.train import compile

    overrides = ["train.epochs=1", f"train.batch_size={BATCH}"]
    compile(SPEC, overrides).fit(data_dir=folder)


def train_in_pytorch(folder: Path, steps: int = 100) -> None:
    """All images as bytes, as here, and so many steps: the peak does not grow with their number."""
    from cnnspec.export import pytorch
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


if __name__ == "__main__":
    {"cnnspec": train_here, "torch": train_in_pytorch}[sys.argv[1]](Path(sys.argv[2]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{sys.argv[1]}: peak resident memory {peak / 1024:.0f} MiB ({peak * 1024 / 1e6:.0f} MB)")
