"""The texts that are open in the editor, each with what is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path

from cnnspec.diagnostics.source import GIVEN, source_lines
from cnnspec.lsp.analysis import Analysis, Trust, analyse
from cnnspec.lsp.text import Lines, Text
from cnnspec.spec.discover import FIRST_BYTES, says_so

LANGUAGE = "cnnspec"  # the editor's name for specs, where it has one
_EXTENDS = re.compile(r"^extends\s*:", re.MULTILINE)


class Document:
    """One open text; what is known of it is found when it is asked for, once for each version."""

    def __init__(self, uri: str, text: str, encoding: types.PositionEncodingKind, trust: Trust) -> None:
        self.uri, self.encoding, self.trust = uri, encoding, trust
        self.file = to_fs_path(uri) or uri
        self.version: int | None = None
        self._analysis: Analysis | None = None
        self._followed: Analysis | None = None
        self._parsed: Analysis | None = None
        self.change(text)

    def change(self, text: str) -> None:
        """Take another text in the place of this one."""
        self.text = Text(text, self.encoding)
        self.outdated()

    def outdated(self) -> None:
        """Forget what is known: this text or one that it extends is another one."""
        GIVEN[self.file] = self.text.text
        self._analysis = None

    @property
    def analysis(self) -> Analysis:
        """What is known of this version."""
        if self._analysis is None:
            self._analysis = analyse(self.text.text, self.file, self.trust)
            if self._analysis.trace is not None:
                self._followed = self._analysis
            if self._analysis.tree is not None:
                self._parsed = self._analysis
        return self._analysis

    @property
    def parsed(self) -> Analysis | None:
        """What was known when the text was last YAML: of this version or of an earlier one."""
        return self._parsed if self.analysis.tree is None else self.analysis

    @property
    def followed(self) -> Analysis | None:
        """What was known when the layers could last be followed: of this version or of an earlier one."""
        return self._followed if self.analysis.trace is None else self.analysis

    def lines_of(self, known: Analysis) -> Lines:
        """Where the lines of this version were when something was known."""
        return Lines(known.text, self.text)

    @property
    def extends(self) -> bool:
        """Whether another file may change what this one says."""
        return _EXTENDS.search(self.text.text) is not None


class Documents:
    """The specs among the open texts; any other text is left alone."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.encoding = types.PositionEncodingKind.Utf16
        self.open: dict[str, Document] = {}
        self.others: dict[str, str] = {}  # texts that are no specs so far, by their URI

    def __iter__(self) -> Iterator[Document]:
        return iter(self.open.values())

    def get(self, uri: str) -> Document | None:
        """The spec of that URI; None for a text that is none."""
        return self.open.get(uri)

    def put(self, uri: str, text: str, version: int | None, language: str | None = None) -> list[Document]:
        """Open or change a text; the specs that this changes the meaning of, itself first.

        A text is a spec once it says so, as a file does for `validate`, or where the editor does; and stays one then.
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
        """Forget a text, whose file counts again; the specs that this changes the meaning of."""
        document = self.open.pop(uri, None)
        if document is None:
            return []
        GIVEN.pop(document.file, None)
        return self.heirs(document)

    def heirs(self, changed: Document | None) -> list[Document]:
        """The other specs that may extend one that has changed, or any; what is known of them is forgotten."""
        found = [document for document in self if document.extends and document is not changed]
        for document in found:
            document.outdated()
        return found

    def text_of(self, file: str) -> Text:
        """The text of any file, open or not."""
        return Text("\n".join(source_lines(file)), self.encoding)

    def uri_of(self, file: str) -> str:
        """The URI of any file, as the editor knows it."""
        named = next((document.uri for document in self if document.file == file), None)
        return named or from_fs_path(file) or file
