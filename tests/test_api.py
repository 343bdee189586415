"""The Python interface: it refuses what `validate` refuses, and leaves the process as it found it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import cnnspec
from cnnspec.cli.validate import check_file
from cnnspec.diagnostics import RunError, SpecError
from cnnspec.spec import loads

NET = """\
cnnspec: 1
input: [1, 8, 8]
layers: [flatten, {id: logits, type: dense, units: 10}]
data: {source: digits}
train: {epochs: 1, batch_size: 64}
"""


def codes(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(loads(text))
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def test_the_output_must_fit_the_classes() -> None:
    assert codes(NET.replace("units: 10", "units: 5")) == ["output-mismatch"]


def test_expected_figures_must_be_met() -> None:
    assert codes(NET + "expect: {params: 7, infer_memory: 1 KiB}\n") == ["expect-not-met", "expect-not-met"]


def test_all_findings_come_at_once() -> None:
    text = NET.replace("[1, 8, 8]", "[1, 9, 9]").replace("units: 10", "units: 5") + "expect: {params: 7}\n"
    assert sorted(codes(text)) == ["expect-not-met", "input-mismatch", "output-mismatch"]


CORPUS = Path(__file__).parent / "spec" / "bad"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_validate_refuses_is_refused(path: Path) -> None:
    expected = [found for found in check_file(str(path), allow_plugins=True) if found.severity == "error"]
    if not expected:
        pytest.skip("warnings alone")
    with pytest.raises(SpecError) as caught:
        cnnspec.compile(path)
    assert [found for found in caught.value.diagnostics if found.severity == "error"] == expected


def test_a_file_and_changes_to_it(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(NET, encoding="utf-8")
    train = cnnspec.compile(path, ["train.batch_size=5"]).spec.train
    assert train is not None
    assert train.batch_size == 5


def test_training_needs_data() -> None:
    model = cnnspec.compile(loads(NET.replace("data: {source: digits}\n", "")), threads=1)
    with pytest.raises(RunError, match="no data section"):
        model.fit()


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_threads_are_put_back(threads: int) -> None:
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        model = cnnspec.compile(loads(NET), threads=threads)
        model.predict(np.zeros((3, 1, 8, 8), np.float32))
        assert blas_threads() == before
        model.fit()
        assert blas_threads() == before


def test_blas_has_one_thread_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnspec.data import open_data
    from cnnspec.train import fit

    model = cnnspec.compile(loads(NET), threads=1)
    assert model.spec.data is not None
    data = open_data(model.spec.data, seed=0, input=model.spec.input, output=model.graph.output.shape)
    seen: list[int] = []
    with threadpool_limits(3, user_api="blas"):
        for _ in fit(model, data, watch=lambda progress: seen.extend(blas_threads()), max_steps=2):
            assert set(blas_threads()) == {3}
    assert set(seen) == {1}
