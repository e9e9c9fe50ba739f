"""Names for things that are found, not listed by hand."""

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from inklab.errors import InklabError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names for one kind of thing, found in the files of one package at the first look-up.

    A new thing is a decorated function in any file of that package; nothing else is edited.

    Args:
        kind: what one thing is called in messages, such as "corruption".
        package: the package whose files define the things, such as "inklab.corruptions"; or the one file.
        skip: files of it that define none, and are not imported for it.

    Raises:
        UnknownNameError: by `registry[name]`, with the nearest right name.
    """

    def __init__(self, kind: str, package: str, skip: Collection[str] = ()) -> None:
        self.kind, self._package, self._skip = kind, package, skip
        self._things: dict[str, T] = {}
        self._complete = False

    def add(self, name: str, thing: T) -> None:
        """Give `thing` a name; two things may not share one."""
        if name in self._things:
            raise InklabError(f"two {self.kind}s are called '{name}'")
        self._things[name] = thing

    def all(self) -> dict[str, T]:
        """Every registered thing by name, in alphabetical order."""
        if not self._complete:
            home = importlib.import_module(self._package)
            for file in pkgutil.iter_modules(getattr(home, "__path__", ())):
                if file.name not in self._skip:
                    importlib.import_module(f"{self._package}.{file.name}")
            self._complete = True  # last: a broken file must fail every look-up, not just the first
        return dict(sorted(self._things.items()))

    def __getitem__(self, name: str) -> T:
        known = self.all()
        if name not in known:
            raise UnknownNameError(self.kind, name, known)
        return known[name]

    def __contains__(self, name: object) -> bool:
        return name in self.all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())
