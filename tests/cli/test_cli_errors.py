"""Wrong commands and damaged files: one line on stderr that names the problem, and the right exit code.

Their wording is pinned in tests/golden/messages.txt.

All commands run one after the other in one fresh process, which also shows whether torch was imported.
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
def test_an_error_is_one_line_with_the_right_exit_code(session, command):
    code, *parts = {**ERRORS, **WITH_TORCH}[command]
    result = session[0][command]
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    assert [part for part in parts if part not in result.err] == [], result.err
    assert result.code == code in (EXIT_USAGE, EXIT_DATA), result.err
    assert result.out == "", "nothing on stdout that a program would take for a result"
    assert (
        "Error" not in result.err.replace("ValueError: in the file", "") or "can't be built" in result.err
    ), "the name of a Python class"
    assert len(result.err) < 1_000


@pytest.mark.parametrize("command", ERRORS)
def test_an_error_is_reported_before_torch_is_imported(session, command):
    assert not session[0][command].torch_imported


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
