"""A small trained network, its server in a thread, and a client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import cnnspec
from cnnspec.api import Model
from cnnspec.data import Data, open_data
from cnnspec.serve import Server, Service

NET = """
cnnspec: 1
name: net
input: [1, 16, 16]
layers:
  - {type: conv2d, filters: 6, kernel_size: 3, padding: 1, stride: 2}
  - relu
  - {type: conv2d, filters: 8, kernel_size: 3, groups: 2}
  - relu
  - flatten
  - {type: dense, units: 10, id: logits}
data: {source: digits, preprocess: [{type: resize, size: [16, 16]}], train: {limit: 900}}
train: {epochs: 8, optimizer: {type: adam, learning_rate: 0.01}}
"""
LIMIT = 600.0  # seconds that a client or the server may be silent on a busy machine


def trained() -> tuple[Model, Data]:
    """A network that tells most digits, and its data."""
    model = cnnspec.compile(NET, threads=1)
    model.fit(progress=False)
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=model.spec.seed, input=model.spec.input, output=model.graph.output.shape)
    assert model.pipeline is not None
    model.pipeline = data.pipeline
    return model, data


@contextmanager
def serving(model: Model, data: Data | None, patience: float = LIMIT, **options: Any) -> Iterator[Server]:
    """The server at a free port of this machine; it must not have failed at anything."""
    failures: list[str] = []
    with Server(Service(model, data, "net"), log=failures.append, patience=patience, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
    assert failures == []


class Client:
    """A connection that is kept; `ask` gives the status and what the body says."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
        """Send a request; a body that is not bytes is sent as JSON."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, sent, dict(headers))
        answer = self.connection.getresponse()
        content = answer.read()
        kind = answer.headers["Content-Type"]
        return answer.status, json.loads(content) if kind == "application/json" and content else content
