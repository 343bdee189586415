"""Measures the prices of a machine model, and prints them as a row of cnnspec/kernels/machine.py.

python tests/benchmarks/machine_prices.py [--seconds 0.5] [--name NAME]
OPENBLAS_CORETYPE=Haswell python tests/benchmarks/machine_prices.py     as for a processor that has AVX2 at most

Run it by hand on a machine that does nothing else; it takes about half a minute. Every price is the best of many runs
on one thread in float32, of arrays as large as those of a network's layers. The row belongs to the kind of BLAS kernel
that is printed above it: to give such machines a row of their own, add it to `MODELS` and let `loaded` find it. Prices
only rank kernels, so that a tenth more or less changes nothing; and where `bench` shows that a kernel was chosen which
is slower than another one, its own count of work is the first thing to doubt. The price of a call is the lowest: in
whole steps on two workers, which the rows of the table were fitted to, a call takes up to five times as long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from cnnspec.kernels.elementwise import copy
from cnnspec.kernels.machine import MachineModel
from cnnspec.kernels.step import Array, Step, step_state

UNPACKED, OUTPUT = (
    100 * 100 * 100,
    1200,
)  # where OpenBLAS with AVX-512 begins to pack: see its sgemm_small_kernel_permit
GAIN = 1.1  # times as long that a product must take beyond such a limit to show that there is one


def numbers(*shape: int) -> Array:
    """Random numbers in float32."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


class Clock:
    """The best time of a step, in nanoseconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, step: Step) -> float:
        """Run it for the time that each measurement has, in stretches of a millisecond or one run."""
        step()
        started = time.perf_counter_ns()
        step()
        repeat = max(1, 1_000_000 // max(1, time.perf_counter_ns() - started))
        best, until = float("inf"), time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            started = time.perf_counter_ns()
            for _ in range(repeat):
                step()
            best = min(best, (time.perf_counter_ns() - started) / repeat)
        return best

    def product(self, left: Array, right: Array) -> float:
        """Nanoseconds of a multiply-accumulate of left @ right."""
        out = np.matmul(left, right)
        macs: int = out.size * left.shape[-1]
        return self(partial(np.matmul, left, right, out)) / macs


def mac(clock: Clock) -> float:
    """64 filters of 3x3 over 64 channels, 32 images of rows of 32 columns."""
    return clock.product(numbers(64, 576), numbers(576, 1024))


def moved(clock: Clock) -> float:
    """A copy of arrays that no cache holds."""
    source, target = numbers(1 << 24), np.zeros(1 << 24, np.float32)
    return clock(copy(source, target)) / source.size


def call(clock: Clock) -> float:
    """A product and a copy with next to nothing to do, cold: other arrays are read in between."""
    left, right, others = numbers(4, 8, 8), numbers(4, 8, 8), numbers(1 << 18)
    out, spare = np.zeros_like(left), np.zeros_like(others)

    def both() -> None:
        np.multiply(others, 2, out=spare)
        np.matmul(left, right, out=out)
        np.copyto(out, left.swapaxes(1, 2))

    return (clock(both) - clock(lambda: np.multiply(others, 2, out=spare))) / 2


def transformed(clock: Clock) -> float:
    """A transform of 6 rows to 6 points for F(4,3), and a copy of what it made for each of three column taps."""
    matrix, rows, taps = numbers(6, 6), numbers(6, 1 << 14), np.zeros((6, 3, 1 << 14), np.float32)
    made = np.zeros_like(rows)
    expand = copy(np.broadcast_to(made[:, None], taps.shape), taps)

    def step() -> None:
        np.matmul(matrix, rows, out=made)
        expand()

    return clock(step) / taps.size


def small(clock: Clock) -> float:
    """The columns of a map of 12x12 to frequencies."""
    return clock.product(numbers(12, 12), numbers(12, 12 * 20 * 32))


def band(clock: Clock) -> float:
    """4 rows of each of 64 channels from 6, of 32 images of rows of 16 columns."""
    rows = numbers(6, 64, 16 * 32).transpose(1, 0, 2)
    return clock.product(numbers(64, 4, 6), rows)


def band_gradient(clock: Clock) -> float:
    """The gradient of the same band matrices."""
    rows = numbers(6, 64, 16 * 32).transpose(1, 2, 0)
    return clock.product(numbers(4, 64, 16 * 32).transpose(1, 0, 2), rows)


def narrowness(clock: Clock) -> tuple[float, float]:
    """The beginning of a product, and a column that is left over from eights, both in columns of a wide product."""
    matrix, counts = numbers(128, 1152), range(1, 33)
    times = [clock.product(matrix, numbers(1152, count)) * count for count in counts]
    parts = np.array([[1, 8 * (count // 8), count % 8] for count in counts], float)
    (beginning, column, left_over), *_ = np.linalg.lstsq(parts, np.array(times), rcond=None)
    return max(0.0, float(beginning / column)), max(1.0, float(left_over / column))


def packs_beyond(clock: Clock, inside: Sequence[Array], beyond: Sequence[Array]) -> bool:
    """Whether a product just beyond a limit takes longer for each multiply-accumulate than one just inside it."""
    return clock.product(*beyond) > GAIN * clock.product(*inside)


def few_columns(clock: Clock) -> int:
    """The most columns for which a dense layer of 500 x 800 is fastest made one column at a time."""
    matrix = numbers(125, 800)  # the rows that stay in the cache from one column to the next
    most = 1
    for count in range(2, 9):
        columns = numbers(800, count)
        if clock.product(matrix, columns.T[:, :, None]) > clock.product(matrix, columns):
            break
        most = count
    return most


def measured(name: str, clock: Clock) -> MachineModel:
    """Every price of this machine."""
    begun, rest = narrowness(clock)
    rows, short = numbers(24, 640), numbers(32, 512)
    unpacked = packs_beyond(clock, (rows, numbers(640, 64)), (numbers(24, 656), numbers(656, 64)))
    output = packs_beyond(clock, (short, numbers(36, 512).T), (short, numbers(40, 512).T))
    return MachineModel(
        name=name,
        mac=mac(clock),
        moved=moved(clock),
        call=call(clock),
        transformed=transformed(clock),
        small=small(clock),
        band=band(clock),
        band_gradient=band_gradient(clock),
        begun=begun,
        rest=rest,
        unpacked=UNPACKED if unpacked else 0,
        unpacked_output=OUTPUT if output else 0,
        few_columns=few_columns(clock),
    )


def main() -> None:
    """Print what was measured, and for which BLAS."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--name", default="measured", help="of the row")
    arguments = parser.parse_args()
    for library in threadpool_info():
        if library["user_api"] == "blas":
            print(f"# {library['internal_api']} {library['version']}, kernels for {library.get('architecture')}")
    with threadpool_limits(1, user_api="blas"), step_state():
        found = measured(arguments.name, Clock(arguments.seconds))
    print("MachineModel(")
    for field, value in vars(found).items():
        print(f"    {field}={value!r}," if not isinstance(value, float) else f"    {field}={float(f'{value:.2g}'):g},")
    print(")")


if __name__ == "__main__":
    main()
