"""What tells a link that is slow from a rank that is silent."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from cnnspec.ranks.arrivals import bytes_received

SENT = 1 << 20
LIMIT = 600  # seconds


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it")
def test_bytes_that_arrive_are_counted_whoever_reads_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            before = bytes_received()
            client.sendall(bytes(SENT // 16))
            accepted.sendall(bytes(SENT // 16))
            client.recv(SENT)
            until = time.monotonic() + LIMIT
            while bytes_received() - before < SENT // 8 and time.monotonic() < until:
                time.sleep(0.01)  # on a busy machine they arrive later than they are sent
            assert bytes_received() - before == SENT // 8
            assert bytes_received() - before == SENT // 8  # to ask changes nothing
