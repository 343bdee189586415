"""Facts about a layer's output, known without its arrays. Lints read them, and need no table of layer names."""

from __future__ import annotations

from typing import ClassVar


class Facts:
    """Facts about y, none of which holds by default; a layer overrides those that are true of it."""

    non_negative: ClassVar[bool] = False  # no number of y is below 0
    rectifies: ClassVar[bool] = False  # y is x where x is not negative
    probabilities: ClassVar[bool] = False  # y adds up to 1 over the channels or features, and no number is below 0
    normalises: ClassVar[bool] = False  # the scale of y depends on parameters, not on the scale of x
    batch_statistics: ClassVar[bool] = False  # training subtracts the batch's mean and divides by its deviation
    fully_connected: ClassVar[bool] = False  # y = W x + b with a number in W for every pair of features
    covers_map: ClassVar[bool] = False  # each number of y depends on the whole map of its channel
    bounds: ClassVar[tuple[float, float] | None] = None  # y lies between these, and is flat close to them
