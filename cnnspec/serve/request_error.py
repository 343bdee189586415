"""What is wrong with a request: an HTTP status, a sentence, and its cure."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is not answered; it becomes a JSON object with `error` and, where there is one, `help`."""

    def __init__(self, status: int, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.status, self.help = status, help
