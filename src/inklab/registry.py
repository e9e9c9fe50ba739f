"""Registries: names for things that are defined by a decorator, in any file of a package."""

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Generic, TypeVar

from inklab.errors import ConfigError, InklabError, UnknownNameError
from inklab.usercode import is_user_code, load_object, short_name

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

ENTRY = "__inklab_entry__"  # attribute of a decorated function


class Registry(Generic[T]):
    """Named things of one kind, collected from the files of one package at the first look-up.

    A new one is a decorated function in any file of that package; nothing else is edited.

    Args:
        kind: what one is called in messages, such as "corruption".
        package: the package or module that defines them, such as "inklab.corruptions".
        skip: files of it that define none, and are not imported.
        wrap: makes an entry of an object of the user's, which may be a plain function, and its name; raises
            ConfigError for what it can't use. Left out: users have none of this kind.

    Raises:
        UnknownNameError: by `registry[name]`, with the nearest valid name.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        skip: Collection[str] = (),
        *,
        wrap: Callable[[str, object], T] | None = None,
    ) -> None:
        self.kind, self._package, self._skip, self._wrap = kind, package, skip, wrap
        self._entries: dict[str, T] = {}
        self._complete = False

    def add(self, name: str, entry: T) -> T:
        """Register an entry, and return it. One of the user's replaces another: cells are run again.

        Raises:
            InklabError: its name is taken.
        """
        if name in self._entries and not (_is_users(self._entries[name]) and _is_users(entry)):
            raise InklabError(f"two {self.kind}s are called '{name}'; rename one of them", key=name)
        self._entries[name] = entry
        return entry

    def add_function(self, name: str, entry: T, function: F) -> F:
        """Register what a decorator makes of a function, and return the function, which keeps the entry."""
        setattr(function, ENTRY, self.add(name, entry))
        return function

    def all(self) -> dict[str, T]:
        """All entries by name, in alphabetical order."""
        if not self._complete:
            package = importlib.import_module(self._package)
            for file in pkgutil.iter_modules(getattr(package, "__path__", ())):
                if file.name not in self._skip:
                    importlib.import_module(f"{self._package}.{file.name}")
            self._complete = True  # set last, so that a file that fails to import fails every look-up
        return dict(sorted(self._entries.items()))

    def resolve(self, name: str) -> T:
        """The entry behind a registered name, `file.py:name`, which runs that file, or a live object.

        Raises:
            UnknownNameError: nothing is registered by that name.
            ConfigError: the user's code is not there, fails, or is nothing of this kind.
        """
        if not is_user_code(name):
            return self[name]
        if self._wrap is None:
            raise ConfigError(
                f"'{short_name(name)}': a {self.kind} is a registered name; see inklab list", key=name
            )
        return self._wrap(name, load_object(name))

    def session_object(self, name: str) -> object:
        """What the user decorated in this session; None for entries of inklab, which every worker has."""
        entry = self._entries.get(name)
        if entry is None or not _is_users(entry):
            return None
        functions = [value for value in vars(entry).values() if registered_entry(value) is entry]
        return functions[0] if functions else entry

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


def registered_entry(function: object) -> object:
    """What a decorator made of a function, also of one that was sent to a worker; None if it has none."""
    return vars(function).get(ENTRY) if hasattr(function, "__dict__") else None


def _is_users(entry: object) -> bool:
    """Whether the function of an entry was defined outside this package."""
    values = vars(entry).values() if hasattr(entry, "__dict__") else ()
    modules = [value.__module__ or "" for value in values if isinstance(value, FunctionType)]
    return bool(modules) and not any(module.startswith("inklab.") for module in modules)
