"""The machine model: what matrix products and passes over arrays cost with one kind of BLAS kernel, as measured.

`MODELS` has a row for each kind. OpenBLAS takes its kernels by the processor, or by the variable OPENBLAS_CORETYPE,
when it is loaded, so the BLAS is asked and not the processor. `tests/benchmarks/machine_prices.py` measures a row anew.

Kernels are chosen by the row of the loaded BLAS. What must be the same on every machine, such as a memory budget, is
computed under each row in turn, with `assuming`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np


@dataclass(frozen=True)
class MachineModel:
    """Prices on one thread in float32, and which products the BLAS multiplies without packing the matrices first."""

    name: str
    mac: float  # ns for a multiply-accumulate of a large matrix product
    moved: float  # ns for an element that is copied or added, from memory
    call: float  # ns for one NumPy call to begin and to end
    transformed: float  # ns for an element of Winograd's transforms, which are products of a depth of 4 to 8
    small: float  # ns for a multiply-accumulate in products with a matrix as small as a map's rows
    band: float  # ns for a multiply-accumulate in products of 4 rows with a band matrix, one for each channel
    band_gradient: float  # the same in the products of a band matrix's gradient, a @ b.T with 4 rows in a
    begun: float  # the start of a product takes as long as so many columns
    rest: float  # each column beyond a multiple of eight takes as long as so many columns
    unpacked: int  # the largest m*n*k that is multiplied without packing; 0: the BLAS always packs
    unpacked_output: int  # elements of a @ b.T up to which it is as fast as a @ b
    few_columns: int  # up to so many columns a product is fastest one column at a time: packing costs more


# A server with AVX-512. For it OpenBLAS has kernels of small products, which read the matrices where they lie.
AVX512 = MachineModel(
    name="avx512",
    mac=0.021,
    moved=0.2,
    call=2000,
    transformed=0.2,
    small=0.021,
    band=0.021,
    band_gradient=0.021,
    begun=0,
    rest=1,
    unpacked=1_000_000,
    unpacked_output=1200,
    few_columns=1,
)
# A server with AVX2 (Zen 3). OpenBLAS packs both matrices of every product, which small and narrow products pay for.
AVX2 = MachineModel(
    name="avx2",
    mac=0.0255,
    moved=0.2,
    call=1300,
    transformed=0.3,
    small=0.034,
    band=0.09,
    band_gradient=0.18,
    begun=4,
    rest=2.2,
    unpacked=0,
    unpacked_output=0,
    few_columns=5,
)
MODELS = (AVX512, AVX2)

UNPACKING = {"skylakex", "cooperlake", "sapphirerapids"}  # OpenBLAS's names of the processors with such kernels
EXTENSIONS = {"X86_V4", "AVX512_SKX"}  # NumPy's names of AVX-512, from version 2.4 on and before

_assumed: ContextVar[MachineModel | None] = ContextVar("assumed machine model", default=None)


def current() -> MachineModel:
    """The model for prices and block sizes: the assumed one, otherwise that of the loaded BLAS."""
    return _assumed.get() or loaded()


@contextmanager
def assuming(model: MachineModel) -> Iterator[None]:
    """Use `model` for choices of kernels and blocks in this thread, inside of a `with`; results are right anywhere."""
    token = _assumed.set(model)
    try:
        yield
    finally:
        _assumed.reset(token)


@cache
def loaded() -> MachineModel:
    """The model of the loaded OpenBLAS; with another BLAS, the model for the processor's instructions."""
    from threadpoolctl import threadpool_info  # late, as checking a spec asks no machine

    architectures = (
        library.get("architecture") for library in threadpool_info() if library["internal_api"] == "openblas"
    )
    architecture = next(architectures, None)
    wide = EXTENSIONS & vector_instructions() if architecture is None else architecture.lower() in UNPACKING
    return AVX512 if wide else AVX2


def vector_instructions() -> set[str]:
    """The instructions that NumPy has found beyond those that it was built for."""
    configuration = cast(dict[str, Any], np.show_config(mode="dicts"))
    return set(configuration.get("SIMD Extensions", {}).get("found", ()))
