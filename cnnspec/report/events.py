"""TensorBoard's event files of a training; ImportError where tensorboardX, an extra, is missing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorboardX.proto.event_pb2 import Event

FIRST = "brain.Event:2"  # the first record of an event file
LEFT_OUT = ("epoch", "step", "weights", "seconds")


class Events:
    """Writes one event file in a folder and removes earlier ones, so the rows so far have to be written again.

    Each row of the metrics becomes scalars `loss/train`, `loss/validation`, `learning_rate`... at its step.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        for former in folder.glob("events.out.tfevents.*"):
            former.unlink()
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"))
        self._write(file_version=FIRST)

    def close(self) -> None:
        """Write the buffer and close the file."""
        self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one epoch's row of the metrics."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(row)]
        self._write(step=row["step"], summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event: Event = Event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the values of a row; `validation.loss` is named `loss/validation`, so that splits share a diagram."""
    for name, value in row.items():
        if value is not None and name not in LEFT_OUT:
            split, _, figure = name.rpartition(".")
            yield (f"{figure}/{split}" if split else figure), float(value)
