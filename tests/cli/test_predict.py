"""`predict` as a job: whatever paths name, a table of answers, and what becomes of files that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cnnspec.cli import main
from cnnspec.kernels.step import Array
from cnnspec.train.records import about_text, read_about

Image = pytest.importorskip("PIL.Image")

CLASSES = """\
cnnspec: 1
name: shades
input: [3, 8, 8]
layers: [flatten, {type: dense, units: 2}]
data: {source: {type: image_folder, size: 8, mode: rgb}}
train: {epochs: 20, batch_size: 8, optimizer: {type: adam, learning_rate: 0.02}}
"""
PIXELS = """\
cnnspec: 1
name: pixels
input: [3, 8, 8]
layers: [flatten, {type: dense, units: 2}]
data: {source: LAYOUT}
train: {epochs: 20, batch_size: 8, optimizer: {type: adam, learning_rate: 0.02}}
"""
AUTOENCODER = """\
cnnspec: 1
name: copy
input: [1, 8, 8]
layers: [{type: conv2d, filters: 1, kernel_size: 1, activation: sigmoid}]
data: {source: digits}
train: {epochs: 1, batch_size: 64, loss: {type: mean_squared_error, target: input}}
"""

Captured = pytest.CaptureFixture[str]


def shade(label: int, *shape: int) -> Array:
    return (np.random.default_rng(label).random(shape) * 40 + 30 + 140 * label).astype(np.uint8)


def trained(folder: Path, spec: str, data: Path | None = None) -> str:
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    words = ["train", str(folder / "spec.yaml"), "--quiet", "--out", str(folder / "runs")]
    assert main([*words, *(["--data", str(data)] if data else [])]) == 0
    (run,) = (folder / "runs").iterdir()
    return str(run)


@pytest.fixture(name="run")
def _run(tmp_path: Path, capsys: Captured) -> str:
    for label, name in enumerate(("dark", "light")):
        for number in range(10):
            path = tmp_path / "pics" / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shade(label, 20, 17, 3)).save(path)
    run = trained(tmp_path, CLASSES, tmp_path / "pics")
    capsys.readouterr()
    return run


def predicted(capsys: Captured, *words: str, status: int = 0) -> list[dict[str, str]]:
    assert main(["predict", *words, "--format", "csv"]) == status
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_folders_patterns_and_standard_input(
    run: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pics" / "train"
    (folder / "dark" / "._0.png").write_text("a Mac's companion")
    (folder / "dark" / "notes.txt").write_text("no picture")
    names = [str(folder / name / f"{number}.png") for name in ("dark", "light") for number in range(10)]
    whole = predicted(capsys, run, str(folder))
    assert [row["image"] for row in whole] == names
    assert all(row["class"] == Path(row["image"]).parent.name for row in whole)
    assert list(whole[0]) == ["image", "class", "score", "class_2", "score_2"]
    assert float(whole[0]["score"]) + float(whole[0]["score_2"]) == pytest.approx(1)
    assert predicted(capsys, run, str(folder / "*" / "*.png")) == whole
    assert predicted(capsys, run, str(tmp_path / "**" / "*.png"), "--top", "1")[0] == {
        key: whole[0][key] for key in ("image", "class", "score")
    }
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*names[:3], "", names[15]])))
    some = predicted(capsys, run, "-")
    assert [row["image"] for row in some] == [*names[:3], names[15]]
    for row, other in zip(some, [*whole[:3], whole[15]], strict=True):
        assert float(row["score"]) == pytest.approx(float(other["score"]))


def test_standard_input_without_a_path(run: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["predict", run, "-"]) == 4
    assert "expected paths on standard input, got none" in capsys.readouterr().err


def test_a_bad_file_is_named_and_ends_nothing(run: str, tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "asked"
    folder.mkdir()
    for number in range(200):
        Image.fromarray(shade(number % 2, 9, 9, 3)).save(folder / f"{number:03}.png")
    for number in (0, 77, 199):
        (folder / f"{number:03}.png").write_text("no picture")
    assert main(["predict", run, str(folder), str(tmp_path / "nowhere.png"), str(tmp_path / "*.tif"), "--json"]) == 4
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["image"] for row in rows] == [
        str(folder / f"{number:03}.png") for number in range(200) if number not in (0, 77, 199)
    ]
    assert [row["classes"][0]["class"] for row in rows[:3]] == ["light", "dark", "light"]
    for name in ("000.png", "077.png", "199.png"):
        assert f"{name}: cannot be read as a picture" in err
    assert "nowhere.png: no such file" in err
    assert "*.tif: no file matches" in err
    assert err.splitlines()[-1] == "cnnspec: error: 5 paths could not be read; all others were"
    assert "note: 197 pictures" not in err  # their size is what the spec declares
    (tmp_path / "empty").mkdir()
    assert main(["predict", run, str(tmp_path / "empty")]) == 4
    assert "empty: no picture and no array in this folder" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_what_has_no_end_is_refused_before_it_is_read(
    run: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.npy", "c.csv"):
        os.mkfifo(tmp_path / "in" / name)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    words = [
        str(tmp_path / "in"),
        str(tmp_path / "in" / "*.csv"),
        "/dev/zero",
        str(tmp_path / "sparse.png"),
        "x" * 5000,
        "~nobody-is-called-so/a",
    ]
    assert main(["predict", run, *words]) == 4
    error = capsys.readouterr().err
    assert error.count("it is a pipe or a device, not a file") == 4
    assert "sparse.png: cannot be read as a picture: expected at most" in error
    assert "7 paths could not be read; all others were" in error
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 100_000))
    assert main(["predict", run, "-"]) == 4
    assert "expected at most 32,768 letters a line" in capsys.readouterr().err


def test_arrays_in_every_layout_and_tables(tmp_path: Path, capsys: Captured) -> None:
    images = np.stack([shade(number % 2, 3, 8, 8) for number in range(20)])
    np.savez(tmp_path / "train.npz", x=images.transpose(0, 2, 3, 1), y=np.arange(20) % 2)
    run = trained(tmp_path, PIXELS.replace("LAYOUT", "{type: npz, layout: nhwc}"), tmp_path)
    np.save(tmp_path / "one.npy", images[1].transpose(1, 2, 0))
    np.save(tmp_path / "large.npy", images[1].transpose(1, 2, 0).repeat(4, 0).repeat(3, 1))
    np.save(tmp_path / "floats.npy", images.astype(np.float32))
    np.save(tmp_path / "scaled.npy", images / 255)
    table = images.reshape(20, -1)
    np.savetxt(tmp_path / "test.csv", table, "%d", delimiter=",")
    heading = ",".join(["label", *(f"pixel{number}" for number in range(192))])
    numbered = np.column_stack([np.arange(20), table])
    np.savetxt(tmp_path / "headed.csv", numbered, "%d", delimiter=";", header=heading.replace(",", ";"), comments="")
    np.savetxt(tmp_path / "counted.csv", table, "%d", delimiter=",", header=",".join(map(str, range(192))), comments="")
    (tmp_path / "spoiled.csv").write_text((tmp_path / "test.csv").read_text()[1:].lstrip("0123456789"))
    capsys.readouterr()
    whole = [str(number % 2) for number in range(20)]
    for name, expected in (
        ("train.npz", whole),
        ("one.npy", ["1"]),
        ("large.npy", ["1"]),
        ("floats.npy", whole),
        ("test.csv", whole),
        ("headed.csv", whole),
        ("counted.csv", whole),
    ):
        rows = predicted(capsys, run, str(tmp_path / name))
        assert [row["class"] for row in rows] == expected
        last = f"[{len(rows) - 1}]" if len(rows) > 1 else ""
        assert rows[-1]["image"] == f"{tmp_path / name}{last}"
    assert main(["predict", run, str(tmp_path / "spoiled.csv")]) == 4
    assert "spoiled.csv:1: column 1: expected a pixel, got ''" in capsys.readouterr().err
    assert main(["predict", run, str(tmp_path / "large.npy"), str(tmp_path / "scaled.npy")]) == 4
    err = capsys.readouterr().err
    assert "note: 1 picture of another size: resized to 8x8" in err
    assert "scaled.npy: expected pixels from 0 to 255, got float64 from 0." in err
    assert "help: numpy.rint(x * 255).astype('uint8')" in err


def test_output_goes_to_a_file(run: str, tmp_path: Path, capsys: Captured) -> None:
    picture = str(tmp_path / "pics" / "train" / "dark" / "0.png")
    for name in ("found.csv", "found.jsonl", "found.txt", "found.npy"):
        assert main(["predict", run, picture, picture, "-o", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == ""
    assert (tmp_path / "found.csv").read_text().splitlines()[1].startswith(f"{picture},dark,0.")
    assert json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])["image"] == picture
    assert (tmp_path / "found.txt").read_text().splitlines()[1].startswith(f"{picture}: dark ")
    assert np.load(tmp_path / "found.npy").shape == (2, 2)
    assert main(["predict", run, picture, "-o", str(tmp_path / "nowhere" / "found.csv")]) == 4
    assert "cannot write" in capsys.readouterr().err
    assert main(["predict", run, picture, "-o", str(tmp_path / "found.png")]) == 4
    assert "an output of (2,) is no picture" in capsys.readouterr().err


def test_an_autoencoders_picture_can_be_had(tmp_path: Path, capsys: Captured) -> None:
    run = trained(tmp_path, AUTOENCODER)
    np.save(tmp_path / "digits.npy", np.arange(128, dtype=np.uint8).reshape(2, 8, 8))
    capsys.readouterr()
    assert main(["predict", run, str(tmp_path / "digits.npy"), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["shape"] for row in rows] == [[1, 8, 8]] * 2
    assert main(["predict", run, str(tmp_path / "digits.npy"), "-o", str(tmp_path / "outputs.npy")]) == 0
    assert main(["predict", run, str(tmp_path / "digits.npy"), "-o", f"{tmp_path / 'made'}/"]) == 0
    outputs = np.load(tmp_path / "outputs.npy")
    for name, output in zip(("digits-0.png", "digits-1.png"), outputs, strict=True):
        with Image.open(tmp_path / "made" / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.rint(output[0] * 255))
    assert main(["predict", run, str(tmp_path / "digits.npy"), "-o", str(tmp_path / "one.png")]) == 4
    assert "one.png holds one picture, and there are several images" in capsys.readouterr().err


def test_what_is_converted_is_told_once(run: str, tmp_path: Path, capsys: Captured) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / f"logo{number}.png")
    assert main(["predict", run, *(str(tmp_path / f"logo{number}.png") for number in range(3))]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == ["cnnspec: note: 3 pictures had transparency: laid on white"]
    assert all(line.split(": ")[1].startswith("light ") for line in out.splitlines())


def test_a_run_whose_record_was_changed_is_refused(run: str, tmp_path: Path, capsys: Captured) -> None:
    about = read_about(Path(run) / "run.json")
    assert about["pipeline"] == {"shape": [3, 8, 8], "layout": "nchw", "scale": "1/255"}
    assert about["classes"] == ["dark", "light"]
    about["pipeline"]["shape"] = [3, 9, 8]
    (Path(run) / "run.json").write_text(about_text(about))
    assert main(["predict", run, str(tmp_path / "pics")]) == 4
    assert "run.json: pipeline: images of 3x9x8 do not become the input 3x8x8" in capsys.readouterr().err


def test_pickled_objects_are_refused(run: str, tmp_path: Path, capsys: Captured) -> None:
    np.save(tmp_path / "objects.npy", np.array([1, None], object), allow_pickle=True)
    assert main(["predict", run, str(tmp_path / "objects.npy")]) == 4
    said = capsys.readouterr().err
    assert "objects.npy: holds pickled objects, which are refused" in said
    assert "help: save pixels 0..255 as uint8" in said


def test_a_file_that_is_no_picture_by_its_name_is_told_what_can_be_read(
    run: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "more.zip").write_bytes(b"PK")
    assert main(["predict", run, str(tmp_path / "more.zip")]) == 4
    said = "help: give pictures, tables (.csv, .parquet) or arrays (.npy, .npz, IDX); unpack an archive"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("name", "start"), [("a.CSV", "image,class"), ("a.txt", "PATH: "), ("a", "PATH: ")])
def test_the_name_of_the_output_says_its_format(
    run: str, tmp_path: Path, capsys: Captured, name: str, start: str
) -> None:
    picture = tmp_path / "one.png"
    Image.fromarray(shade(0, 8, 8, 3)).save(picture)
    assert main(["predict", run, str(picture), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text("utf-8").startswith(start.replace("PATH", str(picture)))
    assert main(["predict", run, str(picture), "-o", str(tmp_path / "a.NPY")]) == 0
    assert np.load(tmp_path / "a.NPY").shape == (1, 2)
    for other in ("a.tsv", "a.json", "a.npz"):
        capsys.readouterr()
        assert main(["predict", run, str(picture), "-o", str(tmp_path / other)]) == 4
        assert "no form of answers ends in" in capsys.readouterr().err
        assert not (tmp_path / other).exists()
    assert main(["predict", run, str(picture), "--format", "jsonl", "-o", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["image"] == str(picture)
