"""The onnx wheel's own tests: what is converted computes what they say, and what is refused stands in one table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.convert.onnx_conversion import convert, converted
from cnnspec.convert.onnx_file import parse
from cnnspec.convert.proof import prove
from cnnspec.convert.refusal import ConversionError
from tests.convert.cases import Case, cases, onnx

REFUSED = dict(
    line.split(": ", 1)
    for line in Path(__file__).with_name("refused_cases.txt").read_text(encoding="utf-8").splitlines()
)
LEAST = {"node": 225, "pytorch-converted": 59, "pytorch-operator": 29}  # that pass with onnx 1.23
WHOLE = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))


def outcome(case: Case) -> str:
    """The reason for a refusal, or nothing where the outputs are those that the case expects."""
    try:
        found = converted(parse(case.model, Path(case.name)), case.name)
    except ConversionError as error:
        return error.reasons[0].rpartition("): ")[2] or error.reasons[0]
    model = compile(found.text, threads=1)
    model.weights.load(found.arrays)
    images = case.images.reshape(len(case.images), *model.graph.input_shape)
    got = model.outputs(images).reshape(case.expected.shape)
    np.testing.assert_allclose(got, case.expected, rtol=1e-3, atol=1e-5, err_msg=case.name)
    return ""


@pytest.mark.parametrize(
    "kind", [pytest.param("node", marks=pytest.mark.slow), "pytorch-converted", "pytorch-operator"]
)
@pytest.mark.filterwarnings("ignore")
def test_cases_of_the_wheel(kind: str) -> None:
    passed, wrong = Counter[bool](), []
    for case in cases(kind):
        reason = outcome(case)
        passed[not reason] += 1
        if reason and REFUSED.get(case.name) != reason:
            wrong.append(f"{case.name}: {reason}")
    assert not wrong, "\n".join(wrong)
    assert passed[True] >= LEAST[kind] or onnx.__version__ != "1.23.2", passed


@pytest.mark.slow
@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_whole_networks(path: Path) -> None:
    found = convert(path)
    model = compile(found.text)
    model.weights.load(found.arrays)
    proof = prove(found, model.outputs)
    assert not isinstance(proof, str)
    assert proof.agrees, proof.text()


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_small_whole_networks(name: str) -> None:
    test_whole_networks(next(path for path in WHOLE if name in path.stem))


def test_repeated_parts_are_blocks() -> None:
    found = convert(next(path for path in WHOLE if "resnet50" in path.stem))
    assert len(found.text.splitlines()) <= 60
    assert "  - {use: add_block_b, repeat: 5, with: {filters: 256}}\n" in found.text
    assert "expect: {params: 25557032," in found.text
