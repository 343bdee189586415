"""A network with weights: its graph, and a plan for every batch size in use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property

import numpy as np

from cnnspec.data import Dataset, Inputs, Pipeline
from cnnspec.data.rows import Pixels
from cnnspec.diagnostics import DataError
from cnnspec.graph import Graph
from cnnspec.kernels.blas import one_blas_thread
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.optim import Losses
from cnnspec.optim.settings import RateFactors
from cnnspec.plan import ArenaPool, Entry, Plan, Training, Weights, inference_footprint, lower
from cnnspec.plan.memory.requirement import require_parameter_memory
from cnnspec.ranks import SINGLE_RANK, Exchange
from cnnspec.shapes import ShapeError
from cnnspec.spec import Spec
from cnnspec.target import Target
from cnnspec.train.fingerprint import fingerprint
from cnnspec.train.heads import Heads, check_fit
from cnnspec.train.score import Score, Tally, merged
from cnnspec.workers import WorkerPool

INFERENCE_BATCH = 128  # the most images of one inference plan
INFERENCE_BYTES = 1 << 28  # the most bytes of an inference plan, unless it is for one image
INFERENCE_PLANS = 8  # the most that stay in memory; the one unused for longest is dropped


class Network:
    """A network that can be trained, scored and evaluated; images are (n, c, h, w), of the network's input shape.

    Bytes are pixels, which are normalised as the pipeline says; floating-point numbers enter unchanged. Several ranks
    divide the batches of training and the images of a score; each of them has the whole network.
    """

    def __init__(
        self,
        spec: Spec,
        graph: Graph,
        *,
        threads: int | None = None,
        dtype: str = "float32",
        exchange: Exchange = SINGLE_RANK,
    ) -> None:
        self.spec = spec
        self.graph = graph
        settings = spec.train
        self.target = spec.data.target if spec.data else Target()
        self.loss = settings.loss.fitted(self.target, graph.output.shape[0]) if settings else None
        optimizer = settings.optimizer if settings else None
        require_parameter_memory(graph, 1 + (settings.slots if settings else 0), np.dtype(dtype).itemsize)
        factors = settings.rate_factors if settings else RateFactors()
        self.weights = Weights(graph, getattr(optimizer, "weight_decay", 0.0), dtype, factors)
        with one_blas_thread:
            self.weights.initialise(spec.seed)
        self.exchange = exchange
        self.threads = threads or available_cores()
        self.workers = WorkerPool(self.threads)
        self.training: Training | None = None
        if settings is not None:
            self.training = Training(
                self.weights,
                settings.optimizer,
                clip=settings.clip,
                accumulate=settings.accumulate,
                average=settings.ema,
                swa=settings.swa is not None,
                lookahead=settings.lookahead,
            )
        self.pipeline = Pipeline.of(spec.data, spec.input, Inputs(spec.inputs)) if spec.data else None
        self.pixels = self.pipeline.affine if self.pipeline and not spec.inputs else None
        mixing = spec.data is not None and any(part.mixes_labels for part in spec.data.augment)
        self.mixes_labels = mixing and self.loss is not None and self.loss.reads_labels
        self.arenas = ArenaPool()
        self._plans: dict[tuple[int, Mode, str], Plan] = {}

    @cached_property
    def inference_batch(self) -> int:
        """The number of images of an inference plan: smaller for large maps, and the same on every machine."""
        batch = INFERENCE_BATCH
        while batch > 1 and inference_footprint(self.graph, batch, self.spec.train).arena > INFERENCE_BYTES:
            batch //= 2
        return batch

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of its outputs, if there are several."""
        names = () if self.heads is None else tuple(self.heads.output_names)
        return names if len(names) > 1 else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes, from the images that it learned or from its target; empty if there are none."""
        return tuple(self.pipeline.classes if self.pipeline is not None else ()) or tuple(self.target.names)

    def adopt(self, target: Target) -> None:
        """Use the target of the training images, with its classes and units; DataError if the network does not fit it.

        Checkpoints keep it, so that a trained network gives values in the data's units.
        """
        if target == self.target:
            return
        settings = self.spec.train
        if settings is not None:
            try:
                check_fit(self.graph, settings.loss, target)
            except ShapeError as error:
                raise DataError(f"data: {error}", error.help) from error
            self.loss = settings.loss.fitted(target, self.graph.output.shape[0])
        self.target = target
        self._plans.clear()
        self.__dict__.pop("heads", None)

    @property
    def learned(self) -> Target:
        """The target that outputs are compared with: the data's, or the input if the loss reads that."""
        maps = self.target.kind == "class" and len(self.graph.output.shape) != 1  # a map is no score of classes
        if maps:
            return Target("input")
        return self.target if self.loss is None else self.loss.learned(self.target)

    @cached_property
    def heads(self) -> Heads | None:
        """The parts of the output that several losses read; None if there is one loss."""
        return Heads(self.graph, self.loss, self.target) if isinstance(self.loss, Losses) else None

    def plan(self, batch: int, mode: Mode, images: str = "uint8") -> Plan:
        """The plan for a batch size, made at the first request; `images` is the type of images in memory."""
        key = (batch, mode, images)
        if key in self._plans:
            self._plans[key] = self._plans.pop(key)  # plans are in the order of their last use
        else:
            self._forget(mode)
            mixed = mode == "train" and self.mixes_labels and self.target.kind == "class"
            entry = Entry(images, target=Target("shares") if mixed else self.learned)
            if images == "uint8" and self.pixels is not None:
                scale, shift = (tuple(values.tolist()) for values in self.pixels)
                entry = replace(entry, scale=scale, shift=shift)
            self._plans[key] = lower(
                self.graph,
                batch,
                mode,
                self.weights,
                self.workers,
                entry=entry,
                loss=self.loss,
                training=self.training if mode == "train" else None,
                seed=self.spec.seed,
                pool=self.arenas,
                exchange=self.exchange,
            )
        return self._plans[key]

    def _forget(self, mode: Mode) -> None:
        """Drop the inference plan unused for longest if there are too many; training plans stay."""
        inference_keys = [key for key in self._plans if key[1] == "infer"]
        if mode == "infer" and len(inference_keys) >= INFERENCE_PLANS:
            del self._plans[inference_keys[0]]

    def outputs(self, images: Pixels) -> Array:
        """The network's output for any number of images: logits if the loss contains the softmax.

        Values are in the units of the data that the network was trained on. With several outputs it is the main one.
        """
        if self.heads is not None:
            return self.heads.outputs(self._computed(images))[self.heads.main]
        return self.target.unscaled(self._computed(images))

    def outputs_by_name(self, images: Array) -> dict[str, Array]:
        """All outputs of a network with several losses, by the names of the losses, each in the form of `outputs`."""
        assert self.heads is not None
        return self.heads.outputs(self._computed(images))

    def _computed(self, images: Pixels) -> Array:
        parts = []
        for plan, _ in self._loaded(images, self._parts(images)):
            plan.compute()
            parts.append(plan.output)
        if parts:
            return np.concatenate(parts)
        shape = self.graph.output.shape if self.heads is None else self.heads.shape
        return np.empty((0, *shape), self.weights.values.dtype)

    def score(self, dataset: Dataset) -> Score:
        """Score the network on labelled images, values in the data's units: the loss and the target's other figures.

        With several losses there is their weighted sum, the figures of the main loss, and those of each in `parts`.
        """
        kind = self.learned.kind
        k = self.spec.train.top_k if self.spec.train else 5
        tally = Tally(kind, self.graph.output.shape[0], k)
        parts = self.heads.tallies(k) if self.heads is not None else {}
        own = self._parts(dataset.pixels)[self.exchange.rank :: self.exchange.size]
        for plan, part in self._loaded(dataset.pixels, own):
            labels = dataset.labels[part]
            if kind != "input":
                plan.labels[...] = self.target.scaled(labels)
            plan.score()
            if self.heads is not None:
                self.heads.add(parts, part.start, plan.output, plan.term_losses, labels)
            output = None
            if tally.reads_output:
                output = self.target.unscaled(plan.output if self.heads is None else self.heads.answer(plan.output))
            tally.add(part.start, plan.losses, labels, plan.predictions, output)
        if self.exchange.size > 1:
            tally, parts = merged(self.exchange.tell((tally, parts)))
        score = tally.score(has_loss=self.loss is not None)
        return replace(score, parts={name: part.score(has_loss=True) for name, part in parts.items()})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace weights and statistics by their moving averages inside of a `with`, if training keeps any."""
        with nullcontext() if self.training is None else self.training.averaged():
            yield

    def fingerprint(self) -> str:
        """A short name for the exact bits of weights, statistics and averages."""
        return fingerprint(dict(self.weights.arrays()), self.training.averages() if self.training else {})

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters by name, as views: writing to them changes the network."""
        self.weights.exposed = True
        return self.weights.params

    def _parts(self, images: Pixels) -> list[slice]:
        """Divide images into the parts that are computed one at a time."""
        batch = self.inference_batch
        return [slice(start, min(start + batch, len(images))) for start in range(0, len(images), batch)]

    def _loaded(self, images: Pixels, parts: Sequence[slice]) -> Iterator[tuple[Plan, slice]]:
        """Yield an inference plan for each part of the images, filled with it, and the part."""
        self._check(images)
        kind = self.kind_of(images)
        for part in parts:
            plan = self.plan(part.stop - part.start, "infer", kind)
            plan.images[...] = images[part]
            yield plan, part

    def kind_of(self, images: Pixels) -> str:
        """The type in which a plan takes images: bytes for bytes, the weights' type for all other numbers."""
        return "uint8" if images.dtype == np.uint8 else str(self.weights.values.dtype)

    def _check(self, images: Pixels) -> None:
        if images.shape[1:] != self.graph.input_shape:
            expected = ", ".join(map(str, self.graph.input_shape))
            raise ValueError(f"expected images of shape (n, {expected}), got {images.shape}")


def available_cores() -> int:
    """Count the processors that this process may use."""
    return len(usable_processors())


def usable_processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
