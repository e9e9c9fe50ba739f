"""Picture files, opened with care: a few formats, a cap on pixels before decoding, the right way up."""

import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageOps, UnidentifiedImageError

from inklab.errors import CorruptFileError, DataError
from inklab.io.atomic import read_bytes_capped

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 64_000_000  # of one picture; a camera's 50 megapixels pass, a decompression bomb doesn't
MAX_PIXELS_A_BYTE = 10_000  # deflate packs 8,256 one-bit pixels into a byte at best; more were never there
MAX_FILE_BYTES = 512 * 1024**2


def open_image(source: Path | bytes, *, name: str | None = None, most: int = MAX_PIXELS) -> Image.Image:
    """Open and decode a PNG, JPEG, BMP or WebP picture, turned upright by its EXIF orientation.

    Args:
        source: a file, or the bytes of one (as from an upload).
        name: what to call it in messages; the path if left out.
        most: pixels that are decoded, 64 million or fewer.

    Raises:
        DataError: there is no such file, or it can't be read.
        CorruptFileError: another format, damaged, cut short, or more than `most` pixels.

    Example:
        >>> paper = io.BytesIO()
        >>> Image.new("L", (3, 2), 200).save(paper, "PNG")
        >>> open_image(paper.getvalue()).size
        (3, 2)
    """
    name = name or ("the picture" if isinstance(source, bytes) else f"'{source}'")
    content = source if isinstance(source, bytes) else _content(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of odd tags and palettes; the pixels are read all the same
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _refuse_huge(picture.size, len(content), name, most)
                picture.load()
                return _upright(picture)
    except CorruptFileError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise CorruptFileError(f"{name} is too large: at most {MAX_PIXELS:,} pixels are decoded") from error
    except UnidentifiedImageError as error:
        raise CorruptFileError(
            f"{name} isn't a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture; save it as PNG"
        ) from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged bytes
        raise CorruptFileError(f"{name} is a damaged picture ({error}); save it again as PNG") from error


def _content(path: Path, name: str) -> bytes:
    try:
        return read_bytes_capped(path, MAX_FILE_BYTES)
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or error}") from error


def _refuse_huge(size: tuple[int, int], file_bytes: int, name: str, most: int) -> None:
    if size[0] * size[1] > most:
        raise CorruptFileError(f"{name} has {size[0]:,} x {size[1]:,} pixels; at most {most:,} are decoded")
    if size[0] * size[1] > MAX_PIXELS_A_BYTE * file_bytes:
        raise CorruptFileError(
            f"{name} claims {size[0]:,} x {size[1]:,} pixels in {file_bytes:,} bytes; save it again as PNG"
        )


def _upright(picture: Image.Image) -> Image.Image:
    with suppress(
        Exception
    ):  # a broken EXIF block is common in edited photographs and no reason to refuse them
        return ImageOps.exif_transpose(picture)
    return picture.copy()


def gray_values(picture: Image.Image) -> Float64[np.ndarray, "h w"]:
    """The picture's brightness from 0 to 255; the transparent shows a ground that contrasts.

    Pictures with 16 bits or floats a pixel are scaled to the same range by their type's, or else their own,
    maximum.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        deep = np.nan_to_num(np.asarray(picture, np.float64)).clip(0)
        top = deep.max(initial=0)
        most = 255 if top <= 255 else 65535 if top <= 65535 else top
        return deep * (255 / most)
    return np.asarray(composite_on_background(picture).convert("L"), np.float64)


def composite_on_background(picture: Image.Image) -> Image.Image:
    """A picture without transparency: laid on white if what is visible of it is dark, else on black."""
    if not picture.has_transparency_data:
        return picture
    colored = picture.convert("RGBA")
    alpha = np.asarray(colored.getchannel("A"))
    grey = np.asarray(colored.convert("RGB").convert("L"))
    visible = np.einsum("hw,hw->", grey, alpha, dtype=np.int64)  # no copies of 64 million pixels in 64 bits
    dark = 2 * visible <= 255 * alpha.sum(dtype=np.int64)
    ground = Image.new("RGBA", colored.size, (255, 255, 255, 255) if dark else (0, 0, 0, 255))
    return Image.alpha_composite(ground, colored).convert("RGB")
