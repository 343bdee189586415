"""The same file gives the same bits in training, evaluation and prediction: those of Pillow and the guide's rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnspec import registry
from cnnspec.api import Model, compile
from cnnspec.data import Data, DataSettings, Pipeline, open_data
from cnnspec.data.asked import read_asked
from cnnspec.diagnostics import RunError
from cnnspec.kernels.step import Array
from cnnspec.spec import loads
from cnnspec.target import Target

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

BACKGROUND = (255, 255, 255)
STEPS: dict[str, dict[str, Any]] = {
    "resize": {"size": [9, 7]},
    "pad": {"padding": [1, 0, 2, 3], "value": 5},
    "scale": {"minimum": -1, "maximum": 1},
    "normalize": {"mean": [0.2, 0.4, 0.5], "std": [0.3, 0.2, 0.25]},
}


def draw(folder: Path, number: int, random: np.random.Generator) -> Path:
    """A picture file of some mode, depth, size, format and orientation."""
    h, w = random.integers(1, 60, 2).tolist()
    mode = str(random.choice(["1", "L", "LA", "RGB", "RGBA", "P", "P key", "CMYK", "I;16", "F", "YCbCr"]))
    pixels = random.integers(0, 256, (h, w, 4)).astype(np.uint8)
    options: dict[str, Any] = {}
    if mode == "I;16":
        picture, suffixes = Image.fromarray(random.integers(0, 65536, (h, w)).astype(np.uint16)), ["png", "tif"]
    elif mode == "F":
        picture, suffixes = Image.fromarray(random.random((h, w)).astype(np.float32)), ["tif"]
    elif mode.startswith("P"):
        picture = Image.fromarray(pixels[:, :, :3]).quantize(16)
        options = {"transparency": int(random.integers(16))} if mode == "P key" else {}
        suffixes = ["png", "gif"]
    elif mode in ("LA", "RGBA"):
        picture, suffixes = Image.fromarray(pixels[:, :, : len(mode)], mode), ["png", "tif"]
        suffixes += ["webp"] if mode == "RGBA" else []
    else:
        picture = Image.fromarray(pixels[:, :, :3]).convert(mode)
        suffixes = {"CMYK": ["jpg", "tif"], "YCbCr": ["jpg", "tif"], "1": ["png", "bmp"]}.get(
            mode, ["png", "jpg", "tif", "bmp", "gif", "webp", "ppm"]
        )
    suffix = str(random.choice(suffixes))
    if suffix in ("jpg", "png", "tif", "webp") and random.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = int(random.integers(1, 9))
        options["exif"] = exif
    if suffix in ("webp", "gif", "tif", "png") and mode in ("L", "RGB") and random.random() < 0.3:
        options |= {"save_all": True, "append_images": [picture.point(lambda value: 255 - value)]}
    if suffix == "webp":
        options["lossless"] = True
    if suffix == "tif" and mode == "YCbCr":
        options["compression"] = "tiff_lzw"  # uncompressed ones are files that some versions of Pillow cannot read
    path = folder / f"{number:03}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def seen(path: Path, mode: str, size: tuple[int, int]) -> Array:
    """The picture as Pillow reads it, by the rules of the guide: (c, h, w)."""
    with Image.open(BytesIO(path.read_bytes())) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):
            picture = Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
        elif picture.mode == "F":
            picture = Image.fromarray(np.rint(np.asarray(picture) * 255).astype(np.uint8))
        elif picture.has_transparency_data:
            rgba = np.asarray(picture.convert("RGBA")).astype(float)
            share = rgba[:, :, 3:] / 255
            picture = Image.fromarray(np.rint(rgba[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8))
        picture = picture.convert("RGB").convert(mode)
    columns = picture.resize((size[1], picture.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(columns.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def every(data: Data) -> list[bytes]:
    """The images of all splits, in an order of their own."""
    return sorted(image.tobytes() for split in data.splits.values() for image in np.asarray(split.pixels))


def reopened(data: Data, settings: DataSettings, input: tuple[int, ...]) -> Pipeline:
    """The pipeline as a run gives it back."""
    return Pipeline.of(settings, input).restored(json.loads(json.dumps(data.pipeline.record())), "run.json")


def asked(paths: list[Path], pipeline: Pipeline) -> Array:
    found = list(read_asked(paths, pipeline, 16, 2))
    assert all(item.error is None for item in found), [str(item.error) for item in found]
    return np.concatenate([item.images for item in found if item.images is not None])


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_picture_files_of_every_kind(tmp_path: Path, mode: str, count: int) -> None:
    random = np.random.default_rng(count)
    paths = [draw(tmp_path / "train" / "abc"[number % 3], number, random) for number in range(count)]
    size = (24, 17)
    settings = DataSettings.of(source={"type": "image_folder", "mode": mode, "size": size})
    channels = 1 if mode == "grey" else 3
    data = open_data(settings, seed=0, data_dir=tmp_path, input=(channels, *size))
    again = open_data(
        settings,
        seed=0,
        data_dir=tmp_path,
        classes=data.class_names,
        shape=data.pipeline.shape,
        input=(channels, *size),
    )
    predicted = asked(paths, reopened(data, settings, (channels, *size)))
    for path, image in zip(paths, predicted, strict=True):
        np.testing.assert_array_equal(image, seen(path, "L" if mode == "grey" else "RGB", size), str(path))
    assert every(data) == every(again) == sorted(image.tobytes() for image in predicted)


def pictures(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    for number, image in enumerate(images):
        path = folder / "train" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return {"type": "image_folder"}, sorted((folder / "train").rglob("*.png"))


def npz(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    np.savez(folder / "train.npz", x=images, y=np.arange(len(images)) % 2)
    np.save(folder / "last.npy", images.transpose(0, 2, 3, 1))
    return {"type": "npz"}, [folder / "train.npz"]


def npz_with_channels_last(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    np.savez(folder / "train.npz", x=images.transpose(0, 2, 3, 1), y=np.arange(len(images)) % 2)
    return {"type": "npz", "layout": "nhwc"}, [folder / "train.npz"]


def arrays_of_one_picture(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    source, _ = npz(folder, images)
    for number, image in enumerate(images):
        np.save(folder / f"{number}.npy", image.transpose(1, 2, 0).astype(np.int64))
    return source, [folder / f"{number}.npy" for number in range(len(images))]


def csv(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    table = np.column_stack([np.arange(len(images)) % 2, images.reshape(len(images), -1)])
    np.savetxt(folder / "train.csv", table, "%d", delimiter=",")
    np.savetxt(folder / "test.csv", table[:, 1:], "%d", delimiter=",")
    return {"type": "csv", "shape": list(images.shape[1:])}, [folder / "test.csv"]


def list_of_pictures(folder: Path, images: Array) -> tuple[dict[str, Any], list[Path]]:
    _, paths = pictures(folder, images)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in paths]
    (folder / "list.csv").write_text("\n".join(["file,label", *lines]), encoding="utf-8")
    return {"type": "image_folder", "train": "list.csv"}, [folder / "list.csv"]


@pytest.mark.parametrize("step", sorted(registry.table("transform")))
@pytest.mark.parametrize("made", [pictures, npz, npz_with_channels_last, arrays_of_one_picture, csv, list_of_pictures])
def test_every_source_and_every_step(
    tmp_path: Path, step: str, made: Callable[[Path, Array], tuple[dict[str, Any], list[Path]]]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 10)).astype(np.uint8)
    source, paths = made(tmp_path, images)
    settings = DataSettings.of(source=source, preprocess=[{"type": step, **STEPS[step]}])
    input = settings.transformed((3, 8, 10))
    data = open_data(settings, seed=0, data_dir=tmp_path, input=input, output=(2,))
    again = open_data(
        settings, seed=0, data_dir=tmp_path, input=input, classes=data.class_names, shape=data.pipeline.shape
    )
    predicted = asked(paths, reopened(data, settings, input))
    assert every(data) == every(again) == sorted(image.tobytes() for image in predicted)


def model_of(source: str, preprocess: list[dict[str, Any]], input: tuple[int, ...]) -> Model:
    """A network whose output is its input."""
    return compile(
        loads(
            f"cnnspec: 1\ninput: {list(input)}\nlayers: [flatten]\n"
            f"data: {{source: {source}, preprocess: {json.dumps(preprocess)}}}\n"
        ),
        threads=1,
    )


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_predict_takes_pixels_of_any_type_through_all_steps(dtype: str) -> None:
    source = "{type: synthetic, shape: [3, 8, 10]}"
    model = model_of(source, [{"type": step, **STEPS[step]} for step in ("pad", "scale", "normalize")], (3, 9, 15))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 10))
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 0), (2, 3)), constant_values=5)
    mean, std = (np.array(STEPS["normalize"][name]).reshape(3, 1, 1) for name in ("mean", "std"))
    expected = (padded / 255 * 2 - 1 - mean) / std
    found = model.predict(pixels.astype(dtype))
    np.testing.assert_allclose(found, expected.reshape(5, -1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.predict(padded.astype(dtype)), found)  # done already
    np.testing.assert_array_equal(
        model.outputs(expected.reshape(5, 3, 9, 15).astype(np.float32)), expected.reshape(5, -1).astype(np.float32)
    )


def test_predict_refuses_what_it_would_have_to_guess() -> None:
    model = model_of("{type: synthetic, shape: [3, 8, 10]}", [], (3, 8, 10))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 10))
    for images, message in (
        (pixels / 255, "expected pixels from 0 to 255, got float64 from 0 to 1"),
        (pixels * 257, "expected pixels from 0 to 255, got int64 from 0 to 65535"),
        (pixels.transpose(0, 2, 3, 1), r"expected images of shape \(n, 3, 8, 10\), got \(5, 8, 10, 3\)"),
        (pixels[:, :, :, :9], r"expected images of shape \(n, 3, 8, 10\), got \(5, 3, 8, 9\)"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            model.predict(images)
        assert caught.value.__notes__[0].startswith("help: ")
        with pytest.raises(ValueError, match=message):
            model.evaluate(images, np.zeros(5, np.int64))
    assert caught.value.__notes__ == ["help: resize them as the training images were"]


def test_a_network_without_data_takes_numbers_as_they_are() -> None:
    model = compile(loads("cnnspec: 1\ninput: [2, 3, 3]\nlayers: [flatten]\n"), threads=1)
    values = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(values), values.reshape(4, -1))


def test_a_saved_model_knows_its_training_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.arange(20 * 48).reshape(20, 1, 6, 8).astype(np.uint8), y=np.arange(20) % 2)
    spec = loads(
        "cnnspec: 1\ninput: [1, 8, 8]\nlayers: [flatten, {type: dense, units: 2}]\n"
        "data: {source: npz, preprocess: [{type: resize, size: 8}]}\ntrain: {epochs: 1, batch_size: 8}\n"
    )
    model, other = compile(spec, threads=1), compile(spec, threads=1)
    model.fit(data_dir=tmp_path)
    model.save(tmp_path / "model.npz")
    other.load(tmp_path / "model.npz")
    assert other.pipeline is not None
    assert other.pipeline == model.pipeline
    assert other.pipeline.shape == (1, 6, 8)
    assert other.target == model.target != Target()


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"pipeline": {"shape": [1, 8, 8]}, "classes": []},
        {"pipeline": {"shape": [1, 8, 8], "layout": "nchw", "scale": "2"}, "classes": []},
        {"pipeline": {"shape": [8, 8], "layout": "nchw", "scale": "1/255"}, "classes": []},
        {"pipeline": {"shape": [1, 8, 8], "layout": "chwn", "scale": "1/255"}, "classes": []},
        {"pipeline": {"shape": [1, 8, 8], "layout": "nchw", "scale": "1/255"}, "classes": [1]},
        {"pipeline": {"shape": [1, 8, 9], "layout": "nchw", "scale": "1/255"}, "classes": ["a"]},
        {"pipeline": {"shape": [0, -8, 8], "layout": "nchw", "scale": "1/255"}, "classes": ["a"]},
    ],
)
def test_a_record_that_was_changed_is_refused(record: dict[str, Any]) -> None:
    pipeline = Pipeline.of(DataSettings.of(source="digits"), (1, 8, 8))
    with pytest.raises(RunError, match=r"run.json: (pipeline: images of|expected pipeline)"):
        pipeline.restored(record, "run.json")
    assert pipeline.restored(pipeline.record(), "run.json") == pipeline
