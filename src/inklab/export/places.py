"""Where an exported file and its card may be put. Needs no torch."""

from pathlib import Path

from inklab.errors import SpecError

SUFFIX = ".onnx"
MARK = "<!-- a model card of inklab export -->"
"""First line of every card: a file that begins otherwise is somebody else's, and not written over."""


def check_place(file: Path) -> None:
    """Refuse a place where no file can be put, or where a card would take the place of another text.

    Raises:
        SpecError: it does not end in .onnx, is a folder, or somebody else's text lies where the card goes.
    """
    if file.suffix.lower() != SUFFIX:
        raise SpecError(
            f"'{file}' does not end in {SUFFIX}; name a file such as {file.stem or 'net'}{SUFFIX}"
        )
    if file.is_dir() or any(each.exists() and not each.is_dir() for each in file.parents):
        raise SpecError(f"'{file}' can't be a file there; name another with --to")
    card = card_of(file)
    if card.exists() and not _is_card(card):
        raise SpecError(f"'{card}' is no card of inklab; move it away, or name another file with --to")


def card_of(file: Path) -> Path:
    """Where the card of a file lies.

    Example:
        >>> card_of(Path("cnn.onnx")).name
        'cnn.md'
    """
    return file.with_suffix(".md")


def _is_card(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()
