"""The page in a browser: small screens, touch, keys, accessible names, long words, and errors."""

import pytest
from browser import needs_chromium, opened
from page_visits import (
    NOTHING,
    PHONE,
    SEVEN,
    columns,
    draw,
    see,
    settled,
    summary,
    too_wide,
    touch,
    toy_address,
    unnamed,
)

pytestmark = [pytest.mark.integration, needs_chromium]
VIEWS = ("draw", "generate", "study")
CONTROLS = ", ".join(
    f"{each}:visible" for each in ("button", "select", "input:not([type=radio])", "summary", "nav a")
)
STOPS = {
    "draw": ["#pad", "#undo", "#open", "#pen", "#strength", "#seed", "#new-noise", "#copy"],
    "generate": ["#sample-seed", "#ring", "#sigma"],
    "study": ["#copy"],
}


@pytest.fixture(scope="module")
def address():
    return toy_address()


def test_trouble_is_told_and_passes(address):
    with opened(address, expected="ERR_FAILED") as page:
        settled(page)
        page.route("**/api/predict", lambda route: route.abort())
        draw(page, SEVEN)
        page.get_by_text("The server does not answer").wait_for()
        page.unroute("**/api/predict")
        page.get_by_role("button", name="Try now").click()
        page.locator("#error").wait_for(state="hidden")
        settled(page)
        assert summary(page) != NOTHING


def test_what_the_server_refuses_is_told_in_its_words(address):
    line = "corruption.strength = 7; allowed: 0 to 1 <b>not bold</b>"
    with opened(address, expected="422") as page:
        page.route("**/api/predict", lambda route: route.fulfill(status=422, json={"error": line}))
        draw(page, SEVEN)
        page.get_by_text(line).wait_for()
        assert page.locator("#error b").count() == 0


def test_many_classes_with_long_names_show_the_ten_most_probable(address):
    labels = [f"A class with the rather long name of {i}" for i in range(30)]
    shares = [i / sum(range(30)) for i in range(30)]

    def known(route):
        told = route.fetch().json()
        route.fulfill(json={**told, "labels": labels})

    def judged(route):
        told = route.fetch().json()
        for each in told["images"][0]["predictions"]:
            each.update(label=labels[29], probabilities=shares, abstained=None)
        route.fulfill(json=told)

    def wait(page):
        page.route("**/api/networks", known)
        page.route("**/api/predict", judged)

    with opened(address, wait=wait, viewport={"width": 360, "height": 740}) as page:
        draw(page, SEVEN)
        settled(page)
        assert list(columns(page)["cnn"]["probabilities"]) == [labels[i] for i in range(29, 19, -1)]
        assert not too_wide(page)
        assert labels[29] in summary(page)


def test_nothing_sticks_out(address):
    with opened(address) as page:
        draw(page, SEVEN)
        for width in (360, 390, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            for view in VIEWS:
                see(page, view)
                assert not too_wide(page), (width, view)


def test_a_finger_draws_and_the_page_stays_where_it_is(address):
    with opened(address, **PHONE) as page:
        settled(page)
        touch(page, SEVEN)
        settled(page)
        assert summary(page) != NOTHING
        assert page.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]
        pad = page.locator("#pad").bounding_box()
        assert pad["width"] > 350 and pad["y"] < 160
        for view in VIEWS:
            page.locator(f'nav [data-view="{view}"]').tap()
            settled(page)
            for control in page.locator(CONTROLS).all():
                box = control.bounding_box()
                assert box["height"] >= 44 or "tile" in (control.get_attribute("class") or ""), (
                    control.evaluate("each => each.outerHTML")
                )


def test_everything_has_a_name_and_can_be_reached_by_keys(address):
    with opened(address) as page:
        draw(page, SEVEN)
        for view in VIEWS:
            see(page, view)
            assert not unnamed(page), view
            page.evaluate("document.activeElement.blur()")
            reached = set()
            for _ in range(110):
                page.keyboard.press("Tab")
                reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 90)"))
            for selector in STOPS[view]:
                assert page.locator(selector).evaluate("each => each.outerHTML.slice(0, 90)") in reached, (
                    selector
                )


def test_a_drawing_by_keys_is_judged_and_said(address):
    with opened(address) as page:
        settled(page)
        page.locator("#pad").focus()
        for key in ["ArrowUp"] * 10 + ["Space"] + ["ArrowDown"] * 20 + ["Space"]:
            page.keyboard.press(key)
        settled(page)
        assert summary(page) != NOTHING
        page.wait_for_timeout(1200)
        assert page.locator("#announcement").inner_text() == summary(
            page
        )  # to screen readers, once it has come to rest
        page.keyboard.press("Control+z")
        settled(page)
        assert summary(page) == NOTHING


@pytest.mark.parametrize("how", [{"dark": True}, {"forced_colors": "active"}, {"reduced_motion": "reduce"}])
def test_it_follows_what_a_visitor_likes(address, how):
    with opened(toy_address(), **how) as page:
        draw(page, SEVEN)
        settled(page)
        assert summary(page) != NOTHING
        if "dark" in how:
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
        if "reduced_motion" in how:
            assert page.locator(".fill").first.evaluate(
                "each => getComputedStyle(each).transitionDuration"
            ) in ("0s", "")
