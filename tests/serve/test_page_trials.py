"""Trials and learning curves of the served page: sorted, filtered, saved, marked; losses on a log scale."""

import csv
import re

import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import settled, too_wide, toy_address, unnamed

from inklab.records.status import LearningCurve
from inklab.study.monitor import RunMonitor
from inklab.study.run_directory import RunDirectory

pytestmark = [pytest.mark.integration, needs_chromium]


@pytest.fixture
def curves() -> list[LearningCurve]:
    return list(RunMonitor(RunDirectory(toy_run.finished())).poll().curves)


@pytest.fixture
def page():
    with opened(toy_address() + "#view=study") as page:
        settled(page)
        page.locator("#trials tbody tr").first.wait_for()
        yield page


def column(page, title):
    titles = page.locator("#trials thead th").all_inner_texts()
    return page.locator(f"#trials tbody tr > :nth-child({titles.index(title) + 1})").all_inner_texts()


def test_trials_are_sorted_filtered_and_saved_as_the_table_has_them(page, curves, tmp_path):
    assert page.locator("#trials tbody tr").count() == len(curves)
    heading = page.locator("#trials th", has=page.get_by_role("button", name="Validation accuracy"))
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        names = column(page, "Experiment")  # two experiments share trials; each has its rows
        assert sorted(names) == sorted(curve.experiment for curve in curves)
        texts = column(page, "Validation accuracy")
        numbers = [float(text.rstrip("%")) for text in texts if text != "–"]
        assert numbers == sorted(numbers, key=lambda value: sign * value) and len(set(numbers)) > 1
        assert 0 < texts.count("–") and set(texts[len(numbers) :]) == {"–"}  # a denoiser has none
    page.get_by_label("Filter").fill("sweep l2")
    sweep = {curve.trial: curve for curve in curves if curve.experiment == "sweep"}
    assert page.locator("#trials-count").inner_text() == f"{len(sweep)} of {len(curves)} trials"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    download.value.save_as(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["trial"] for row in rows} == set(sweep) and len(rows) == len(sweep)
    for row in rows:
        curve = sweep[row["trial"]]
        assert float(row["validation_loss"]) == curve.validation_loss[-1]
        assert float(row["train_loss"]) == curve.train_loss[-1] and int(row["replicate"]) == curve.replicate
    assert [float(row["validation_accuracy"]) for row in rows] == sorted(
        (curve.validation_accuracy[-1] for curve in sweep.values()), reverse=True
    )


def test_a_row_marks_its_curve_and_only_that(page, curves):
    denoiser = next(curve for curve in curves if not curve.validation_accuracy)
    page.get_by_role("radio", name="Validation accuracy").check()
    button = page.locator("#trials tbody tr button", has_text=denoiser.experiment).first
    button.click()  # it has no accuracy, so its loss is drawn
    assert page.get_by_role("radio", name="Loss").is_checked()
    figures = page.locator("#training-curves figure", has=page.locator(".marked"))
    assert figures.count() == 1 and page.locator("#training-curves .solid.line.marked").count() == 1
    assert page.locator("#trials [aria-pressed=true]").count() == 1
    button.click()
    assert (
        page.locator("#training-curves .marked").count() == page.locator("[aria-pressed=true]").count() == 0
    )


def test_losses_are_drawn_on_a_logarithmic_scale_by_a_link(page):
    label = page.get_by_role("checkbox", name="Log scale")
    assert not label.is_checked()  # the first view is linear, and not smoothed
    label.check()
    page.wait_for_url(re.compile("scale=log"))
    with opened(page.url) as other:
        settled(other)
        sweep = other.locator("#training-curves figure", has_text="sweep")
        assert "Loss (log scale)" in sweep.locator(".axis-title").all_text_contents()
        levels = sweep.locator(".axis text[text-anchor=end]")
        values = [float(text) for text in levels.all_text_contents()]
        heights = [float(level.get_attribute("y")) for level in levels.all()]
        slopes = other.evaluate(
            "([v, h]) => v.slice(1).map((x, i) => (h[i + 1] - h[i]) / Math.log(x / v[i]))", [values, heights]
        )
        assert len(values) >= 3 and slopes == pytest.approx([slopes[0]] * len(slopes), rel=0.02)
        other.get_by_role("radio", name="Validation accuracy").check()
        assert other.get_by_role("checkbox", name="Log scale").is_disabled()
        assert not any(re.search("log", text) for text in other.locator(".axis-title").all_text_contents())


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_the_table_fits_and_its_controls_have_names(width):
    with opened(toy_address() + "#view=study", viewport={"width": width, "height": 844}) as page:
        settled(page)
        page.locator("#trials tbody tr").first.wait_for()
        assert not too_wide(page) and not unnamed(page)
