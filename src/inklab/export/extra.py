"""The packages that export needs and the rest of inklab doesn't."""

from collections.abc import Iterable
from importlib.util import find_spec

from inklab.errors import InklabError

ADVICE = "pip install 'inklab[onnx]'"


def need(*packages: str) -> None:
    """Refuse to go on without some packages. Nothing is imported.

    Args:
        packages: names as they are imported.

    Raises:
        InklabError: one is not installed; it says what to type.

    Example:
        >>> need("json")
        >>> need("json", "tomlkit_")
        Traceback (most recent call last):
        inklab.errors.InklabError: this needs tomlkit_, which isn't installed: pip install 'inklab[onnx]'
    """
    missing = [name for name in packages if not _is_there(name)]
    if missing:
        *others, last = missing
        told, verb = (f"{', '.join(others)} and {last}", "aren't") if others else (last, "isn't")
        raise InklabError(f"this needs {told}, which {verb} installed: {ADVICE}")


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed. Nothing is imported.

    Example:
        >>> missing(["json", "tomlkit_"])
        ['tomlkit_']
    """
    return [name for name in packages if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # somebody stands in the way of it
        return False
