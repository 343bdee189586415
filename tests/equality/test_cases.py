"""Small trainings whose numbers are stored, as PyTorch computes them in float64; the test itself needs no PyTorch.

Every file in `cases/` is a spec; its first line says what it is for. `python -m tests.equality.test_cases` has PyTorch
compute the numbers and writes `numbers.json`: of every array, its sum with weights that look random, and its largest
number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cnnspec.graph import build
from cnnspec.kernels.step import Array
from cnnspec.spec import load
from tests.equality import values
from tests.equality.result import Result, Setup, ours
from tests.samples import sampled

FOLDER = Path(__file__).parent / "cases"
CASES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.stem)
STORED = FOLDER / "numbers.json"
STEPS = 3
BOUND = 1e-9  # of the largest number of an array, for each of its elements

Numbers = dict[str, dict[str, tuple[float, float]]]  # by what an array is and by its name


def setup_of(path: Path) -> Setup:
    """A case, three steps long."""
    spec = load(path)
    assert spec.train is not None
    return Setup(spec, build(spec), spec.train.batch_size, STEPS)


def summed(name: str, array: Array) -> tuple[float, float]:
    """The weighted sum, which any element changes, and the largest number."""
    return float((array * values.noise(name, array.shape)).sum()), float(abs(array).max())


def numbers(result: Result) -> Numbers:
    """What is stored of a result."""
    return {what: {key: summed(key, a) for key, a in arrays.items()} for what, arrays in result.arrays().items()}


def wrong(found: Numbers, stored: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[str]:
    """What is not as stored."""
    lines = []
    for what, expected in stored.items():
        largest = max(most for _, most in expected.values())
        for name, (total, most) in expected.items():
            allowed = BOUND * (most + 1e-3 * largest)
            own = found[what][name]
            if not (abs(own[0] - total) <= 10 * allowed and abs(own[1] - most) <= allowed):
                lines.append(f"{what} {name}: {own} for {(total, most)}")
    return lines


@pytest.mark.parametrize("threads", sampled([2, 1], 2))
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_numbers_are_as_pytorch_computed_them(path: Path, threads: int) -> None:
    faults = wrong(numbers(ours(setup_of(path), threads=threads)), json.loads(STORED.read_text())[path.stem])
    assert not faults, "\n".join([*faults, "", path.read_text()])


def test_every_case_has_its_numbers() -> None:
    assert sorted(json.loads(STORED.read_text())) == [path.stem for path in CASES]


def main() -> None:
    """Write the numbers, to twelve digits."""
    from tests.equality.twin import Twin

    stored = {}
    for path in CASES:
        twin, shaken = Twin(setup_of(path)), Twin(setup_of(path), 1e-12)
        expected = numbers(twin.run())
        unclear = wrong(numbers(shaken.run()), expected)
        assert not unclear, f"{path.stem} depends on rounding: {unclear}"
        stored[path.stem] = {
            what: {
                name: [float(f"{number:.12g}") for number in pair]
                for name, pair in arrays.items()
                if name not in twin.unreached
            }
            for what, arrays in expected.items()
        }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
