"""The schema in an editor: yaml-language-server, which completes and checks specs as people write them.

It comes from npm (`npm install yaml-language-server`); without it on the PATH these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SERVER = shutil.which("yaml-language-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="yaml-language-server is not on the PATH")

Message = dict[str, Any]


class Editor:
    """As much of an editor as it takes to open files and to ask for completions."""

    def __init__(self, server: str) -> None:
        self.process = subprocess.Popen([server, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.number = 0
        self.diagnostics: dict[str, list[Message]] = {}
        self.ask("initialize", {"processId": None, "rootUri": ROOT.as_uri(), "capabilities": {}})
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": {"yaml": {"schemaStore": {"enable": False}}}})

    def send(self, message: Message) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def receive(self) -> Message:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message: Message = json.loads(self.process.stdout.read(length))
        if "method" in message and "id" in message:  # the server asks for settings and the like
            items = message.get("params", {}).get("items", [])
            self.send({"id": message["id"], "result": [None for _ in items]})
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        return message

    def tell(self, method: str, params: Message) -> None:
        self.send({"method": method, "params": params})

    def ask(self, method: str, params: Message) -> Any:
        self.number += 1
        self.send({"id": self.number, "method": method, "params": params})
        while True:
            message = self.receive()
            if message.get("id") == self.number and "method" not in message:
                return message.get("result")

    def check(self, path: Path, text: str) -> list[tuple[int, str]]:
        """The line and the message of everything that the editor would underline."""
        uri = path.as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        while uri not in self.diagnostics:
            self.receive()
        return [(found["range"]["start"]["line"] + 1, found["message"]) for found in self.diagnostics.pop(uri)]

    def complete(self, path: Path, line: int, column: int) -> set[str]:
        """The labels that are offered at a place."""
        position = {"line": line - 1, "character": column - 1}
        found = self.ask("textDocument/completion", {"textDocument": {"uri": path.as_uri()}, "position": position})
        return {item["label"] for item in found["items"]}


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    assert SERVER is not None
    editor = Editor(SERVER)
    yield editor
    editor.process.kill()
    editor.process.communicate()


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_specs_are_clean(editor: Editor, path: Path) -> None:
    assert editor.check(path, path.read_text()) == []


HEAD = (ROOT / "specs" / "lenet.yaml").read_text().splitlines()[0] + "\ncnnspec: 1\ninput: [1, 8, 8]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("layers:\n  - {type: conv2d, filtres: 4, filters: 4, kernel_size: 3}\n", 5),
        ("layers:\n  - {type: conv2d, filters: -4, kernel_size: 3}\n", 5),
        ("layers:\n  - relu\n  - {type: conv3d}\n", 6),
        ("layers:\n  - relu\ntrain: {epochs: many}\n", 6),
        ("layers:\n  - relu\ntrain:\n  epochs: 1\n  optimizer: {type: sgd, momentun: 0.9}\n", 8),
    ],
)
def test_mistakes_are_underlined_on_their_line(editor: Editor, text: str, line: int) -> None:
    found = editor.check(ROOT / "specs" / f"mistake-{abs(hash(text))}.yaml", HEAD + text)
    assert {at for at, _ in found} == {line}, found


def test_keys_and_types_are_completed(editor: Editor) -> None:
    path = ROOT / "specs" / "new.yaml"
    editor.check(path, HEAD + "layers:\n  - type: conv2d\n    \n  - type: \n")
    assert {"filters", "kernel_size", "padding"} <= editor.complete(path, 6, 5)
    assert {"conv2d", "max_pool2d", "dense"} <= editor.complete(path, 7, 11)
