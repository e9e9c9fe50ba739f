"""A user's own code: loaded only when it is named, once per content; every failure is one line."""

import hashlib
import sys

import pytest

from inklab.errors import ConfigError
from inklab.usercode import is_user_code, load_object, source_sha256


@pytest.fixture
def write(tmp_path):
    """Writes `mine.py` and gives its path."""

    def written(source: str, name: str = "mine.py"):
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        return path

    return written


def refused(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_object(name)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("names", "answer"),
    [
        (["my_net.py:Net", "a/b c/net.py:Net", "/tmp/x:y/net.py:Net"], True),
        (["mlp", "my_net.py", "my_net.py:", "my_net.py:not a name", "my_net.py:os.system"], False),
        (["my_net.txt:Net", ":Net", ""], False),
    ],
)
def test_which_names_are_user_code(names, answer):
    assert {name: is_user_code(name) for name in names} == dict.fromkeys(names, answer)


def test_an_object_is_loaded_from_the_file_which_is_run_once(write, tmp_path, monkeypatch):
    # A dataclass needs the module to be findable while it is executed.
    path = write("from dataclasses import dataclass\n\n@dataclass\nclass Net:\n    width: 'int' = 3\n")
    net = load_object(f"{path}:Net")
    assert net().width == 3 and load_object(f"{path}:Net") is net
    write("answer = 42\n")
    monkeypatch.chdir(tmp_path)
    assert load_object("mine.py:answer") == 42, "a changed file is another module"


def test_its_digest_is_that_of_its_bytes_and_is_taken_without_running_it(write, tmp_path):
    marker = tmp_path / "ran"
    source = f"open({str(marker)!r}, 'w').close()\nNet = 1\n"
    path = write(source)
    assert source_sha256(f"{path}:Net") == hashlib.sha256(source.encode()).hexdigest()
    assert not marker.exists()
    load_object(f"{path}:Net")
    assert marker.exists()


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    name = f"{tmp_path}/gone.py:Net"
    assert refused(name).key == name
    with pytest.raises(ConfigError):
        source_sha256(name)
    (tmp_path / "folder.py").mkdir()
    assert refused(f"{tmp_path}/folder.py:Net").key


def test_a_misspelled_name_gets_the_nearest_as_suggestion(write):
    path = write("class Network:\n    pass\n")
    error = refused(f"{path}:Netwrk")
    assert (error.key, error.suggestion) == ("Netwrk", "Network")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package_at_all\n", "ModuleNotFoundError"),
        ("def broken(:\n", "SyntaxError"),
        ("raise ValueError('one\\ntwo')\n", "ValueError: one two"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_that_fails_is_refused_in_one_line_and_forgotten(source, message, write):
    path = write(source)
    before = set(sys.modules)
    assert message in str(refused(f"{path}:Net"))
    assert not {name for name in set(sys.modules) - before if name.startswith("inklab_user")}
    assert message in str(refused(f"{path}:Net"))  # it does not count as imported
