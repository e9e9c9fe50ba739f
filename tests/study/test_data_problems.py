"""The check of the images before a run: what stops it, what it notes, and where both are told."""

import numpy as np
import pytest
import toy_run

from inklab.api import SingleTraining, prepare_training
from inklab.errors import EXIT_DATA, DataError
from inklab.report.page import build_report
from inklab.study.resources import ExecutionOptions

ACCEPTED = ExecutionOptions(1, 1, "fp32", "no", None, accept_data_problems=True)


def prepared(tmp_path, images, options=None):
    training = SingleTraining("mlp", {"epochs": 1}, 1)
    return prepare_training(training, images, run_dir=tmp_path / "run", options=options)


@pytest.fixture
def black():
    """Images divided by 255 once too often."""
    pixels, labels = toy_run.images(60, 1)
    return (np.asarray(pixels) > 127).astype(np.uint8), labels


def test_a_problem_stops_the_run_before_anything_is_written(tmp_path, black):
    with pytest.raises(DataError, match="nearly black.*--accept-data-problems") as caught:
        prepared(tmp_path, black).run()
    assert caught.value.exit_code == EXIT_DATA and not (tmp_path / "run").exists()


def test_an_accepted_problem_is_in_the_plan(tmp_path, black):
    run = prepared(tmp_path, black, ACCEPTED)
    plan, _ = run.dry_run()
    assert "nearly black" in plan.data_report.problems[0]
    assert any("nearly black" in note for note in run.notes)


def test_the_report_tells_what_was_looked_at(toy_report):
    page = build_report(toy_report, {}, has_pad=False)
    assert "Check of the images" in page and "largest pixel value in the training images" in page
