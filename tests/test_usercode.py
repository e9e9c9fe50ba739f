"""A user's own code: loaded only when it is named, once per content; every failure is one line."""

import hashlib
import shutil
import sys

import pytest

from inklab.errors import ConfigError
from inklab.usercode import (
    absolute_name,
    is_user_code,
    load_object,
    location_free,
    map_names,
    short_name,
    source_sha256,
)


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


def write_files(folder, sources):
    for name, source in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")
    return folder


class TestModulesBeside:
    @pytest.fixture
    def folder(self, tmp_path):
        """Writes files below a folder; gives the folder."""

        def written(name: str, **sources: str):
            return write_files(tmp_path / name, {f"{module}.py": text for module, text in sources.items()})

        return written

    @pytest.fixture
    def project(self, tmp_path):
        sources = {
            "net.py": "from blocks import block\nimport parts.deep as deep\nNet = (block(), deep.K)\n",
            "blocks.py": "import json\nfrom helpers import H\ndef block():\n    return H\n",
            "helpers.py": "H = 1\n",
            "parts/__init__.py": "",
            "parts/deep.py": "from .more import K\n",
            "parts/more.py": "K = 2\n",
            "unrelated.py": "1 / 0\n",
        }
        return write_files(tmp_path / "project", sources)

    def test_they_are_imported_and_nothing_of_them_stays(self, project):
        path, arguments, modules = list(sys.path), list(sys.argv), set(sys.modules)
        assert load_object(f"{project}/net.py:Net") == (1, 2)
        assert (sys.path, sys.argv) == (path, arguments)
        assert {name for name in set(sys.modules) - modules if not name.startswith("inklab_user_")} == set()
        assert not list(project.rglob("__pycache__"))

    def test_all_of_them_count_and_nothing_else(self, project):
        name = f"{project}/net.py:Net"
        digests = {source_sha256(name)}
        for file in ("net", "blocks", "helpers", "parts/__init__", "parts/deep", "parts/more"):
            path = project / f"{file}.py"
            path.write_text(path.read_text() + "# changed\n")
            digests.add(source_sha256(name))
        assert len(digests) == 7
        (project / "unrelated.py").write_text("2\n")
        assert source_sha256(name) in digests

    def test_a_changed_one_is_imported_again(self, project):
        name = f"{project}/net.py:Net"
        assert load_object(name) == (1, 2)
        (project / "helpers.py").write_text("H = 5\n")  # as long as before, within the same second
        assert load_object(name) == (5, 2)

    def test_the_same_files_elsewhere_are_the_same(self, project, tmp_path):
        shutil.copytree(project, tmp_path / "copy")
        names = [f"{project}/net.py:Net", f"{tmp_path}/copy/net.py:Net"]
        assert len(set(map(source_sha256, names))) == len(set(map(location_free, names))) == 1
        assert location_free("mlp") == "mlp" and location_free(names[0]).startswith("net.py:Net@")

    def test_modules_of_the_same_name_do_not_mix(self, folder, monkeypatch):
        net = "from blocks import K\ndef get():\n    return K\n"
        paths = [folder(name, net=net, blocks=f"K = {name!r}\n") for name in ("one", "two")]
        own = folder("own", blocks="K = 'own'\n")
        monkeypatch.syspath_prepend(own)
        import blocks

        for path in [*paths, *paths]:
            assert load_object(f"{path}/net.py:get")() == path.name
        assert sys.modules["blocks"] is blocks and blocks.K == "own", "those of the session stay"
        del sys.modules["blocks"]

    def test_installed_modules_are_not_looked_for_beside_it(self, folder):
        path = folder("shadow", net="import json, torch\nNet = json.dumps([torch.pi > 3])\n", json="1 / 0\n")
        before = source_sha256(f"{path}/net.py:Net")
        (path / "json.py").write_text("2\n")
        assert source_sha256(f"{path}/net.py:Net") == before
        assert load_object(f"{path}/net.py:Net") == "[true]"

    def test_modules_above_its_folder_do_not_count(self, folder, tmp_path):
        net = "try:\n    from ..outer import K\nexcept ImportError:\n    K = 3\n"
        path = write_files(tmp_path / "above", {"inner/net.py": net})
        name = f"{path}/inner/net.py:K"
        before = source_sha256(name)
        folder("above", outer="K = 1\n")
        assert source_sha256(name) == before and load_object(name) == 3

    def test_a_broken_one_is_refused_and_forgotten(self, folder):
        path = folder("broken", net="import blocks\n", blocks="1 / 0\n")
        for _ in range(2):
            assert "ZeroDivisionError" in str(refused(f"{path}/net.py:Net"))
        assert "blocks" not in sys.modules


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit('bye')\n",
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n",
        "raise SystemExit\n",
        "class Stop(BaseException): pass\nraise Stop\n",
        "raise GeneratorExit\n",
    ],
)
def test_a_file_that_ends_python_is_refused_in_one_line(source, write, capfd):
    message = str(refused(f"{write(source)}:Net"))
    assert "can't be imported" in message and "\n" not in message
    assert ("__main__" in message) == ("BaseException" not in source and "GeneratorExit" not in source)
    assert capfd.readouterr() == ("", ""), "no usage text of a program that nobody has started"


def test_a_file_sees_no_arguments_and_may_write_and_extend_the_search_path(write, capfd, tmp_path):
    source = (
        "import argparse, sys\np = argparse.ArgumentParser()\np.add_argument('--width', default=3)\n"
        f"Net = p.parse_args().width\nsys.stderr.write('note')\nsys.path.append({str(tmp_path / 'lib')!r})\n"
    )
    path = list(sys.path)
    assert load_object(f"{write(source)}:Net") == 3
    assert capfd.readouterr().err == "note"
    assert sys.path == [*path, str(tmp_path / "lib")]
    sys.path[:] = path


def test_an_interrupted_import_stays_an_interruption(write):
    with pytest.raises(KeyboardInterrupt):
        load_object(f"{write('raise KeyboardInterrupt')}:Net")


def test_absolute_names_mean_the_same_from_everywhere(write, tmp_path, monkeypatch):
    write("Net = 1\n")
    monkeypatch.chdir(tmp_path)
    assert absolute_name("mine.py:Net") == f"{tmp_path}/mine.py:Net"
    assert [absolute_name(name) for name in ("mlp", "gone.py:Net")] == ["mlp", "gone.py:Net"]
    values = {"network": {"name": "mine.py:Net", "width": 3}, "all": ["mine.py:Net", None]}
    renamed = map_names(values, absolute_name)
    assert map_names(renamed, short_name) == values
