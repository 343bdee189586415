"""Requests that are wrong in every way get a status of 4xx and a sentence, and leave the server serving."""

from __future__ import annotations

import io
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest

from cnnspec.serve import Server
from tests.serve.server import LIMIT, Client, serving, trained


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    model, data = trained()
    with serving(model, data) as started:
        yield started


def raw(server: Server, sent: bytes) -> tuple[int, dict[str, str]]:
    """Send bytes as they are, and read the answer to its end, which must be JSON with an error."""
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LIMIT) as connection:
        connection.sendall(sent)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1 << 16) or b"\r\n\r\n"
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(1 << 16)
    return int(head.split(b" ")[1]), json.loads(body)


def post(body: bytes, path: str = "/predict", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def npy(header: str, content: bytes = b"\0" * 64, version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


JSON = [
    *("{", '{"images"', '{"images": [1,', "[]", "[[1]]", "{}", '{"a": 1}', '{"images": 1, "test_image": 2}', "{\xff}"),
    *('{"images": NaN}', '{"images": [[[[NaN]]]]}', '{"images": [[Infinity]]}', '{"images": [[-Infinity]]}'),
    *('{"images": null}', '{"images": "abc"}', '{"images": 5}', '{"images": []}', '{"images": [[]]}'),
    *('{"images": [[1, 2], [3]]}', '{"images": {"a": 1}}', '{"images": [["a"]]}', '{"images": [[true]]}'),
    *('{"images": [[1e400]]}', f'{{"images": [[{"9" * 400}]]}}', f'{{"images": [[{"9" * 5000}]]}}'),
    *('{"images": [[-1]]}', '{"images": [[256]]}', '{"images": [[[[[[1]]]]]]}'),
    *("[" * 100_000, '{"images": ' + "[" * 500 + "]" * 500 + "}", '{"images": ' + "[" * 100_000 + "}"),
    *('{"test_image": -1}', '{"test_image": 99999}', '{"test_image": true}', '{"test_image": 1.5}'),
    *('{"test_image": "0"}', '{"test_image": []}', '{"test_image": [0, null]}', '{"test_image": {}}'),
    '{"test_image": [' + "0," * 2000 + "0]}",
]
ARRAYS = [
    npy("{"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 8, 8)}"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8)}"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 8, 8)}"),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 8, 8)}"),
    npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1, 8, 8)}"),
    npy("__import__('os').getcwd()"),
    npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 8, 8)}", version=b"\7\0"),
    b"\x93NUMPY",
    saved(np.array([{"a": 1}], object)),
    saved(np.full((1, 8, 8), np.nan)),
    saved(np.full((1, 8, 8), 1e30)),
    saved(np.zeros((1, 8, 8), np.complex64)),
    saved(np.zeros((1, 2, 3, 4, 5), np.uint8)),
    saved(np.zeros((1, 5, 8, 8), np.uint8)),
    saved(np.zeros((0, 1, 8, 8), np.uint8)),
    saved(np.zeros((2000, 1, 8, 8), np.uint8)),
]
PATHS = [
    *("/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/page/../page.js", "/index.html", "/page.js/"),
    *("/%00", "/predict", "/activations", "/weights", "/weights?layer=x", "/weights?layer=../last.npz", "/spec?x=1"),
    *("/test-images?start=-1", "/test-images?start=1e9", "/test-images?start=99999", "/spec?" + "a=1&" * 50),
    *("file:///etc/passwd", "C:\\run.json", "/run.json", "/last.npz", "/spec/", "*", "/test-images?start=%ff"),
]
HEADS = [
    *("GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/x\r\n\r\n", "\0\1\2 / HTTP/1.1\r\n\r\n", "a b c d\r\n\r\n"),
    *("PUT /predict HTTP/1.1\r\n\r\n", "DELETE / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n"),
    *("BREW / HTTP/1.1\r\n\r\n", "get / HTTP/1.1\r\n\r\n", "POST /health HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    "POST /predict HTTP/1.1\r\n\r\n",
    "POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    "POST /predict HTTP/1.1\r\nContent-Length: 5, 6\r\n\r\n",
    "POST /predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "POST /predict HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    f"POST /predict HTTP/1.1\r\nContent-Length: {'9' * 300}\r\n\r\n",
    "POST /predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
    "POST /predict HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: \xb2\r\n\r\n",
    "POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET /spec HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "GET /spec HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n",
    f"GET /{'a' * 40_000} HTTP/1.1\r\n\r\n",
    f"GET / HTTP/1.1\r\nX: {'a' * 100_000}\r\n\r\n",
    "GET / HTTP/1.1\r\n" + "".join(f"X{i}: 1\r\n" for i in range(500)) + "\r\n",
    "GET / HTTP/1.1\r\n" + f"X: {'a' * 1000}\r\n" * 60 + "\r\n",
]


def made(random: Random) -> bytes:
    """A request that cannot be answered."""
    kinds: list[Callable[[], bytes]] = [
        lambda: post(random.choice(JSON).encode("latin-1"), random.choice(("/predict", "/activations"))),
        lambda: post(random.choice(ARRAYS), random.choice(("/predict", "/activations"))),
        lambda: get(random.choice(PATHS)),
        lambda: random.choice(HEADS).encode("latin-1"),
        lambda: post(random.randbytes(random.randrange(1, 300)).lstrip(b"{[ \t\r\n\x93") or b"x"),
        lambda: post(b"{" + random.randbytes(random.randrange(300))),
        lambda: post(b"\x93NUMPY" + random.randbytes(random.randrange(300))),
        lambda: post(png_header(100_000, 100_000) + random.randbytes(50)),
        lambda: post(png_header(8, 8) + random.randbytes(50)),
        lambda: post(b""),
        lambda: post(b"{}", f"/predict?top={random.choice(('0', '-1', 'x', '1e3', '9' * 30))}"),
    ]
    return random.choice(kinds)()


def check(server: Server, sent: bytes) -> None:
    status, said = raw(server, sent)
    assert 400 <= status < 500, (sent[:200], status)
    assert said["error"], sent[:200]
    assert not {"Traceback", "/site-packages/", 'File "'} & set(said["error"].split()), said


def is_well(server: Server) -> bool:
    asked: list[tuple[Any, ...]] = [("GET", "/health"), ("POST", "/predict", {"test_image": 0})]
    statuses = []
    for request in asked:
        with Client(server.server_port) as client:  # one each, as the server leaves a connection that is silent
            statuses.append(client.ask(*request)[0])
    return statuses == [200, 200]


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_malformed_requests_are_refused(count: int, server: Server) -> None:
    random = Random(count)
    for _ in range(count):
        check(server, made(random))
    assert is_well(server)


@pytest.mark.slow
def test_each_malformed_request_is_refused(server: Server) -> None:
    bodies = [*(text.encode("latin-1") for text in JSON), *ARRAYS]
    for sent in (*map(post, bodies), *map(get, PATHS), *(head.encode("latin-1") for head in HEADS)):
        check(server, sent)
    assert is_well(server)


def test_slow_and_broken_requests_end() -> None:
    model, data = trained()
    slow = (b"GET /he", b"GET /health HTTP/1.1\r\nHost: lo", post(b'{"images"', length=5000))

    def idle(server: Server) -> bytes:
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=LIMIT) as connection:
            return connection.recv(10)

    with serving(model, data, patience=3.0) as server, ThreadPoolExecutor() as clients:  # all wait at the same time
        silent = clients.submit(idle, server)
        assert [status for status, _ in clients.map(partial(raw, server), slow)] == [408] * 3
        assert silent.result() == b""  # nothing was asked, so nothing is said
        for sent in (b"", b"GET", post(b"{", length=50)):  # the client leaves
            with socket.create_connection(("127.0.0.1", server.server_address[1])) as connection:
                connection.sendall(sent)
        assert is_well(server)


def test_of_too_many_connections_the_last_are_told_so() -> None:
    model, data = trained()
    with serving(model, data, connections=2) as server:
        port = server.server_port
        with Client(port) as first, Client(port) as second, Client(port) as third:
            assert first.ask("GET", "/health")[0] == second.ask("GET", "/health")[0] == 200
            refused = {"error": "too many connections at once", "help": "ask again later"}
            assert third.ask("GET", "/health") == (503, refused)
            assert second.ask("GET", "/health")[0] == 200
