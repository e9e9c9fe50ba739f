import csv
import io
import re
from base64 import b64decode
from collections.abc import Sequence
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_report import digits_plan, invent_outcomes, plan_of, write_report_run
from synthetic_run import SyntheticRun, replace

from inklab.format import typeset
from inklab.records.plan import DataPlan
from inklab.report.figures import Figure, draw_experiment, draw_figures, write_figures
from inklab.report.figures.confusion_plot import opacity
from inklab.report.figures.drawing import (
    DARK,
    LIGHT,
    LINES,
    MARKERS,
    PLACEHOLDER,
    SERIES,
    as_percent,
    for_page,
    tidy,
)  # fmt: skip
from inklab.report.figures.image_plots import ImageGrid, ImageRow, class_balance, to_data_uri
from inklab.report.figures.marks import MAX_MARKS, mark, marks_svg, recording
from inklab.report.figures.training_plots import (
    MAX_DOTS,
    MAX_LINES,
    denoised_examples,
    describe_training_loss,
    learning_curves,
    nan_mean,
    subsample,
    sweep_figure,
    x_positions,
)
from inklab.runs import Run

WEIGHTS = np.array([0.2126, 0.7152, 0.0722])
"""Of red, green and blue in the luminance of WCAG 2."""

SHORT = ("l2-sweep.recipe.epochs=3", "cnn.recipe.epochs=3")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return write_report_run(tmp_path_factory.mktemp("run"), digits_plan("quick", SHORT))


@pytest.fixture(scope="module")
def drawn(run):
    return draw_figures(run)


@pytest.fixture(scope="module")
def figures(drawn) -> list[Figure]:
    return [figure for row in drawn.values() for figure in row]


def rows_of(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure.csv)))


def figure_of(figures: Sequence[Figure], suffix: str) -> Figure:
    return next(figure for figure in figures if figure.name.endswith(suffix))


def test_every_kind_of_figure_is_drawn(figures):
    assert {figure.name for figure in figures} >= {
        "data-balance", "data-samples", "mlp-64-64-curves", "mlp-64-64-mistakes", "l2-sweep-sweep",
        "l2-sweep-curves", "denoiser-denoised", "robustness-curves", "robustness-calibration",
        "robustness-strip", "robustness-classes", "robustness-confusion", "generation-images",
        "generation-confident", "generation-classes", "generation-neighbors",
    }  # fmt: skip


def test_figures_are_described_follow_the_pages_colors_and_request_nothing(figures):
    for figure in figures:
        page, file = figure.for_page(), figure.for_file()
        ElementTree.fromstring(file)
        root = ElementTree.fromstring(page)
        assert root.get("role") == "img" and root.get("aria-label") == figure.alt
        assert re.search(r"\d", figure.alt), f"{figure.name}: an alt text is computed from the numbers"
        assert figure.caption.endswith(".") and figure.csv_rows
        assert all(len(row) == len(figure.csv_header) for row in figure.csv_rows), figure.name
        assert not set(PLACEHOLDER.values()) & set(re.findall(r"#[0-9a-f]{6}", page + file))
        assert not re.search(r"(fill|stroke): ?#", page), f"{figure.name} has a fixed color"
        svg = file.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"var\(--|http|<style|<script", svg)
        assert all(link.startswith(("#", "data:image/png")) for link in re.findall(r'href="([^"]*)"', svg))


def test_ids_of_all_figures_fit_on_one_page(figures):
    drawings = [figure.for_page(is_narrow=is_narrow) for figure in figures for is_narrow in (False, True)]
    ids = [id for drawing in drawings for id in re.findall(r' id="([^"]+)"', drawing)]
    assert len(ids) == len(set(ids)) > 10
    for figure in figures:
        defined = set(re.findall(r' id="([^"]+)"', figure.svg))
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', figure.svg)) == defined


def test_drawings_for_a_phone_are_narrow_and_no_print_is_small(figures):
    for figure in figures:
        root = ElementTree.fromstring(figure.for_page(is_narrow=True))
        width = float(root.get("viewBox").split()[2])
        sizes = re.findall(r"font-size: ([\d.]+)px", ElementTree.tostring(root, encoding="unicode"))
        assert width <= 245 and min(map(float, sizes)) * 350 / width >= 9, figure.name


def test_charts_answer_with_the_numbers_of_their_data(drawn, run):
    curves = figure_of(drawn["robustness"], "-curves")
    root = ElementTree.fromstring(curves.for_page())
    titles = [title.text for title in root.iter("title")]
    rows = [row for row in rows_of(curves) if row["pipeline"] == "cnn"]
    estimates = run.results.experiments["robustness"].pipelines["cnn"].recall
    for row, estimate in zip(rows, estimates, strict=True):
        assert typeset(f"cnn at {float(row['strength']):g}: {estimate.format('recall')}") in titles
    assert "<title>" in curves.for_file() and curves.for_file().count("<circle") == 0
    # The first value lies on the left axis, the last further right, both inside the drawing.
    circles = [(float(mark.get("cx")), float(mark.get("cy"))) for mark in root.iter("circle")]
    _, _, width, height = map(float, root.get("viewBox").split())
    assert circles[0][0] < circles[len(rows) - 1][0] < width and all(0 <= y <= height for _, y in circles)
    assert circles[0][1] < circles[len(rows) - 1][1], "recall falls"


def test_of_many_marks_some_are_kept():
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet()
    axes = sheet.subplots()
    mark(axes, 0, 0, "nobody records this")
    with recording() as marks:
        for k in range(2 * MAX_MARKS + 5):
            mark(axes, k, 0, f"<{k}>")
    svg = marks_svg(marks, sheet, 72)
    assert MAX_MARKS / 2 < svg.count("<circle") <= MAX_MARKS and "&lt;0&gt;" in svg
    assert marks_svg([], sheet, 72) == ""


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@given(st.floats(0, 1))
def test_numbers_on_the_cells_of_a_matrix_are_legible(theme, share):
    """WCAG 2: a contrast of at least 4.5."""

    def channels(role: str) -> np.ndarray:
        return np.array([int(theme[role][i : i + 2], 16) / 255 for i in (1, 3, 5)])

    def luminance(color: np.ndarray) -> float:
        return float(np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4) @ WEIGHTS)

    for role in ("c1", "c2"):
        alpha = opacity(share)
        cell = alpha * channels(role) + (1 - alpha) * channels("ground")
        text = channels("ground" if alpha == 1 else "ink")
        darker, lighter = sorted([luminance(cell), luminance(text)])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_same_run_draws_the_same_bytes(run, drawn):
    for name in ("mlp-64-64", "generation"):
        again = draw_experiment(run, run.plan.experiment(name))
        assert [figure.for_file() for figure in again] == [figure.for_file() for figure in drawn[name]]


def test_tidy_shortens_coordinates_but_not_text():
    svg = '<svg viewBox="0 0 9 9"><path d="M 1.23456 2.0001"/><text>0.000125</text></svg>'
    assert tidy(svg, "x").endswith('<path d="M 1.23 2"/><text>0.000125</text></svg>')


def test_figures_and_data_are_written(run, drawn, figures, tmp_path):
    paths = write_figures(run, tmp_path / "figures", drawn)
    written = {path.name: path.read_text() for path in paths}
    assert len(written) == 2 * len(figures)
    for figure in figures:
        assert written[f"{figure.name}.svg"].startswith("<svg ")
        assert written[f"{figure.name}.csv"] == figure.csv


def test_the_sweep_shows_the_numbers_of_the_results(run, drawn):
    rows = rows_of(drawn["l2-sweep"][0])
    settings = run.results.training["l2-sweep"].settings
    assert len(rows) == 2 * len(settings)
    for row, setting in zip(rows[len(settings) :], settings, strict=True):
        estimate = setting.metrics["test_accuracy"]
        assert row["metric"] == "test_accuracy" and float(row["l2"]) == setting.values["l2"]
        numbers = float(row["mean"]), float(row["sd"]), int(row["n"])
        assert numbers == (estimate.mean, estimate.sd, estimate.n)
        assert tuple(float(value) for value in row["values"].split()) == estimate.values


def test_a_diverged_trial_is_no_dot():
    invented = invent_outcomes(plan_of(["l2-sweep"]))
    plan = invented.plan.experiment("l2-sweep")
    invented.fail(plan.settings[0].trials[1])
    first = rows_of(sweep_figure(plan, invented.results.training["l2-sweep"]))[0]
    assert first["n"] == "2" and len(first["values"].split()) == 2


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Run:
    """More replicates of a sweep and of one network than are drawn one by one."""
    overrides = ("l2-sweep.replicates=130", "mlp-64-64.replicates=130", "l2-sweep.recipe.epochs=2")
    return write_report_run(tmp_path_factory.mktemp("many"), plan_of(["mlp-64-64", "l2-sweep"], overrides))


def test_of_many_replicates_the_sweep_draws_some_and_its_data_has_all(many):
    plan, results = many.plan.experiment("l2-sweep"), many.results.training["l2-sweep"]
    figure = sweep_figure(plan, results)
    assert f"at most {MAX_DOTS}" in figure.caption
    n_dots, n = figure.svg.count("<use "), len(plan.settings)
    assert 2 * n * MAX_DOTS <= n_dots < 2 * n * (MAX_DOTS + 10)  # ticks and caps besides
    assert all(len(row["values"].split()) == 130 for row in rows_of(figure))


def test_of_many_replicates_some_curves_are_drawn_and_the_mean_is_of_all(many):
    figure = learning_curves(many, many.plan.experiment("mlp-64-64"))
    assert f"{MAX_LINES} replicates" in figure.caption and "n = 130" in figure.caption
    assert len({row["replicate"] for row in rows_of(figure)}) == 130
    assert 4 * MAX_LINES <= figure.svg.count("stroke-opacity: 0.45") < 4 * (MAX_LINES + 1)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(2, 30))
def test_a_subsample_keeps_the_order_and_both_ends(values, n):
    kept = subsample(values, n)
    assert len(kept) == min(len(values), n) and (min(kept), max(kept)) == (min(values), max(values))
    remaining = iter(values)
    assert all(value in remaining for value in kept)


def test_settings_on_a_log_axis_and_side_by_side():
    x, is_log = x_positions([{"l2": 1e-6}, {"l2": 1e-5}, {"l2": 1e-3}])
    assert is_log and np.allclose(np.diff(x), [1, 2])
    for values in ([{"k": "sgd"}, {"k": "adam"}], [{"k": 1}, {"k": 10**400}], [{"k": 0}, {"k": 100}]):
        assert x_positions(values)[0].tolist() == [0, 1] and not x_positions(values)[1]
    assert not x_positions([{"k": 1, "m": 1}, {"k": 100, "m": 1}])[1]


def test_curves_of_settings_come_with_the_means_that_are_drawn(run, drawn):
    figure = figure_of(drawn["l2-sweep"], "curves")
    setting = run.plan.experiment("l2-sweep").settings[0]
    histories = [run.outcomes[trial].history for trial in setting.trials]
    rows = [row for row in rows_of(figure) if row["setting"] == setting.label]
    for split, metric in (("train", "loss"), ("validation", "accuracy")):
        selected = [row for row in rows if (row["split"], row["metric"]) == (split, metric)]
        assert [(row["epoch"], row["n"]) for row in selected] == [("1", "3"), ("2", "3"), ("3", "3")]
        expected = np.mean([getattr(history, f"{split}_{metric}") for history in histories], axis=0)
        assert np.allclose([float(row["mean"]) for row in selected], expected)


def test_captions_say_where_training_and_validation_loss_differ(run, tmp_path):
    overrides = (
        "mlp-64-64.recipe.objective='classify-smoothed'", "denoiser.recipe.eval_strength=0.4",
        "denoiser.recipe.corruption={name='salt_and_pepper', strength=[0.0, 0.9]}",
    )  # fmt: skip
    other = write_report_run(tmp_path, plan_of(["mlp-64-64", "denoiser"], overrides))
    for name, words in (("mlp-64-64", ["smoothed"]), ("denoiser", ["0 to 0.9", "at 0.4"])):
        plan = other.plan.experiment(name)
        note = describe_training_loss(other.plan.configs[plan.settings[0].config].recipe)
        assert all(word in note for word in words)
        assert learning_curves(other, plan).caption.endswith(note)
        plan = run.plan.experiment(name)
        assert describe_training_loss(run.plan.configs[plan.settings[0].config].recipe) == ""
    assert "strength 0.4" in denoised_examples(other, other.plan.experiment("denoiser")).caption


def test_curves_of_replicates_are_the_history(run, drawn):
    rows = rows_of(figure_of(drawn["mlp-64-64"], "curves"))
    expected = [row for row in run.history("mlp-64-64") if row.metric in ("loss", "accuracy")]
    assert [tuple(row.values()) for row in rows] == [tuple(map(str, row)) for row in expected]


def test_means_continue_where_a_replicate_stopped():
    assert nan_mean(np.array([[1.0, 3.0], [3.0, np.nan]])).tolist() == [2.0, 3.0]


def test_mistakes_are_mistakes_and_the_most_confident_come_first(run, drawn):
    rows = rows_of(figure_of(drawn["mlp-64-64"], "mistakes"))
    confidence = [float(row["confidence"]) for row in rows]
    assert confidence == sorted(confidence, reverse=True) and len(rows) > 3
    assert all(row["true"] != row["predicted"] for row in rows)
    assert all(str(run.images.test_labels()[int(row["test image"])]) == row["true"] for row in rows)


def test_robustness_data_has_every_pipeline_at_every_strength(run, drawn):
    rows = rows_of(drawn["robustness"][0])
    results = run.results.experiments["robustness"]
    assert len(rows) == len(results.pipelines) * len(results.strengths)
    assert {row["interval_over"] for row in rows} == {"images"}  # one replicate in the quick profile
    for row in rows:
        estimate = results.pipelines[row["pipeline"]].recall[results.strengths.index(float(row["strength"]))]
        assert (float(row["recall"]), float(row["ci95_low"])) == (estimate.mean, estimate.interval[0])


def test_calibration_data_has_every_pipeline_at_every_strength(run, drawn):
    rows = rows_of(figure_of(drawn["robustness"], "calibration"))
    results = run.results.experiments["robustness"]
    assert len(rows) == len(results.pipelines) * len(results.strengths)
    for row in rows:
        estimate = results.pipelines[row["pipeline"]].ece[results.strengths.index(float(row["strength"]))]
        assert (float(row["ece"]), int(row["n"])) == (estimate.mean, estimate.n)


def test_pixels_and_colors_are_drawn_as_they_are():
    def drawn_image(pixels, **options):
        return np.asarray(Image.open(io.BytesIO(b64decode(to_data_uri(pixels, **options).split(",")[1]))))

    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4)).astype(np.uint8)
    ink, opacity = np.moveaxis(drawn_image(pixels[:, :1], gap=1, ink=True), 2, 0)
    assert ink.shape == (5, 9) and not ink.any()
    assert (opacity[:, :4] == pixels[0, 0]).all() and (opacity[:, 5:] == pixels[1, 0]).all()
    assert (drawn_image(pixels[:1])[..., :3] == pixels[0].transpose(1, 2, 0)).all()


def test_text_in_drawings_is_escaped():
    row = ImageRow("<script>", np.zeros((1, 1, 4, 4), np.uint8), ("a&b",))
    svg = ImageGrid([row], ink=False, header=["<"]).svg("x")
    assert "<script>" not in svg and "&lt;script&gt;" in svg and "a&amp;b" in svg


def test_a_class_name_is_no_formula(run):
    names = ("$5", "$x^{$", "a_b", "\\frac", *"456789")
    figure = class_balance(DataPlan(name="data"), replace(run.plan.data, labels=names))
    texts = [text.text for text in ElementTree.fromstring(figure.for_page()).iter("text")]
    assert set(names) <= set(texts)


def test_a_split_without_images_has_no_bars(run):
    """`data.validation = 0` trains on all images."""
    counts = replace(run.plan.data.counts, validation=(0,) * 10)
    figure = class_balance(DataPlan(name="data"), replace(run.plan.data, counts=counts))
    assert figure.csv_header == ("class", "train", "test") and "validation" not in figure.caption


def test_what_was_not_run_has_no_figures(tmp_path):
    plan = digits_plan("quick")
    empty = SyntheticRun(plan, test_set=invent_outcomes(plan).test_set).write(tmp_path)
    assert {name for name, row in draw_figures(empty).items() if row} == {"data"}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_first_four_series_differ_without_red_and_green(theme):
    # Viénot, Brettel and Mollon (1999): what a deuteranope sees, in linear light
    matrix = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    perceived = {
        role: matrix @ [int(theme[role][i : i + 2], 16) / 255 for i in (1, 3, 5)] for role in SERIES[:4]
    }
    for a, b in combinations(perceived, 2):
        assert np.linalg.norm(perceived[a] - perceived[b]) > 0.12, (a, b)
    assert len(set(MARKERS)) == len(MARKERS) and len(set(map(str, LINES))) == len(LINES)


def test_placeholders_become_variables():
    assert for_page("stroke: #0a0b05") == f"stroke: var(--{list(PLACEHOLDER)[4]})"


def test_ticks_in_percent_are_exact():
    from matplotlib.figure import Figure as Sheet

    axes = Sheet().subplots()
    as_percent(axes.yaxis)
    texts = [axes.yaxis.get_major_formatter()(share) for share in (0, 0.025, 0.05, 0.1, 1, -0.3)]
    assert texts == ["0%", "2.5%", "5%", "10%", "100%", "-30%"]
