"""The `train` section of a spec."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from cnnspec.fields import BatchSize, Declaration, PositiveInt, Registered


class TrainSettings(Declaration):
    """How the network learns."""

    kind: ClassVar[str] = "section"
    epochs: Annotated[PositiveInt, "passes over the training images"]
    batch_size: Annotated[BatchSize, "images in one step"] = 64
    loss: Annotated[Any, Registered("loss"), "what training minimises"] = "softmax_cross_entropy"
    optimizer: Annotated[Any, Registered("optimizer"), "how a step follows the gradient"] = "sgd"
    schedule: Annotated[Any, Registered("schedule"), "how the learning rate changes"] = "constant"
