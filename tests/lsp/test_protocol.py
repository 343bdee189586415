"""Messages that no editor should send: each is one line in the log, requests among them are answered."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from cnnspec.lsp.analysis import Trust
from cnnspec.lsp.server import serve

SPEC = {
    "uri": "untitled:1",
    "languageId": "cnnspec",
    "version": 1,
    "text": "cnnspec: 1\ninput: [4]\nlayers:\n  - {id: a, type: relu}\n",
}
PLACE = {"textDocument": {"uri": "untitled:1"}, "position": {"line": 0, "character": 0}}


class Kept(io.BytesIO):
    """A stream whose bytes can be read after it is closed."""

    content = b""

    def close(self) -> None:
        """Keep the bytes."""
        self.content = self.content or self.getvalue()
        super().close()


def message(method: str, params: object, **more: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode()


def answers(*messages: bytes) -> dict[int, Any]:
    """The server's answers to these messages, by the number of the request."""
    given = io.BytesIO(b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(one), one) for one in messages))
    serve(Trust(), given, told := Kept())
    bodies = told.content.replace(b"}Content", b"}\nContent").split(b"\r\n\r\n")
    read = [json.loads(body.split(b"\nContent-Length")[0]) for body in bodies[1:]]
    return {answer["id"]: answer for answer in read if "id" in answer}


def test_what_cannot_be_read_is_one_line_and_requests_are_answered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = answers(
            message("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, id=1),
            message("initialized", {}),
            b'{"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": "\xff"}',
            b'{"jsonrpc": ',
            b"[]",
            message("textDocument/hover", {}, id=2),
            message("textDocument/hover", {**PLACE, "position": {"line": -1, "character": 0}}, id=3),
            message("textDocument/didOpen", {"textDocument": SPEC}),
            message(
                "textDocument/didChange", {"textDocument": {"uri": "untitled:1", "version": 2}, "contentChanges": []}
            ),
            message("textDocument/hover", PLACE, id=4),
            message("textDocument/rename", {**PLACE, "newName": "1 2", "position": {"line": 3, "character": 9}}, id=6),
            message("shutdown", None, id=5),
            message("exit", None),
        )
    assert found[2]["error"]["code"] == found[3]["error"]["code"] == -32602  # invalid parameters, as JSON-RPC says it
    assert "version of the language" in found[4]["result"]["contents"]["value"]
    assert "got '1 2'" in found[6]["error"]["message"]
    assert found[5]["result"] is None
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all(line.startswith("cnnspec lsp: a message of the editor cannot be read: ") for line in lines)
    assert not any("\n" in line or "Traceback" in line for line in lines)
