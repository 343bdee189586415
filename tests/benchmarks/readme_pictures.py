"""Draw the pictures of the README: a located mistake beside a training's curves, and the speed against others.

    python tests/benchmarks/readme_pictures.py

The curves are those of `specs/lenet.yaml`, trained here; the speeds are those of `speed.json` beside this file.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / ".readme"
PAPER, INK, RED, BLUE, ORANGE = "#ffffff", "#24292f", "#cf222e", "#0969da", "#bc4c00"


def main() -> None:
    """Draw both."""
    with tempfile.TemporaryDirectory() as folder:
        cover(Path(folder))
    speed()


def cover(folder: Path) -> None:
    """Draw what `validate` says of a kernel that does not fit, and the losses and accuracies of a training."""
    spec = (ROOT / "specs" / "lenet.yaml").read_text(encoding="utf-8")
    spec = spec[spec.index("cnnspec: 1") :]
    (folder / "lenet.yaml").write_text(spec.replace("filters: 50, kernel_size: 5", "filters: 50, kernel_size: 17"))
    said = cnnspec("validate", "lenet.yaml", folder=folder)
    (folder / "lenet.yaml").write_text(spec)
    cnnspec("train", "lenet.yaml", "--quiet", folder=folder)
    with (folder / "runs" / "lenet" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.4), width_ratios=(1.9, 1), facecolor=PAPER)
    left.axis("off")
    for number, line in enumerate(["$ cnnspec validate lenet.yaml", *wrapped(said, 88)]):
        colour = RED if "error[" in line or "^" in line else INK
        left.text(0, 1 - 0.085 * number, line, family="monospace", size=9.5, color=colour, va="top")
    epochs = [int(row["epoch"]) for row in rows]
    curves(right, epochs, rows)
    figure.tight_layout()
    figure.savefig(PICTURES / "cover.png", dpi=110)


def curves(axes: Any, epochs: list[int], rows: list[dict[str, str]]) -> None:
    """Draw losses on a logarithmic axis and accuracies on another."""
    for name, style in (("train.loss", "-"), ("test.loss", "--")):
        axes.plot(epochs, [float(row[name]) for row in rows], style, color=BLUE, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("loss", color=BLUE)
    axes.set_xlabel("epoch")
    other = axes.twinx()
    for name, style in (("train.accuracy", "-"), ("test.accuracy", "--")):
        other.plot(epochs, [100 * float(row[name]) for row in rows], style, color=ORANGE)
    other.set_ylabel("accuracy, %", color=ORANGE)
    axes.plot([], [], "-", color=INK, label="training")
    axes.plot([], [], "--", color=INK, label="test")
    lines, labels = axes.get_legend_handles_labels()
    axes.legend(lines[2:], labels[2:], loc="center right", frameon=False)
    axes.set_title("lenet on the built-in digits", size=10)


def speed() -> None:
    """Draw how many times as fast each case is as another framework on the same cores."""
    found = json.loads((Path(__file__).parent / "speed.json").read_text(encoding="utf-8"))
    cases = [(case, *pair) for case, others in found["times_as_fast"].items() for pair in others.items()]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(cases) + 0.9), facecolor=PAPER)
    names = [f"{case}, against {other}" for case, other, _ in cases]
    bars = axes.barh(names, [times for _, _, times in cases], color=BLUE, height=0.62)
    axes.bar_label(bars, [f"{times:.2f}" for _, _, times in cases], padding=4, color=INK)
    axes.axvline(1, color=INK, linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast; the line is the other framework")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(PICTURES / "speed.png", dpi=110)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many characters, broken between words."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, width) if len(line) > width else [line]
    return lines


def cnnspec(*words: str, folder: Path) -> str:
    """Run the program in a folder, and return what it prints."""
    command = [sys.executable, "-m", "cnnspec", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
