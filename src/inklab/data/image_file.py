"""Image files: four formats, a limit on pixels before decoding, EXIF orientation applied."""

import io
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageOps, UnidentifiedImageError

from inklab.errors import CorruptFileError, DataError
from inklab.io.files import read_bytes_capped

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_PIXELS = 64_000_000  # of one picture: more than a camera's 50 megapixels, less than a decompression bomb
MAX_PIXELS_PER_BYTE = 10_000  # of a file; deflate packs at most 8,256 one-bit pixels into a byte
MAX_FILE_BYTES = 512 * 1024**2


def open_image(source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open and decode a PNG, JPEG, BMP or WebP picture, rotated upright by its EXIF orientation.

    Args:
        source: a path, or the bytes of a file.
        name: what messages call it; the path by default.
        max_pixels: that are decoded, at most 64 million.

    Raises:
        DataError: there is no such file, or it can't be read.
        CorruptFileError: it has another format, is damaged or truncated, or has too many pixels.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2), 200).save(file, "PNG")
        >>> open_image(file.getvalue()).size
        (3, 2)
    """
    name = name or ("the picture" if isinstance(source, bytes) else f"'{source}'")
    content = source if isinstance(source, bytes) else _content(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about unusual tags and palettes
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(picture.size, len(content), name, max_pixels)
                picture.load()
                return _rotate_upright(picture)
    except CorruptFileError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise CorruptFileError(f"{name} is too large: at most {MAX_PIXELS:,} pixels are decoded") from error
    except UnidentifiedImageError as error:
        raise CorruptFileError(
            f"{name} is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture; save it as PNG"
        ) from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        raise CorruptFileError(f"{name} is a damaged picture ({error}); save it again as PNG") from error


def _content(path: Path, name: str) -> bytes:
    try:
        return read_bytes_capped(path, MAX_FILE_BYTES)
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or error}") from error


def _check_size(size: tuple[int, int], file_bytes: int, name: str, max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise CorruptFileError(
            f"{name} has {size[0]:,} x {size[1]:,} pixels; at most {max_pixels:,} are decoded"
        )
    if size[0] * size[1] > MAX_PIXELS_PER_BYTE * file_bytes:
        raise CorruptFileError(
            f"{name} declares {size[0]:,} x {size[1]:,} pixels in {file_bytes:,} bytes; save it again as PNG"
        )


def _rotate_upright(picture: Image.Image) -> Image.Image:
    with suppress(Exception):  # edited photographs often have a damaged EXIF block
        return ImageOps.exif_transpose(picture)
    return picture.copy()


def gray_values(picture: Image.Image) -> Float64[np.ndarray, "h w"]:
    """The picture's brightness from 0 to 255; transparent pixels become a contrasting background.

    Pictures of 16 bits or floats are scaled to that range by the maximum of their type, else by their own.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        deep = np.nan_to_num(np.asarray(picture, np.float64)).clip(0)
        top = deep.max(initial=0)
        white = 255 if top <= 255 else 65535 if top <= 65535 else top
        return deep * (255 / white)
    return np.asarray(composite_on_background(picture).convert("L"), np.float64)


def composite_on_background(picture: Image.Image) -> Image.Image:
    """A picture without transparency: on white if its visible pixels are dark, else on black."""
    if not picture.has_transparency_data:
        return picture
    colored = picture.convert("RGBA")
    alpha = np.asarray(colored.getchannel("A"))
    gray = np.asarray(colored.convert("RGB").convert("L"))
    visible = np.einsum("hw,hw->", gray, alpha, dtype=np.int64)  # no copies of 64 million pixels in 64 bits
    is_dark = 2 * visible <= 255 * alpha.sum(dtype=np.int64)
    background = Image.new("RGBA", colored.size, (255, 255, 255, 255) if is_dark else (0, 0, 0, 255))
    return Image.alpha_composite(background, colored).convert("RGB")
