"""Registries import the files of their package, keep names unique, and suggest the nearest one."""

import sys

import pytest

from inklab.errors import InklabError, UnknownNameError
from inklab.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes files of a package that is importable for one test; gives its name."""
    folder = tmp_path / "zoo_of_tests"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def written(**sources: str) -> str:
        for name, source in {"__init__": "", **sources}.items():
            (folder / f"{name}.py").write_text(source, encoding="utf-8")
        return "zoo_of_tests"

    yield written
    for name in set(sys.modules) - before:
        if name.startswith("zoo_of_tests"):
            del sys.modules[name]


def registry(package: str) -> Registry[int]:
    """A registry that the package's files find in its `__init__`."""
    import importlib

    animals: Registry[int] = Registry("animal", package)
    vars(importlib.import_module(package))["animals"] = animals
    return animals


ADDS = "from zoo_of_tests import animals\nanimals.add({name!r}, {value})\n"


def test_files_are_found_at_the_first_look_up_in_alphabetical_order(package):
    name = package(b=ADDS.format(name="zebra", value=1), a=ADDS.format(name="ape", value=2))
    animals = registry(name)
    assert "zoo_of_tests.a" not in sys.modules
    assert list(animals) == ["ape", "zebra"]
    assert (animals["ape"], animals["zebra"], len(animals)) == (2, 1, 2)
    assert "ape" in animals and "dog" not in animals and 3 not in animals
    assert animals.all() == {"ape": 2, "zebra": 1}


def test_an_unknown_name_gets_the_nearest_as_suggestion(package):
    animals = registry(package(a=ADDS.format(name="zebra", value=1)))
    with pytest.raises(UnknownNameError) as caught:
        animals["zerba"]
    assert (caught.value.key, caught.value.suggestion) == ("zerba", "zebra")
    with pytest.raises(UnknownNameError) as caught:
        animals["qqq"]
    assert caught.value.suggestion == ""


def test_a_broken_file_fails_every_look_up(package):
    """Not only the first: an incomplete registry must not be used."""
    animals = registry(package(a=ADDS.format(name="ape", value=1), b="1 / 0\n"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            animals["ape"]


def test_names_may_be_added_from_outside_are_unique_and_temporary_ones_are_forgotten(package):
    animals = registry(package(a=ADDS.format(name="ape", value=1)))
    assert animals["ape"] == 1, "a look-up by name finds the files, too"
    animals.all().clear()
    assert len(animals) == 1, "what is returned is a copy"
    with animals.temporary():
        animals.add("mine", 7)
        assert animals["mine"] == 7
        with pytest.raises(InklabError) as caught:
            animals.add("mine", 8)
        assert caught.value.key == "mine"
    assert list(animals) == ["ape"]


def test_names_are_unique_in_files_too(package):
    animals = registry(package(a=ADDS.format(name="ape", value=1), b=ADDS.format(name="ape", value=2)))
    with pytest.raises(InklabError) as caught:
        animals.all()
    assert caught.value.key == "ape"


def test_our_own_registries_are_complete():
    from inklab.corruptions.corruption import corruptions
    from inklab.networks.network import networks
    from inklab.training.objectives import objectives

    for registry, minimum in ((networks, 5), (corruptions, 5), (objectives, 4)):
        assert len(registry) >= minimum
        assert all(entry.name == name for name, entry in registry.all().items())
