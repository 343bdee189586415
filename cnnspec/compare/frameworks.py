"""The same network in other frameworks, as programs that run one step of training or one inference."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from cnnspec.compare import pytorch
from cnnspec.diagnostics import RunError
from cnnspec.export import onnx, onnx_writer
from cnnspec.graph import Graph
from cnnspec.kernels.step import Array
from cnnspec.layers.base import Mode
from cnnspec.optim import Loss, Optimizer

Program = Callable[[], object]
Say = Callable[[str], None]


def pytorch_programs(
    graph: Graph,
    values: Mapping[str, Array],
    images: Array,
    labels: Array,
    mode: Mode,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    threads: int = 1,
    say: Say = lambda text: None,
) -> dict[str, Program]:
    """Return PyTorch's programs, eager, channels last, and compiled; failed compilations are reported to `say`."""
    torch = pytorch.torch()
    torch.set_num_threads(threads)
    x, y = torch.tensor(images), torch.tensor(labels)
    last = torch.channels_last
    programs: dict[str, Program] = {}
    for name, form, compiled in (
        ("torch eager", torch.contiguous_format, False),
        ("torch channels_last", last, False),
        ("torch compiled", torch.contiguous_format, True),
    ):
        network = pytorch.module(graph, values).to(memory_format=form)
        network.train(mode == "train")
        update = pytorch.optimizer(network, graph, optimizer) if mode == "train" and optimizer else None
        runner = torch.compile(network) if compiled else network
        measure = pytorch.loss(loss) if update is not None and loss is not None else None
        program = _torch_program(torch, runner, x.to(memory_format=form), y, measure, update)
        if compiled:
            say("compiling with PyTorch")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Dynamo warns of caches that only save imports
                program()
        except Exception as error:  # whatever torch.compile and the C++ compiler behind it raise
            if not compiled:
                raise
            say(f"PyTorch does not compile this here, so it is left out: {str(error).strip().splitlines()[0]}")
            continue
        programs[name] = program
    return programs


def _torch_program(torch: Any, network: Any, x: Any, labels: Any, measure: Any, update: Any) -> Program:
    if update is None:

        def infer() -> None:
            with torch.inference_mode():
                network(x)

        return infer

    def train() -> None:
        update.zero_grad()
        measure(network(x), x, labels).backward()
        update.step()

    return train


def onnxruntime_programs(
    graph: Graph, values: Mapping[str, Array], images: Array, *, threads: int = 1, spin: bool = True
) -> dict[str, Program]:
    """Return a program that runs an inference session on the processor, from this library's ONNX model."""

    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RunError("onnxruntime is not installed", "pip install onnxruntime") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    model = onnx.model(graph, values, onnx_writer.NEWEST).SerializeToString()
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"onnxruntime does not take this network: {reason}") from error
    return {"onnxruntime": lambda: session.run(None, {"input": images})}
