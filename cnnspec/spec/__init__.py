"""Reads a YAML file into a typed Spec, in which every value has its place in the file."""

from cnnspec.spec.load import load, loads
from cnnspec.spec.model import Requirement, Spec
from cnnspec.spec.place import Place

__all__ = ["Place", "Requirement", "Spec", "load", "loads"]
