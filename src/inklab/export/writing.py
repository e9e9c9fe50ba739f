"""An exported network on disk, with its card beside it."""

from pathlib import Path

from inklab.export.card import model_card
from inklab.export.exported import Exported
from inklab.export.places import card_of, check_place
from inklab.export.told import Facts
from inklab.files import write_whole


def write(exported: Exported, facts: Facts, file: Path) -> Path:
    """Write the file and then its card, each whole.

    Args:
        exported: what is written.
        facts: for the card.
        file: its name, ending in .onnx.

    Returns:
        The card's path.

    Raises:
        SpecError: as `check_place`.
        Unwritable: the file system refuses.
    """
    check_place(file)
    write_whole(file, exported.raw)
    write_whole(card_of(file), model_card(exported, facts, file))
    return card_of(file)
