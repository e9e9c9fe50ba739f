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
    f"{selector}:visible" for selector in ("button", "select", "input:not([type=radio])", "summary", "nav a")
)
STOPS = {
    "draw": ["#pad", "#undo", "#open", "#pen", "#strength", "#seed", "#new-noise", "#copy"],
    "generate": ["#sample-seed", "#ring", "#sigma"],
    "study": ["#copy"],
}


@pytest.fixture(scope="module")
def address():
    return toy_address()


def test_a_lost_server_is_reported_until_it_is_back(address):
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


def test_an_error_of_the_server_is_shown_as_text(address):
    line = "corruption.strength = 7; allowed: 0 to 1 <b>not bold</b>"
    with opened(address, expected="422") as page:
        page.route("**/api/predict", lambda route: route.fulfill(status=422, json={"error": line}))
        draw(page, SEVEN)
        page.get_by_text(line).wait_for()
        assert page.locator("#error b").count() == 0


def test_many_classes_with_long_names_show_the_ten_most_probable(address):
    labels = [f"A class with the rather long name of {i}" for i in range(30)]
    shares = [i / sum(range(30)) for i in range(30)]

    def rename_labels(route):
        route.fulfill(json={**route.fetch().json(), "labels": labels})

    def predict_last(route):
        response = route.fetch().json()
        for prediction in response["images"][0]["predictions"]:
            prediction.update(label=labels[29], probabilities=shares, abstained=None)
        route.fulfill(json=response)

    def wait(page):
        page.route("**/api/networks", rename_labels)
        page.route("**/api/predict", predict_last)

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
                    control.evaluate("element => element.outerHTML")
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
                assert (
                    page.locator(selector).evaluate("element => element.outerHTML.slice(0, 90)") in reached
                ), selector


def test_a_drawing_by_keys_is_classified_and_announced(address):
    with opened(address) as page:
        settled(page)
        page.locator("#pad").focus()
        for key in ["ArrowUp"] * 10 + ["Space"] + ["ArrowDown"] * 20 + ["Space"]:
            page.keyboard.press(key)
        settled(page)
        assert summary(page) != NOTHING
        page.wait_for_timeout(1200)
        # Screen readers hear it once it has come to rest.
        assert page.locator("#announcement").inner_text() == summary(page)
        page.keyboard.press("Control+z")
        settled(page)
        assert summary(page) == NOTHING


@pytest.mark.parametrize(
    "preference", [{"dark": True}, {"forced_colors": "active"}, {"reduced_motion": "reduce"}]
)
def test_it_follows_what_a_visitor_likes(address, preference):
    with opened(toy_address(), **preference) as page:
        draw(page, SEVEN)
        settled(page)
        assert summary(page) != NOTHING
        if "dark" in preference:
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
        if "reduced_motion" in preference:
            assert page.locator(".fill").first.evaluate(
                "element => getComputedStyle(element).transitionDuration"
            ) in ("0s", "")
