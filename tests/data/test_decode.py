"""Picture files of every kind against Pillow's own readings and the rules that the guide states."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnspec.data.decode import MOST_PIXELS, PictureRules, read_picture, tell
from cnnspec.diagnostics import DataError
from cnnspec.kernels.step import Array

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

AS_IT_IS, GREY = PictureRules(), PictureRules("grey")


def noise(*shape: int, dtype: type = np.uint8, top: int = 256) -> Array:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def read(path: Path, rules: PictureRules = AS_IT_IS) -> tuple[Array, set[str]]:
    found = read_picture(path, rules)
    assert found.pixels.dtype == np.uint8
    return found.pixels, set(found.conversions)


def laid(colours: Array, alpha: Array, background: tuple[int, int, int] = (255, 255, 255)) -> Array:
    """Colours (h, w, 3) over a background, in exact numbers."""
    share = alpha.astype(float)[:, :, None] / 255
    mixed = np.rint(colours * share + np.array(background) * (1 - share))
    return mixed.astype(np.uint8).transpose(2, 0, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_picture_is_turned_as_its_orientation_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"picture.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(noise(6, 9, 3))
    upright.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}), lossless=True)
    if suffix == "jpg":
        with Image.open(path) as picture:
            expected = np.asarray(ImageOps.exif_transpose(picture))
    else:
        turns = (None, None, 0, 3, 1, 5, 4, 6, 2)  # of Pillow's Transpose, by the orientation
        turn = turns[orientation]
        expected = np.asarray(upright if turn is None else upright.transpose(turn))
    pixels, conversions = read(path)
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))
    assert pixels.shape == ((3, 9, 6) if orientation > 4 else (3, 6, 9))
    assert conversions == (set() if orientation == 1 else {"orientation"})


def test_transparency_is_laid_on_white_or_another_background(tmp_path: Path) -> None:
    pixels = noise(7, 5, 4)
    Image.fromarray(pixels).save(tmp_path / "logo.png")
    for background in ((255, 255, 255), (10, 200, 30)):
        found, conversions = read(tmp_path / "logo.png", PictureRules(background=background))
        np.testing.assert_array_equal(found, laid(pixels[:, :, :3], pixels[:, :, 3], background))
        assert conversions == {"transparency"}
    pixels[:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    found, conversions = read(tmp_path / "opaque.png")
    np.testing.assert_array_equal(found, pixels[:, :, :3].transpose(2, 0, 1))
    assert not conversions


def test_grey_with_transparency_stays_grey(tmp_path: Path) -> None:
    pixels = noise(7, 5, 2)
    Image.fromarray(pixels, "LA").save(tmp_path / "grey.png")
    found, conversions = read(tmp_path / "grey.png")
    np.testing.assert_array_equal(found, laid(pixels[:, :, :1].repeat(3, 2), pixels[:, :, 1])[:1])
    assert conversions == {"transparency"}


def test_a_palette_with_transparency_is_no_damage(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(16, 16, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / "levels.png", transparency=bytes(range(256)))
    picture.save(tmp_path / "key.gif", transparency=int(np.asarray(picture)[0, 0]))
    for name in ("levels.png", "key.gif"):
        with Image.open(tmp_path / name) as opened:
            rgba = np.asarray(opened.convert("RGBA"))
        with warnings.catch_warnings(action="error"):
            found, conversions = read(tmp_path / name)
        np.testing.assert_array_equal(found, laid(rgba[:, :, :3], rgba[:, :, 3]))
        assert conversions == {"transparency"}


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (1, 2, 3)), ("1", 0)])
def test_a_colour_that_counts_as_transparent_is_laid_on_the_background(
    tmp_path: Path, mode: str, key: int | tuple[int, ...]
) -> None:
    picture = Image.new(mode, (4, 3), key)
    picture.putpixel((0, 0), 1 if mode == "1" else key)
    picture.save(tmp_path / "key.png", transparency=key)
    found, conversions = read(tmp_path / "key.png")
    assert (found == 255).all()
    assert found.shape[0] == (3 if mode == "RGB" else 1)
    assert conversions == {"transparency"}


@pytest.mark.parametrize("name", ["little.tif", "png.png", "pgm.pgm"])
def test_sixteen_bits_are_scaled_and_never_clipped(tmp_path: Path, name: str) -> None:
    values = noise(64, 40, dtype=np.uint16, top=65536)
    values[0, :2] = 0, 65535
    Image.fromarray(values).save(tmp_path / name)
    found, conversions = read(tmp_path / name)
    np.testing.assert_array_equal(found[0], np.rint(values / 257))
    assert (found.min(), found.max(), conversions) == (0, 255, {"sixteen bits"})


def test_sixteen_bits_of_the_other_byte_order_and_whole_numbers_of_thirty_two(tmp_path: Path) -> None:
    values = noise(9, 8, dtype=np.uint16, top=65536)
    content = b"".join([b"MM\0*", struct.pack(">I", 8 + values.nbytes), values.astype(">u2").tobytes()])
    tags = [(256, 3, 8), (257, 3, 9), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 3, 9)]
    tags += [(279, 4, values.nbytes)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in tags
    )
    (tmp_path / "big.tif").write_bytes(content + struct.pack(">H", len(tags)) + entries + bytes(4))
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "wide.tif")
    for name, mode in (("big.tif", "I;16B"), ("wide.tif", "I")):
        with Image.open(tmp_path / name) as picture:
            assert picture.mode == mode
        np.testing.assert_array_equal(read(tmp_path / name)[0][0], np.rint(values / 257))
    Image.fromarray(values.astype(np.int32) * 100).save(tmp_path / "wider.tif")
    with pytest.raises(DataError, match="expected pixels of 16 bits, 0 to 65535, got"):
        read(tmp_path / "wider.tif")


def test_floating_point_pixels_are_0_to_1_or_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    found, conversions = read(tmp_path / "float.tif")
    np.testing.assert_array_equal(found[0], np.rint(values * 255))
    assert conversions == {"float"}
    for wrong, shown in ((values * 200, "0.* to 1"), (values - 2, "-1"), (values * np.nan, "nan to nan")):
        Image.fromarray(wrong).save(tmp_path / "wrong.tif")
        with pytest.raises(DataError, match=f"wrong.tif: .*expected floating-point pixels from 0 to 1, got {shown}"):
            read(tmp_path / "wrong.tif")


def test_other_modes_are_read_as_pillow_reads_them(tmp_path: Path) -> None:
    rgb = Image.fromarray(noise(9, 8, 3))
    for name, mode, conversions, compression in (
        ("cmyk.jpg", "CMYK", {"cmyk"}, None),
        ("ycbcr.tif", "YCbCr", set(), "tiff_lzw"),
        ("p.png", "P", set(), None),
    ):
        rgb.convert(mode).save(tmp_path / name, compression=compression)
        with Image.open(tmp_path / name) as picture:
            expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        assert read(tmp_path / name)[1] == conversions
        np.testing.assert_array_equal(read(tmp_path / name)[0], expected)
    bits = noise(5, 7, top=2).astype(bool)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read(tmp_path / "bits.png")[0][0], bits * 255)


def test_the_first_of_several_frames_is_read_and_told(tmp_path: Path) -> None:
    frames = [Image.fromarray((noise(4, 5) // 128 + number) % 2 * 255) for number in range(3)]
    for name in ("moving.gif", "pages.tif", "moving.png", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        found, conversions = read(tmp_path / name, GREY)
        np.testing.assert_array_equal(found[0], np.asarray(frames[0]))
        assert "frames" in conversions


def test_grey_and_colour_become_each_other_and_sizes_are_fitted(tmp_path: Path) -> None:
    colour = Image.fromarray(noise(9, 8, 3))
    colour.save(tmp_path / "colour.png")
    found, conversions = read(tmp_path / "colour.png", GREY)
    np.testing.assert_array_equal(found[0], np.asarray(colour.convert("L")))
    assert conversions == {"grey"}
    Image.fromarray(noise(9, 8)).save(tmp_path / "grey.png")
    found, conversions = read(tmp_path / "grey.png", PictureRules("rgb", (3, 8)))
    expected = Image.fromarray(noise(9, 8)).resize((8, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.stack([np.asarray(expected)] * 3))
    assert conversions == {"rgb", "size"}


def test_odd_metadata_is_no_reason_to_drop_a_picture(tmp_path: Path) -> None:
    pixels = noise(6, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "exif.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\xff\0\0\xff\xff")
    Image.fromarray(pixels).save(tmp_path / "short.jpg", exif=b"Exif\0\0II*\0\x08", quality=95)
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(read(tmp_path / "exif.png")[0], pixels.transpose(2, 0, 1))
        assert read(tmp_path / "short.jpg")[0].shape == (3, 6, 5)


def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (14_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b""))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        with pytest.raises(DataError, match=f"bomb.png: expected at most {MOST_PIXELS:,} pixels"):
            read(tmp_path / "bomb.png")


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "figure.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\nshowpage\n")
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "half.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "half.jpg").read_bytes()[:900])
    for name, why in (
        ("text.png", "none of the formats that Pillow reads"),
        ("figure.png", "none of the formats that Pillow reads"),
        ("half.jpg", "truncated"),
    ):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a picture: .*{why}"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"missing.png: no such file"):
        read(tmp_path / "missing.png")


def test_many_threads_read_alike_and_leave_warnings_as_they_were(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(16, 16, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / "levels.png", transparency=bytes(range(256)))
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: read(tmp_path / "levels.png")[0].tobytes(), range(40)))
    assert len(set(found)) == 1
    assert list(warnings.filters) == before


def test_conversions_are_counted_and_told_once() -> None:
    told = list(tell(["transparency", "size", "transparency", "frames"], PictureRules(size=(32, 48))))
    assert told == [
        "2 pictures had transparency: laid on white",
        "1 picture had several frames or pages: the first is read",
        "1 picture of another size: resized to 32x48",
    ]
    assert list(tell(["transparency"], PictureRules(background=(0, 0, 9)))) == [
        "1 picture had transparency: laid on the background [0, 0, 9]"
    ]
