"""Wrong commands and damaged files: one line on stderr, and none of it after seconds of importing torch.

The exit code and the wording of each are pinned in tests/golden/messages.txt.
"""

import os
import shutil
import sys

import pytest
import toy_run
from cli_session import run_commands
from wrong_commands import ERRORS, WITH_TORCH, split_words, write_files

from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def session(here, tmp_path_factory):
    """Every wrong command, run in one process: the results by command, and the files that appeared."""
    before = {path for path in here.rglob("*") if path.name != ".lock"}
    commands = [*ERRORS, *WITH_TORCH]
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home")), "INKLAB_OFFLINE": "1",
        "INKLAB_RUNS_DIR": str(here / "no runs"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    results = run_commands(here, [split_words(command) for command in commands], environment)
    written = {path for path in here.rglob("*") if path.name != ".lock"} - before
    return dict(zip(commands, results, strict=True)), written


@pytest.mark.parametrize("command", [*ERRORS, *WITH_TORCH])
def test_an_error_is_one_line_without_a_result_and_before_torch_is_imported(session, command):
    code, out, err, torch_imported = session[0][command]
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 1_000, err
    assert code in (EXIT_USAGE, EXIT_DATA) and out == "", "nothing that a program would take for a result"
    sentence = err.replace("ValueError: in the file", "")
    assert "Error" not in sentence or "can't be built" in err, "the name of a Python class"
    assert command in WITH_TORCH or not torch_imported


def test_errors_leave_no_files(session):
    assert session[1] == set()


def test_valid_files_are_accepted(here, cli, monkeypatch):
    """The same files, undamaged: so it was the damage that was refused."""
    monkeypatch.chdir(here)
    for command in ("predict run valid.png", "status run", "show run", "data check toy.npz"):
        assert cli(*command.split())[0] == EXIT_OK


def test_a_directory_that_can_not_be_written_is_named(cli, tmp_path):
    folder = toy_run.copied(tmp_path / "run")
    for path in (folder / "figures", folder / "report.html"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "figures").write_text("a file where a folder should be")
    code, out, err = cli("report", folder)
    assert (code, out, err.count("\n")) == (EXIT_USAGE, "", 1) and str(folder / "figures") in err
