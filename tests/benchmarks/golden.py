"""Fingerprints of eight small trainings, to see whether a change of the code changed a single bit of any weight.

python tests/benchmarks/golden.py                       print the fingerprints of this machine
python tests/benchmarks/golden.py --check golden.json   compare with recorded ones; exit status 1 where any differs
python tests/benchmarks/golden.py --record golden.json  record them beside those of other machines

Bits depend on what adds up the products: NumPy and its vector instructions, and the matrix kernels of the BLAS. The
file therefore has one entry for each combination. Every training runs on one thread and on two, which must agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from threadpoolctl import threadpool_info

from cnnspec.api import compile
from cnnspec.spec import loads

SYNTHETIC = "{{type: synthetic, shape: [{shape}], classes: 10, train: {train}, test: 10, noise: 0.4}}"

LENET = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: same, activation: relu}
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 16, kernel_size: 3, padding: same, activation: relu}
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {type: dense, units: 32, activation: tanh}
  - {type: dense, units: 10}
data: {source: digits}
train: {epochs: 2, batch_size: 64, optimizer: {type: sgd, learning_rate: 0.05}}
"""

RESIDUAL = f"""\
cnnspec: 1
input: [3, 20, 20]
vars: {{width: 8}}
blocks:
  basic:
    params: {{filters: required, stride: 1}}
    layers:
      - type: residual
        shortcut: auto
        body:
          - {{type: conv2d, filters: $filters, kernel_size: 3, stride: $stride, padding: half, bias: none}}
          - batch_norm
          - relu
          - {{type: conv2d, filters: $filters, kernel_size: 3, padding: half, bias: none}}
          - batch_norm
      - relu
layers:
  - {{type: conv2d, filters: $width, kernel_size: 3, padding: half, bias: none}}
  - batch_norm
  - relu
  - {{use: basic, repeat: 2, with: {{filters: $width}}}}
  - {{use: basic, repeat: 2, with: {{filters: "${{width * 2}}"}}, first: {{stride: 2}}}}
  - {{use: basic, repeat: 2, with: {{filters: "${{width * 4}}"}}, first: {{stride: 2}}}}
  - global_avg_pool2d
  - {{type: dense, units: 10}}
data: {{source: {SYNTHETIC.format(shape="3, 20, 20", train=1536)}}}
train:
  epochs: 2
  batch_size: 64
  optimizer: {{type: sgd, learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3}}
  schedule: {{type: cosine, warmup: 1}}
"""

DENSE = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - flatten
  - {type: dense, units: 96, activation: relu}
  - {type: dense, units: 48, activation: sigmoid}
  - {type: dense, units: 10}
data: {source: digits}
train: {epochs: 2, batch_size: 50, optimizer: {type: rmsprop, momentum: 0.5, weight_decay: 1e-4}}
"""

SEPARABLE = f"""\
cnnspec: 1
input: [2, 17, 15]
layers:
  - {{type: conv2d, filters: 8, kernel_size: 3, stride: 2, padding: same}}
  - {{type: depthwise_conv2d, kernel_size: 3, padding: half}}
  - relu6
  - {{type: separable_conv2d, filters: 12, kernel_size: 3, padding: half}}
  - {{type: group_norm, groups: 3}}
  - hard_swish
  - {{type: avg_pool2d, kernel_size: 2}}
  - {{type: conv2d, filters: 12, kernel_size: 3, padding: half, groups: 4}}
  - silu
  - flatten
  - {{type: dense, units: 10}}
data: {{source: {SYNTHETIC.format(shape="2, 17, 15", train=1200)}}}
train: {{epochs: 1, batch_size: 40, optimizer: {{type: adamw, learning_rate: 0.003}}}}
"""

AUGMENTED = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, bias: none}
  - batch_norm
  - relu
  - {type: spatial_dropout2d, rate: 0.1}
  - {type: max_pool2d, kernel_size: 2}
  - flatten
  - {type: dropout, rate: 0.3}
  - {type: dense, units: 10}
data:
  source: digits
  augment: [{type: shift, pixels: 1}, {type: mixup, alpha: 0.2}]
train: {epochs: 2, batch_size: 64, ema: 0.9, optimizer: {type: momentum, learning_rate: 0.02}}
"""

ACCUMULATED = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, activation: gelu}
  - {type: conv2d, filters: 8, kernel_size: 3, activation: elu}
  - flatten
  - {type: dense, units: 10}
data: {source: digits}
train: {epochs: 2, batch_size: 48, accumulate: 3, clip: {norm: 0.5}, optimizer: {type: adam, learning_rate: 0.005}}
"""

TIED = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, activation: relu}
  - {id: a, type: conv2d, filters: 8, kernel_size: 3, padding: same, activation: tanh}
  - {id: b, type: conv2d, filters: 8, kernel_size: 3, padding: same, share: a, activation: tanh}
  - {type: add, from: [a, b]}
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same, share: a}
  - global_avg_pool2d
  - {type: dense, units: 10}
data: {source: digits}
train: {epochs: 2, batch_size: 64, optimizer: {type: adagrad, learning_rate: 0.02}}
"""

FEW_IMAGES = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3, padding: same}
  - prelu
  - {type: max_pool2d, kernel_size: 2}
  - {type: conv2d, filters: 12, kernel_size: 3}
  - prelu
  - flatten
  - {type: dense, units: 10}
data: {source: digits, train: {limit: 300}}
train:
  epochs: 1
  batch_size: 5
  optimizer: {type: nesterov, learning_rate: 0.02, momentum: 0.8, weight_decay: 1e-3}
"""

TRAININGS: Mapping[str, str] = {
    "lenet": LENET,
    "residual": RESIDUAL,
    "dense": DENSE,
    "separable": SEPARABLE,
    "augmented": AUGMENTED,
    "accumulated": ACCUMULATED,
    "tied": TIED,
    "few images": FEW_IMAGES,
}


def arithmetic() -> str:
    """What the bits depend on besides the code: NumPy's version and vector instructions, and the kernel of the BLAS."""
    blas = [f"{pool['internal_api']} {pool['version']} {pool.get('architecture')}" for pool in threadpool_info()]
    extensions = cast(dict[str, Any], np.show_config(mode="dicts")).get("SIMD Extensions", {})
    found = ", ".join(extensions.get("found", ())) or "baseline"
    return f"NumPy {np.__version__} ({found}), {', '.join(blas)}"


def trained(text: str, threads: int) -> str:
    """The fingerprint of the weights that a training ends with."""
    model = compile(loads(text), threads=threads)
    model.fit()
    return model.fingerprint()


def main() -> int:
    """Print the fingerprints, and compare or record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="FILE")
    parser.add_argument("--record", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    key = arithmetic()
    print(key)
    known = {}
    if arguments.check:
        recorded = json.loads(arguments.check.read_text())
        if key not in recorded:
            print(f"nothing is recorded for this machine, only for: {'; '.join(recorded)}", file=sys.stderr)
            return 1
        known = recorded[key]
    found, failed = {}, False
    for name, text in TRAININGS.items():
        one, two = (trained(text, threads) for threads in (1, 2))
        found[name] = one
        verdict = "" if one == two else f"  DIFFERS on two threads: {two}"
        if known and known.get(name) != one:
            verdict += f"  DIFFERS from {known.get(name)}"
        failed = failed or bool(verdict)
        print(f"{name:12} {one}{verdict}", flush=True)
    if arguments.record and not failed:
        others = json.loads(arguments.record.read_text()) if arguments.record.exists() else {}
        arguments.record.write_text(json.dumps({**others, key: found}, indent=2, sort_keys=True) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
