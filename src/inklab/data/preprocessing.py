"""How any picture becomes an image of the training format: as MNIST was made, or only resized."""

import io
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from inklab.errors import CorruptFileError, DataError
from inklab.io.files import read_bytes_capped
from inklab.records.components import Center, Preprocessing

# ---------------------------------------------------------------- image files

UPLOAD_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
FORMATS = (*UPLOAD_FORMATS, "GIF", "TIFF", "PPM")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff", ".pbm",
    ".pgm", ".ppm", ".pnm", ".tga",
)  # fmt: skip
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
PPM_SIGNATURES = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
HEIC_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
MAX_PIXELS = 64_000_000  # of one picture: more than a camera's 50 megapixels, less than a decompression bomb
MAX_PIXELS_PER_BYTE = 10_000  # of a file; deflate packs at most 8,256 one-bit pixels into a byte
MAX_FILE_BYTES = 512 * 1024**2


def open_image(
    source: Path | bytes,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
) -> Image.Image:
    """Open and decode a picture, rotated upright by its EXIF orientation.

    The format is recognized by the content, only TGA by the suffix of `name`. The source is a path, or the
    bytes of a file; messages call it by `name`, by default the path. At most `max_pixels` are decoded, and
    never more than 64 million.

    Raises:
        DataError: there is no such file, or it can't be read.
        CorruptFileError: it has another format, is damaged or truncated, has too many pixels, or is a GIF or
            TIFF of several pictures.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (3, 2), 200).save(file, "PNG")
        >>> open_image(file.getvalue()).size
        (3, 2)
    """
    name = name or ("the picture" if isinstance(source, bytes) else f"'{source}'")
    if isinstance(source, Path) and source.is_dir():
        raise DataError(f"{name} is a directory; name a picture file")
    try:
        content = source if isinstance(source, bytes) else read_bytes_capped(source, MAX_FILE_BYTES)
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or error}") from error
    if name.lower().rstrip("'").endswith(".tga"):
        formats = ("TGA",)  # has no signature
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about unusual tags and palettes
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=tuple(formats)) as picture:
                _check_size(picture.size, len(content), name, max_pixels)
                _check_frames(picture, name)
                picture.load()
                return _rotate_upright(picture)
    except CorruptFileError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise CorruptFileError(f"{name} is too large: at most {MAX_PIXELS:,} pixels are decoded") from error
    except UnidentifiedImageError as error:
        kind = " but HEIC, as telephones save it" if content[8:12] in HEIC_BRANDS else ""
        raise CorruptFileError(
            f"{name} is not a {', '.join(formats[:-1])} or {formats[-1]} picture{kind}; save it as PNG"
        ) from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged bytes
        raise CorruptFileError(f"{name} is a damaged picture ({error}); save it again as PNG") from error


def _check_size(size: tuple[int, int], file_bytes: int, name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise CorruptFileError(
            f"{name} has {width:,} x {height:,} pixels; at most {max_pixels:,} are decoded"
        )
    if width * height > MAX_PIXELS_PER_BYTE * file_bytes:
        raise CorruptFileError(
            f"{name} declares {width:,} x {height:,} pixels in {file_bytes:,} bytes; save it again as PNG"
        )


def _check_frames(picture: Image.Image, name: str) -> None:
    frames = getattr(picture, "n_frames", 1) if picture.format in ("GIF", "TIFF") else 1
    if frames > 1:
        raise CorruptFileError(f"{name} has {frames:,} pictures in one file; save each as PNG")


def is_picture(head: bytes) -> bool:
    r"""Whether a file that begins so is a picture, whatever it is called; TGA is not recognized.

    Example:
        >>> is_picture(b"\x89PNG\r\n\x1a\n..."), is_picture(b"label,pixel0")
        (True, False)
    """
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[:2] == b"BM":
        return head[6:10] == bytes(4)
    return head.startswith(SIGNATURES) or (head[:2] in PPM_SIGNATURES and head[2:3].isspace())


def _rotate_upright(picture: Image.Image) -> Image.Image:
    with suppress(Exception):  # edited photographs often have a damaged EXIF block
        return ImageOps.exif_transpose(picture)
    return picture.copy()


def gray_values(picture: Image.Image) -> Float64[np.ndarray, "h w"]:
    """The picture's brightness from 0 to 255; transparent pixels become a contrasting background.

    Pictures of 16 bits or floats are scaled to that range by the smallest of the usual maxima that is enough:
    1 (of floats only), 255, 65535, else their own.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        deep = np.nan_to_num(np.asarray(picture, np.float64)).clip(0)
        top = deep.max(initial=0)
        maxima = (1, 255, 65535) if picture.mode == "F" else (255, 65535)
        white = next((maximum for maximum in maxima if top <= maximum), top)
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


# ---------------------------------------------------------------- preprocessing

# Share of full ink where a stroke begins. Of 0.1 to 0.5, this reproduces 150 MNIST test digits best,
# unchanged and enlarged eight times (mean difference 0.003 and 0.02 of the range).
MIN_INK = 0.3
Image8 = UInt8[np.ndarray, "c h w"]


def preprocess_picture(picture: Image.Image, preprocessing: Preprocessing) -> Image8:
    """Turn any picture into an image of the training format.

    With `center` "mass" or "box": converted to grayscale, uneven background removed, ink detected (dark or
    light), cropped, its longer side scaled to `fit_to` pixels with antialiasing, and centered. With "none"
    the whole picture is resized. It may have any mode and size, and is upright; see `open_image`.

    Raises:
        DataError: no ink is detected.

    Example:
        >>> page = Image.new("L", (100, 80), 250)
        >>> page.paste(20, (45, 20, 55, 60))
        >>> image = preprocess_picture(page, Preprocessing())
        >>> image.shape, int(image.max()), int((image > 127).any(axis=2).sum())
        ((1, 28, 28), 255, 20)
    """
    if preprocessing.is_resize_only:
        return _resize_whole(picture, preprocessing)
    ink = find_foreground(gray_values(picture))
    image = _place_in_center(_fit(_crop(ink), preprocessing.fit_to), preprocessing)
    return image if preprocessing.light_on_dark else np.asarray(255 - image, np.uint8)


def _resize_whole(picture: Image.Image, preprocessing: Preprocessing) -> Image8:
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.channels == 1:
        gray = Image.fromarray(np.round(gray_values(picture)).astype(np.uint8))
        return np.array(_resize(gray, size))[None]
    return np.array(_resize(composite_on_background(picture).convert("RGB"), size)).transpose(2, 0, 1).copy()


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)  # antialiases


def _crop(ink: Float64[np.ndarray, "h w"]) -> Image.Image:
    rows = np.flatnonzero((ink > MIN_INK).any(axis=1))
    columns = np.flatnonzero((ink > MIN_INK).any(axis=0))
    if not len(rows) or not len(columns):
        raise DataError(
            "no ink is detected in the picture; use a picture of light strokes on dark, or dark ones on light"
        )
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.round(255 * cropped).astype(np.uint8))


def _fit(cropped: Image.Image, fit_to: int) -> UInt8[np.ndarray, "h w"]:
    scale = fit_to / max(cropped.size)
    size = (max(1, round(cropped.width * scale)), max(1, round(cropped.height * scale)))
    if scale > 2:  # enlarged strokes stay smooth
        cropped = cropped.filter(ImageFilter.SMOOTH)
    return np.array(_resize(cropped, size))


def _place_in_center(fitted: UInt8[np.ndarray, "a b"], preprocessing: Preprocessing) -> Image8:
    image = np.zeros(preprocessing.shape, np.uint8)
    top, left = (
        _offset(fitted.sum(axis=axis, dtype=np.float64), length, preprocessing.center)
        for axis, length in ((1, preprocessing.height), (0, preprocessing.width))
    )
    image[0, top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return image


def _offset(profile: Float64[np.ndarray, " side"], length: int, center: Center) -> int:
    """Where a profile begins if its center is in the middle of `length` pixels; never outside them."""
    side = len(profile)
    offset = (length - side) / 2
    if center == "mass" and profile.sum() > 0:
        # Pixel 14 of 0 to 27, not 13.5: MNIST's mean center of mass, measured as 13.99 and 14.01.
        offset = length // 2 - float(np.average(np.arange(side), weights=profile))
    return int(np.clip(round(offset), 0, length - side))


# ---------------------------------------------------------------- segmentation of ink: brightness is 0 to 255

Plane = Float64[np.ndarray, "h w"]
Reduced = Float64[np.ndarray, "a b"]
WORKING_SIDE = 560  # pixels, 20 per pixel of an MNIST digit's bounding box; more takes longer without gain
BACKGROUND_SIDE = 112  # pixels; light and shadow are smooth
MIN_CONTRAST = 0.12  # of the range from background to full ink; the texture of paper is below
MIN_SIGMAS = 4.0  # ink must stand out this far; halves of pure Gaussian noise differ by 1.6


def find_foreground(gray: Plane) -> Reduced:
    """How much ink is on each pixel: 0 on the background, 1 in the middle of a stroke.

    The background is estimated from the border, then as a smooth surface through all pixels that are not ink,
    so a shadow across the page does not matter. Ink is what differs most from it, darker or lighter, beyond
    Otsu's threshold. A large picture is downscaled.

    Raises:
        DataError: nothing differs enough from the background.
    """
    small = _reduce(gray, WORKING_SIDE)
    difference = _difference(small, _background(small))
    ink, noise = np.clip(difference, 0, 1), _noise(difference)
    despeckled = _despeckle(ink)
    threshold = _otsu(despeckled)
    strong = despeckled > threshold
    _check_contrast(ink, strong, noise)
    full = np.quantile(ink[strong], 0.9)  # the middle of strokes, not their brightest pixel
    empty = min(3 * noise, threshold)
    near = _dilate(strong, reach=max(1, max(small.shape) // 64))
    return np.where(near, np.clip((ink - empty) / (full - empty), 0, 1), 0.0)


def _reduce(gray: Plane, max_side: int) -> Reduced:
    longest = max(gray.shape)
    if longest <= max_side:
        return gray
    height, width = (max(1, round(side * max_side / longest)) for side in gray.shape)
    picture = Image.fromarray(gray.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float64)


def _background(gray: Plane) -> Plane:
    """A smooth surface through the background, fitted to a downscaled picture, since it has no detail."""
    coefficients = _fit_background(_reduce(gray, BACKGROUND_SIDE))
    surface: Plane = _terms(gray.shape)[..., : len(coefficients)] @ coefficients
    return np.asarray(np.clip(surface, 0, 255))


def _terms(shape: tuple[int, ...]) -> Float64[np.ndarray, "h w 6"]:
    height, width = shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)


def _fit_background(gray: Plane) -> Float64[np.ndarray, " terms"]:
    """A constant and a plane through the border, then a quadratic surface through all pixels near it."""
    terms = _terms(gray.shape)
    edge = max(1, min(gray.shape) // 20)
    border = np.ones(gray.shape, bool)
    border[edge:-edge, edge:-edge] = False
    coefficients = np.array([np.median(gray[border])])
    for count, where in ((1, border), (3, border), (6, np.ones_like(border)), (6, np.ones_like(border))):
        residual = gray - terms[..., : len(coefficients)] @ coefficients
        # 12 of 255: well below faint ink, several times the noise of a downscaled picture
        use = where & (np.abs(residual) <= max(12.0, 3 * _robust_std(residual[border])))
        if use.sum() < 4 * count:
            break
        x = terms[use][:, :count]
        # Normal equations: twenty times faster than on all pixels, and well conditioned for terms in [-1, 1].
        coefficients, *_ = np.linalg.lstsq(x.T @ x, x.T @ gray[use], rcond=None)
    return coefficients


def _difference(gray: Plane, background: Plane) -> Plane:
    """How much a pixel differs from its background, in the direction of ink; 1 is full ink."""
    residual = (gray - background) / 255
    faint = MIN_CONTRAST / 2 + 3 * _robust_std(residual)
    lighter, darker = (np.maximum(_despeckle(part) - faint, 0).sum() for part in (residual, -residual))
    range_to_ink = 255 - background if lighter > darker else -background
    difference: Plane = (gray - background) / np.where(np.abs(range_to_ink) < 1, 1, range_to_ink)
    return difference


def _noise(difference: Plane) -> float:
    """The standard deviation of the background, from pixels that differ in the direction opposite to ink."""
    opposite = -difference[difference < 0]
    share = min(1.0, 2 * opposite.size / difference.size)  # a few outliers are not noise
    return share * 1.4826 * float(np.median(opposite)) if opposite.size else 0.0


def _despeckle(ink: Plane) -> Plane:
    """Remove single pixels, unless strokes are so thin that they would be removed too."""
    ink = np.clip(ink, 0, 1)
    picture = Image.fromarray(np.uint8(ink * 255)).filter(ImageFilter.MedianFilter(3))
    filtered = np.asarray(picture) / 255.0
    return filtered if filtered.sum() >= 0.8 * ink.sum() else ink


def _otsu(ink: Plane) -> float:
    """The threshold that best separates two groups of brightness (Otsu 1979)."""
    counts, edges = np.histogram(ink, bins=256, range=(0.0, 1.0))
    below = np.cumsum(counts)[:-1].astype(float)
    above = below[-1] + counts[-1] - below
    total = np.cumsum(counts * np.arange(256))
    gap = total[:-1] / np.maximum(below, 1) - (total[-1] - total[:-1]) / np.maximum(above, 1)
    between = below * above * gap**2
    best = np.flatnonzero(between == between.max())  # the middle of a plateau between two groups
    return float(edges[1 + best[len(best) // 2]])


def _robust_std(values: Float64[np.ndarray, "..."]) -> float:
    """A standard deviation that some ink among the values does not change: 1.4826 median deviations."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _check_contrast(ink: Plane, strong: Bool[np.ndarray, "h w"], noise: float) -> None:
    contrast = float(ink[strong].mean() - ink[~strong].mean()) if 0 < strong.sum() < strong.size else 0.0
    if contrast < max(MIN_CONTRAST, MIN_SIGMAS * noise):
        raise DataError(
            f"no ink is detected in the picture (contrast {contrast:.2f} of 1, noise {noise:.2f}); use one "
            "with clear strokes on an even background"
        )


def _dilate(mask: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    picture = Image.fromarray(np.uint8(mask) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * reach + 1))) > 0
