"""Inside the network, on the page: for drawings and test images, in a link, in both themes."""

import re

import numpy as np
import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import SEVEN, THREE, change, drawn, settled, stage, too_wide, toy_address, unnamed

from inklab.runs import Run

pytestmark = [pytest.mark.integration, needs_chromium]
PAINTED = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: data.length / 4 }, (_, i) => [...data.subarray(4 * i, 4 * i + 4)]);
}"""


def open_inside(page):
    page.locator("#inside summary").click()
    page.locator("#inside-parts figure").first.wait_for()


def inside_texts(page):
    return page.locator("#inside-parts figcaption").all_inner_texts()


def painted(page, selector):
    """Red, green, blue and opacity of each pixel of a canvas, `(n, 4)`."""
    return np.array(page.locator(selector).first.evaluate(PAINTED))


def test_a_drawing_is_explained_layer_by_layer_and_changes_with_it():
    with opened(toy_address()) as page:
        requests = []
        page.on("request", lambda request: requests.append(request.url.endswith("/api/inspect")))
        drawn(page, SEVEN)
        assert not any(requests)  # while it is closed nothing is computed for it
        open_inside(page)
        assert inside_texts(page)[0].startswith("Occlusion")
        names = [text.split(":")[0] for text in inside_texts(page)[-4:]]
        assert names == ["features.0", "features.1", "hidden.0", "output"]
        before = painted(page, "#inside-parts figure:last-child canvas")
        page.get_by_role("button", name="Clear").click()
        settled(page)
        assert page.locator("#inside-note").inner_text() == "Nothing is drawn yet."
        assert page.locator("#inside-parts figure").count() == 0
        drawn(page, THREE)
        page.locator("#inside-parts figure").first.wait_for()
        assert (painted(page, "#inside-parts figure:last-child canvas") != before).any()
        assert not unnamed(page)


def test_filters_are_painted_as_the_weights_are():
    weights = Run(toy_run.finished()).model("cnn").net.net.features[0].weight.detach().numpy()[:, 0]
    with opened(f"{toy_address()}#inside=cnn") as page:
        drawn(page, SEVEN)
        page.locator("#inside-parts figure").first.wait_for()
        filters = page.locator("#inside-parts figure", has_text="First-layer filters")
        units = [int(text) for text in filters.locator(".maps > span > span").all_inner_texts()]
        kernels = weights[units]
        for index, kernel in enumerate(kernels):
            pixels = np.array(filters.locator("canvas").nth(index).evaluate(PAINTED))
            opacity = 255 * np.abs(kernel).ravel() / np.abs(kernels).max()
            assert np.abs(pixels[:, 3] - opacity).max() <= 1
            strong = opacity > 100
            assert ((pixels[:, 2] > pixels[:, 0]) == (kernel.ravel() > 0))[strong].all()  # blue or orange


def test_what_a_denoiser_removed_is_the_difference_of_two_stages():
    with opened(f"{toy_address()}#inside=denoiser+cnn&strength=0.4&pipelines=denoiser+cnn") as page:
        drawn(page, SEVEN)
        removed = page.locator("#inside-parts figure", has_text="Corrupted minus denoised")
        removed.wait_for()
        opacity = np.array(removed.locator("canvas").evaluate(PAINTED))[:, 3]
        expected = np.abs(np.array(stage(page, "Corrupted")) - np.array(stage(page, "Denoised")))
        assert np.abs(opacity - expected).max() <= 2 and expected.max() > 50
        page.locator("#inside-pipeline").select_option("cnn")
        removed.wait_for(state="detached")


def test_a_test_image_is_explained_too_and_the_link_opens_it_again():
    with opened(toy_address()) as page:
        settled(page)
        page.locator("#examples summary").click()
        page.get_by_role("button", name="Test image of class 7").click()
        open_inside(page)
        texts = inside_texts(page)
        assert re.search(r"The probability of 7 falls .* by up to [\d.]+ points", texts[0])
        page.wait_for_timeout(600)  # the address follows after 0.4 s
        link = page.url
    with opened(link) as page:
        page.locator("#inside-parts figure").first.wait_for()
        assert inside_texts(page) == texts


def test_a_change_of_theme_repaints_and_a_failure_is_one_line():
    with opened(f"{toy_address()}#inside=cnn", expected="422") as page:
        drawn(page, SEVEN)
        page.locator("#inside-parts figure").first.wait_for()
        light = painted(page, "#inside-parts .units canvas")
        page.locator("#theme").select_option("dark")
        page.locator("html[data-theme=dark]").wait_for(state="attached")
        assert (painted(page, "#inside-parts .units canvas")[:, :3] != light[:, :3]).any()
        line = "'own' can't be inspected: it is too deep"
        page.route("**/api/inspect", lambda route: route.fulfill(status=422, json={"error": line}))
        change(page, "#strength", 0.2)
        page.get_by_text(line).wait_for()


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_it_fits_into_the_window(width):
    with opened(f"{toy_address()}#inside=denoiser+cnn", viewport={"width": width, "height": 800}) as page:
        drawn(page, SEVEN)
        page.locator("#inside-parts figure").first.wait_for()
        assert not too_wide(page)
