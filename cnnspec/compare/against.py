"""Races a network against the same network in another framework, on the same images with the same weights."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnnspec.compare.frameworks import Program, Say, onnxruntime_programs, pytorch_programs
from cnnspec.compare.load import BUSY, others_share
from cnnspec.compare.profile import fill
from cnnspec.compare.race import Race, race
from cnnspec.diagnostics import RunError
from cnnspec.graph import Graph
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss, Optimizer
from cnnspec.plan import Training, Weights, lower, shards_of
from cnnspec.spec import Spec
from cnnspec.workers import WorkerPool

FRAMEWORKS = ("torch", "keras", "jax", "onnxruntime")
OWN = "cnnspec"
ROUNDS = 5
SETTLE = 0.5  # seconds for the race's threads to end before other load is measured


@dataclass(frozen=True)
class Comparison:
    """The times of a race, and the share of the processors that other programs used; None if it is not known."""

    race: Race
    busy: float | None

    @property
    def crowded(self) -> bool:
        """Whether other programs used so much time that the ratios would differ on an idle machine."""
        return self.busy is not None and self.busy > BUSY


def against(
    framework: str, spec: Spec, graph: Graph, batch: int, mode: Mode, *, threads: int, seconds: float, say: Say
) -> Comparison:
    """Race this library and a framework for about `seconds` each; `say` is told of preparations that take long.

    RunError where the framework is missing, or has no counterpart of this network.
    """
    if framework == "onnxruntime" and mode == "train":
        raise RunError("onnxruntime does not train", "add --inference")
    busy = others_share()
    if busy is not None and busy > BUSY:
        say(f"other programs use {busy:.0%} of the processors: other frameworks are made to wait without spinning")
        # Waiting threads that spin lose whole time slices to other programs: PyTorch then takes ten times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch loads its OpenMP
    with one_blas_thread:
        reference = _OwnNetwork(spec, graph, batch, mode, threads)
        others = _others(framework, reference, threads, spin=busy is None or busy <= BUSY, say=say)
        programs = {OWN: reference.run, **others}
        comparison = race(
            programs, OWN, rounds=ROUNDS, seconds=seconds / ROUNDS, progress=lambda: say(f"a round of {ROUNDS} is over")
        )
        reference.pool.close()
    if busy is not None:
        time.sleep(SETTLE)
        busy = max(busy, others_share() or 0.0)  # other programs may have started during the race
    return Comparison(comparison, busy)


class _OwnNetwork:
    """This library's program, and the weights, images and labels for the other programs."""

    def __init__(self, spec: Spec, graph: Graph, batch: int, mode: Mode, threads: int) -> None:
        train = spec.train if mode == "train" else None
        self.graph, self.mode, self.pool = graph, mode, WorkerPool(threads)
        self.loss: Loss | None = train.loss if train else None
        self.optimizer: Optimizer | None = train.optimizer if train else None
        weights = Weights(graph, getattr(self.optimizer, "weight_decay", 0.0))
        weights.initialise(spec.seed)
        training = Training(weights, train.optimizer, len(shards_of(batch))) if train else None
        self.plan = lower(graph, batch, mode, weights, self.pool, loss=self.loss, training=training)
        fill(self.plan, graph)
        self.values = {name: array.copy() for name, array in weights.arrays()}
        self.images, self.labels = np.ascontiguousarray(self.plan.images), self.plan.labels.astype(np.int64)

    def run(self) -> None:
        """Run one step of training, or one batch of inference."""
        if self.optimizer is None:
            self.plan.images[...] = self.images
            self.plan.compute()
            _ = self.plan.output
        else:
            self.plan.step(self.optimizer.learning_rate)


def _others(framework: str, reference: _OwnNetwork, threads: int, *, spin: bool, say: Say) -> Mapping[str, Program]:
    if framework == "onnxruntime":
        return onnxruntime_programs(reference.graph, reference.values, reference.images, threads=threads, spin=spin)
    if framework == "torch":
        return pytorch_programs(
            reference.graph,
            reference.values,
            reference.images,
            reference.labels,
            reference.mode,
            loss=reference.loss,
            optimizer=reference.optimizer,
            threads=threads,
            say=say,
        )
    say(f"compiling with {framework}")
    translation = importlib.import_module(f"cnnspec.compare.{framework}")  # loads the framework
    programs: Mapping[str, Program] = translation.programs(
        reference.graph,
        reference.values,
        reference.images,
        reference.labels,
        loss=reference.loss,
        optimizer=reference.optimizer,
        threads=threads,
    )
    return programs
