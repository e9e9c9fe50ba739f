"""A full disk, a failing one, a missing permission: at any write, one line, nothing half, an equal resume."""

import errno
import json
import os
import shutil

import crash_runs
import disk_faults
import pytest
import toy_run
from inline_executor import InlineExecutor

from inklab.errors import EXIT_INTERRUPTED, EXIT_USAGE, WriteError
from inklab.io.tensor_file import read_arrays
from inklab.report.page import write_report
from inklab.runs import Run
from inklab.study.load import prepare_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

pytestmark = pytest.mark.slow
CODES = {errno.ENOSPC: EXIT_INTERRUPTED, errno.EIO: EXIT_INTERRUPTED, errno.EACCES: EXIT_USAGE}


def run(folder):
    """What the command does, but for the printing; jobs are run in this process."""
    study = prepare_study(read_study(str(crash_runs.study_file(epochs=2, generation=False))))
    options = ExecutionOptions(workers=1, checkpoint_every=0.1)
    StudyRunner(study, RunDirectory(folder), options, executor=InlineExecutor).run()


def report(folder):
    """The report of a run."""
    write_report(Run(folder))


def nothing_half(folder):
    """Every file under its final name is whole."""
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        assert not path.name.startswith("."), path
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            read_arrays(path)
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    report(folder)
    return folder


@pytest.mark.parametrize("number", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize(("step", "least"), [(run, 40), (report, 10)], ids=["run", "report"])
def test_refused_at_any_write(step, least, number, whole, tmp_path, announce):
    nth, refused, folder = 0, True, tmp_path / "run"
    while refused:
        nth, refused = nth + 1, False
        if step is report:
            shutil.copytree(whole, folder)
        with disk_faults.refusing(nth, number):
            try:
                step(folder)
            except WriteError as error:
                refused = True
                assert error.exit_code == CODES[number] and os.strerror(number) in str(error)
                assert "\n" not in str(error) and str(folder) in str(error)
        nothing_half(folder)
        if step is run:
            run(folder)
        report(folder)
        crash_runs.assert_equal(crash_runs.result(folder), crash_runs.result(whole))
        assert toy_run.outcome_paths(folder).keys() == toy_run.outcome_paths(whole).keys()
        assert crash_runs.leftovers(folder) == []
        shutil.rmtree(folder)
    announce(f"{errno.errorcode[number]}: refused at each of {nth - 1} writes of a {step.__name__}")
    assert nth > least
