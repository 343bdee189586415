"""The texts that are open in the editor, each with its analysis."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path

from cnnspec.diagnostics.source import GIVEN, source_lines
from cnnspec.lsp.analysis import Analysis, Trust, analyse
from cnnspec.lsp.text import Lines, Text
from cnnspec.spec.discover import FIRST_BYTES, says_so

LANGUAGE = "cnnspec"  # the language identifier of specs in editors
_EXTENDS = re.compile(r"^extends\s*:", re.MULTILINE)


class Document:
    """One open text; it is analysed on request, once for each version."""

    def __init__(self, uri: str, text: str, encoding: types.PositionEncodingKind, trust: Trust) -> None:
        self.uri, self.encoding, self.trust = uri, encoding, trust
        self.file = to_fs_path(uri) or uri
        self.version: int | None = None
        self._analysis: Analysis | None = None
        self._followed: Analysis | None = None
        self._parsed: Analysis | None = None
        self.change(text)

    def change(self, text: str) -> None:
        """Replace the text by another one."""
        self.text = Text(text, self.encoding)
        self.outdated()

    def outdated(self) -> None:
        """Discard the analysis, because this text or one that it extends has changed."""
        GIVEN[self.file] = self.text.text
        self._analysis = None

    @property
    def analysis(self) -> Analysis:
        """The analysis of this version."""
        if self._analysis is None:
            self._analysis = analyse(self.text.text, self.file, self.trust)
            if self._analysis.trace is not None:
                self._followed = self._analysis
            if self._analysis.tree is not None:
                self._parsed = self._analysis
        return self._analysis

    @property
    def parsed(self) -> Analysis | None:
        """The analysis of the last version that was valid YAML: this one or an earlier one; None if there is none."""
        return self._parsed if self.analysis.tree is None else self.analysis

    @property
    def followed(self) -> Analysis | None:
        """The analysis of the last version whose layers could be followed: this one or an earlier one, or None."""
        return self._followed if self.analysis.trace is None else self.analysis

    def lines_of(self, known: Analysis) -> Lines:
        """Return how the lines of this version correspond to those of an analysed one."""
        return Lines(known.text, self.text)

    @property
    def extends(self) -> bool:
        """Whether the text extends another file, which may change its meaning."""
        return _EXTENDS.search(self.text.text) is not None


class Documents:
    """The open texts that are specs; other texts are ignored."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.encoding = types.PositionEncodingKind.Utf16
        self.open: dict[str, Document] = {}
        self.others: dict[str, str] = {}  # texts that are no specs yet, by URI

    def __iter__(self) -> Iterator[Document]:
        return iter(self.open.values())

    def get(self, uri: str) -> Document | None:
        """Return the spec with that URI; None for a text that is no spec."""
        return self.open.get(uri)

    def put(self, uri: str, text: str, version: int | None, language: str | None = None) -> list[Document]:
        """Open or change a text, and return the specs whose meaning this changes, the text itself first.

        A text is a spec if it has a spec's top-level keys, or if the editor says so; from then on it stays one.
        """
        document = self.open.get(uri)
        if document is not None:
            document.change(text)
        elif language == LANGUAGE or says_so(text[:FIRST_BYTES].encode(errors="replace")):
            document = self.open[uri] = Document(uri, text, self.encoding, self.trust)
        else:
            return []
        document.version = version
        return [document, *self.heirs(document)]

    def close(self, uri: str) -> list[Document]:
        """Close a text, so that its file counts again, and return the specs whose meaning this changes."""
        document = self.open.pop(uri, None)
        if document is None:
            return []
        GIVEN.pop(document.file, None)
        return self.heirs(document)

    def heirs(self, changed: Document | None) -> list[Document]:
        """Return the other specs that extend a file, and so perhaps the changed one; their analyses are discarded."""
        documents = [document for document in self if document.extends and document is not changed]
        for document in documents:
            document.outdated()
        return documents

    def text_of(self, file: str) -> Text:
        """Return the text of any file, open or not."""
        return Text("\n".join(source_lines(file)), self.encoding)

    def uri_of(self, file: str) -> str:
        """Return the URI of any file, as the editor knows it."""
        named = next((document.uri for document in self if document.file == file), None)
        return named or from_fs_path(file) or file
