"""A trained network as a function for JAX: readable source code, and its weights."""

from __future__ import annotations

import json
import re

from cnnspec.export.copied_functions import copied
from cnnspec.export.exported_network import exported_network, labels
from cnnspec.export.numpy_layers import network_lines, parameter_keys
from cnnspec.export.numpy_program import prepare_function
from cnnspec.export.straight_line import INPUTS, entering, in_units, leaving
from cnnspec.kernels.step import Array
from cnnspec.train.network import Network

SOURCE = '''\
"""{title} in JAX; its trained weights are in {archive} beside this file (pip install jax).

    outputs = jax.jit(network)({entry})  # {output}

`network(x, W)` is a pure function of both, so that `jax.grad` of a loss by W goes on from here: statistics are those
of training, and nothing is dropped.
"""

from __future__ import annotations

{imports}

Ints = Sequence[int]
W = dict(np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False))
{classes}

def network({x}, W: Mapping[str, Array] = W) -> {made}:
    """Numbers {input} to outputs {output}; {count:,} parameters."""
{lines}
{functions}'''


def source(network: Network, name: str, *, raw: bool) -> tuple[str, dict[str, Array]]:
    """Return the source of NAME.py and the arrays of NAME.npz; RunError with all layers that cannot be expressed."""
    found = exported_network(network, at_inference=True)
    graph = found.graph
    lines, used = network_lines(found, "JAX source", in_units("jnp.array"))
    pipeline = None if raw else network.pipeline
    prepare, steps, arrays = "", set[str](), dict[str, Array]()
    if pipeline is not None:
        prepare, steps, arrays = prepare_function(pipeline, pipeline.shape or graph.input_shape)
    computed = _in_jax("\n\n".join(copied(used, "numpy_functions.py", "jax_functions.py")))
    prepared = "\n\n".join(copied(steps, "numpy_functions.py"))  # by NumPy, whose sums of resizing are exact
    functions = [prepare.replace("Array", "np.ndarray"), computed, prepared.replace("Array", "np.ndarray")]
    names = labels(network)
    text = SOURCE.format(
        title=graph.name or name,
        archive=f"{name}.npz",
        entry=f"prepare({INPUTS if found.inputs else 'images'})" if pipeline else INPUTS if found.inputs else "x",
        imports=_imports(computed),
        classes=f"CLASSES = {json.dumps(names, ensure_ascii=False)}\n" if names else "",
        x="inputs: Mapping[str, Array]" if found.inputs else "x: Array",
        made="dict[str, Array]" if found.several else "Array",
        input=entering(found.inputs, graph.input_shape),
        output=leaving(found.outputs),
        count=graph.parameter_count,
        lines=_in_jax("\n".join(lines)),
        functions="".join(f"\n\n{text.rstrip()}\n" for text in functions if text),
    )
    return text, {key: found.values[key] for key in sorted(parameter_keys(graph))} | arrays


def _in_jax(text: str) -> str:
    """Replace NumPy's functions in an expression by JAX's, which have the same names."""
    return re.sub(r"\bnp\.", "jnp.", text)


def _imports(functions: str) -> str:
    standard = [f"import {module}" for module in ("functools", "math") if f"{module}." in functions]
    lax = "from jax import Array, lax" if "lax." in functions else "from jax import Array"
    return "\n".join(
        [
            *standard,
            "from collections.abc import Mapping, Sequence",
            "from pathlib import Path",
            "",
            "import jax",
            "import jax.numpy as jnp",
            "import numpy as np",
            lax,
        ]
    )
