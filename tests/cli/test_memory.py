"""What does not fit into memory is forecast: what is needed, what is there, what to lower."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cnnspec.api import compile
from cnnspec.cli import main
from cnnspec.data.folder import ImageFolder
from cnnspec.diagnostics import RunError
from cnnspec.memory import available_bytes, bytes_text, require_memory
from cnnspec.plan import inference_footprint

WIDE = """\
cnnspec: 1
name: wide
input: [1, 8, 8]
layers: [flatten, {type: dense, units: 2000000}, relu, {type: dense, units: 2000000}, relu, {type: dense, units: 10}]
data: {source: digits}
train: {epochs: 1, batch_size: 8}
"""
DEEP = """\
cnnspec: 1
name: deep
input: [1, 8000, 8000]
layers: [{type: conv2d, filters: 64, kernel_size: 3}, relu, global_avg_pool2d, flatten, {type: dense, units: 10}]
data: {source: digits, preprocess: [{type: resize, size: [8000, 8000]}]}
train: {epochs: 1, batch_size: 4096}
"""


def test_a_network_that_is_too_large_is_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wide.yaml").write_text(WIDE)
    (tmp_path / "deep.yaml").write_text(DEEP)
    for name, needed, help in (
        (
            "wide",
            "a network of 4,000,152,000,010 parameters needs",
            "make dense_2 smaller: it has 4,000,002,000,000 of the",
        ),
        ("deep", "training at batch 4096 needs", "lower train.batch_size (4096)"),
    ):
        assert main(["train", str(tmp_path / f"{name}.yaml"), "--out", str(tmp_path / "runs")]) == 4
        error = capsys.readouterr().err
        assert f"cnnspec: error: {needed}" in error
        assert "GiB of memory, " in error
        assert error.splitlines()[-1].startswith(f"help: {help}")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(RunError, match=r"a network of 4,000,152,000,010 parameters needs .* of memory, .* is there"):
        compile(tmp_path / "wide.yaml")


def test_memory_that_is_refused_is_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep.yaml").write_text(DEEP)
    for error in (MemoryError("Unable to allocate 5. GiB"), OSError(12, "Cannot allocate memory")):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("cnnspec.cli.summary.spec_of", refuse)
        assert main(["summary", str(tmp_path / "deep.yaml")]) == 4
        assert capsys.readouterr().err.startswith("cnnspec: error: out of memory")


def test_what_is_there_is_known_on_linux() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems may not say")
    available = available_bytes()
    assert available is not None
    assert available > 0
    require_memory(0, "nothing", "")
    with pytest.raises(RunError, match=r"a map needs .* of memory, .* is there"):
        require_memory(available + 2**50, "a map", "")


@pytest.mark.parametrize(("count", "text"), [(5, "5 B"), (2048, "2.0 KiB"), (3 * 2**20, "3.0 MiB"), (2**30, "1.0 GiB")])
def test_bytes_are_written_with_their_unit(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_large_maps_are_evaluated_in_smaller_parts(tmp_path: Path) -> None:
    spec = DEEP.replace("8000", "600").replace("batch_size: 4096", "batch_size: 2")
    (tmp_path / "large.yaml").write_text(spec)
    model = compile(tmp_path / "large.yaml", threads=1)
    assert model.inference_batch < 32
    for batch, fits in ((model.inference_batch, True), (2 * model.inference_batch, False)):
        assert (inference_footprint(model.graph, batch, model.spec.train).arena <= 256 * 2**20) == fits
    assert np.isfinite(model.predict(np.zeros((1, 1, 600, 600), np.uint8))).all()


def test_a_folder_that_is_too_large_is_forecast_at_its_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(10):
        path = tmp_path / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (64, 32)).save(path)
    monkeypatch.setattr("cnnspec.memory.available_bytes", lambda: 100_000)
    with pytest.raises(RunError, match=r"reading 10 pictures of 3x32x64 needs 120.0 KiB of memory, 97.7 KiB is there"):
        ImageFolder().read(tmp_path, False)
    assert ImageFolder.of(size=8).read(tmp_path, False).splits["train"].pixels.shape == (8, 3, 8, 8)
