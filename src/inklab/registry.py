"""Registries: names for things that are defined by a decorator, in any file of a package."""

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from inklab.errors import InklabError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, collected from the files of one package at the first look-up.

    A new one is a decorated function in any file of that package; nothing else is edited.

    Args:
        kind: what one is called in messages, such as "corruption".
        package: the package or module that defines them, such as "inklab.corruptions".
        skip: files of it that define none, and are not imported.

    Raises:
        UnknownNameError: by `registry[name]`, with the nearest valid name.
    """

    def __init__(self, kind: str, package: str, skip: Collection[str] = ()) -> None:
        self.kind, self._package, self._skip = kind, package, skip
        self._entries: dict[str, T] = {}
        self._complete = False

    def add(self, name: str, entry: T) -> T:
        """Register an entry, and return it. Raises InklabError: its name is taken."""
        if name in self._entries:
            raise InklabError(f"two {self.kind}s are called '{name}'; rename one of them", key=name)
        self._entries[name] = entry
        return entry

    def all(self) -> dict[str, T]:
        """All entries by name, in alphabetical order."""
        if not self._complete:
            package = importlib.import_module(self._package)
            for file in pkgutil.iter_modules(getattr(package, "__path__", ())):
                if file.name not in self._skip:
                    importlib.import_module(f"{self._package}.{file.name}")
            self._complete = True  # set last, so that a file that fails to import fails every look-up
        return dict(sorted(self._entries.items()))

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Forget afterwards what is added meanwhile."""
        entries = self.all()
        try:
            yield
        finally:
            self._entries = entries

    def __getitem__(self, name: str) -> T:
        entries = self.all()
        if name not in entries:
            raise UnknownNameError(self.kind, name, entries)
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self.all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())
