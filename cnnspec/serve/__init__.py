"""A local web page to try a trained network, with an HTTP interface that gives programs the same answers."""

from cnnspec.serve.server import Server
from cnnspec.serve.service import Service

__all__ = ["Server", "Service"]
