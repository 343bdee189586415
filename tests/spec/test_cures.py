"""A beginner's mistake is told with its cure, and the cure works when it is followed."""

from __future__ import annotations

import pytest

from cnnspec.check import checked
from cnnspec.diagnostics import Diagnostic, SpecError
from cnnspec.spec import loads
from cnnspec.spec.mend import mend

SPEC = """\
cnnspec: 1
name: first
vars: {width: 8}
input: [1, 28, 28]
blocks: {unit: {params: {size: 3}, layers: [{type: avg_pool2d, kernel_size: $size}]}}
layers:
  - {type: conv2d, filters: 8, kernel_size: 3}
  - relu
  - {use: unit, with: {size: 2}}
  - flatten
  - {type: dense, units: 10}
data: {source: mnist, validation: {fraction: 0.1}, augment: [{type: shift, pixels: 1}]}
train: {epochs: 3, loss: softmax_cross_entropy, optimizer: sgd, clip: {norm: 1.0}, early_stopping: {patience: 2}}
require: {test.accuracy: ">= 0.9"}
"""


def found_in(text: str) -> list[Diagnostic]:
    try:
        checked(loads(text, "f.yaml"))
    except SpecError as error:
        return list(error.diagnostics)
    return []


def test_the_spec_without_a_mistake() -> None:
    assert found_in(SPEC) == []


MENDED = [
    ("kernel_size: 3}", "kernel: 3}", "write kernel_size: ..."),
    ("kernel_size: 3}", "kernel: (3, 3)}", "write kernel_size: ..."),
    ("filters: 8,", "filters:8,", "write filters: 8"),
    ("type: conv2d", "type:conv2d", "write type: conv2d"),
    ("filters: 8,", "filters: width,", "write $width"),
    ("filters: 8,", 'filters: "{{ width }}",', "write $width"),
    ("filters: 8,", "filters: 8 channels,", "write 8"),
    ("units: 10", "neurons: 10", "did you mean units?"),
    ("- relu", "- relu,", "did you mean relu?"),
    ("- relu", "- nn.ReLU()", "did you mean relu?"),
    ("- flatten", "- Flatten( )", "did you mean flatten?"),
    ("name: first", "name: 1", 'write "1"'),
    ("softmax_cross_entropy", "nn.CrossEntropyLoss()", "did you mean softmax_cross_entropy?"),
    ("{source: mnist, validation: {fraction: 0.1}, augment: [{type: shift, pixels: 1}]}", "mnist", "{source: mnist}"),
    ("validation: {fraction: 0.1}", "validation: 10%", "write validation: {fraction: 0.1}"),
    ("fraction: 0.1", "fraction: 10 %", "write 0.1"),
    ("epochs: 3", "epochs: 3 epochs", "write 3"),
    ("clip: {norm: 1.0}", "clip: 1.0", "write clip: {norm: 1.0}"),
    ("early_stopping: {patience: 2}", "early_stopping: true", "write early_stopping: {}"),
    ('">= 0.9"', "0.9", 'write ">= 0.9"'),
    ('">= 0.9"', "'> 90%'", 'write "> 0.9"'),
]


@pytest.mark.parametrize(("right", "wrong", "help"), MENDED, ids=[wrong for _, wrong, _ in MENDED])
def test_fixes_make_it_right(right: str, wrong: str, help: str) -> None:
    text = SPEC.replace(right, wrong, 1)
    found = found_in(text)
    assert help in (found[0].help or "")
    mended, fixes = mend(text, "f.yaml", found)
    assert fixes == len(found)
    assert [error for error in found_in(mended) if error.code != "unknown-metric"] == []


TOLD = [
    ("{type: conv2d, filters: 8, kernel_size: 3}", "conv2d(8, 3)", "write {type: conv2d, ...}, with its settings as"),
    ("{type: conv2d, filters: 8, kernel_size: 3}", "[conv2d, 8, 3]", "write {type: conv2d, ...}"),
    ("optimizer: sgd", "optimizer: sgd 0.1", "write {type: sgd, ...}, with its settings as keys"),
    ("- relu", "- activation: relu", "write - relu"),
    ("units: 10", "units: 10, dropout: 0.5", "write - {type: dropout, rate: ...} below the layer"),
    ("with: {size: 2}", "size: 2", "write with: {size: ...}"),
    ("  - relu\n", "  - relu\n    - tanh\n", "align its lines with their neighbours: they are read as one text"),
    ("input: [1, 28, 28]", "input: [28, 28, 1]", "write input: [1, 28, 28], or resize the images under"),
    *(
        ("input: [1, 28, 28]", f"input: {given}", "write [1, 28, 28]")
        for given in ("(1, 28, 28)", "1, 28, 28", "1x28x28", "[28, 28]", "[64, 1, 28, 28]", "[1 28 28]")
    ),
    ("augment: [{type: shift, pixels: 1}]", "augment: {shift: 1}", None),
    ("units: 10", "10", "add units: an integer at least 1"),
    ("require: {", "sweep: {grid: {train.epochs: 5}}\nrequire: {", "add values: a mapping"),
]


@pytest.mark.parametrize(("right", "wrong", "help"), TOLD, ids=[wrong for _, wrong, _ in TOLD])
def test_the_first_finding_names_the_cure(right: str, wrong: str, help: str | None) -> None:
    found = found_in(SPEC.replace(right, wrong, 1))[0]
    assert (found.help or "").startswith(help or "")
    if help is None:
        assert "a list of values, each a name or a mapping with a type" in found.message
