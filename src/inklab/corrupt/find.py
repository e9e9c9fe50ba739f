"""Corruptions by any name that a study may use."""

from inklab.corrupt.corruption import Corruption, corruptions
from inklab.errors import SpecError
from inklab.usercode import is_user_code, load_object


def find_corruption(name: str) -> Corruption:
    """A registered corruption, or one in a user's own file (`my_noise.py:speckle`).

    Raises:
        UnknownName: nothing has that name.
        SpecError: what the file holds under that name is not a corruption.
    """
    if not is_user_code(name):
        return corruptions[name]
    found = load_object(name)
    if not isinstance(found, Corruption):
        raise SpecError(f"'{name}' is a {type(found).__name__}; decorate the function with @corruption(...)")
    return found
