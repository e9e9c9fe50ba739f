"""What only many trainings together show: replicates far below the others, and a test set that is used up."""

import pytest
from synthetic_run import SyntheticRun, synthetic_run

from inklab.report.page import build_report, find_notices
from inklab.results.run_diagnoses import diagnose_run
from inklab.stats import estimate


@pytest.fixture
def run() -> SyntheticRun:
    return synthetic_run(replicates=6)


def test_diagnoses_of_trainings_are_reported_with_their_number(run):
    (row,) = (row for row in diagnose_run(run.results) if row.diagnosis.name == "inputs-scaled-twice")
    assert (row.where, row.of) == ("scaled-twice", sum(run.of("scaled-twice").outcomes.values()))


@pytest.mark.parametrize(("lowest", "expected"), [(0.3, True), (0.96, False)])
def test_a_replicate_far_below_the_others_is_an_outlier(lowest, expected, run, tmp_path):
    results = run.results
    experiment = results.training["mlp-64-64"]
    accuracies = estimate([0.97, 0.971, 0.969, 0.972, 0.9705, lowest])
    setting = experiment.settings[0].model_copy(update={"metrics": {"test_accuracy": accuracies}})
    changed = experiment.model_copy(update={"settings": (setting,)})
    results = results.model_copy(update={"experiments": {**results.experiments, "mlp-64-64": changed}})
    reported = [(row.where, row.diagnosis.name) for row in diagnose_run(results)]
    assert (("mlp-64-64", "replicate-outlier") in reported) == expected
    notices = find_notices(run.write(tmp_path), run.plan.experiment("mlp-64-64"), changed)
    assert [notice.trials for notice in notices] == ["mlp-64-64, 1 of 3 trials"] * expected


@pytest.mark.parametrize(("validation", "expected"), [(5_000, False), (0, True)])
def test_the_test_set_is_used_up_where_nothing_else_can_choose(validation, expected, run, tmp_path):
    results = run.results
    changed = results.model_copy(update={"data": results.data.model_copy(update={"validation": validation})})
    reported = [row.diagnosis.name for row in diagnose_run(changed)]
    assert ("test-set-used-up" in reported) == expected
    opened = run.write(tmp_path)
    vars(opened)["results"] = changed  # which are computed once
    page = build_report(opened, {}, has_pad=False)
    assert ("Diagnosis: <code>test-set-used-up</code>" in page) == expected
