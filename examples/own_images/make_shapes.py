"""Draw a small dataset as if photographed: dark shapes of any size on light paper, a folder per class.

python make_shapes.py          60 pictures per class in shapes/, and new-shape.png for the trained network
"""

import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

Corners = list[tuple[float, float]]
PER_CLASS = 60


def main() -> None:
    """Write all pictures; the same ones each time."""
    rng = random.Random(0)
    for name in SHAPES:
        for number in range(PER_CLASS):
            path = Path("shapes") / name / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_shape(name, rng).save(path)
    draw_shape("triangle", rng).save("new-shape.png")
    print(f"{len(SHAPES)} classes of {PER_CLASS} pictures in shapes/: {', '.join(SHAPES)}; and new-shape.png")


def draw_shape(name: str, rng: random.Random) -> Image.Image:
    """A picture of 60 to 120 pixels a side with one shape at a random position."""
    picture = Image.new("L", (rng.randint(60, 120), rng.randint(60, 120)), rng.randint(215, 255))
    size = rng.uniform(0.4, 0.8) * min(picture.size)
    left, top = (rng.uniform(0, side - size) for side in picture.size)
    corners = [(left + x * size, top + y * size) for x, y in SHAPES[name](rng)]
    width = rng.randint(3, 6)
    ImageDraw.Draw(picture).line(
        [*corners, corners[0], corners[1]], fill=rng.randint(0, 60), width=width, joint="curve"
    )
    return picture


def jitter(corners: Corners, rng: random.Random, amount: float = 0.04) -> Corners:
    """The same corners, each moved a little: exact shapes would be too easy for a network."""
    return [(x + rng.uniform(-amount, amount), y + rng.uniform(-amount, amount)) for x, y in corners]


SHAPES: dict[str, Callable[[random.Random], Corners]] = {
    "arrow": lambda rng: jitter(
        [(0, 0.5), (0.6, 0), (0.6, 0.3), (1, 0.3), (1, 0.7), (0.6, 0.7), (0.6, 1)], rng
    ),
    "square": lambda rng: jitter([(0, 0), (1, 0), (1, 1), (0, 1)], rng),
    "triangle": lambda rng: jitter([(0.5, 0), (1, 1), (0, 1)], rng),
}

if __name__ == "__main__":
    main()
