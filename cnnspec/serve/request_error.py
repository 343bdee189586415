"""An error in a request: an HTTP status, a message, and the cure."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is refused; the answer is a JSON object with `error` and perhaps `help`."""

    def __init__(self, status: int, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.status, self.help = status, help
