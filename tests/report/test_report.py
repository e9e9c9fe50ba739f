import re
from base64 import b64decode
from dataclasses import replace as replace_fields
from html.parser import HTMLParser
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from synthetic_report import digits_plan, invent_outcomes, plan_of, write_report_run
from synthetic_run import SyntheticRun, make_plan, outcome_of, replace

from inklab.data.dataset import ImageSet
from inklab.format import NO_BREAK_SPACE, typeset
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.estimates import Estimate
from inklab.records.outcomes import Diagnosis, TrialState
from inklab.records.plan import DataInfo, DataPlan, FindingsPlan, Setting, SplitCounts, TrainingPlan
from inklab.records.recipe import Recipe, TrialConfig
from inklab.report import build_report, write_report
from inklab.report.figures.mistakes import mistake_matrix
from inklab.report.figures.training_plots import learning_curves
from inklab.report.pad_demo import TEMPLATES, script_hash
from inklab.report.page import MAX_CSV, build_section, known_explanations, punctuate
from inklab.report.summary import summary_table
from inklab.report.tables import (
    comparison_table,
    estimate_cells,
    interval_note,
    recall_table,
    training_tables,
)
from inklab.study.load import read_study

VOID = {"meta", "link", "br", "img", "hr", "input"}
MATHML_CHILDREN = {
    "msub": 2, "msup": 2, "mfrac": 2, "munder": 2, "mover": 2, "munderover": 3, "msubsup": 3,
}  # fmt: skip
HOSTILE = '<script>alert("1")</script>'
NOTE = "MNIST can't be had here; this is mnist-5k."


class Outline(HTMLParser):
    """Collects what the tests ask about a page, and asserts that its tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_report_run(tmp_path_factory.mktemp("run") / "abc123", digits_plan("full", note=NOTE))


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def text_of(page: str) -> str:
    """A page's text without tags, with plain spaces."""
    body = re.sub(r"<(style|svg|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def in_page(text: str) -> str:
    return re.sub(r"\s+", " ", typeset(text))


def own_study(**changes: object) -> SyntheticRun:
    """A run of a user's own study: one experiment, color images of two classes, nothing done."""
    network, shape = NetworkConfig.of("my_net.py:Net"), (3, 8, 8)
    config = TrialConfig(network=network, normalize=NormalizeConfig(), recipe=Recipe(), precision="fp32")
    data = DataInfo(
        dataset="mine", sha256="f" * 64, shape=shape, labels=("tick & cross", "none"), mean=0.5, std=0.5,
        counts=SplitCounts(train=(30, 30), validation=(10, 10), test=(10, 10)),
        preprocessing=Preprocessing.resize_only(shape),
    )  # fmt: skip
    experiment = TrainingPlan(
        name="Mine_1", title="Mine", question="?", task="classification", grid=(),
        settings=(Setting(values={}, config="c", trials=("t0",)),),
    )  # fmt: skip
    run = SyntheticRun(make_plan([replace(experiment, **changes)], {"c": config}, data))
    run.test_set = ImageSet(np.full((4, *shape), 200, np.uint8), np.array([0, 1, 0, 1]))
    return run


def test_the_page_requests_nothing_from_outside(page, outline):
    assert not {"link", "iframe", "object", "embed", "form"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in page and not re.search(r"url\((?!#|[\"']?data:)", page)
    policies = [meta for meta in outline.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)  # no models, so no pad
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script_hash(script)}'"
        == (policies[0]["content"])
    )


def test_a_full_run_stays_small_and_is_the_same_every_time(run, page):
    assert len(page.encode()) < 3_000_000
    assert build_report(run, {}) == build_report(run, {})


def test_landmarks_headings_and_links(page, outline):
    assert all(len(outline.all(tag)) == 1 for tag in ("header", "nav", "main", "footer", "h1"))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in outline.all("a") if str(link.get("href")).startswith("#")}
    assert targets <= set(ids) and len(targets) > 10
    assert '<html lang="en">' in page


def test_tables_and_figures_are_described_and_figures_have_their_data(outline):
    assert len(outline.all("caption")) == len(outline.all("table")) > 10
    assert all(cell.get("scope") in ("col", "row") for cell in outline.all("th"))
    drawings = outline.all("svg")
    assert len(drawings) == 2 * len(outline.all("figcaption")) > 20, "each figure for paper and for a phone"
    assert all(svg.get("role") == "img" and len(str(svg.get("aria-label"))) > 20 for svg in drawings)
    links = [str(link["href"]) for link in outline.all("a") if "download" in link]
    assert len(links) == len(outline.all("figure"))
    assert all(link.startswith("data:text/csv") for link in links)


def test_large_data_stays_in_the_run_directory(run):
    figure = learning_curves(run, run.plan.experiment("cnn"))
    rows = figure.csv_rows * (2 * MAX_CSV // len(figure.csv))
    text = build_report(run, {"cnn": [replace_fields(figure, csv_rows=rows)]})
    assert f"<code>figures/{figure.name}.csv</code>, {len(rows)} rows" in text
    assert "data:text/csv" not in text and len(text) < MAX_CSV


def test_the_note_about_the_data_comes_first_and_files_are_written(run, page):
    text = text_of(page)
    assert text.index(in_page(NOTE)) < text.index("Contents") < text.index("Summary")
    assert all((run.path / "figures" / f"robustness-curves.{kind}").is_file() for kind in ("svg", "csv"))
    assert f"inklab report runs/digits/{run.path.name}" in page


def test_every_section_has_title_method_and_numbers(run, page):
    text = text_of(page)
    for plan in run.plan.experiments[:-1]:
        assert in_page(plan.title) in text
    section = build_section(run, run.plan.experiment("mlp-64-64"), [])
    assert section.method.startswith("Network mlp (hidden 64-64); SGD, learning rate 0.1; batches of 128;")
    for part in ("10 epochs", "cross-entropy", "55,000", "bf16", "5 replicates"):
        assert part in section.method
    assert section.sentence and in_page(section.sentence) in text
    accuracy = run.results.training["mlp-64-64"].settings[0].metrics["test_accuracy"]
    assert accuracy.n == 5 and f'<td class="n">{estimate_cells(accuracy, "test_accuracy")[0]}</td>' in page
    assert len(re.findall(r"Layers of the network", page)) == 1  # all synthetic networks have the same layers


def test_a_diagnosis_is_a_notice_with_evidence_and_advice(run, page):
    ((diagnosis, trials),) = build_section(run, run.plan.experiment("scaled-twice"), []).notices
    text = text_of(re.search(r"<aside.*?</aside>", page, flags=re.DOTALL)[0])
    assert diagnosis.name == "inputs-scaled-twice" and trials == "5 of 5 trials"
    message, advice = punctuate(diagnosis.message), punctuate(diagnosis.advice)
    for part in (diagnosis.name, trials, message, advice, "largest input", "0.0039216"):
        assert in_page(part) in text


def test_a_run_without_anything_done_is_still_a_report(tmp_path):
    run = SyntheticRun(digits_plan("quick")).write(tmp_path)
    text, plan = text_of(build_report(run)), run.plan
    n = sum(bool(plan.trials_of(it.name) or plan.evaluations_of(it.name)) for it in plan.experiments)
    assert "No experiment is finished yet." in text
    assert text.count("This experiment has not been run yet.") == n > 5


def test_a_users_own_study_with_color_images(tmp_path):
    run = own_study()
    outcome = outcome_of("t0", run.plan.configs["c"], 0, {"test_accuracy": 0.5, "test_loss": 1.0})
    run.outcomes["t0"] = outcome
    page = build_report(run.write(tmp_path))
    assert "50.00%" in page and 'id="mine-1"' in page and "my_net.py:Net" in page
    assert "Others report" not in page, "nobody has measured this"


def test_the_summary_has_one_number_of_each_experiment_and_what_others_report(run):
    rows = {row[0]: row for row in summary_table(run).rows}
    assert rows.keys() == {plan.name for plan in run.plan.experiments} - {"data", "findings"}
    for name, results in run.results.training.items():
        metric = "test_bce" if results.task == "denoising" else "test_accuracy"
        estimate = results.best.metrics[metric]
        assert rows[name][2:5] == [*estimate_cells(estimate, metric)[:2], str(estimate.n)]
    assert rows["mlp-64-64"][5] == "11.35%, 97.20%" and rows["l2-sweep"][1].endswith("l2 = 1e-5")
    best = run.results.experiments["robustness"].denoising.best
    assert f"at {best.strength:g} of" in rows["robustness"][1] and best.difference.n == int(
        rows["robustness"][4]
    )


def test_pipelines_are_compared_in_a_table(run):
    results = run.results.experiments["robustness"]
    for row, comparison in zip(comparison_table(results).rows, results.comparisons, strict=True):
        low, high = comparison.best.difference.interval
        assert row[0] == comparison.pipeline
        assert row[4].startswith(f"{100 * comparison.best.difference.mean:+.2f} points\n({100 * low:+.2f} to")
        assert row[4].endswith(f"{100 * high:+.2f})\nat {comparison.best.strength:g}")


def test_mistakes_are_counted_by_class_and_lead_to_their_images(run, page):
    plan = run.plan.experiment("mlp-64-64")
    matrix = mistake_matrix(run, plan, "mlp-64-64-mistakes")
    stored, labels = run.arrays(run.trial_for("mlp-64-64")), run.images.test_labels()
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, stored["predicted"]), 1)
    assert [[count for count, _ in row] for row in matrix.rows] == expected.tolist()
    for cell in matrix.cells:
        assert f'<a href="#{cell.anchor}"' in page and f'<li id="{cell.anchor}">' in page
        confidences = [image.confidence for image in cell.images]
        assert 0 < len(confidences) <= cell.total and confidences == sorted(confidences, reverse=True)
        for image in cell.images:
            assert str(labels[image.position]) == cell.true != cell.predicted
            assert str(stored["predicted"][image.position]) == cell.predicted
    image = matrix.cells[0].images[0]
    picture = np.asarray(Image.open(BytesIO(b64decode(image.picture.split(",")[1]))))
    (pixels,) = run.images.test_images(np.array([image.position]))
    assert matrix.is_ink and (picture[..., 1] == pixels[0]).all()
    assert mistake_matrix(run, run.plan.experiment("l2-sweep"), "x") is None  # a grid has many networks


def test_failed_trials_are_counted_and_listed(tmp_path):
    invented = invent_outcomes(plan_of(["l2-sweep"]))
    setting = invented.plan.experiment("l2-sweep").settings[4]
    invented.fail(setting.trials[2])
    run = invented.write(tmp_path)
    assert "No experiment is finished yet." not in text_of(build_report(run, {}))
    section = build_section(run, invented.plan.experiment("l2-sweep"), [])
    assert "14 of 15" in section.status and "1 diverged" in section.status
    (line,) = section.failures
    reason = invented.outcomes[setting.trials[2]].reason
    assert all(part in line for part in (setting.label, "replicate 2", "diverged", reason))


def test_an_experiment_whose_trials_all_diverged(tmp_path):
    invented = invent_outcomes(plan_of(["cnn", "denoiser", "robustness"]))
    for trial in invented.plan.trials_of("cnn"):
        invented.fail(trial)
    empty = {"recall": (), "recall_per_class": (), "accuracy": ()}
    for id in invented.plan.evaluations_of("robustness"):
        invented.change_evaluation(id, state=TrialState.FAILED, reason="no cnn", **empty)
        del invented.stored[id]
    run = invented.write(tmp_path)
    for name in ("cnn", "robustness"):
        section = build_section(run, run.plan.experiment(name), [])
        assert section.status.startswith("0 of") and section.failures
        assert not [table for table in section.tables if "Mean" in table.caption]
    assert "no cnn" in build_report(run)


def equal_estimate(**fields: Any) -> Estimate:
    return Estimate(mean=0.1, sd=0.0, n=3, ci95=(0.1, 0.1), values=(0.1,) * 3, **fields)


def test_intervals_over_images_are_starred_and_explained():
    student = Estimate(mean=0.5, sd=0.1, n=2, ci95=(0.4, 0.6), values=(0.4, 0.6))
    single = Estimate(mean=0.1, sd=None, n=1, ci95=None, values=(0.1,), ci95_images=(0.08, 0.12))
    equal = equal_estimate(ci95_images=(0.08, 0.12))
    assert [estimate_cells(e, "recall")[1] for e in (student, single, equal, equal_estimate())] == [
        "40.00 to 60.00", "8.00 to 12.00*", "8.00 to 12.00*", "—",
    ]  # fmt: skip
    assert interval_note([student]) == interval_note([Estimate.empty()]) == ""
    notes = [interval_note([estimate]) for estimate in (single, equal, equal_estimate())]
    assert len(set(notes)) == 3 and "*" in notes[0] and "*" in notes[1] and "*" not in notes[2]


def test_equal_replicates_have_the_interval_over_images(tmp_path):
    invented = invent_outcomes(plan_of(["mlp-64-64", "robustness"], profile="full"))
    for trial in invented.plan.trials_of("mlp-64-64"):
        invented.change_metrics(trial, test_accuracy=0.1135)
    for id in invented.plan.evaluations_of("robustness"):
        recall = (*invented.evaluations[id].recall[:-1], 0.1)
        invented.change_evaluation(id, recall=recall)
    run = invented.write(tmp_path)
    plan, results = run.plan.experiment("mlp-64-64"), run.results
    row = training_tables(run, plan, results.training["mlp-64-64"])[0].rows[0]
    low, high = results.training["mlp-64-64"].settings[0].metrics["test_accuracy"].ci95_images
    assert row[:3] == ["Test accuracy", "11.35%", f"{100 * low:.2f} to {100 * high:.2f}*"]
    table = recall_table(results.experiments["robustness"])
    low, high = results.experiments["robustness"].pipelines["cnn"].recall[-1].ci95_images
    assert table.rows[-1][1] == f"10.00%\n({100 * low:.2f} to {100 * high:.2f})*"


def test_intervals_of_many_pipelines_are_below_their_means(run):
    """Beside them they would be cut off in print."""
    pipelines = ["cnn", "denoiser+cnn", "median+cnn"]
    few = invent_outcomes(plan_of(["robustness"], (f"robustness.pipelines={pipelines}",)))
    few_table = recall_table(few.results.experiments["robustness"])
    many_table = recall_table(run.results.experiments["robustness"])
    assert len(few_table.header) == 4 and len(many_table.header) == 5
    assert not any("\n" in cell for row in few_table.rows for cell in row)
    assert all(cell.count("\n(") == 1 for row in many_table.rows for cell in row[1:])


def test_nothing_from_a_study_becomes_markup(tmp_path):
    run = own_study(title=HOSTILE, question=HOSTILE)
    findings = FindingsPlan(name="findings", title=HOSTILE, explanations=("relu",))
    run.change_plan(
        title=HOSTILE, experiments=[DataPlan(name="data", title=HOSTILE), *run.plan.experiments, findings],
        data=replace(run.plan.data, note=HOSTILE, labels=(HOSTILE, "b"), dataset=HOSTILE), profile=HOSTILE,
    )  # fmt: skip
    diagnosis = Diagnosis(name=HOSTILE, message=HOSTILE, advice=HOSTILE, evidence={HOSTILE: HOSTILE})
    run.outcomes["t0"] = replace(
        outcome_of("t0", run.plan.configs["c"], 0, {}),
        state=TrialState.FAILED, metrics=None, reason=HOSTILE, diagnoses=(diagnosis,),
    )  # fmt: skip
    results = replace(run.results, findings=(HOSTILE,))
    run.write(tmp_path)
    results.write(tmp_path / "results.json")
    page = build_report(run.write(tmp_path, with_results=False))
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") > 12


def check_formulas(explanation: ElementTree.Element) -> None:
    """MathML that browsers accept. Roots are text: without a math font, browsers drop the sign of `msqrt`."""
    for element in explanation.iter():
        assert element.tag not in ("msqrt", "mroot")
        assert len(element) == MATHML_CHILDREN.get(element.tag, len(element)), element.tag


def test_explanations_are_well_formed_and_used_by_the_built_in_study():
    for name in known_explanations():
        text = (TEMPLATES / "explanations" / f"{name}.html").read_text(encoding="utf-8")
        explanation = ElementTree.fromstring(f"<div>{text.replace('&nbsp;', NO_BREAK_SPACE)}</div>")
        assert explanation[0].tag == "h3" and len("".join(explanation.itertext())) > 400
        check_formulas(explanation)
    spec = read_study("digits").spec
    used = {name for experiment in spec.experiments.values() for name in experiment.explanations}
    assert used == known_explanations() and len(used) == 12


def test_an_explanation_that_does_not_exist_is_left_out(tmp_path):
    run = own_study(explanations=("../../secret", "relu")).write(tmp_path)
    assert build_section(run, run.plan.experiment("Mine_1"), []).explanations == ["relu"]
    assert "../../secret" not in build_report(run, {})
