"""The HTTP server: a thread for each connection, limits on the size of a request, and errors as JSON.

The standard library's server, with Nagle's algorithm off and output buffered, answers some thousand requests a second
on one core, which is more than the networks do; frameworks would add dependencies and no speed.
"""

from __future__ import annotations

import io
import ipaddress
import json
import math
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socketserver import TCPServer
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import parse_qsl

import cnnspec
from cnnspec.serve.openapi import openapi
from cnnspec.serve.request_error import RequestError
from cnnspec.serve.service import Query, Service

MOST_BODY = 16 << 20  # bytes of a body
MOST_HEAD = 32 << 10  # bytes of the request line and the headers
MOST_CONNECTIONS = 64  # connections at a time, each with a thread
PATIENCE = 10.0  # seconds for the head of a request, and as many again for its body
LINGER = 1.0  # seconds to read on after a refusal, so that the client sees the answer
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
PAGE = {  # the files of the page, by the path at which they are served
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/maps.js": ("maps.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/window.js": ("window.js", "text/javascript; charset=utf-8"),
}
STATUSES = {501: 405, 505: 400}  # replaced statuses of the standard library: these errors are the client's
Content = tuple[bytes, str]  # the body of an answer, and its media type


class Server(ThreadingHTTPServer):
    """Answers requests about one network until `shutdown`; `log` takes a line when the server itself fails.

    On a loopback address only requests whose Host header is a loopback name are answered: otherwise a page of another
    site whose domain name points to this machine could read the answers. OSError if the address cannot be used.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        service: Service,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        log: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.service, self.log, self.patience, self.host = service, log, patience, host
        self.local = _is_loopback(host)
        self._free = BoundedSemaphore(connections)
        super().__init__((host, port), _Handler)
        document = json.dumps(openapi(service)).encode()
        page = resources.files("cnnspec.serve") / "page"
        files = {path: ((page / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}
        self.routes: Mapping[str, Mapping[str, Callable[[Query, bytes], Content]]] = {
            **{path: {"GET": partial(_fixed, content)} for path, content in files.items()},
            "/openapi.json": {"GET": partial(_fixed, (document, "application/json"))},
            "/health": {"GET": lambda query, body: _json(service.health())},
            "/spec": {"GET": lambda query, body: _json(service.spec())},
            "/weights": {"GET": lambda query, body: _json(service.weights(query))},
            "/test-images": {"GET": lambda query, body: _json(service.test_images(query))},
            "/predict": {"POST": lambda query, body: _json(service.predict(query, body))},
            "/activations": {"POST": lambda query, body: _json(service.activations(query, body))},
        }

    @property
    def address(self) -> str:
        """The address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, or refuse it if there are too many."""
        if not self._free.acquire(blocking=False):
            body = _refused("too many connections at once", "ask again later")[0]
            head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
            request.setblocking(False)
            with suppress(OSError):  # a client that does not read gets no answer
                request.send(head.encode() + body)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and free its place when it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error, because the client has left: errors of requests themselves are answered elsewhere."""


class _HeadSizeError(Exception):
    pass


class _Received(io.RawIOBase):
    """The bytes from a socket, up to a deadline that each request sets, and up to a size limit of its head."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.until, self.bytes, self.most = connection, 0.0, 0, math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.bytes > self.most:
            raise _HeadSizeError
        self.connection.settimeout(left)
        count = self.connection.recv_into(buffer)
        self.bytes += count
        return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"cnnspec/{cnnspec.__version__}"
    sys_version = ""
    default_request_version = "HTTP/1.1"  # version of a request that gives none: its answer has a status line too
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: an answer is one packet
    server: Server

    def setup(self) -> None:
        super().setup()
        self.received = _Received(self.connection)
        self.rfile = io.BufferedReader(self.received, 1 << 13)

    def handle_one_request(self) -> None:
        """Read the head of a request and answer it; a head that does not arrive ends the connection silently."""
        received = self.received
        received.bytes, received.most, received.until = 0, MOST_HEAD, time.monotonic() + self.server.patience
        self.requestline, self.request_version, self.command = "", "HTTP/1.1", ""
        try:
            self.raw_requestline = self.rfile.readline(MOST_HEAD + 1)
            if not self.raw_requestline:
                self.close_connection = True
                return
            if len(self.raw_requestline) > MOST_HEAD:
                raise _HeadSizeError
            if self.parse_request():
                received.most = math.inf
                self._answer()
        except TimeoutError:
            self.close_connection = True
            if received.bytes:
                self.send_error(408)
        except _HeadSizeError:
            self.send_error(431)
        self.connection.settimeout(self.server.patience)
        self.wfile.flush()

    def _answer(self) -> None:
        try:
            self._respond(200, *self._content())
        except RequestError as refusal:
            if refusal.status in (400, 404) and not self._unread:
                self._respond(refusal.status, *_refused(str(refusal), refusal.help))
            else:
                self._refuse(refusal)
        except MemoryError:
            self._refuse(RequestError(503, "out of memory", "send fewer images at a time"))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            self.server.log(f"{self.command} failed: {type(error).__name__}: {error}, at {place}")
            self._refuse(RequestError(500, "internal error: this is a bug in cnnspec"))

    def _content(self) -> Content:
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if self.server.local and not _is_loopback(_host(self.headers.get("Host", "127.0.0.1"))):
            raise RequestError(421, "this server answers for loopback addresses alone", "ask 127.0.0.1 or localhost")
        path, _, text = self.path.partition("?")
        methods = self.server.routes.get(path)
        if methods is None:
            raise RequestError(404, "no such path", f"there are {', '.join(self.server.routes)}")
        method = "GET" if self.command == "HEAD" else self.command
        if method not in methods:
            raise RequestError(405, f"expected {' or '.join(methods)}, got {self.command}")
        try:
            query = dict(parse_qsl(text, max_num_fields=8, keep_blank_values=True, errors="strict"))
        except ValueError as error:
            raise RequestError(400, f"the query cannot be read: {error}") from error
        unknown = query.keys() - {"layer", "top", "start"}
        if unknown:
            raise RequestError(400, f"unknown in the query: {min(unknown)[:40]!r}", "/openapi.json says what there is")
        return methods[method](query, self._body())

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise RequestError(411, "expected Content-Length, got Transfer-Encoding", "send the body whole")
        text = self.headers.get("Content-Length", "")
        if not text and self.command != "POST":
            return b""
        if not text:
            raise RequestError(411, "expected Content-Length", "send the length of the body")
        if not (text.isascii() and text.isdigit()) or len(self.headers.get_all("Content-Length", [])) > 1:
            raise RequestError(400, f"expected one Content-Length, a whole number, got '{text[:40]}'")
        if len(text) > 15 or int(text) > MOST_BODY:
            raise RequestError(
                413, f"expected at most {MOST_BODY:,} bytes, got {text[:40]}", "send fewer images at a time"
            )
        self.received.until = time.monotonic() + self.server.patience
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise ConnectionError("the client left before the end of its body")
        self._unread = False
        return body

    def handle_expect_100(self) -> bool:
        """Ask for the body only if its announced length is allowed; else answer at once."""
        length = self.headers.get("Content-Length", "0")
        if length.isascii() and length.isdigit() and len(length) <= 15 and int(length) <= MOST_BODY:
            super().handle_expect_100()
            self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer requests that the standard library refuses, also in JSON."""
        status = STATUSES.get(int(code), int(code))
        self._refuse(RequestError(status, message or HTTPStatus(status).phrase.lower()))

    def _refuse(self, refusal: RequestError) -> None:
        """Answer, end the connection, and read on for a moment, because the answer might not arrive otherwise."""
        self.close_connection = True
        self._respond(refusal.status, *_refused(str(refusal), refusal.help))
        self.connection.settimeout(self.server.patience)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.received.until, self.received.most = time.monotonic() + LINGER, math.inf
        with suppress(TimeoutError):
            while self.rfile.read1(1 << 16):
                pass

    def _respond(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 405:
            allowed = self.server.routes.get(self.path.partition("?")[0], ("GET", "POST"))
            self.send_header("Allow", ", ".join(allowed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests are private to the client."""


def _fixed(content: Content, query: Query, body: bytes) -> Content:
    return content


def _json(value: Any) -> Content:
    """Return a value as JSON; numbers that are not finite, which JSON lacks, become null."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    return text.encode(), "application/json"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _refused(message: str, help: str | None) -> Content:
    return _json({"error": message, **({"help": help} if help else {})})


def _host(header: str) -> str:
    """Return the host of a Host header, without its port."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
