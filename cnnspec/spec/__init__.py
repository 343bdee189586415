"""From a YAML file to a typed Spec in which everything knows its place."""

from cnnspec.spec.load import load, loads
from cnnspec.spec.model import Requirement, Spec
from cnnspec.spec.place import Place

__all__ = ["Place", "Requirement", "Spec", "load", "loads"]
