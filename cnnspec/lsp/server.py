"""The server: it answers the editor's requests, and publishes findings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

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

Request = Callable[[Document, Any], Any]  # answers a request about a document, by the request's parameters
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

    def on_document(self, method: str, options: Any = None) -> Callable[[Request], Request]:
        """Register the decorated function for requests about a document; the answer is None if that is not open."""

        def register(request: Request) -> Request:
            @self.feature(method, options)
            def answer(params: Any) -> Any:
                document = self.documents.get(params.text_document.uri)
                return None if document is None else request(document, params)

            return request

        return register

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
    _follow(server)
    _describe(server)
    _edit(server)
    _navigate(server)
    return server


def _follow(server: Server) -> None:
    """Handle what the editor tells of its documents, and check those that it opens, changes and saves."""
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


def _describe(server: Server) -> None:
    """Handle the requests for what the editor shows in and beside a text."""

    @server.on_document(types.TEXT_DOCUMENT_INLAY_HINT)
    def inlay_hints(document: Document, params: types.InlayHintParams) -> list[types.InlayHint]:
        return hints(document, params.range)

    @server.on_document(types.TEXT_DOCUMENT_HOVER)
    def hovered(document: Document, params: types.HoverParams) -> types.Hover | None:
        return hover(document, params.position)

    @server.on_document(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def outlined(document: Document, _: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        return symbols(document)

    @server.on_document(types.TEXT_DOCUMENT_FOLDING_RANGE)
    def folded(document: Document, _: types.FoldingRangeParams) -> list[types.FoldingRange]:
        return folds(document)

    @server.on_document(types.TEXT_DOCUMENT_CODE_LENS)
    def summed(document: Document, _: types.CodeLensParams) -> list[types.CodeLens]:
        return lenses(document)

    @server.on_document(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)
    def coloured(document: Document, _: types.SemanticTokensParams) -> types.SemanticTokens:
        return tokens(server.documents, document)


def _edit(server: Server) -> None:
    """Handle the requests for changes of a text."""

    @server.on_document(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=list(" :{[,$.")))
    def completed(document: Document, params: types.CompletionParams) -> types.CompletionList:
        return types.CompletionList(False, completion(document, params.position, snippets=server.takes_snippets))

    @server.on_document(
        types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions([types.CodeActionKind.QuickFix, FIX_ALL])
    )
    def offered(document: Document, params: types.CodeActionParams) -> list[types.CodeAction]:
        return actions(document, params)

    @server.on_document(types.TEXT_DOCUMENT_FORMATTING)
    def laid_out(document: Document, _: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        return layout(document)


def _navigate(server: Server) -> None:
    """Handle the requests that follow a name, or the structure of a text, from a position."""
    documents = server.documents

    @server.on_document(types.TEXT_DOCUMENT_DEFINITION)
    def defined(document: Document, params: types.DefinitionParams) -> types.Location | None:
        return definition(documents, document, params.position)

    @server.on_document(types.TEXT_DOCUMENT_REFERENCES)
    def referred(document: Document, params: types.ReferenceParams) -> list[types.Location] | None:
        return references(documents, document, params.position, params.context.include_declaration)

    @server.on_document(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def prepared(document: Document, params: types.PrepareRenameParams) -> types.Range | None:
        return renamable(documents, document, params.position)

    @server.on_document(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def renamed(document: Document, params: types.RenameParams) -> types.WorkspaceEdit | None:
        return rename(documents, document, params.position, params.new_name)

    @server.on_document(types.TEXT_DOCUMENT_SELECTION_RANGE)
    def selected(document: Document, params: types.SelectionRangeParams) -> list[types.SelectionRange]:
        return selections(document, list(params.positions))


def serve(trust: Trust, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Serve an editor until it shuts the server down or disconnects."""
    log_lines()
    make_server(trust).start_io(stdin, stdout)
