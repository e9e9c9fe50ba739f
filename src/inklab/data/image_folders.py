"""Image files in a directory or zip file: one subdirectory per class, in one set or several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import category

import numpy as np

from inklab.data.conversion import SET_NAMES, UNPRINTABLE, LabeledImages, make_dataset, order_classes
from inklab.data.dataset import Dataset
from inklab.data.file_trees import Entries, FileTree, PictureFiles, open_tree
from inklab.data.pictures import preprocess_files
from inklab.data.preprocessing import FORMATS, SUFFIXES, is_picture
from inklab.errors import DataError
from inklab.format import pluralize
from inklab.records.components import PreprocessingChoice

ROLES = {name: role for role, names in SET_NAMES.items() for name in names}
FOREIGN_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".svg", ".pdf", ".psd", ".raw", ".dng")
SHOWN_NAMES = 5
HEAD = 16  # bytes by which a file without a known suffix is recognized


@dataclass
class Directory:
    """What lies in one directory of a tree."""

    directories: dict[str, "Directory"] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # full names

    def all_files(self) -> list[str]:
        """Its files and those of all directories below, in the order of their names."""
        return sorted(
            [*self.files, *(name for below in self.directories.values() for name in below.all_files())]
        )


def load_image_folder(path: Path, *, seed: int, preprocessing: PreprocessingChoice = "auto") -> Dataset:
    """Load image files from one subdirectory per class; or from `train`, `val` and `test` with those.

    Without a test set, a sixth of every class, selected by `seed`, becomes one. Pictures may lie deeper
    inside a class. Pictures that all have one size of at most 64 pixels per side stay as they are, grayscale
    if all are gray. Others are preprocessed as MNIST was made: ink detected, cropped, scaled and centered in
    28 x 28.

    Args:
        path: a directory, or a zip file of one.
        seed: selects the test images where there are none.
        preprocessing: replaces the one that suits the sizes.

    Raises:
        CorruptFileError: a picture is damaged or too large; it is named.
        DataError: a class is empty, the classes of the sets differ, or the pictures together are too large.
    """
    with open_tree(path) as tree:
        return _load_tree(tree, seed, preprocessing)


def _load_tree(tree: FileTree, seed: int, preprocessing: PreprocessingChoice) -> Dataset:
    path = tree.root
    start, root = _descend(_build(tree.entries()))
    where = path / start
    roles = _roles(root, where)
    classes = {role: _classes(tree, root.directories[name], where / name) for role, name in roles.items()}
    if not roles:
        classes = {"train": _classes(tree, root, where)}
    names = order_classes(classes["train"])
    if len(names) < 2:
        raise DataError(
            f"'{where / roles.get('train', '')}' has "
            f"{pluralize(len(names), 'subdirectory', 'subdirectories')}; it needs one per class, at least "
            "two, or 'train' and 'test' with those"
        )
    for role, class_files in classes.items():
        _check_classes(class_files, names, where, roles.get(role, ""))
    files = {
        role: [file for name in names for file in class_files[name]] for role, class_files in classes.items()
    }
    result = preprocess_files([PictureFiles(tree, part) for part in files.values()], preprocessing)
    sets = {}
    for pixels, (role, class_files) in zip(result.sets, classes.items(), strict=True):
        numbers = np.repeat(np.arange(len(names)), [len(class_files[name]) for name in names])
        part = f"'{where / roles.get(role, '')}'"
        sets[role] = LabeledImages(pixels, numbers, part, part)
    left_out = sorted(set(root.all_files()).difference(*files.values()))
    notes = [note for note in (result.note, _note_on_left_out(left_out)) if note]
    return make_dataset(
        str(path),
        sets,
        class_names=names,
        preprocessing=result.preprocessing,
        note=" ".join(notes) or None,
        seed=seed,
    )


def _build(entries: Entries) -> Directory:
    root = Directory()
    for name, is_directory in entries:
        *above, last = name.split("/")
        current = root
        for part in [*above, last] if is_directory else above:
            current = current.directories.setdefault(part, Directory())
        if not is_directory:
            current.files.append(name)
    return root


def _descend(root: Directory) -> tuple[str, Directory]:
    """The directory with the classes or sets: a zip file often has everything in one directory."""
    start, current = "", root
    while len(current.directories) == 1:
        ((name, current),) = current.directories.items()
        start += f"{name}/"
    return (start, current) if len(current.directories) > 1 else ("", root)


def _roles(root: Directory, path: Path) -> dict[str, str]:
    """The subdirectory of each role, the training set first; {} if the subdirectories are classes."""
    roles: dict[str, str] = {}
    for name in sorted(root.directories):
        role = ROLES.get(name.casefold())
        if role in roles:
            raise DataError(f"'{path}' has '{roles[role]}' and '{name}'; keep one of them")
        if role:
            roles[role] = name
    others = [
        name for name, below in root.directories.items() if name not in roles.values() and below.all_files()
    ]
    if len(roles) < 2 or "train" not in roles:
        return {}
    if others:
        raise DataError(
            f"'{path}' has {_listing(sorted(roles.values()))} and {_listing(sorted(others))} beside them; "
            "move the latter elsewhere"
        )
    return {role: roles[role] for role in SET_NAMES if role in roles}


def _classes(tree: FileTree, root: Directory, path: Path) -> dict[str, list[str]]:
    """The picture files of each class."""
    for name in root.directories:
        if any(category(letter) in UNPRINTABLE for letter in name):
            raise DataError(f"'{path}' has a subdirectory called {name!r}, which is not printable; rename it")
    return {
        name: [file for file in below.all_files() if _is_picture_file(tree, file)]
        for name, below in root.directories.items()
    }


def _is_picture_file(tree: FileTree, name: str) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        raise DataError(
            f"'{tree.root / name}' can't be read, only {', '.join(FORMATS)} and TGA; save it as "
            "PNG or remove it"
        )
    return suffix in SUFFIXES or is_picture(tree.read(name, HEAD))


def _check_classes(
    class_files: Mapping[str, Sequence[str]], names: Sequence[str], path: Path, part: str
) -> None:
    if unmatched := ", ".join(sorted(set(class_files) ^ set(names))):
        raise DataError(
            f"'{path}': '{part}' must have the same classes as the training set; only one of them has: "
            f"{unmatched}"
        )
    for name, files in class_files.items():
        if not files:
            raise DataError(
                f"'{path / part}': the class '{name}' has no image files ({', '.join(FORMATS)} or TGA); add "
                "some or remove it"
            )


def _note_on_left_out(names: Sequence[str]) -> str | None:
    if not names:
        return None
    verb = "was" if len(names) == 1 else "were"
    return f"{pluralize(len(names), 'file')} {verb} left out: {_listing(names)}."


def _listing(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN_NAMES]) + more
