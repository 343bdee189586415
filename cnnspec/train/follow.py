"""The training of all ranks but the first, which alone reads and writes the run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.data import Data
from cnnspec.train.fit import Position, fit
from cnnspec.train.network import Network
from cnnspec.train.session import Session

Start = tuple[Position, Sequence[Mapping[str, Any]]]  # where a training begins, and the rows of earlier epochs


def share_start(model: Network, start: Start | None) -> Start:
    """Send the first rank's `start`, weights, statistics, slots and averages to all ranks; return its `start`."""
    assert model.training is not None
    shared_start: Start = model.exchange.tell(start)[0]
    weights, training = model.weights, model.training
    for array in (weights.values, weights.statistics, training.statistics, training.clock, *training.slots.values()):
        model.exchange.broadcast(array.reshape(-1))
    weights.version += 1
    return shared_start


def follow(model: Network, data: Data, max_steps: int | None = None, *, tests: bool = True) -> None:
    """Train together with the first rank, from its start to its end; Interruption if a signal ended it."""
    assert model.spec.train is not None
    position, rows = share_start(model, None)
    session = Session(None, model, {})
    with session.signals():
        passes = fit(
            model,
            data,
            watch=session.watch,
            start=position,
            history=rows,
            max_steps=max_steps,
            tests=tests,
            asked=session.asked,
        )
        for epoch in passes:
            session.between_epochs(epoch.position, model.spec.train.epochs)
