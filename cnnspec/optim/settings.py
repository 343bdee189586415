"""The `train` section of a spec: its keys, and the sections inside it."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf
from typing import Annotated, Any, ClassVar, Literal

from cnnspec.fields import (
    BatchSize,
    Declaration,
    Epochs,
    Fraction,
    Named,
    NonNegativeNumber,
    PositiveInt,
    PositiveNumber,
    Registered,
    Schema,
    UnitInterval,
)
from cnnspec.optim.losses.combined import Losses, Term
from cnnspec.optim.watched import LOWER, Watched

UNITS = ("epochs", "steps", "minutes")
INTERVAL = r"^[1-9][0-9]{0,14} (epoch|step|minute)s?$"


def _interval(value: Any) -> tuple[int, str]:
    if isinstance(value, tuple):
        return (int(value[0]), str(value[1]))
    number, unit = value.split(" ")
    return int(number), unit.removesuffix("s") + "s"


Interval = Annotated[tuple[int, str], Schema({"type": "string", "pattern": INTERVAL}, _interval)]


class Checkpoints(Declaration):
    """When the state of training is written, besides at the end of every epoch's evaluation and when interrupted."""

    kind: ClassVar[str] = "section"
    every: Annotated[Interval, "such as 2 epochs, 500 steps or 10 minutes"] = (1, "epochs")
    keep: Annotated[PositiveInt, "how many are kept, the newest as last.npz"] = 1


class Clip(Declaration):
    """Bounds on the gradient of an update: on the length of the whole gradient, on each of its numbers, or on both."""

    kind: ClassVar[str] = "section"
    norm: Annotated[PositiveNumber | None, "a longer gradient is shortened to this length"] = None
    value: Annotated[PositiveNumber | None, "every number is cut to this on both sides"] = None


class Lookahead(Declaration):
    """Keeps slow weights, which every few updates move a part of the way to the optimizer's weights w.

    slow += share (w - slow); w = slow. Validation looks at w. Source: Zhang et al., "Lookahead optimizer: k steps
    forward, 1 step back" (2019).
    """

    kind: ClassVar[str] = "section"
    every: Annotated[PositiveInt, "updates between two moves of the slow weights"] = 5
    share: Annotated[UnitInterval, "what part of the way the slow weights go"] = 0.5


class Swa(Declaration):
    """Stochastic weight averaging: the mean of the weights at the ends of all whole epochs after some is scored.

    The running statistics of batch_norm are measured for it on up to 4,096 training images, without augmentation.
    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization" (2018).
    """

    kind: ClassVar[str] = "section"
    after: Annotated[NonNegativeNumber, "epochs that are over before the first weights are averaged"]


class RateFactors(Declaration):
    """Factors of the learning rate by kind of parameter; the `rate_factor` of a layer multiplies them further."""

    kind: ClassVar[str] = "section"
    weight: Annotated[PositiveNumber, "of filters, dense weights and the like"] = 1.0
    bias: Annotated[PositiveNumber, "of biases, but for those of normalisation"] = 1.0
    norm: Annotated[PositiveNumber, "of scale and shift of normalisation"] = 1.0


class EarlyStopping(Declaration):
    """Ends training when a metric has not become better for `patience` epochs."""

    kind: ClassVar[str] = "section"
    metric: Annotated[Watched, "the figure that is watched"] = "validation.loss"
    patience: Annotated[PositiveInt, "epochs without a better value"] = 5
    minimum_change: Annotated[NonNegativeNumber, "by how much a value must be better to count"] = 0.0

    def watch(self) -> Stopping:
        """Return the object that watches the metric of one training."""
        return Stopping(self)


class Stopping:
    """Watches a metric, epoch by epoch: training is over once the best value so far lies `patience` epochs back."""

    def __init__(self, settings: EarlyStopping) -> None:
        self.settings, self.waited, self.is_known = settings, 0, True
        self.best: float | None = None

    def see(self, row: Mapping[str, Any]) -> None:
        """Record the metrics of one more epoch."""
        value, falls = row.get(self.settings.metric), self.settings.metric.endswith(LOWER)
        if value is None:
            self.is_known = False
            return
        gain = inf if self.best is None else self.best - value if falls else value - self.best
        if value == value and gain > self.settings.minimum_change:
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Whether the training ends after this epoch; never if an epoch lacked the metric."""
        return self.is_known and self.waited >= self.settings.patience


Renamed = Annotated[
    Named[str],
    Schema({"type": "object", "additionalProperties": {"type": "string"}}, lambda given: Named(dict(given))),
]


class Init(Declaration):
    """Weights of a trained network that this one starts from: those whose layer and shape are found there.

    Names are those of layers; `*` in them stands for any letters.
    """

    kind: ClassVar[str] = "section"
    from_: Annotated[str, "a run, a checkpoint, or a file of weights (.npz, .safetensors), relative to the spec"]
    layers: Annotated[tuple[str, ...], "the layers of this network that start so"] = ("*",)
    rename: Annotated[Renamed, "what layers of this network are called there, by their names here"] = Named()
    missing: Annotated[Literal["error", "keep"], "what is done where one is not there or has another shape"] = "error"

    @property
    def source(self) -> str:
        """The path that the key `from` names."""
        return str(vars(self)["from"])


class TrainSettings(Declaration):
    """How the network is trained: for how long, on what batches, to minimise what, and by which rule."""

    kind: ClassVar[str] = "section"
    epochs: Annotated[Epochs, "passes over the training images; of the last one a part, where it is a fraction"]
    batch_size: Annotated[BatchSize, "images in one step"] = 64
    loss: Annotated[Any, Registered("loss"), "what training minimises"] = "softmax_cross_entropy"
    losses: Annotated[Named[Term] | None, "instead of `loss`: several by name, whose weighted sum is minimised"] = None
    optimizer: Annotated[Any, Registered("optimizer"), "how a step follows the gradient"] = "sgd"
    schedule: Annotated[Any, Registered("schedule"), "how the learning rate changes"] = "constant"
    top_k: Annotated[PositiveInt, "likeliest classes that the metric top_k looks among"] = 5
    lookahead: Annotated[Lookahead | None, "slow weights that follow those of the optimizer"] = None
    rate_factors: Annotated[RateFactors, "learning rates of weights, biases and normalisation"] = RateFactors()
    clip: Annotated[Clip, "bounds on the gradient"] = Clip()
    accumulate: Annotated[PositiveInt, "steps whose gradients make one update"] = 1
    ema: Annotated[
        Fraction | None,
        "how much stays, at update t, of the moving averages of weights and running statistics that are scored: "
        "at most (t - 1) / (t + 9)",
    ] = None
    swa: Annotated[Swa | None, "instead of ema: the mean of the weights of the last epochs is scored"] = None
    init: Annotated[Init | None, "trained weights to start from, instead of fresh ones"] = None
    early_stopping: Annotated[EarlyStopping | None, "ends training when a metric stands still"] = None
    checkpoint: Annotated[Checkpoints, "when the state of training is written"] = Checkpoints()

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.losses is not None:
            object.__setattr__(self, "loss", Losses(terms=self.losses))

    def steps(self, images: int) -> int:
        """The number of steps of the whole training on `images` images."""
        return max(1, round(self.epochs * ceil(images / self.batch_size)))

    @property
    def slots(self) -> int:
        """The number of arrays as long as the weights that are kept between updates, beside the gradients."""
        extra = (self.accumulate > 1) + (self.ema is not None or self.swa is not None) + (self.lookahead is not None)
        return len(self.optimizer.every_slot()) + extra
