"""Translates operators that move elements without changing them, cut some off, or add margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from cnnspec.convert.network import Network, Value
from cnnspec.convert.onnx_file import Operator
from cnnspec.convert.operators.affine import scaled
from cnnspec.convert.operators.merging import along
from cnnspec.convert.operators.translator import Translator, axis_of, refuse_unless

MOST_PARTS = 64  # slices that are joined for one operator
MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _same_elements(made: Network, operator: Operator) -> None:
    """Translate Reshape, Flatten, Squeeze and Unsqueeze, which give the same elements another shape."""
    value = made.read(operator)
    refuse_unless(prod(made.lengths(operator)) == prod(value.lengths), "it has another number of elements")
    made.write(operator, value)


def _expand(made: Network, operator: Operator) -> None:
    """Translate Expand, which repeats axes of length 1, and may add axes in front."""
    value, lengths = made.read(operator), made.lengths(operator)
    before = (1,) * (len(lengths) - len(value.lengths)) + value.lengths
    repeated = prod(lengths) != prod(before)
    refuse_unless(not repeated or len(before) == len(value.lengths), "it repeats elements along new axes", "upsample2d")
    repeats = [after // length for after, length in zip(lengths, before, strict=True)]
    made.write(operator, _repeated(made, operator, value, repeats) if repeated else value)


def _tile(made: Network, operator: Operator) -> None:
    value, repeats = made.read(operator), made.constant(operator, 1)
    refuse_unless(
        repeats is not None and repeats.shape == (len(value.lengths),), "its repeats are not one for each axis"
    )
    assert repeats is not None
    made.write(operator, _repeated(made, operator, value, [int(count) for count in repeats]))


def _repeated(made: Network, operator: Operator, value: Value, repeats: list[int]) -> Value:
    """Return the value repeated along each axis; rows and columns of one pixel become an upsampling."""
    refuse_unless(min(repeats) > 0, f"it repeats {repeats} times")
    refuse_unless(repeats[0] == 1, "it repeats the images", "an axis of one image")
    if len(repeats) == 4 and max(repeats[2:]) > 1:
        scale = [count if length == 1 else 1 for count, length in zip(repeats[2:], value.lengths[2:], strict=True)]
        if max(scale) > 1:
            lengths = (
                *value.lengths[:2],
                *(length * factor for length, factor in zip(value.lengths[2:], scale, strict=True)),
            )
            result = made.add(operator, "upsample2d", [made.canonical(operator, value)], _scale(scale))
            value = replace(result, lengths=lengths)
            repeats = [*repeats[:2], *(count // factor for count, factor in zip(repeats[2:], scale, strict=True))]
    for axis, count in enumerate(repeats):
        refuse_unless(count <= MOST_PARTS, f"it repeats an axis {count} times", f"at most {MOST_PARTS} times")
        value = along(made, operator, [value] * count, axis) if count > 1 else value
    return value


def _transpose(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    rank = len(value.lengths)
    order = [int(axis) for axis in operator.attributes.get("perm") or range(rank)[::-1]]
    refuse_unless(sorted(order) == list(range(rank)), f"its perm is {order}")
    refuse_unless(order[:1] == [0], "it moves the axis of the images", "a perm that begins with 0")
    axes, order = value.lengths[1:], [axis - 1 for axis in order[1:]]
    lengths = tuple(axes[axis] for axis in order)
    made.write(operator, _permuted(made, operator, value, axes, order), (value.lengths[0], *lengths))


def _permuted(made: Network, operator: Operator, value: Value, axes: Sequence[int], order: list[int]) -> Value:
    runs: list[list[int]] = []  # axes that stay side by side move as one
    for axis in (axis for axis in order if axes[axis] != 1):
        between = () if not runs else axes[runs[-1][-1] + 1 : axis]
        if runs and axis > runs[-1][-1] and prod(between) == 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) < 2:
        return value
    dealt = len(value.shape) == 3 and value.shape[0] == prod(axes[:2])
    if dealt and len(axes) >= 3 and order == [1, 0, *range(2, len(axes))]:
        return made.add(operator, "channel_shuffle", [value], {"groups": axes[0]})
    if len(axes) == 5 and len(value.shape) == 3:
        if order == [0, 3, 1, 4, 2] and axes[1] == axes[2]:  # as torch.nn.PixelShuffle has it
            shaped = made.shaped(operator, value, (prod(axes[:3]), axes[3], axes[4]))
            return made.add(operator, "pixel_shuffle", [shaped], {"factor": axes[1]})
        if order == [2, 3, 0, 4, 1] and axes[0] == axes[1]:
            return _depth_first(made, operator, value, axes[0])
    refuse_unless(len(runs) <= 3, f"it moves {len(runs)} axes, permute has three", "channel_shuffle, pixel_shuffle")
    if len(axes) == 3:
        return made.permuted(operator, made.canonical(operator, value), order)
    by_place = sorted(runs)
    lengths = [prod(axes[axis] for axis in run) for run in by_place]
    places = [by_place.index(run) for run in runs]
    if len(runs) == 2:
        shaped = made.shaped(operator, value, (lengths[0], 1, lengths[1]))
        return made.permuted(operator, shaped, (2, 1, 0))
    shaped = made.shaped(operator, value, (lengths[0], lengths[1], lengths[2]))
    return made.permuted(operator, shaped, places)


def _depth_first(made: Network, operator: Operator, value: Value, factor: int) -> Value:
    """Translate DepthToSpace in TensorFlow's order: the position in the block is the outer part of the channels."""
    if value.shape[0] > factor * factor:
        value = made.add(operator, "channel_shuffle", [value], {"groups": factor * factor})
    return made.add(operator, "pixel_shuffle", [value], {"factor": factor})


def _depth_to_space(made: Network, operator: Operator) -> None:
    value, factor = made.map(operator), int(operator.attributes.get("blocksize", 0))
    refuse_unless(factor > 0, f"its blocksize is {factor}")
    if operator.attributes.get("mode", "DCR") == "CRD":
        made.write(operator, made.add(operator, "pixel_shuffle", [value], {"factor": factor}))
        return
    made.write(operator, _depth_first(made, operator, value, factor))


def _space_to_depth(made: Network, operator: Operator) -> None:
    """Translate SpaceToDepth: slice out each position of a block, and concatenate the slices as channels."""
    value, factor = made.map(operator), int(operator.attributes.get("blocksize", 0))
    _, height, width = value.shape
    refuse_unless(1 < factor <= 8 and height % factor == width % factor == 0, f"its blocksize is {factor}", "2 to 8")
    parts = [
        made.add(operator, "slice", [value], {"rows": _range(i, None, factor), "columns": _range(j, None, factor)})
        for i in range(factor)
        for j in range(factor)
    ]
    result = made.add(operator, "concat", parts)
    if operator.attributes.get("mode", "DCR") == "CRD" and value.shape[0] > 1:
        result = made.add(operator, "channel_shuffle", [result], {"groups": factor * factor})
    made.write(operator, result)


def _range(start: int, stop: int | None, step: int = 1) -> dict[str, int]:
    fields = {"start": start} if start else {}
    fields |= {} if stop is None else {"stop": stop}
    return fields | ({"step": step} if step != 1 else {})


def _pad(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    rank = len(value.lengths)
    pads = operator.attributes.get("paddings") or made.setting(operator, "pads", 1)
    refuse_unless(pads is not None, "its pads are missing")
    pads = [int(length) for length in pads]
    axes = made.constant(operator, 3)
    if axes is not None:
        all_pads = [0] * (2 * rank)
        for place, axis in enumerate(np.ravel(axes).tolist()):
            all_pads[axis % rank], all_pads[axis % rank + rank] = pads[place], pads[place + len(pads) // 2]
        pads = all_pads
    refuse_unless(len(pads) == 2 * rank, f"expected {2 * rank} pads, got {len(pads)}")
    if not any(pads):
        made.write(operator, value)
        return
    refuse_unless(
        not pads[0] and not pads[rank] and 2 <= rank <= 4, "it pads the axis of the images, or more than three"
    )
    before, behind = pads[1:rank], pads[rank + 1 :]
    if rank == 3:
        before, behind = [before[0], 0, before[1]], [behind[0], 0, behind[1]]
    elif rank == 2:
        before, behind = [before[0], 0, 0], [behind[0], 0, 0]
        value = made.shaped(operator, value, (value.lengths[1], 1, 1))
    value = made.canonical(operator, value) if rank > 2 else value
    mode = str(operator.attributes.get("mode", "constant"))
    cut = [max(0, -length) for length in (*before[1:], *behind[1:])]
    if any(cut):
        value = made.add(operator, "crop2d", [value], {"cropping": _margins(cut[0], cut[2], cut[1], cut[3])})
        before, behind = ([max(0, length) for length in sides] for sides in (before, behind))
    if not any((*before, *behind)):
        made.write(operator, value)
        return
    margins = _margins(before[1], behind[1], before[2], behind[2])
    if mode != "constant":
        refuse_unless(not before[0] and not behind[0] and mode in MODES, f"it pads channels by mode {mode}", "zeros")
        made.write(operator, made.add(operator, "pad2d", [value], {"padding": margins, "mode": MODES[mode]}))
        return
    given = operator.attributes.get("value", made.constant(operator, 2))
    number = 0.0 if given is None else float(np.ravel(given)[0])
    refuse_unless(abs(number) < 1e6, f"it pads with {number:g}", "zero_pad2d")
    refuse_unless(min(before[0], behind[0]) >= 0, "it cuts channels off", "slice")
    channels = {"channels": [before[0], behind[0]]} if before[0] or behind[0] else {}
    value = scaled(made, operator, value, shift=-number)  # so that 0 stands for the number
    value = made.add(operator, "zero_pad2d", [value], {"padding": margins, **channels})
    made.write(operator, scaled(made, operator, value, shift=number))


def _margins(top: int, bottom: int, left: int, right: int) -> Any:
    if top == bottom and left == right:
        return top if top == left else [top, left]
    return [top, bottom, left, right]


def _slice(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    rank = len(value.lengths)
    starts, ends = (made.setting(operator, name, position) for position, name in ((1, "starts"), (2, "ends")))
    refuse_unless(starts is not None and ends is not None, "its starts and ends are missing")
    axes = made.setting(operator, "axes", 3) or list(range(len(starts)))
    steps = made.setting(operator, "steps", 4) or [1] * len(starts)
    chosen = [range(length) for length in value.lengths]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        refuse_unless(step != 0, "its step is 0", "a step above 0")
        chosen[axis % rank] = range(*slice(start, end, step).indices(value.lengths[axis % rank]))
    refuse_unless(all(chosen), "nothing is left")
    backwards = {axis: places for axis, places in enumerate(chosen) if places.step < 0}
    value = _cut(made, operator, value, {axis: places for axis, places in enumerate(chosen) if axis not in backwards})
    for axis, places in backwards.items():
        value = picked(made, operator, value, axis, places)
    made.write(operator, value)


def _cut(made: Network, operator: Operator, value: Value, chosen: Mapping[int, range]) -> Value:
    """Return a slice of evenly spaced positions along each of the chosen axes."""
    changed = {axis: places for axis, places in chosen.items() if places != range(value.lengths[axis])}
    refuse_unless(0 not in changed, "it selects among the images", "an axis of one image")
    if not changed:
        return value
    lengths = value.lengths
    rank = len(lengths)
    if rank > 4:
        refuse_unless(len(changed) == 1, "it cuts several of more than three axes", "one at a time")
        (axis,) = changed
        value = made.shaped(operator, value, (prod(lengths[1:axis]), lengths[axis], prod(lengths[axis + 1 :])))
        fields = {"rows": _bounds(changed[axis], lengths[axis])}
    else:
        value = made.canonical(operator, value) if rank > 2 else made.shaped(operator, value, (value.lengths[1], 1, 1))
        names = {2: ("channels",), 3: ("channels", "columns"), 4: ("channels", "rows", "columns")}[rank]
        fields = {names[axis - 1]: _bounds(places, lengths[axis]) for axis, places in changed.items()}
    result = made.add(operator, "slice", [value], fields)
    return replace(result, lengths=tuple(len(changed.get(axis, range(length))) for axis, length in enumerate(lengths)))


def picked(made: Network, operator: Operator, value: Value, axis: int, places: Sequence[int]) -> Value:
    """Return positions along an axis in any order, as a concatenation of evenly spaced slices."""
    stretches: list[range] = []
    for place in places:
        last = stretches[-1] if stretches else range(0)
        step = place - last[-1] if last else 0
        if step > 0 and (len(last) == 1 or step == last.step):
            stretches[-1] = range(last[0], place + 1, step)
        else:
            stretches.append(range(place, place + 1))
    refuse_unless(axis != 0, "it selects among the images", "an axis of one image")
    refuse_unless(
        len(stretches) <= MOST_PARTS, f"it selects {len(places)} positions in no order", "positions at equal distances"
    )
    parts = [_cut(made, operator, value, {axis: stretch}) for stretch in stretches]
    return parts[0] if len(parts) == 1 else along(made, operator, parts, axis)


def _bounds(places: range, length: int) -> dict[str, int]:
    return _range(places.start, places.stop if places.stop < length else None, places.step)


def _split(made: Network, operator: Operator) -> None:
    value = made.read(operator)
    axis = axis_of(int(operator.attributes.get("axis", 0)), value)
    sizes, outputs = made.setting(operator, "split", 1), operator.outputs
    length = value.lengths[axis]
    if sizes is None:
        count = int(operator.attributes.get("num_outputs") or len(outputs))
        each = -(-length // count)
        sizes = [min(each, length - each * place) for place in range(count)]
    refuse_unless(len(sizes) == len(outputs) and min(sizes) > 0 and sum(sizes) == length, f"its parts are {sizes}")
    start = 0
    for place, (size, name) in enumerate(zip(sizes, outputs, strict=True)):
        if name and made.readers[name]:
            made.write(operator, _cut(made, operator, value, {axis: range(start, start + int(size))}), position=place)
        start += int(size)


def _gather(made: Network, operator: Operator) -> None:
    """Translate Gather: positions along one axis, in any order."""
    value, places = made.read(operator), made.constant(operator, 1)
    assert places is not None
    axis = axis_of(int(operator.attributes.get("axis", 0)), value)
    length = value.lengths[axis]
    made.write(operator, picked(made, operator, value, axis, [int(place) % length for place in np.ravel(places)]))


def _resize(made: Network, operator: Operator) -> None:
    """Translate Resize and Upsample by whole factors."""
    value, lengths, attributes = made.map(operator), made.lengths(operator), operator.attributes
    rank = len(value.lengths)
    mode = str(attributes.get("mode", "nearest"))
    factors = [length / before for length, before in zip(lengths, value.lengths, strict=True)]
    refuse_unless(factors[:2] == [1, 1], "it resizes channels or images", "rows and columns")
    factors_of_axes = [int(factor) for factor in factors]
    refuse_unless(
        factors == factors_of_axes and min(factors_of_axes) >= 1,
        f"its factors are {factors[2:]}",
        "upsample2d, by whole numbers",
    )
    scale = [1, factors_of_axes[2]] if rank == 3 else factors_of_axes[2:]
    if max(scale) == 1:
        made.write(operator, value)
        return
    refuse_unless(
        not attributes.get("antialias") and not attributes.get("exclude_outside"), "it weighs pixels differently"
    )
    older = operator.type == "Upsample" or made.source.opset < 11
    centre = str(attributes.get("coordinate_transformation_mode", "asymmetric" if older else "half_pixel"))
    if mode == "nearest":
        rounding = str(attributes.get("nearest_mode", "floor" if older else "round_prefer_floor"))
        fits = (centre, rounding) in (("asymmetric", "floor"), ("tf_half_pixel_for_nn", "floor")) or (
            centre in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
            and rounding in ("round_prefer_floor", "round_prefer_ceil")
        )
        refuse_unless(fits, f"it takes the pixel by {centre} and {rounding}", "asymmetric and floor")
        made.write(operator, made.add(operator, "upsample2d", [value], _scale(scale)))
        return
    refuse_unless(mode in ("linear", "bilinear"), f"its mode is {mode}", "upsample2d with mode: bilinear")
    fits = centre in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    refuse_unless(fits, f"its pixels lie as {centre} says", "half_pixel, which is align_corners=False in PyTorch")
    made.write(operator, made.add(operator, "upsample2d", [value], {**_scale(scale), "mode": "bilinear"}))


def _scale(scale: list[int]) -> dict[str, Any]:
    return {} if scale == [2, 2] else {"scale": scale[0] if scale[0] == scale[1] else scale}


TRANSLATORS: Mapping[str, Translator] = {
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _same_elements,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _same_elements,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _same_elements,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _same_elements,
    "Upsample": _resize,
}
