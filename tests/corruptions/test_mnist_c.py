"""MNIST-C: each corruption against its definition, computed pixel by pixel with NumPy and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from inklab.corruptions.corruption import corruptions
from inklab.corruptions.mnist_c import MNIST_C
from inklab.counters import Draws
from inklab.seeding import Seed


def draws(number: int = 0) -> Draws:
    return Seed(number).draws()


def digits(n: int = 6) -> torch.Tensor:
    """Smooth blobs of ink on black, 28x28."""
    noise = np.random.default_rng(1).random((n, 28, 28))
    blobs = np.stack([ndimage.gaussian_filter(image, 2.5) for image in noise])
    blobs = (blobs - blobs.mean()) / blobs.std() * np.hanning(30)[1:-1] * np.hanning(30)[1:-1, None]
    return torch.from_numpy(blobs.clip(0, 1)).float().unsqueeze(1)


def corrupt(name: str, images: torch.Tensor, strength: float, seed: int = 0) -> np.ndarray:
    return corruptions[name](images, strength, draws(seed))[:, 0].numpy()


def nearest_of(candidates: list[np.ndarray], image: np.ndarray) -> float:
    return min(np.abs(candidate - image).max() for candidate in candidates)


def test_every_strength_is_allowed_and_every_name_is_listed_once():
    for point in MNIST_C:
        corruptions[point.corruption].check_strength(point.strength)
    assert len({point.corruption for point in MNIST_C}) == 15


@pytest.mark.parametrize(
    ("name", "strength", "matrix"),
    [
        ("rotate", 0.4, lambda a: [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]),
        ("shear", 0.4, lambda a: [[np.cos(a), 0], [-np.sin(a), 1]]),
        ("scale", 0.3, lambda a: np.eye(2) / (1 - abs(a))),
    ],
)
def test_ink_moves_as_scipy_moves_it(name, strength, matrix):
    """scipy's matrices are in the order row, column; its fractions at the edge of the image differ."""
    images, directions = digits(12), set()
    for image, moved in zip(images[:, 0].numpy(), corrupt(name, images, strength), strict=True):
        expected = []
        for angle in (strength, -strength):
            about = np.array(matrix(angle))
            offset = 13.5 - about @ np.array([13.5, 13.5])
            padded = np.pad(image, 8)
            expected.append(
                ndimage.affine_transform(padded, about, offset + 8 - about @ [8, 8], order=1)[8:-8, 8:-8]
            )
        errors = [np.abs(candidate - moved).max() for candidate in expected]
        assert min(errors) < 1e-4
        directions.add(int(np.argmin(errors)))
    assert len(directions) == (1 if name == "scale" else 2)  # both directions


def test_translation_moves_by_whole_pixels_in_all_four_directions():
    images, directions = digits(24), set()
    for image, moved in zip(images[:, 0].numpy(), corrupt("translate", images, 3.0), strict=True):
        padded = np.pad(image, 3)
        shifts = {(r, c): padded[r : r + 28, c : c + 28] for r in (0, 6) for c in (0, 6)}
        directions.add(next(at for at, shifted in shifts.items() if np.abs(shifted - moved).max() < 1e-4))
    assert len(directions) == 4


def test_glass_exchanges_pixels_one_after_the_other_between_two_blurs():
    images = digits(3)
    numbers = draws(4)
    expected = [
        np.floor(ndimage.gaussian_filter1d(image, 0.7, axis=0, mode="nearest") * 255 + 1e-5) / 255
        for image in images[:, 0].numpy()
    ]
    for _ in range(2):
        up, left = (numbers.integers(-1, 1, 3, 26 * 26).numpy() for _ in range(2))
        exchanged = numbers.integers(0, 2, 3, 26 * 26).numpy()
        for number, (h, w) in enumerate((h, w) for h in range(27, 1, -1) for w in range(27, 1, -1)):
            for k, image in enumerate(expected):
                if exchanged[k, number]:
                    dy, dx = up[k, number], left[k, number]
                    image[h, w], image[h + dy, w + dx] = image[h + dy, w + dx], image[h, w]
    for image, got in zip(expected, corrupt("glass_blur", images, 0.7, seed=4), strict=True):
        blurred = ndimage.gaussian_filter1d(image, 0.7, axis=0, mode="nearest")
        assert (np.abs(blurred - got) < 1e-4).mean() > 0.99  # a byte may be rounded otherwise


def test_motion_leaves_a_tail_to_one_side_of_every_point():
    point = torch.zeros(40, 1, 28, 28)
    point[:, :, 14, 20] = 1
    smeared = corrupt("motion_blur", point, 3.0)
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    assert smeared[:, 14, 20] == pytest.approx(weights[0] / weights.sum(), rel=1e-5)
    for image in smeared:
        rows, columns = np.nonzero(image)
        assert columns.max() == 20 and np.all(np.abs(rows - 14) <= 20 - columns + 1)
        assert image.sum() == pytest.approx(1, abs=1e-5)
    assert len({tuple(np.nonzero(image)[0]) for image in smeared}) > 10  # angles


def test_brightness_and_stripe_are_what_they_say():
    images = digits()
    pixels = images[:, 0].numpy()
    np.testing.assert_allclose(corrupt("brightness", images, 0.5), np.minimum(pixels + 0.5, 1))
    expected = pixels.copy()
    expected[..., :7], expected[..., 21:] = 1 - pixels[..., :7], 1 - pixels[..., 21:]
    np.testing.assert_array_equal(corrupt("stripe", images, 0.25), expected)


def test_brightness_keeps_hue_and_saturation():
    color = torch.tensor([0.4, 0.2, 0.1]).view(1, 3, 1, 1)
    brighter = corruptions["brightness"](color, 0.4, draws())
    torch.testing.assert_close(brighter, color * 2)


def test_fog_is_a_fractal_that_keeps_the_maximum():
    images = digits(30)
    fogged = corrupt("fog", images, 3.0)
    brightest = images.amax(dim=(1, 2, 3)).numpy()
    clouds = fogged * ((brightest + 3) / brightest)[:, None, None] - images[:, 0].numpy()
    assert clouds.min() > -1e-5 and clouds.max() <= 3 + 1e-5
    assert 1 < clouds.mean() < 2  # midway, by symmetry
    near = np.abs(np.diff(clouds, axis=2)).mean()
    assert near < 0.35 * np.abs(clouds - clouds.mean()).mean()  # neighbors are alike


def test_spatter_covers_patches_with_the_color_of_mud():
    white = torch.ones(50, 1, 28, 28)
    covered = corrupt("spatter", white, 0.65)
    share = (covered < 1).mean()
    assert 0.05 < share < 0.3
    thickness = (1 - covered) / (1 - 63 / 255)
    assert thickness[thickness > 0].min() >= 0.8 - 1e-5 and thickness.max() <= 1 + 1e-6


def line(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    (left, top), (right, bottom) = start, end
    row, column = np.mgrid[:28, :28]
    distance = np.abs(row - top - (bottom - top) / (right - left) * (column - left))
    light = np.where(distance < 2.3, 1 + np.log1p(-np.minimum(distance, 2.29) / 2.3), 0).clip(0)
    return light * ((column >= np.floor(left)) & (column < np.ceil(right)))


def zigzag(top: int, end: int) -> np.ndarray:
    angle = np.arctan((end - top) / 23)
    length = 23 / np.cos(angle)
    points = [(0, 0), (2, 2), (6, -2), (10, 2), (14, -2), (18, 2), (22, -2), (length, -1 / (length - 20))]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = [(2 + cos * x - sin * y, top + sin * x + cos * y) for x, y in points]
    return np.minimum(sum(line(*pair) for pair in zip(turned, turned[1:], strict=False)), 1)


def test_lines_go_where_they_should():
    black = torch.zeros(2, 1, 28, 28)
    is_dot = np.arange(28) // 2 % 2 == 1
    dotted = [line((0, top), (27, bottom)) * is_dot for top in range(27) for bottom in range(27)]
    for image in corrupt("dotted_line", black, 1.0):
        assert nearest_of(dotted, image) < 1e-4
    zigzags = [zigzag(top, top + rise) for top in range(27) for rise in range(-5, 5)]
    for image in corrupt("zigzag", black, 1.0):
        assert nearest_of(zigzags, image) < 1e-4


def canny(image: np.ndarray) -> np.ndarray:
    """By labels of connected weak pixels, in float64."""
    inside = ndimage.gaussian_filter(np.ones((28, 28)), 1, mode="constant")
    smooth = ndimage.gaussian_filter(image.astype(float), 1, mode="constant") / inside
    down, across = ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1)
    size = np.hypot(down, across)
    weak = np.zeros((28, 28), dtype=bool)
    for r in range(1, 27):
        for c in range(1, 27):
            y, x = down[r, c], across[r, c]
            if size[r, c] < 0.1:
                continue
            longest = max(abs(y), abs(x))  # the gradient's line leaves the 3x3 window here
            at = np.array([[r + side * y / longest, c + side * x / longest] for side in (1, -1)]).T
            weak[r, c] = (ndimage.map_coordinates(size, at, order=1) <= size[r, c]).all()
    labels, count = ndimage.label(weak, np.ones((3, 3)))
    strong = [label for label in range(1, count + 1) if (size[labels == label] >= 0.2).any()]
    return np.isin(labels, strong)


def test_canny_equals_a_reference():
    images = digits(4)
    for image, edges in zip(images[:, 0].numpy(), corrupt("canny_edges", images, 1.0), strict=True):
        assert edges.sum() > 20
        assert np.sum(edges != canny(image)) <= 1
