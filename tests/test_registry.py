"""Registries find the files of their package, keep names apart, and answer a wrong one with the nearest."""

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

    made: Registry[int] = Registry("animal", package)
    importlib.import_module(package).animals = made
    return made


ADDS = "from zoo_of_tests import animals\nanimals.add({name!r}, {value})\n"


def test_files_are_found_at_the_first_look_up_in_alphabetical_order(package):
    name = package(b=ADDS.format(name="zebra", value=1), a=ADDS.format(name="ape", value=2))
    animals = registry(name)
    assert "zoo_of_tests.a" not in sys.modules
    assert list(animals) == ["ape", "zebra"]
    assert (animals["ape"], animals["zebra"], len(animals)) == (2, 1, 2)
    assert "ape" in animals and "dog" not in animals and 3 not in animals
    assert animals.all() == {"ape": 2, "zebra": 1}


def test_a_look_up_by_name_finds_the_files_too(package):
    animals = registry(package(a=ADDS.format(name="ape", value=2)))
    assert animals["ape"] == 2


def test_an_unknown_name_is_answered_with_the_nearest(package):
    animals = registry(package(a=ADDS.format(name="zebra", value=1)))
    with pytest.raises(UnknownNameError) as caught:
        animals["zerba"]
    assert str(caught.value) == "no animal is called 'zerba'. Did you mean 'zebra'? Known: zebra."
    with pytest.raises(UnknownNameError, match="no animal is called 'qqq'. Known: zebra."):
        animals["qqq"]


def test_two_things_may_not_share_a_name(package):
    animals = registry(package(a=ADDS.format(name="ape", value=1), b=ADDS.format(name="ape", value=2)))
    with pytest.raises(InklabError, match="two animals are called 'ape'"):
        animals.all()


def test_a_broken_file_fails_every_look_up(package):
    """Not the first only: a registry that lacks something must not pass for a whole one."""
    animals = registry(package(a=ADDS.format(name="ape", value=1), b="1 / 0\n"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            animals["ape"]


def test_what_is_returned_is_a_copy(package):
    animals = registry(package(a=ADDS.format(name="ape", value=1)))
    animals.all().clear()
    assert len(animals) == 1


def test_names_may_be_added_from_outside(package):
    animals = registry(package())
    animals.add("mine", 7)
    assert animals["mine"] == 7
    with pytest.raises(InklabError, match="two animals are called 'mine'"):
        animals.add("mine", 8)


def test_our_own_registries_are_whole():
    from inklab.corruptions.corruption import corruptions
    from inklab.networks.network import models
    from inklab.training.objectives import objectives

    for found, least in ((models, 5), (corruptions, 5), (objectives, 4)):
        assert len(found) >= least
        assert all(thing.name == name for name, thing in found.all().items())
