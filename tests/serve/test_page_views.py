"""The page in a browser: new images, the study, links, and servers with less to show."""

import re

import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import (
    NOTHING,
    SEVEN,
    THREE,
    change,
    columns,
    draw,
    image,
    see,
    serving,
    settled,
    stage,
    summary,
    toy_address,
)

from inklab.run import Run

pytestmark = [pytest.mark.integration, needs_chromium]
GARBAGE = [
    "#view=nowhere&strength=lots&seed=-3&drawing=%00%ff",
    "#drawing=1____&strength=NaN&position=2,2&pipelines=../x,<b>",
    "#&&&=&a=b&view",
    "#picture=AAAA&corruption=constructor&sampler=toString",
]
VIEWS = ("draw", "generate", "study")


@pytest.fixture(scope="module")
def address():
    return toy_address()


def test_a_link_brings_everything_back(address):
    with opened(address) as page:
        draw(page, THREE)
        change(page, "#strength", 0.4)
        change(page, "#seed", 11)
        page.locator("#choose summary").click()
        page.get_by_role("checkbox", name="mlp", exact=True).check()
        settled(page)
        page.wait_for_timeout(600)  # the address follows after 0.4 s
        link = page.url
        expected = (columns(page), stage(page, "Corrupted"), summary(page), image(page, "#pad"))
    with opened(link) as page:
        settled(page)
        assert (columns(page), stage(page, "Corrupted"), summary(page), image(page, "#pad")) == expected
        assert page.locator("#seed").input_value() == "11"


def test_the_link_can_be_copied_and_back_goes_back(address):
    with opened(address, permissions=["clipboard-read", "clipboard-write"]) as page:
        draw(page, SEVEN)
        page.get_by_role("button", name="Copy link").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert "drawing=1" in page.url
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        see(page, "generate")
        assert page.locator("#generate").is_visible() and not page.locator("#draw").is_visible()
        page.go_back()
        settled(page)
        assert page.locator("#draw").is_visible() and summary(page) != NOTHING


def test_what_cannot_be_read_in_a_link_is_ignored(address):
    for garbage in GARBAGE:
        with opened(address + garbage) as page:
            settled(page)
            assert summary(page) == NOTHING and page.locator("#draw").is_visible()
            assert page.locator("#strength").input_value() == "0"
            see(page, "generate")
            assert page.locator("#samples li").count() == 40
            page.evaluate("location.hash = '#view=study'")
            page.locator("#study").wait_for()


def test_new_images_follow_their_seed_and_sampler(address):
    with opened(address + "#view=generate&samples=5") as page:
        settled(page)
        first = [image(page, f"#samples canvas >> nth={i}") for i in range(40)]
        note = page.locator("#samples-note").inner_text()
        assert re.search(r"about \d+ of 40\.", note) and "of 100." in note  # the study's own
        change(page, "#sample-seed", 6)
        assert [image(page, f"#samples canvas >> nth={i}") for i in range(40)] != first
        change(page, "#sample-seed", 5)
        assert [image(page, f"#samples canvas >> nth={i}") for i in range(40)] == first
        page.get_by_role("radio", name=re.compile("^binary")).check()
        settled(page)
        assert [image(page, f"#samples canvas >> nth={i}") for i in range(40)] != first
        page.locator("#samples button >> nth=3").click()
        settled(page)
        chosen = page.locator("#picture")
        assert page.locator("#draw").is_visible() and chosen.is_visible() and summary(page) != NOTHING


def test_a_walk_goes_by_pointer_and_by_keys(address):
    with opened(address + "#view=generate") as page:
        settled(page)
        here = image(page, "#here")
        ring = page.get_by_role("slider", name="Position in the square")
        ring.focus()
        for _ in range(5):
            page.keyboard.press("Shift+ArrowRight")
        settled(page)
        right = image(page, "#here")
        assert right != here and ring.get_attribute("aria-valuenow") == "100"
        page.keyboard.press("Home")
        settled(page)
        corner = image(page, "#here")
        box = page.locator("#map").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 3, box["y"] + 3, steps=12)
        page.mouse.up()
        settled(page)
        assert image(page, "#here") == corner != right
        page.wait_for_timeout(600)
        assert "position=0,0" in page.url


def test_images_around_a_drawing_spread_with_the_slider(address):
    with opened(address + "#view=generate") as page:
        settled(page)
        assert page.locator("#neighbors-empty").is_visible() and page.locator("#neighbors li").count() == 0
        see(page, "draw")
        draw(page, SEVEN)
        see(page, "generate")
        change(page, "#sigma", 0)
        still = [image(page, f"#neighbors canvas >> nth={i}") for i in range(24)]
        assert all(pixels == still[0] for pixels in still)  # the decoder only repeats
        change(page, "#sigma", 1.5)
        moved = [image(page, f"#neighbors canvas >> nth={i}") for i in range(24)]
        assert sum(pixels != still[0] for pixels in moved) == 24


def test_a_finished_study_shows_its_experiments_curves_and_findings(address):
    results = toy_run.results(toy_run.finished())
    with opened(address + "#view=study") as page:
        settled(page)
        page.locator("#findings li").first.wait_for()
        total = toy_run.TRIALS + toy_run.EVALUATIONS
        assert page.locator("#state").inner_text() == f"Finished: {total} of {total} done"
        assert page.locator("#experiments li").count() == 7
        assert page.locator("#training-curves figure").count() == 5
        assert page.locator("#training-curves .line.solid").count() >= 14
        page.get_by_role("radio", name="Validation accuracy").check()
        assert page.locator("#training-curves figure").count() == 4  # a denoiser has none
        mean = results.training["cnn"].settings[0].metrics["test_accuracy"].mean
        row = page.locator("#main-results tr", has=page.get_by_role("rowheader", name="cnn", exact=True))
        assert f"{100 * mean:.2f}%" in row.inner_text()
        assert page.locator("#findings li").count() == len(results.findings)


def test_a_run_without_networks_begins_with_the_study(tmp_path):
    with serving(toy_run.begun(tmp_path / "run")) as address, opened(address) as page:
        settled(page)
        assert page.locator("#study").is_visible()
        assert page.locator("#state").inner_text().startswith("Stopped: 0 of")
        see(page, "draw")
        assert page.locator("#no-networks").is_visible() and not page.locator("#pad").is_visible()
        assert not page.locator('nav [data-view="generate"]').is_visible()


def test_one_model_has_one_view(address):
    with serving(Run(toy_run.finished()).model_dir("cnn")) as url, opened(url) as page:
        draw(page, SEVEN)
        settled(page)
        assert list(columns(page)) == ["cnn"] and summary(page) != NOTHING
        assert [view for view in VIEWS if page.locator(f'nav [data-view="{view}"]').is_visible()] == ["draw"]
        assert page.locator(".stages li").count() == 2 and not page.locator("#curve").is_visible()
