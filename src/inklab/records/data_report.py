"""What a check of a dataset found: part of a run's plan, and what `inklab data check` prints."""

from typing import Annotated

from pydantic import Field

from inklab.records.record import Count, Counts, Names, Number, Record, Sha256, Shape

Byte = Annotated[int, Field(ge=0, le=255)]

MAX_BRIEF = 3
"""Notes that a terminal shows before a run."""

INVERTED = "with a light background where most have a dark one, or vice versa"
MIN_INVERTED_SHARE = 0.005  # of all images, for a note before a run: some always have ink at the border

ImageRef = tuple[str, Count]
"""A set, and an index into it."""


class DataIssue(Record):
    """Images that have an issue in common.

    Attributes:
        count: how many.
        examples: the first few, as set and index.
    """

    count: Count
    examples: tuple[ImageRef, ...]


class DataReport(Record):
    """What a check of a dataset found.

    Attributes:
        dataset: its name.
        sha256: of its content.
        shape: channels, height, width of an image.
        labels: the names of the classes.
        counts: per set, images of each class.
        largest_value: of the training images' pixels, 0 to 255.
        leaked_test_images: test images that equal a training image.
        balance: largest over smallest class of the training set; None if a class has no image.
        duplicates: per set, images that equal an earlier one of the same set.
        train_test_overlap: validation and test images that equal a training image.
        label_conflicts: images that occur with different labels.
        constant_images: images with one value only.
        inverted_polarity: grayscale images with a light border where most have a dark one, or vice versa.
        problems: what makes training pointless or its numbers wrong: a run does not begin. Sentences.
        notes: other things that a person should know, as sentences.
    """

    dataset: str
    sha256: Sha256
    shape: Shape
    labels: Names
    counts: dict[str, Counts]
    largest_value: Byte
    leaked_test_images: Count
    balance: Number | None
    duplicates: dict[str, DataIssue]
    train_test_overlap: DataIssue
    label_conflicts: DataIssue
    constant_images: DataIssue
    inverted_polarity: DataIssue
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def brief_notes(self) -> tuple[str, ...]:
        """Problems and notes for a terminal, of many the first; single inverted images are no news."""
        few = self.inverted_polarity.count < MIN_INVERTED_SHARE * sum(map(sum, self.counts.values()))
        notes = (text for text in self.notes if not (few and text.endswith(f"{INVERTED}.")))
        texts = (*self.problems, *notes)
        more = len(texts) - MAX_BRIEF
        rest = (f"{more:,} more notes on the images; see the report, or inklab data check.",)
        return texts if more <= 0 else (*texts[:MAX_BRIEF], *rest)

    @property
    def issues(self) -> tuple[tuple[str, DataIssue], ...]:
        """Every kind of issue that images can have, in words, and the images that have it."""
        return (
            *((f"equal to an earlier image of the {name} set", row) for name, row in self.duplicates.items()),
            ("held out and also in the training set", self.train_test_overlap),
            ("equal, but with different labels", self.label_conflicts),
            ("with one value only", self.constant_images),
            (INVERTED, self.inverted_polarity),
        )
