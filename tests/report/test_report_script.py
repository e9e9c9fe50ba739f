"""The report in a browser: charts that answer, tables that sort, pictures to save, a phone; no scripts."""

import re
from pathlib import Path

import pytest
from browser import needs_chromium, opened
from synthetic_report import plan_of, write_report_run

from inklab.report import write_report

pytestmark = [pytest.mark.integration, needs_chromium]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
SMALLEST = """() => Math.min(...[...document.querySelectorAll('.chart text')]
  .filter(text => text.getClientRects().length)
  .map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
CURVES = "figure#robustness-curves"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    plan = plan_of(["l2-sweep", "robustness"], ("l2-sweep.recipe.epochs=2",))
    return write_report(write_report_run(tmp_path_factory.mktemp("run"), plan))


def test_charts_answer_a_pointer_and_the_keyboard(report):
    with opened(
        report.as_uri(), reduced_motion="reduce"
    ) as page:  # else the page scrolls while it is measured
        chart = page.locator(f"{CURVES} .chart:visible")
        chart.evaluate("box => box.scrollIntoView({block: 'center'})")
        chart.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        tip = chart.locator(".tip")
        assert re.match(r"cnn at 0: \d", tip.inner_text())
        page.keyboard.press("Escape")
        assert tip.inner_text() == ""
        box = chart.locator(".marks circle").nth(4).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)
        assert tip.inner_text().startswith("cnn at 0.2:")


def test_figures_are_saved_as_pictures(report):
    with opened(report.as_uri(), dark=True) as page:
        figure = page.locator(CURVES)
        figure.locator("summary").click()
        for suffix, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
            with page.expect_download() as download:
                figure.get_by_role("button", name=f"robustness-curves.{suffix}").click()
            content = Path(download.value.path()).read_bytes()
            assert download.value.suggested_filename == f"robustness-curves.{suffix}"
            assert content.startswith(start) and b"var(" not in content and len(content) > 5_000


def test_tables_sort_by_a_click_on_a_column(report):
    with opened(report.as_uri()) as page:
        table = page.locator("#l2-sweep table").first
        cells = table.locator("tbody tr td:nth-child(3)")
        values = [float(text.strip().rstrip("%")) for text in cells.all_inner_texts()]
        for order in ("ascending", "descending"):
            table.locator("thead button").nth(2).click()
            values = sorted(values, reverse=order == "descending")
            assert [float(text.strip().rstrip("%")) for text in cells.all_inner_texts()] == values
            assert table.locator(f"th[aria-sort={order}]").count() == 1


def test_a_phone_sees_all_of_it_in_legible_print(report):
    with opened(report.as_uri(), **PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate(SMALLEST) >= 9
        wide = "box => box.scrollWidth > box.clientWidth + 1"
        boxes = page.locator(".scroll").all()
        for box in boxes:
            assert (box.get_attribute("tabindex") == "0") is box.evaluate(wide)
        assert any(box.evaluate(wide) for box in boxes)


def test_without_scripts_marks_have_titles_and_data_is_a_link(report):
    with opened(report.as_uri(), java_script_enabled=False) as page:
        assert page.locator(f"{CURVES} .wide .marks title").first.text_content().startswith("cnn at 0:")
        page.locator(f"{CURVES} summary").click()
        assert page.locator(f"{CURVES} a[download]").is_visible()
        assert page.locator("button").count() == 0
