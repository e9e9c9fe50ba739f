"""The files of EMNIST: its parts and their classes. Rows and columns of its images are exchanged."""

import re
from dataclasses import dataclass

DIGITS = tuple("0123456789")
UPPERCASE = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
MERGED = (*DIGITS, *UPPERCASE, *"abdefghnqrt")
IMAGES = re.compile(r"emnist-([a-z]+)-(?:train|test)-images[-.]idx3")
NOTE = "The images of EMNIST's files lie on their side; they were turned upright."


@dataclass(frozen=True)
class EmnistPart:
    """One of the datasets in EMNIST's archive.

    Attributes:
        labels: the names of the classes.
        counts: training and test images; () for any.
        first_label: of the first class in the files.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...] = ()
    first_label: int = 0

    @property
    def class_names(self) -> dict[int, str]:
        """The name of each label in the files."""
        return dict(enumerate(self.labels, self.first_label))


EMNIST_PARTS = {
    "letters": EmnistPart(UPPERCASE, (124_800, 20_800), first_label=1),  # upper and lower case in one class
    "balanced": EmnistPart(MERGED, (112_800, 18_800)),
    "digits": EmnistPart(DIGITS, (240_000, 40_000)),
    "mnist": EmnistPart(DIGITS),
    "bymerge": EmnistPart(MERGED),
    "byclass": EmnistPart((*DIGITS, *UPPERCASE, *map(str.lower, UPPERCASE))),
}


def emnist_part(file_name: str) -> EmnistPart | None:
    """The part of EMNIST that a file of images belongs to, by its name; None for other files.

    Example:
        >>> emnist_part("emnist-letters-train-images-idx3-ubyte.gz").class_names[1]
        'A'
    """
    match = IMAGES.match(file_name)
    return EMNIST_PARTS.get(match[1]) if match else None
