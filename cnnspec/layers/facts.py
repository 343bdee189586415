"""What is known of a layer's output without its arrays; lints ask, so that no table of layer names is kept there."""

from __future__ import annotations

from typing import ClassVar


class Facts:
    """Statements about y; a layer of which one is true says so."""

    non_negative: ClassVar[bool] = False  # no number of y is below 0
    rectifies: ClassVar[bool] = False  # y is x where x is not negative
    probabilities: ClassVar[bool] = False  # y adds up to 1 over the channels or features, and no number is below 0
    normalises: ClassVar[bool] = False  # y has a size that does not depend on that of x, and parameters that scale it
    batch_statistics: ClassVar[bool] = False  # training subtracts the batch's mean and divides by its deviation
    fully_connected: ClassVar[bool] = False  # y = W x + b with a number in W for every pair of features
    covers_map: ClassVar[bool] = False  # a number of y is made of the whole map of its channel
    bounds: ClassVar[tuple[float, float] | None] = None  # y lies between these, and is flat where it comes near them
