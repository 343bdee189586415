"""The protocol between editor and server: every request is answered, and a message that cannot be read is one line."""

from __future__ import annotations

import logging
from typing import Any

from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol

UNREADABLE = ("Unable to handle message", "Unable to deserialize message")  # of which pygls logs a traceback


class Protocol(LanguageServerProtocol):
    """The protocol of language servers; a request with wrong parameters is answered too."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Return a message as an object; a request that is none is answered with the error."""
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "id" in data and "method" in data:
                self._send_response(data["id"], error=error.to_response_error())
            raise


def log_lines() -> None:
    """Have pygls log no traceback of what the editor does wrong: `log_unreadable` or the answer says it."""
    for name in ("pygls.server", "pygls.protocol.json_rpc"):
        logging.getLogger(name).addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether a record is about the server, not about a message that cannot be read or asks for what cannot be."""
    refused = record.exc_info is not None and isinstance(record.exc_info[1], JsonRpcException)
    return not refused and not str(record.msg).startswith(UNREADABLE)


def log_unreadable(error: Exception) -> None:
    """Log a message of the editor that cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    logging.getLogger(__name__).warning("cnnspec lsp: a message of the editor cannot be read: %s", reason)
