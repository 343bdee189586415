"""Functions from arrays to steps, one file an algorithm."""

from cnnspec.kernels.step import Array, Buffer, Step

__all__ = ["Array", "Buffer", "Step"]
