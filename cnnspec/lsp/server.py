"""The server: it answers the editor's requests, and publishes findings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, BinaryIO

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

import cnnspec
from cnnspec.lsp.actions import FIX_ALL, actions, layout
from cnnspec.lsp.analysis import Trust
from cnnspec.lsp.completion import completion
from cnnspec.lsp.diagnostics import diagnostics
from cnnspec.lsp.documents import Document, Documents
from cnnspec.lsp.hints import hints
from cnnspec.lsp.hover import hover
from cnnspec.lsp.lens import lenses
from cnnspec.lsp.navigation import definition, references, renamable, rename
from cnnspec.lsp.outline import folds, selections, symbols
from cnnspec.lsp.protocol import Protocol, log_lines, log_unreadable
from cnnspec.lsp.tokens import LEGEND, tokens

if TYPE_CHECKING:
    from pygls.server import ServerErrors  # which pygls declares for type checkers only

QUIET = 0.01  # seconds without a change before a check: a paste comes as many changes


class Server(LanguageServer):
    """A language server for specs."""

    def __init__(self, trust: Trust) -> None:
        whole = types.TextDocumentSyncKind.Full
        super().__init__("cnnspec", cnnspec.__version__, whole, protocol_cls=Protocol)
        self.documents = Documents(trust)
        self._waiting: dict[str, asyncio.TimerHandle] = {}

    def report_server_error(self, error: Exception, source: ServerErrors) -> None:
        """Log a message that cannot be read; show all other errors outside of requests in the editor."""
        if source is JsonRpcException:
            log_unreadable(error)
        else:
            super().report_server_error(error, source)

    @property
    def takes_snippets(self) -> bool:
        """Whether the editor supports snippets, in which defaults can be overwritten."""
        document = self.client_capabilities.text_document
        item = document and document.completion and document.completion.completion_item
        return bool(item and item.snippet_support)

    def check_soon(self, documents: list[Document]) -> None:
        """Publish the findings of documents after a short time without further changes."""
        for document in documents:
            if document.uri in self._waiting:
                self._waiting[document.uri].cancel()
            loop = asyncio.get_running_loop()
            self._waiting[document.uri] = loop.call_later(QUIET, self.check, document)

    def check(self, document: Document) -> None:
        """Publish the findings of a document."""
        self._waiting.pop(document.uri, None)
        if self.documents.get(document.uri) is document:
            self.publish(document.uri, diagnostics(self.documents, document), document.version)

    def publish(self, uri: str, found: list[types.Diagnostic], version: int | None = None) -> None:
        """Send the findings in a text to the editor."""
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, version))


def make_server(trust: Trust) -> Server:
    """Return a server with handlers for all supported requests."""
    server = Server(trust)
    documents = server.documents

    @server.feature(types.INITIALIZED)
    def begin(_: types.InitializedParams) -> None:
        documents.encoding = types.PositionEncodingKind(server.workspace.position_encoding or documents.encoding)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        given = params.text_document
        server.check_soon(documents.put(given.uri, given.text, given.version, given.language_id))

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        uri, version = params.text_document.uri, params.text_document.version
        if params.content_changes:
            server.check_soon(documents.put(uri, params.content_changes[-1].text, version))

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(_: types.DidSaveTextDocumentParams) -> None:
        server.check_soon(documents.heirs(None))

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        known = documents.get(uri) is not None
        server.check_soon(documents.close(uri))
        if known:
            server.publish(uri, [])

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    def inlay_hints(params: types.InlayHintParams) -> list[types.InlayHint] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else hints(document, params.range)

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    def hovered(params: types.HoverParams) -> types.Hover | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else hover(document, params.position)

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=list(" :{[,$.")))
    def completed(params: types.CompletionParams) -> types.CompletionList | None:
        document = documents.get(params.text_document.uri)
        if document is None:
            return None
        return types.CompletionList(False, completion(document, params.position, snippets=server.takes_snippets))

    kinds: list[types.CodeActionKind | str] = [types.CodeActionKind.QuickFix, FIX_ALL]

    @server.feature(types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(kinds))
    def offered(params: types.CodeActionParams) -> list[types.CodeAction] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else actions(document, params)

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    def defined(params: types.DefinitionParams) -> types.Location | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else definition(documents, document, params.position)

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    def referred(params: types.ReferenceParams) -> list[types.Location] | None:
        document = documents.get(params.text_document.uri)
        with_definition = params.context.include_declaration
        return None if document is None else references(documents, document, params.position, with_definition)

    @server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def prepared(params: types.PrepareRenameParams) -> types.Range | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else renamable(documents, document, params.position)

    @server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def renamed(params: types.RenameParams) -> types.WorkspaceEdit | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else rename(documents, document, params.position, params.new_name)

    @server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def outlined(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else symbols(document)

    @server.feature(types.TEXT_DOCUMENT_FOLDING_RANGE)
    def folded(params: types.FoldingRangeParams) -> list[types.FoldingRange] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else folds(document)

    @server.feature(types.TEXT_DOCUMENT_SELECTION_RANGE)
    def selected(params: types.SelectionRangeParams) -> list[types.SelectionRange] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else selections(document, list(params.positions))

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS)
    def summed(params: types.CodeLensParams) -> list[types.CodeLens] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else lenses(document)

    @server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)
    def coloured(params: types.SemanticTokensParams) -> types.SemanticTokens | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else tokens(documents, document)

    @server.feature(types.TEXT_DOCUMENT_FORMATTING)
    def laid_out(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        document = documents.get(params.text_document.uri)
        return None if document is None else layout(document)

    return server


def serve(trust: Trust, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Serve an editor until it shuts the server down or disconnects."""
    log_lines()
    make_server(trust).start_io(stdin, stdout)
