"""Picture files as a person sees them: decoded, turned upright, laid on a background, converted to grey or RGB."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cnnspec.data.resize import resize_picture
from cnnspec.diagnostics import DataError
from cnnspec.files import read_bounded, reason
from cnnspec.kernels.step import Array

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Mode = Literal["grey", "rgb"]

MODES = {"grey": "L", "rgb": "RGB"}  # Pillow's name of each mode
MOST_PIXELS = 178_956_970  # pixels of one picture; Pillow has the same limit
MOST_BYTES = 4 * MOST_PIXELS  # bytes of its file: that many pixels with transparency, uncompressed
WHITE = (255, 255, 255)
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # Pillow's name of the operation that undoes each value
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
FOREIGN = frozenset({"EPS"})  # formats for which Pillow would start another program
CONVERSIONS = {
    "orientation": "turned as the EXIF orientation says",
    "transparency": "had transparency: laid on {background}",
    "sixteen bits": "had 16 bits a pixel: scaled to 8, 65535 becoming 255",
    "float": "held floating-point numbers: 0 to 1 became 0 to 255",
    "cmyk": "in CMYK: brought to RGB",
    "frames": "had several frames or pages: the first is read",
    "grey": "in colour: made grey",
    "rgb": "in grey: used for red, green and blue",
    "layout": "with channels last (n, h, w, c): read so",
    "size": "of another size: resized to {size}",
}


@dataclass(frozen=True, slots=True)
class PictureRules:
    """How picture files become bytes: without `mode`, grey and colour stay as they are; without `size`, so do sizes."""

    mode: Mode | None = None
    size: tuple[int, int] | None = None  # height, width
    background: tuple[int, int, int] = WHITE  # colour behind transparent pixels


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as bytes (c, h, w), and the keys in `CONVERSIONS` of what was converted."""

    pixels: Array
    conversions: tuple[str, ...]


class _RangeError(ValueError):
    """Numbers in a picture that have no meaning as pixels."""


def read_picture(
    path: Path, rules: PictureRules, content: bytes | None = None, most_pixels: int = MOST_PIXELS
) -> Decoded:
    """Read a picture file, or its content if that is given; DataError if it cannot be decoded.

    Pillow's warnings, mostly about metadata, are ignored: a picture that can be decoded is read.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError(f"{path}: reading pictures needs Pillow", "pip install 'cnnspec[report]'") from error
    Image.init()
    formats = [name for name in Image.ID if name not in FOREIGN]
    with _without_warnings():
        try:
            # From memory: given a path, Pillow maps a plain TIFF's pixels in the shape that they have after rotation.
            file = BytesIO(picture_bytes(path) if content is None else content)
            with Image.open(file, formats=formats) as picture:
                width, height = picture.size
                if width * height > most_pixels:
                    raise _too_large(path, most_pixels, f"{width}x{height} = {width * height:,}")
                return _decoded(picture, rules)
        except (DataError, MemoryError):
            raise
        except _RangeError as error:
            raise DataError(f"{path}: {error}", "scale its pixels to that range and save it again") from error
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file", "name a file that is there") from error
        except Image.DecompressionBombError as error:
            raise _too_large(path, 2 * (Image.MAX_IMAGE_PIXELS or 0), "more") from error
        except Exception as error:  # decoders raise what they like on damaged bytes
            unknown = isinstance(error, UnidentifiedImageError)
            why = "it is none of the formats that Pillow reads" if unknown else reason(error)
            raise DataError(f"{path}: cannot be read as a picture: {why}", "repair or replace it") from error


def picture_bytes(path: Path) -> bytes:
    """Return the content of a picture file; OSError, before a byte is read, for a pipe, a device or a huge file."""
    return read_bounded(path, MOST_BYTES)


def tell(conversions: Iterable[str], rules: PictureRules) -> Iterator[str]:
    """Yield one sentence for each kind of conversion, with the number of pictures that were converted so."""
    background = "white" if rules.background == WHITE else f"the background {list(rules.background)}"
    size = "" if rules.size is None else "x".join(map(str, rules.size))
    counted = Counter(conversions)
    for key, text in CONVERSIONS.items():
        if counted[key]:
            noun = "picture" if counted[key] == 1 else "pictures"
            yield f"{counted[key]:,} {noun} {text.format(background=background, size=size)}"


def _too_large(path: Path, most: int, pixels: str) -> DataError:
    return DataError(f"{path}: expected at most {most:,} pixels, got {pixels}", "shrink it")


def _decoded(picture: Picture, rules: PictureRules) -> Decoded:
    conversions = []
    if _has_frames(picture):
        conversions.append("frames")
    before = _orientation(picture)
    picture.load()  # loading rotates a TIFF, and reads a PNG's metadata after its pixels
    turn = _orientation(picture)
    if before in TURNS or turn in TURNS:
        conversions.append("orientation")
    seen, converted = _to_mode(picture, rules.background)
    conversions += converted
    if turn in TURNS:
        from PIL.Image import Transpose

        seen = seen.transpose(Transpose[TURNS[turn]])
    if rules.mode is not None and seen.mode != MODES[rules.mode]:
        conversions.append(rules.mode)
        seen = seen.convert(MODES[rules.mode])
    if rules.size is not None and seen.size != rules.size[::-1]:
        conversions.append("size")
        seen = resize_picture(seen, rules.size)
    pixels = np.asarray(seen)
    return Decoded(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), tuple(conversions))


def _has_frames(picture: Picture) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # a later frame may be damaged; the first is what counts
        return True


def _orientation(picture: Picture) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse a picture
        return 1


def _to_mode(picture: Picture, background: tuple[int, int, int]) -> tuple[Picture, list[str]]:
    """Return the picture in Pillow's mode L or RGB, and the keys of the conversions done."""
    mode = picture.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _from_numbers(picture, background)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info or _palette_has_alpha(picture):
        grey = mode in ("1", "L", "LA", "La")
        opaque = picture.convert("LA" if mode == "La" else "RGBA").convert("RGBA")
        alpha = opaque.getchannel("A")
        if alpha.getextrema() != (255, 255):
            return _lay_on(opaque.convert("RGB"), alpha, background, grey=grey), ["transparency"]
        return opaque.convert("L" if grey else "RGB"), []
    if mode == "1":
        return picture.convert("L"), []
    if mode == "L":
        return picture, []
    if mode not in ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"):
        raise ValueError(f"its mode {mode} has no conversion to RGB")
    return picture.convert("RGB") if mode != "RGB" else picture, ["cmyk"] if mode == "CMYK" else []


def _palette_has_alpha(picture: Picture) -> bool:
    return picture.mode == "P" and picture.palette is not None and picture.palette.mode.endswith("A")


def _lay_on(picture: Picture, alpha: Picture, background: tuple[int, int, int], *, grey: bool) -> Picture:
    """Lay a picture with transparency on a background: (alpha picture + (255 - alpha) background) / 255, rounded."""
    from PIL import Image

    ground = Image.new("RGB", picture.size, background)
    ground.paste(picture, mask=alpha)
    return ground.convert("L") if grey else ground


def _from_numbers(picture: Picture, background: tuple[int, int, int]) -> tuple[Picture, list[str]]:
    """Return a grey picture of 16 bits, or of numbers from 0 to 1, as bytes, and the keys of the conversions done."""
    from PIL import Image

    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if not (low >= 0 and high <= 1):
            raise _RangeError(f"expected floating-point pixels from 0 to 1, got {low:g} to {high:g}")
        grey, conversions = np.rint(values * 255).astype(np.uint8), ["float"]
    else:
        if low < 0 or high > 65535:
            raise _RangeError(f"expected pixels of 16 bits, 0 to 65535, got {low} to {high}")
        # Rounded: 65535 / 255 is 257, an odd number, so that there are no halves.
        grey, conversions = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8), ["sixteen bits"]
    made = Image.fromarray(grey)
    key = picture.info.get("transparency")
    if isinstance(key, int) and (values == key).any():
        alpha = Image.fromarray(np.where(values == key, np.uint8(0), np.uint8(255)))
        return _lay_on(made.convert("RGB"), alpha, background, grey=True), [*conversions, "transparency"]
    return made, conversions


_lock, _inside = threading.Lock(), 0
_caught: warnings.catch_warnings[None]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings while any thread is in this context: filters are global, so the last one out restores them."""
    global _inside, _caught
    with _lock:
        if _inside == 0:
            _caught = warnings.catch_warnings(action="ignore")
            _caught.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _caught.__exit__(None, None, None)
