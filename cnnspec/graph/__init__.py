"""From a Spec to nodes in order, with names, shapes, parameters and costs."""

from cnnspec.graph.build import Trace, build, follow
from cnnspec.graph.node import INPUT, Graph, Node

__all__ = ["INPUT", "Graph", "Node", "Trace", "build", "follow"]
