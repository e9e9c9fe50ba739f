"""What is shown while a run goes on."""

from types import SimpleNamespace

import pytest

from inklab import progress
from inklab.progress import NotebookProgress, ProgressDisplay
from inklab.study.jobs import CheckJob, Warned


class LabeledJob(CheckJob):
    """A job of another name."""

    def __init__(self, label: str) -> None:
        self.__dict__["label"] = label


def test_a_diagnosis_is_shown_once_for_each_experiment_and_other_warnings_always(capsys):
    with ProgressDisplay() as display:
        for label in ("mlp: 1 trial", "mlp: 2 trials", "cnn: 1 trial"):
            display(Warned(LabeledJob(label), "diagnosis not-converged: the loss fell by 0.1; train longer"))
            display(Warned(LabeledJob(label), "a checkpoint was ignored"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines if "not-converged" in line] == ["mlp", "cnn"]
    assert sum("checkpoint" in line for line in lines) == 3


def test_an_interrupted_cell_says_how_to_continue(monkeypatch):
    pages = []
    handle = SimpleNamespace(update=pages.append)
    ipython = SimpleNamespace(HTML=str, display=lambda page, display_id: handle)
    monkeypatch.setattr(progress, "_ipython_display", lambda: ipython)
    with pytest.raises(KeyboardInterrupt), NotebookProgress():
        raise KeyboardInterrupt
    assert "Run the same cell again" in pages[-1]
    with NotebookProgress():
        pass
    assert "interrupted" not in pages[-1]
