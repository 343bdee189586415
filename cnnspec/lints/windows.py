"""Windows that cover their map in another way than their author may think."""

from __future__ import annotations

from collections.abc import Iterator

from cnnspec.diagnostics import Diagnostic
from cnnspec.graph import Graph, Node
from cnnspec.lints.warning import at
from cnnspec.shapes import Windows
from cnnspec.spec.model import Spec


def rows_dropped(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of rows or columns at the end of the map itself, without its padding, that no window reaches."""
    for node in graph.nodes:
        windows = windows_over(node)
        # Windows smaller than their stride leave places out on purpose.
        if windows is None or windows.extent < windows.stride:
            continue
        dropped = [
            max(
                0,
                windows.padded[axis] - windows.extent[axis] - (windows.output[axis] - 1) * windows.stride[axis] - after,
            )
            for axis, after in ((0, windows.padding[1]), (1, windows.padding[3]))
        ]
        if any(dropped):
            counts = [f"{n} {noun}{'s' * (n > 1)}" for n, noun in zip(dropped, ("row", "column"), strict=True) if n]
            message = f"leaves out {' and '.join(counts)} of its {windows.height}x{windows.width} input"
            yield from at(
                node, "rows-dropped", message, "use padding: same, or another kernel_size or stride", "stride"
            )


def window_covers_map(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of pooling whose only window is the whole map."""
    for node in graph.nodes:
        windows = windows_over(node)
        if (
            windows
            and not node.params
            and windows.kernel == (windows.height, windows.width)
            and windows.kernel != (1, 1)
        ):
            message = f"its window covers the whole {windows.height}x{windows.width} map"
            name = "global_max_pool2d" if node.layer.selects_maximum else "global_avg_pool2d"
            yield from at(node, "window-covers-map", message, f"use {name}", "kernel_size")


def even_kernels(spec: Spec, graph: Graph) -> Iterator[Diagnostic]:
    """Warn of an even kernel with `same`: it has no centre, so each such layer moves the map by half a pixel."""
    for node in graph.nodes:
        fields = (getattr(node.layer, name, None) for name in ("kernel_size", "padding", "stride"))
        match tuple(fields):
            case ((int(height), int(width)), "same", (1, 1)) if not (height % 2 and width % 2) and node.params:
                message = f"a kernel of {height}x{width} with padding: same moves the map by half a pixel"
                yield from at(node, "even-kernel", message, "use an odd kernel_size", "kernel_size")


def windows_over(node: Node) -> Windows | None:
    """Return the windows of a layer over its input; None for a layer without windows."""
    windows = getattr(node.layer, "windows", None)
    return windows(node.input_shapes[0]) if callable(windows) else None
