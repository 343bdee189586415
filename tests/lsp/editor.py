"""As much of an editor as tests need: pytest-lsp's client, which talks to `cnnspec lsp` over its standard streams."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.protocol import default_converter
from pytest_lsp import ClientServerConfig, LanguageClient
from pytest_lsp.client import DEFAULT_CLIENT_FEATURES, register_lsp_features

ROOT = Path(__file__).parents[2]
PATIENCE = 600  # seconds that an answer may take on a busy machine


class Editor:
    """Opens texts, changes them, and asks the server about them; everything waits for its answer."""

    def __init__(self, arguments: Sequence[str] = (), encodings: Sequence[types.PositionEncodingKind] = ()) -> None:
        self.runner = asyncio.Runner()
        self.arguments, self.encodings = arguments, encodings
        self.versions: dict[str, int] = {}
        self.published: dict[str, types.PublishDiagnosticsParams] = {}
        self.client: Any = self.runner.run(self._start())

    def _client(self) -> Any:
        """A client that keeps the last findings of each text."""

        def keep(params: types.PublishDiagnosticsParams) -> None:
            self.published[params.uri] = params

        client = LanguageClient(converter_factory=default_converter)
        register_lsp_features(client, {**DEFAULT_CLIENT_FEATURES, types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS: keep})
        return client

    async def _start(self) -> Any:
        command = [sys.executable, "-m", "cnnspec", "lsp", *self.arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        client: Any = await ClientServerConfig(command, self._client, environment).start()
        general = types.GeneralClientCapabilities(position_encodings=list(self.encodings) or None)
        capabilities = types.ClientCapabilities(general=general)
        answer = await client.initialize_session(types.InitializeParams(capabilities))
        self.capabilities = answer.capabilities
        return client

    def close(self) -> int | None:
        """Say goodbye to the server; its exit code."""
        process = self.client._server
        self.runner.run(self.client.shutdown_session())
        self.runner.run(self.client.stop())
        self.runner.close()
        return process.returncode if process else None

    def open(self, uri: str, text: str, language: str = "yaml") -> list[types.Diagnostic]:
        """Open a text; what the server says of it."""
        self.versions[uri] = 1
        self.client.text_document_did_open(
            types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, language, 1, text))
        )
        return self.told(uri)

    def change(self, uri: str, text: str) -> list[types.Diagnostic]:
        """Replace a text that is open; what the server says of it."""
        self.type(uri, text)
        return self.told(uri)

    def type(self, uri: str, text: str) -> None:
        """Replace a text that is open, and go on."""
        self.versions[uri] += 1
        document = types.VersionedTextDocumentIdentifier(self.versions[uri], uri)
        whole = types.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [whole]))

    def shut(self, uri: str) -> None:
        """Close a text, and forget what the server said of it, the last word included."""
        del self.versions[uri]
        identifier = types.TextDocumentIdentifier(uri)
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(identifier))
        self.ask_of(types.TEXT_DOCUMENT_HOVER, uri, 1, 1)  # what is answered after everything said before it
        self.published.pop(uri, None)

    def told(self, uri: str) -> list[types.Diagnostic]:
        """Wait for what the server says of the last version of a text."""

        async def wait() -> list[types.Diagnostic]:
            while True:
                message = self.published.get(uri)
                if message is not None and message.version == self.versions[uri]:
                    del self.published[uri]
                    return list(message.diagnostics)
                await asyncio.sleep(0.001)

        return self.runner.run(asyncio.wait_for(wait(), PATIENCE))

    def ask(self, method: str, params: Any) -> Any:
        """The answer to a request, such as `textDocument/hover`."""
        name = method.replace("/", "_")
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        request = getattr(self.client, f"{name}_async")
        return self.runner.run(asyncio.wait_for(request(params), PATIENCE))

    def ask_of(self, method: str, uri: str, line: int, column: int) -> Any:
        """The answer to a request about a place, whose line and column count from 1."""
        parameters = types.TextDocumentPositionParams(
            types.TextDocumentIdentifier(uri), types.Position(line - 1, column - 1)
        )
        kinds = {
            types.TEXT_DOCUMENT_HOVER: types.HoverParams,
            types.TEXT_DOCUMENT_COMPLETION: types.CompletionParams,
            types.TEXT_DOCUMENT_DEFINITION: types.DefinitionParams,
        }
        return self.ask(method, kinds[method](parameters.text_document, parameters.position))
