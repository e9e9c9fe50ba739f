"""Tables and figure of corruption errors: the numbers of the results, and published values beside them."""

import csv
import io

import pytest
from corruption_runs import MEMBERS, run_with_two_corruptions
from synthetic_run import PIPELINES, SyntheticRun, replace, synthetic_run

from inklab.format import format_metric
from inklab.records.plan import Reference
from inklab.report.corruption_tables import MEANS, corruption_error_tables
from inklab.report.figures.corruption_plot import corruption_dots
from inklab.report.figures.robustness_plots import corrupted_strip
from inklab.report.summary import summary_table

PUBLISHED = (
    Reference(source="their CNN", dataset="mnist", values={"clean": 0.99, "robustness": 0.8, "blur": 0.6}),
    Reference(
        source="theirs",
        dataset="mnist",
        values={"clean": 0.99, "robustness": 0.9, "blur": 0.8},
        notes=("one run",),
    ),
    Reference(source="half", dataset="mnist", values={"blur": 0.5}),
)


@pytest.fixture
def run() -> SyntheticRun:
    return run_with_two_corruptions()


def tables_of(run):
    return corruption_error_tables(run.plan, run.plan.experiment("errors"), run.of("errors"))


def test_rows_are_the_numbers_of_the_results(run):
    table, differences = tables_of(run)
    results = run.of("errors")
    assert table.header[1:] == tuple(PIPELINES) and len(table.rows) == 1 + len(MEMBERS) + len(MEANS)
    for column, row in enumerate(results.pipelines.values(), start=1):
        cells = [line[column].split("\n")[0] for line in table.rows]
        estimates = [
            ("accuracy", row.clean_accuracy),
            *(("accuracy", row.accuracy[name]) for name in MEMBERS),
        ]
        estimates += [(name, getattr(row, name)) for name in MEANS]
        assert cells == [format_metric(estimate.mean, name) for name, estimate in estimates]
    assert "Blur" in table.rows[2][0] and table.bold_rows == {3, 4, 5}
    assert len(differences.rows) == 2 * (len(PIPELINES) - 1)


def test_published_values_stand_beside_with_errors_relative_to_the_first_of_them(run):
    run.change_experiment("errors", references=PUBLISHED)
    table = tables_of(run)[0]
    assert table.header[-3:] == ("their CNN", "theirs", "half")
    assert [row[-3] for row in table.rows] == ["99.00%", "80.00%", "60.00%", "70.00%", "1.000", "1.000"]
    assert [row[-2] for row in table.rows] == ["99.00%", "90.00%", "80.00%", "85.00%", "0.5000", "0.4804"]
    assert [row[-1] for row in table.rows] == ["—", "—", "50.00%", "—", "—", "—"]
    assert "one run" in table.caption


def test_the_summary_has_the_mean_accuracy_of_each_pipeline(run, tmp_path):
    run.change_experiment("errors", references=PUBLISHED)
    table = summary_table(run.write(tmp_path))
    rows = [row for row in table.rows if row[0] == "errors"]
    results = run.of("errors").pipelines
    assert [row[1] for row in rows] == [f"Mean accuracy under 2 corruptions, {name}" for name in results]
    means = [format_metric(row.mean_accuracy.mean, "mean_accuracy") for row in results.values()]
    assert [row[2] for row in rows] == means
    others = dict(zip(results, [row[-1] for row in rows], strict=True))
    baseline = run.of("errors").baseline
    assert others.pop(baseline) == "70.00%, 85.00%" and set(others.values()) == {"—"}


def test_the_caption_says_why_there_is_no_mce(run):
    for evaluation in run.plan.experiment("blur").evaluations:
        if evaluation.pipeline == "cnn":
            run.change_evaluation(evaluation.id, accuracy=(1.0,) * len(evaluation.strengths))
    table = tables_of(run)[0]
    assert "No mCE, because cnn makes no error under blur." in table.caption
    assert [row[1] for row in table.rows[-2:]] == ["—", "—"]


def test_the_figure_has_every_pipeline_under_every_corruption(run, tmp_path):
    opened, results = run.write(tmp_path), run.of("errors")
    figure = corruption_dots(opened, run.plan.experiment("errors"), results)
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert len(rows) == len(PIPELINES) * (len(MEMBERS) + 1)
    means = {row["pipeline"]: float(row["accuracy"]) for row in rows if row["corruption"] == "Mean"}
    assert means == {name: row.mean_accuracy.mean for name, row in results.pipelines.items()}
    assert all(name in figure.svg for name in PIPELINES) and "under Blur" in figure.alt


def test_attacked_images_have_a_row_for_each_pipeline(tmp_path):
    run = synthetic_run()
    planned = run.plan.experiment("robustness")
    evaluations = tuple(replace(entry, corruption="fgsm") for entry in planned.evaluations)
    for entry in evaluations:
        run.change_evaluation(entry.id, evaluation=entry)
    run.change_experiment("robustness", corruption="fgsm", evaluations=evaluations)
    figure = corrupted_strip(run.write(tmp_path), run.plan.experiment("robustness"))
    assert figure.title == "Attacked images" and "attacked against" in figure.caption
    assert all(f">{name}<" in figure.svg for name in PIPELINES)


def test_nothing_is_shown_before_anything_is_done(run, tmp_path):
    run.evaluations.clear()
    assert tables_of(run) == []
    assert corruption_dots(run.write(tmp_path), run.plan.experiment("errors"), run.of("errors")) is None
