"""Progress bars on a terminal: for training, and for reading images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cnnspec.data import Watch
from cnnspec.train import Progress as Moment
from cnnspec.train.fit import Watcher


@contextmanager
def training_bar(console: Console, epochs: float) -> Iterator[Watcher]:
    """Show epoch, figures and time left; yield the function to call after each step."""
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
            step, epoch, total = moment.position.step, moment.position.epoch, round(moment.steps * epochs)
            if not tasks:  # the first step here; a resumed run's earlier ones took no time
                tasks.append(bar.add_task("", total=total, completed=step, epoch=epoch, epochs=epochs, figures=figures))
            bar.update(tasks[0], completed=step, epoch=epoch, figures=figures)

        yield watch


@contextmanager
def reading_bar(console: Console) -> Iterator[Watch]:
    """Show how many images of each split were read; yield the function to call after each image."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def watch(description: str, done: int, count: int) -> None:
            if description not in tasks:
                tasks[description] = bar.add_task(description, total=count)
            bar.update(tasks[description], completed=done)

        yield watch
