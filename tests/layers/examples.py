"""One or more configurations of every layer, which the contract's tests run: a new layer is a class and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnspec.shapes import Shape

MAP, ODD, VECTOR = (2, 6, 8), (3, 7, 5), (6,)
Example = tuple[Mapping[str, Any], Sequence[Shape]]

_ANYWHERE: Sequence[Example] = [({}, [ODD]), ({}, [VECTOR])]
_POOLS: Sequence[Example] = [
    ({"kernel_size": 2}, [MAP]),
    ({"kernel_size": 2}, [ODD]),
    ({"kernel_size": 2, "padding": "same"}, [(2, 7, 6)]),
    ({"kernel_size": 3, "stride": 2}, [ODD]),
    ({"kernel_size": [3, 2], "stride": 1, "padding": 1}, [MAP]),
    ({"kernel_size": 3, "stride": 2, "padding": "same"}, [MAP]),
    ({"kernel_size": 2, "stride": 3, "padding": [1, 0, 0, 1]}, [ODD]),
    ({"kernel_size": 3, "stride": 2, "padding": "same_lower"}, [MAP]),
    ({"kernel_size": 3, "stride": 2, "ceil_mode": True}, [MAP]),
]
_SEPARABLE: Sequence[Example] = [
    ({"kernel_size": 3}, [MAP]),
    ({"kernel_size": [3, 2], "stride": 2, "padding": "same", "multiplier": 2}, [ODD]),
    ({"kernel_size": 3, "padding": "half", "dilation": 2, "bias": "none"}, [MAP]),
]
_BROADCAST: Sequence[Example] = [
    ({}, [MAP, MAP, MAP]),
    ({}, [(2,), MAP]),
    ({}, [MAP, (1, 6, 8), (2, 1, 1)]),
    ({}, [VECTOR, VECTOR]),
]
EXAMPLES: Mapping[str, Sequence[Example]] = {
    "adaptive_avg_pool2d": [({"output_size": [3, 2]}, [ODD]), ({"output_size": 8}, [MAP])],
    "abs": _ANYWHERE,
    "add": [
        ({}, [MAP, MAP]),
        ({}, [VECTOR, VECTOR, VECTOR]),
        ({"broadcast": True}, [MAP, (2,), (1, 6, 8)]),
        ({"broadcast": True}, [(2, 1, 1), MAP]),
    ],
    "attention": [
        ({"heads": 2}, [(6, 3, 4)]),
        ({"heads": 1, "bias": "none"}, [(3, 1, 5)]),
        ({"heads": 3, "window": [2, 3]}, [(6, 4, 6)]),
    ],
    "avg_pool2d": [*_POOLS, ({"kernel_size": 3, "padding": 1, "count_include_pad": True}, [ODD])],
    "batch_norm": [*_ANYWHERE, ({"momentum": 0.5, "epsilon": 0.1}, [MAP])],
    "channel_max": [({}, [ODD])],
    "channel_mean": [({}, [ODD])],
    "channel_shuffle": [({"groups": 3}, [(6, 2, 3)])],
    "clip": [({"min": -0.5, "max": 0.75}, [ODD]), ({"min": 0.25}, [VECTOR]), ({"max": 0.25}, [MAP])],
    "concat": [({}, [(2, 3, 4), (1, 3, 4), (3, 3, 4)]), ({}, [(2,), (3,)])],
    "conv2d": [
        ({"filters": 3, "kernel_size": 3}, [MAP]),
        ({"filters": 4, "kernel_size": [3, 2], "stride": 2, "padding": "same", "bias": "none"}, [MAP]),
        ({"filters": 4, "kernel_size": 3, "padding": 1, "groups": 2, "dilation": 2}, [MAP]),
        ({"filters": 5, "kernel_size": 1}, [ODD]),
        *(
            ({"filters": 2 * groups, "kernel_size": 3, "padding": 1, "groups": groups, "kernel": kernel}, [MAP])
            for kernel in ("direct", "winograd2", "winograd4", "dft", "patches", "depthwise")
            for groups in ((2,) if kernel == "depthwise" else (1,))
        ),
    ],
    "conv_transpose2d": [
        ({"filters": 3, "kernel_size": 3}, [MAP]),
        ({"filters": 4, "kernel_size": [3, 2], "stride": 2, "padding": 1, "output_padding": [1, 0]}, [ODD]),
        ({"filters": 4, "kernel_size": 3, "stride": 2, "padding": "same", "groups": 2, "bias": "none"}, [MAP]),
        ({"filters": 2, "kernel_size": 2, "stride": 3, "dilation": 2, "padding": [1, 0, 0, 1]}, [ODD]),
    ],
    "crop2d": [({"cropping": 1}, [ODD]), ({"cropping": [0, 1, 2, 0]}, [MAP])],
    "dense": [({"units": 4}, [VECTOR])],
    "depthwise_conv2d": _SEPARABLE,
    "drop_path": [({"rate": 0.4}, [MAP]), ({}, [VECTOR])],
    "dropout": [({"rate": 0.3}, [MAP]), ({"rate": 0.0}, [VECTOR])],
    "elu": [*_ANYWHERE, ({"alpha": 0.5}, [MAP])],
    "exp": _ANYWHERE,
    "flatten": [({}, [ODD]), ({}, [VECTOR])],
    "gelu": [*_ANYWHERE, ({"approximate": "tanh"}, [MAP])],
    "global_avg_pool2d": [({}, [ODD])],
    "global_max_pool2d": [({}, [ODD])],
    "group_norm": [({"groups": 2}, [(4, 3, 5)]), ({"groups": 2}, [VECTOR])],
    "hard_sigmoid": _ANYWHERE,
    "hard_swish": _ANYWHERE,
    "instance_norm": [({}, [ODD])],
    "layer_norm": [({"over": over}, [ODD]) for over in ("channels", "map")] + [({}, [VECTOR])],
    "leaky_relu": [*_ANYWHERE, ({"negative_slope": 0.2}, [MAP])],
    "local_response_norm": [({"alpha": 0.5}, [(7, 3, 4)]), ({"size": 4, "k": 2.0, "alpha": 1.0}, [ODD])],
    "lp_pool2d": [({**fields, "p": p}, shapes) for fields, shapes in _POOLS for p in (1, 2, 3.5)],
    "max_pool2d": _POOLS,
    "matmul": [
        ({}, [(2, 3, 4), (2, 4, 5)]),
        ({"transpose": "first"}, [(2, 4, 3), (2, 4, 5)]),
        ({"transpose": "second"}, [(1, 3, 4), (1, 5, 4)]),
    ],
    "maximum": _BROADCAST,
    "minimum": _BROADCAST,
    "mish": _ANYWHERE,
    "multiply": [({}, [MAP, (2, 1, 1)]), ({}, [(2,), MAP, MAP]), ({}, [MAP, (1, 6, 8)]), ({}, [VECTOR, VECTOR])],
    "noise": [({}, [MAP]), ({"std": 2}, [VECTOR])],
    "pad2d": [
        ({"mode": "reflect"}, [MAP]),
        ({"mode": "reflect", "padding": [0, 4, 3, 1]}, [ODD]),
        ({"mode": "replicate", "padding": [8, 1, 0, 2]}, [ODD]),
        ({"mode": "circular", "padding": [2, 7, 1, 0]}, [ODD]),
    ],
    "permute": [({"order": [2, 0, 1]}, [MAP]), ({"order": [0, 1, 2]}, [ODD])],
    "pixel_shuffle": [({"factor": 2}, [(8, 3, 4)])],
    "positions": _ANYWHERE,
    "prelu": _ANYWHERE,
    "relu": _ANYWHERE,
    "relu6": _ANYWHERE,
    "reparameterize": [({}, [MAP, MAP]), ({}, [VECTOR, VECTOR])],
    "reshape": [({"shape": [6, 4, 4]}, [MAP]), ({"shape": [96]}, [MAP]), ({"shape": [2, 3, 1]}, [VECTOR])],
    "rms_norm": _ANYWHERE,
    "scale_shift": [
        *_ANYWHERE,
        ({"scale": 1e-6, "shift": "none"}, [ODD]),
        ({"scale": "none", "shift": 0.5}, [MAP]),
        ({"scale": [1, 2, -3], "shift": [0, 0.5, 1], "learned": False}, [ODD]),
        ({"scale": "none", "shift": 1, "learned": False}, [VECTOR]),
    ],
    "selu": _ANYWHERE,
    "separable_conv2d": [({"filters": 4, **fields}, shapes) for fields, shapes in _SEPARABLE],
    "sigmoid": _ANYWHERE,
    "silu": _ANYWHERE,
    "slice": [
        ({"channels": {"start": 1}, "columns": {"start": 2, "stop": 7, "step": 2}}, [MAP]),
        ({"rows": {"step": 2}, "columns": {"step": 2}}, [ODD]),
        ({"channels": {"part": 2, "of": 2}, "rows": {"part": 1, "of": 3}}, [MAP]),
    ],
    "softmax": _ANYWHERE,
    "softplus": _ANYWHERE,
    "spatial_dropout2d": [({"rate": 0.3}, [(9, 3, 4)])],
    "square": _ANYWHERE,
    "subtract": [({}, [MAP, MAP]), ({}, [MAP, (2,)]), ({}, [(1, 6, 8), MAP]), ({}, [VECTOR, VECTOR])],
    "tanh": _ANYWHERE,
    "upsample2d": [({"scale": [2, 3]}, [ODD]), ({"mode": "bilinear", "scale": [3, 2]}, [MAP])],
    "weight_norm": [
        ({"layer": {"type": "conv2d", "filters": 4, "kernel_size": 3, "padding": "same"}}, [MAP]),
        ({"layer": {"type": "conv2d", "filters": 2, "kernel_size": 2, "groups": 2, "bias": "none"}}, [MAP]),
        ({"layer": {"type": "depthwise_conv2d", "kernel_size": 3, "multiplier": 2}}, [ODD]),
        ({"layer": {"type": "dense", "units": 5}}, [VECTOR]),
    ],
    "zero_pad2d": [({}, [ODD]), ({"padding": [0, 1, 2, 0]}, [MAP]), ({"padding": 0, "channels": [1, 2]}, [ODD])],
}
