"""A bar over a training, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cnnspec.train import Progress as Moment
from cnnspec.train.fit import Watcher


@contextmanager
def training_bar(console: Console, epochs: int) -> Iterator[Watcher]:
    """What shows each step: the epoch, its figures so far, and the time that is left of all epochs."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: list[TaskID] = []

        def watch(moment: Moment) -> None:
            accuracy = "" if moment.accuracy is None else f"  accuracy {moment.accuracy:.2%}"
            figures = f"loss {moment.loss:.4f}{accuracy}  {moment.images_per_second:,.0f} images/s"
            step, epoch, total = moment.position.step, moment.position.epoch, moment.steps * epochs
            if not tasks:  # at the first step, which need not be the training's: what was done before took no time
                tasks.append(bar.add_task("", total=total, completed=step, epoch=epoch, epochs=epochs, figures=figures))
            bar.update(tasks[0], completed=step, epoch=epoch, figures=figures)

        yield watch
