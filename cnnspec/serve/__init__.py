"""A local page to try a trained network, and the same answers for programs, over HTTP."""

from cnnspec.serve.server import Server
from cnnspec.serve.service import Service

__all__ = ["Server", "Service"]
