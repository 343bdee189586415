"""`convert FILE -o SPEC`: a network of another program as a spec and its weights, and the proof that they agree."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnnspec.api import Model, compile
from cnnspec.cli import CLEAN, FAILED, USAGE, WRONG_SPEC
from cnnspec.cli.arguments import add_threads
from cnnspec.cli.output import complain, note, visible
from cnnspec.convert.conversion import convert
from cnnspec.convert.converted import Converted
from cnnspec.convert.own_file import adopt_learned
from cnnspec.convert.proof import prove
from cnnspec.convert.refusal import ConversionError
from cnnspec.diagnostics import RunError
from cnnspec.files import require_file, rewrite
from cnnspec.graph import build
from cnnspec.spec import loads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command-line arguments of the verb."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="an .onnx file, a .cfg of Darknet, a .prototxt of Caffe, a .keras, .h5 or .json of Keras",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="SPEC", help="the spec (default: FILE's name, .yaml); weights go beside it"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of Darknet or Caffe (default: FILE's name, .weights or .caffemodel)",
    )
    parser.add_argument("--until", metavar="NODE", help="convert up to this node, or the value of this name")
    parser.add_argument(
        "--input", type=lengths, metavar="C,H,W", help="lengths of one image, where the file leaves them open"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over files that exist")
    add_threads(parser)


def lengths(text: str) -> tuple[int, ...]:
    """Parse lengths above 0 with commas between them."""
    numbers = tuple(int(part) for part in text.split(","))
    if not numbers or min(numbers) < 1:
        raise ValueError(text)
    return numbers


def run(arguments: argparse.Namespace) -> int:
    """Convert, compare on random images, and write the spec and the weights if they agree; return 4 if not."""
    spec = arguments.output or Path(f"{arguments.file.stem}.yaml")
    if spec.suffix not in (".yaml", ".yml"):
        complain(f"expected a file that ends in .yaml, got {spec}", f"write -o {spec.with_suffix('.yaml')}")
        return USAGE
    weights = spec.with_suffix(".npz")
    existing = [path for path in (spec, weights) if path.exists()]
    if existing and not arguments.overwrite:
        raise RunError(f"{', '.join(map(str, existing))} exists", "choose another name with -o, or --overwrite it")
    if not spec.parent.is_dir():
        raise RunError(f"no folder {spec.parent}", "make it, or name another with -o")
    try:
        converted = convert(
            arguments.file, weights=arguments.weights, until=arguments.until, input_shape=arguments.input
        )
    except ConversionError as error:
        for reason in error.reasons:
            complain(reason)
        note(error.help)
        return WRONG_SPEC
    if converted.note:
        note(converted.note)
    model = _model(converted, arguments.threads) if converted.weighted else None
    if model is not None:
        if not _proven(converted, model):
            return FAILED
        adopt_learned(model, converted.learned, str(arguments.file))
        model.save(weights)
    try:
        require_file(spec)  # verbs read it beside its weights
        rewrite(spec, converted.text.encode())
    except OSError as error:
        raise RunError(f"cannot write {spec}: {error.strerror}", "name another with -o") from error
    graph = build(loads(converted.text)) if model is None else model.graph
    print(visible(f"wrote {spec}, {len(graph.nodes):,} layers, {graph.parameter_count:,} parameters"))
    if model is None:
        cure = "the model's .keras or .h5 file has them" if arguments.file.suffix == ".json" else "--weights names them"
        note(f"{arguments.file} comes without weights, so the spec starts fresh; {cure}")
    else:
        print(visible(f"wrote {weights}, {weights.stat().st_size:,} bytes, which verbs take for a run"))
    return CLEAN


def _model(converted: Converted, threads: int | None) -> Model:
    model = compile(converted.text, threads=threads)
    model.weights.load(converted.arrays)
    return model


def _proven(converted: Converted, model: Model) -> bool:
    """Print how far the outputs of spec and file differ; return whether they agree, or True if nothing ran the file."""
    proof = prove(converted, model.outputs)
    if isinstance(proof, str):
        note(f"nothing was compared: {proof}; `cnnspec explain guide/convert` says how to")
        return True
    print(visible(proof.text()))
    if not proof.agrees:
        complain("the spec does not give what the file gives, so nothing was written", "please report it")
    return proof.agrees
