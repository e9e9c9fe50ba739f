import csv
import io
import re
from base64 import b64decode
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_report import digits_plan, made_up_run

from inklab.report.figures import OF_KIND, RunData, draw_figures, write_figures
from inklab.report.figures.data_plots import class_balance
from inklab.report.figures.drawing import tidy
from inklab.report.figures.image_grid import ImageRow, picture, tile_drawing
from inklab.report.figures.numerals import NBSP, THIN, interval, percent, points, typeset
from inklab.report.figures.palette import DARK, LIGHT, LINES, MARKERS, PLACEHOLDER, SERIES, for_page
from inklab.report.figures.result_access import is_number, read_score
from inklab.report.figures.sweep_plots import MAX_DOTS, subsample, sweep_figure, x_positions
from inklab.report.figures.training_plots import MAX_LINES, denoised_figures, learning_curves, nan_mean


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    sets = ("l2-sweep.recipe.epochs=3", "cnn.recipe.epochs=3")
    return made_up_run(tmp_path_factory.mktemp("run"), digits_plan("quick", sets, test=400))


@pytest.fixture(scope="module")
def drawn(run):
    return draw_figures(run)


@pytest.fixture(scope="module")
def every(drawn):
    return [figure for chapter in drawn.values() for figure in chapter]


def rows_of(figure):
    return list(csv.DictReader(io.StringIO(figure.csv())))


def test_every_kind_of_figure_is_drawn(run, every):
    assert isinstance(run, RunData)
    wanted = {
        "data-balance", "data-samples", "mlp-64-64-curves", "mlp-64-64-mistakes", "l2-sweep-sweep",
        "l2-sweep-curves", "denoiser-cleaned", "noise-curves", "noise-strip", "noise-classes",
        "noise-confusion", "generator-drawn", "generator-recognised", "generator-classes",
        "generator-nearest",
    }  # fmt: skip
    assert wanted <= {figure.name for figure in every}


def test_figures_are_well_formed_and_described(every):
    for figure in every:
        for svg in (figure.for_page(), figure.for_file()):
            ElementTree.fromstring(svg)
        page = ElementTree.fromstring(figure.for_page())
        assert page.get("role") == "img" and page.get("aria-label") == figure.alt
        assert re.search(r"\d", figure.alt), f"{figure.name}: an alt text is computed from the numbers"
        assert figure.caption.endswith(".") and figure.rows
        assert all(len(row) == len(figure.header) for row in figure.rows), figure.name


def test_colours_follow_the_page_and_none_is_left_over(every):
    for figure in every:
        assert not set(PLACEHOLDER.values()) & set(
            re.findall(r"#[0-9a-f]{6}", figure.for_page() + figure.for_file())
        )
        assert not re.search(r"(fill|stroke): ?#", figure.for_page()), (
            f"{figure.name} has a colour of its own"
        )
        assert "var(--" not in figure.for_file()


def test_figures_ask_for_nothing_and_style_nothing_else(every):
    for figure in every:
        rest = figure.for_file().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http" not in rest and "<style" not in rest and "<script" not in rest
        assert all(link.startswith(("#", "data:image/png")) for link in re.findall(r'href="([^"]*)"', rest))


def test_ids_of_all_figures_can_share_a_page(every):
    ids = [one for figure in every for one in re.findall(r' id="([^"]+)"', figure.for_page())]
    assert len(ids) == len(set(ids)) > 10
    for figure in every:
        mine = set(re.findall(r' id="([^"]+)"', figure.drawing))
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', figure.drawing)) == mine


def test_the_same_run_draws_the_same_bytes(run, drawn):
    for name in ("mlp-64-64", "generator"):
        chapter = run.chapter(name)
        again = OF_KIND[chapter["kind"]](run, chapter)
        assert [figure.for_file() for figure in again] == [figure.for_file() for figure in drawn[name]]


def test_tidying_shortens_coordinates_and_leaves_words_alone():
    svg = '<svg viewBox="0 0 9 9"><path d="M 1.23456 2.0001"/><text>0.000125</text></svg>'
    assert tidy(svg, "x").endswith('<path d="M 1.23 2"/><text>0.000125</text></svg>')


def test_files_and_data_lie_in_the_folder(run, drawn, every, tmp_path):
    written = write_figures(run, tmp_path / "figures", drawn)
    assert {path.name for path in written} == {f"{f.name}{end}" for f in every for end in (".svg", ".csv")}
    for figure in every:
        assert (tmp_path / "figures" / f"{figure.name}.svg").read_text().startswith("<svg ")
        assert (tmp_path / "figures" / f"{figure.name}.csv").read_text() == figure.csv()


def test_the_sweep_shows_the_numbers_of_the_results(run, drawn):
    rows = rows_of(drawn["l2-sweep"][0])
    told = run.results["chapters"]["l2-sweep"]["settings"]
    assert len(rows) == 2 * len(told)
    for row, one in zip(rows[len(told) :], told, strict=True):
        score = one["test_accuracy"]
        assert row["score"] == "test_accuracy" and float(row["l2"]) == one["l2"]
        assert (
            float(row["mean"]) == score["mean"]
            and float(row["sd"]) == score["sd"]
            and int(row["n"]) == score["n"]
        )
        assert [float(value) for value in row["values"].split()] == score["values"]


def test_a_diverged_trial_is_no_dot(run, tmp_path):
    plan = digits_plan("quick", test=400)
    broken = made_up_run(tmp_path, plan)
    trial = broken.chapter("l2-sweep")["settings"][0]["trials"][1]
    broken.outcomes[trial] |= {
        "state": "diverged",
        "scores": None,
        "reason": "the loss became NaN in epoch 2",
    }
    figure = sweep_figure(broken.summarise(), broken.chapter("l2-sweep"))
    first = rows_of(figure)[0]
    assert first["n"] == "2" and len(first["values"].split()) == 2


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """More replicates of a sweep and of one network than are drawn one by one."""
    sets = ("l2-sweep.replicates=130", "mlp-64-64.replicates=130", "l2-sweep.recipe.epochs=2")
    plan = digits_plan("quick", sets, test=400)
    kept = ("mlp-64-64", "l2-sweep", "findings")
    plan["chapters"] = [chapter for chapter in plan["chapters"] if chapter["name"] in kept]
    return made_up_run(tmp_path_factory.mktemp("many"), plan)


def test_of_many_replicates_the_sweep_draws_some_and_says_so(many):
    figure = sweep_figure(many, many.chapter("l2-sweep"))
    settings = len(many.chapter("l2-sweep")["settings"])
    assert "of each setting at most 100, evenly from the lowest to the highest" in figure.caption
    dots = figure.drawing.count("<use ")
    assert 2 * settings * MAX_DOTS <= dots < 2 * settings * (MAX_DOTS + 10)  # ticks and caps besides
    assert all(len(row["values"].split()) == 130 for row in rows_of(figure))  # the data hold all


def test_of_many_replicates_some_curves_are_drawn_and_the_mean_is_of_all(many):
    figure = learning_curves(many, many.chapter("mlp-64-64"))
    assert "Thin: 100 of the replicates" in figure.caption and f"n{NBSP}={NBSP}130" in figure.caption
    assert len({row["replicate"] for row in rows_of(figure)}) == 130
    assert 4 * MAX_LINES <= figure.drawing.count("stroke-opacity: 0.45") < 4 * (MAX_LINES + 1)


def test_captions_say_where_the_training_loss_is_another_than_the_validation_loss(run, tmp_path):
    sets = (
        "mlp-64-64.recipe.objective='classify-smoothed'", "denoiser.recipe.scored_at=0.4",
        "denoiser.recipe.corruption={name='salt_and_pepper', strength=[0.0, 0.9]}",
    )  # fmt: skip
    plan = digits_plan("quick", sets, test=400)
    kept = ("mlp-64-64", "denoiser", "findings")
    plan["chapters"] = [chapter for chapter in plan["chapters"] if chapter["name"] in kept]
    other = made_up_run(tmp_path, plan)
    smoothed, denoiser = other.chapter("mlp-64-64"), other.chapter("denoiser")
    assert learning_curves(other, smoothed).caption.endswith(
        "The training loss is cross-entropy, labels smoothed by a tenth; the validation loss is plain "
        "cross-entropy."
    )
    assert learning_curves(other, denoiser).caption.endswith(
        "The training loss is that at strengths 0 to 0.9, the validation loss that at 0.4."
    )
    assert "(salt-and-pepper, strength 0.4)" in denoised_figures(other, denoiser).caption, "as it was scored"
    for name in ("mlp-64-64", "denoiser"):
        assert learning_curves(run, run.chapter(name)).caption.endswith("Losses are without the L2 term.")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(2, 30))
def test_thinned_values_keep_their_order_and_both_ends(values, most):
    left = subsample(values, most)
    assert len(left) == min(len(values), most) and (min(left), max(left)) == (min(values), max(values))
    places = iter(values)
    assert all(value in places for value in left)  # each is found after the one before it


def test_curves_of_settings_come_with_the_means_that_are_drawn(run, drawn):
    figure = next(figure for figure in drawn["l2-sweep"] if figure.name.endswith("curves"))
    setting = run.chapter("l2-sweep")["settings"][0]
    histories = [run.outcomes[trial]["history"] for trial in setting["trials"]]
    rows = [row for row in rows_of(figure) if row["setting"] == "l2 = 1e-6"]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3] and {row["n"] for row in rows} == {"3"}
    for column in ("train_loss", "validation_accuracy"):
        wanted = np.mean([history[column] for history in histories], axis=0)
        assert np.allclose([float(row[column]) for row in rows], wanted)


def test_equal_replicates_have_the_interval_over_images():
    told = {"mean": 0.1, "sd": 0.0, "n": 3, "ci95": [0.1, 0.1], "values": [0.1] * 3}
    assert (read_score(told).interval, read_score(told).over) == (None, "")
    score = read_score(told | {"ci95_images": [0.08, 0.12]})
    assert (score.interval, score.over) == ((0.08, 0.12), "images")
    other = read_score(told | {"values": [0.1, 0.1, 0.2], "sd": 0.06, "ci95": [0.0, 0.3]})
    assert (other.interval, other.over) == ((0.0, 0.3), "replicates")


def test_noise_data_holds_every_pipeline_at_every_strength(run, drawn):
    rows = rows_of(drawn["noise"][0])
    chapter = run.results["chapters"]["noise"]
    assert len(rows) == len(chapter["pipelines"]) * len(chapter["strengths"])
    assert {row["interval over"] for row in rows} == {"images"}  # one replicate in the quick profile
    assert "over test images (Wilson)" in drawn["noise"][0].caption


def test_mistakes_are_mistakes_and_the_surest_come_first(run, drawn):
    figure = next(figure for figure in drawn["mlp-64-64"] if figure.name.endswith("mistakes"))
    rows = rows_of(figure)
    confidence = [float(row["confidence"]) for row in rows]
    assert confidence == sorted(confidence, reverse=True)
    assert all(row["true"] != row["predicted"] for row in rows)
    assert all(str(run.labels[int(row["test image"])]) == row["true"] for row in rows)


def test_pixels_are_drawn_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 5, 4)).astype(np.uint8)
    image = Image.open(io.BytesIO(b64decode(picture(pixels, gap=1, ink=True).split(",")[1])))
    assert image.size == (9, 5)
    ink, cover = np.moveaxis(np.asarray(image), 2, 0)
    assert not ink.any() and (cover[:, :4] == pixels[0, 0]).all() and (cover[:, 5:] == pixels[1, 0]).all()


def test_colour_images_keep_their_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 6, 6)).astype(np.uint8)
    image = Image.open(io.BytesIO(b64decode(picture(pixels).split(",")[1])))
    assert (np.asarray(image)[..., :3] == pixels[0].transpose(1, 2, 0)).all()


def test_words_in_drawings_are_escaped():
    row = ImageRow("<script>", np.zeros((1, 1, 4, 4), np.uint8), ("a&b",))
    drawing = tile_drawing([row], ink=False, head=["<"])
    assert "<script>" not in drawing and "&lt;script&gt;" in drawing and "a&amp;b" in drawing


def with_data(run, **changes):
    return replace(run, plan={**run.plan, "data": {**run.plan["data"], **changes}})


def test_a_class_name_is_no_formula(run):
    names = ["$5", "$x^{$", "a_b", "\\frac", *"456789"]
    figure = class_balance(with_data(run, labels=names), {"name": "data"})
    words = [text.text for text in ElementTree.fromstring(figure.for_page()).iter("text")]
    assert set(names) <= set(words)


def test_a_part_without_images_has_no_bars(run):
    """`data.validation = 0` trains on all images."""
    counts = {**run.plan["data"]["counts"], "validation": [0] * 10}
    figure = class_balance(with_data(run, counts=counts), {"name": "data"})
    assert figure.header == ("class", "train", "test") and "validation" not in figure.caption


def test_a_number_too_large_for_a_float_is_none():
    assert not is_number(10**400) and not is_number(float("nan")) and not is_number(-float("inf"))
    assert x_positions([1, 10**400])[1] is False


def test_a_setting_that_is_no_number_stands_side_by_side():
    assert x_positions(["sgd", "adam"])[0].tolist() == [0, 1]
    places, log = x_positions([1e-6, 1e-5, 1e-3])
    assert log and np.allclose(np.diff(places), [1, 2])


def test_means_go_on_where_a_replicate_stopped():
    assert nan_mean(np.array([[1.0, 3.0], [3.0, np.nan]])).tolist() == [2.0, 3.0]


def test_what_was_not_run_has_no_figures(run):
    empty = made_up_run(run.path, digits_plan("quick"))
    empty.outcomes.clear(), empty.evaluations.clear(), empty.stored.clear()
    left = draw_figures(empty.summarise())
    assert {name for name, figures in left.items() if figures} == {"data"}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_enough_to_read(theme):
    for role in ("ink", "muted", "c1"):  # text and links
        assert contrast(theme[role], theme["ground"]) >= 4.5, role
    for role in SERIES:  # lines and marks
        assert contrast(theme[role], theme["ground"]) >= 3, role


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_first_four_series_differ_without_red_and_green(theme):
    # Viénot, Brettel and Mollon (1999): what a deuteranope sees, in linear light
    sees = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    seen = {role: sees @ [int(theme[role][i : i + 2], 16) / 255 for i in (1, 3, 5)] for role in SERIES[:4]}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 0.12, (a, b)
    assert len(set(MARKERS)) == len(MARKERS) and len(set(map(str, LINES))) == len(LINES)


def test_stand_ins_become_variables():
    assert for_page("stroke: #0a0b05") == f"stroke: var(--{list(PLACEHOLDER)[4]})"


def test_shares_stay_shares_whatever_few_replicates_make_of_t():
    assert interval(0.98, 1.01, percent).replace(THIN, " ") == "98.00 to 100.00 %"


def test_signs_and_units_are_set_well():
    assert points(-0.00001) == "0.00" and points(0.01) == "+1.00"
    assert typeset("a 5 % b") == f"a 5{THIN}% b"
    assert typeset("n = 3, mlp-64-64") == f"n{NBSP}={NBSP}3, mlp-64-64"
