"""Downloads from a server of the test's own, which resumes, breaks off, lies and counts."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnspec.data.download import CHUNK, download
from cnnspec.diagnostics import DataError

CONTENT = bytes(range(256)) * 2000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one content under every name; what it does wrong is set by attributes."""

    content = CONTENT
    cut_after: int | None = None  # bytes of an answer after which the line breaks
    cuts = 10**9  # how often it does
    ranges = True  # whether a part can be asked for
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []  # the ranges, in order
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        with server.lock:
            server.asked.append(wanted)
            cut = server.cuts > 0
            server.cuts -= 1
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut_after] if cut else body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_lands_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    target, seen = tmp_path / "deep" / "file.bin", list[tuple[str, int, int | None]]()
    download(server.address, target, SUM, lambda *moment: seen.append(moment))
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["file.bin"]
    assert seen[0] == ("file.bin", CHUNK, len(CONTENT))
    assert seen[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    download(server.address, target, SUM)
    assert server.asked == [None]


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"damaged")
    download(server.address, tmp_path / "file.bin", SUM)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_line_that_breaks_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.cuts = 100_000, 2
    download(server.address, tmp_path / "file.bin", SUM)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_download_that_never_ends_says_so_and_the_next_one_goes_on(server: Server, tmp_path: Path) -> None:
    server.cut_after = 100_000
    with pytest.raises(
        DataError, match=r"cannot download .*: truncated, expected 512,000 bytes, got 300,000"
    ) as caught:
        download(server.address, tmp_path / "file.bin", SUM)
    assert "go on where it stopped" in (caught.value.help or "")
    assert left(tmp_path) == [".file.bin.part"]
    server.cut_after = None
    download(server.address, tmp_path / "file.bin", SUM)
    assert server.asked[-1] == "bytes=300000-"
    assert left(tmp_path) == ["file.bin"]


def test_a_server_that_knows_no_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after, server.cuts = False, 100_000, 1
    download(server.address, tmp_path / "file.bin", SUM)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [50_000, len(CONTENT), len(CONTENT) + 5])
def test_what_was_left_by_something_else_is_thrown_away(server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / ".file.bin.part").write_bytes(b"x" * size)
    download(server.address, tmp_path / "file.bin", SUM)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_was_complete_needs_no_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    download(server.address, tmp_path / "file.bin", SUM)
    assert left(tmp_path) == ["file.bin"]


def test_another_content_never_lands(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(DataError, match=f"file.bin: expected SHA-256 {SUM}, got .*: not the published file"):
        download(server.address, tmp_path / "file.bin", SUM)
    assert left(tmp_path) == []


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=r"cannot download http://127.0.0.1:.*: the server says 404 Not Found"):
        download(server.address, tmp_path / "file.bin", SUM)
    assert server.asked == [None]


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot download http://127\.0\.0\.1:9/file: .*refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file", SUM)


def test_processes_that_fetch_at_once_do_no_harm(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=download, args=(server.address, tmp_path / "file.bin", SUM)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None]
    assert left(tmp_path) == ["file.bin"]


def test_a_full_disk_is_the_disks_fault_and_leaves_nothing_under_the_files_name(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            download(server.address, tmp_path / "file.bin", SUM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == [".file.bin.part"]
    download(server.address, tmp_path / "file.bin", SUM)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
