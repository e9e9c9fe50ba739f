"""The page in a browser, on the toy run: drawing, new images, the study, links, keys, phones, errors."""

import re

import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import (
    NOTHING,
    PHONE,
    SEVEN,
    THREE,
    change,
    columns,
    distance,
    draw,
    drawn,
    image,
    see,
    serving,
    settled,
    share,
    stage,
    summary,
    too_wide,
    touch,
    toy_address,
    unnamed,
)
from PIL import Image

from inklab.runs import Run

pytestmark = [pytest.mark.integration, needs_chromium]
VIEWS = ("draw", "generate", "study")


@pytest.fixture
def page():
    with opened(toy_address()) as page:
        settled(page)
        yield page


def test_every_pipeline_classifies_a_drawing_at_once(page):
    assert summary(page) == NOTHING and {column["label"] for column in columns(page).values()} == {"–"}
    drawn(page, SEVEN)
    assert summary(page) != NOTHING
    predictions = columns(page)
    assert list(predictions) == ["cnn", "denoiser+cnn", "median+cnn"]  # those that the study compares
    for prediction in predictions.values():
        probabilities = prediction["probabilities"]
        assert len(probabilities) == 10 and sum(probabilities.values()) == pytest.approx(1, abs=0.01)
        assert prediction["label"] in (max(probabilities, key=probabilities.get), "?")
    assert max(stage(page, "Input")) > 100
    assert stage(page, "Corrupted") == stage(page, "Input")
    page.get_by_role("button", name="Clear").click()
    settled(page)
    assert summary(page) == NOTHING and max(image(page, ".prediction canvas >> nth=0")) == 0


def test_answers_keep_up_with_the_hand_one_question_at_a_time(page):
    open_, most = set(), [0]

    def sent(request):
        if request.url.endswith("/api/predict"):
            open_.add(request)
            most[0] = max(most[0], len(open_))

    page.on("request", sent)
    page.on("requestfinished", lambda request: open_.discard(request))
    draw(page, THREE, steps=20)
    settled(page)
    assert most[0] == 1 and not open_
    names = page.evaluate("() => performance.getEntriesByType('resource').map(entry => entry.name)")
    assert 1 < sum(name.endswith("predict") for name in names) <= 200


def test_noise_does_to_the_image_what_the_slider_says(page):
    drawn(page, SEVEN)
    clean = stage(page, "Input")
    change(page, "#strength", 0.5)
    corrupted = stage(page, "Corrupted")
    assert distance(clean, corrupted) > 40 and stage(page, "Input") == clean
    assert stage(page, "Denoised") not in (clean, corrupted)
    change(page, "#strength", 0.51)
    assert distance(corrupted, stage(page, "Corrupted")) < 30  # nested: a little more, not another noise
    change(page, "#strength", 0.5)
    assert stage(page, "Corrupted") == corrupted
    change(page, "#seed", 4)
    assert stage(page, "Corrupted") != corrupted
    change(page, "#strength", 0)
    assert stage(page, "Corrupted") == clean
    page.locator("#corruption").select_option("gaussian")
    change(page, "#strength", 0.3)
    assert stage(page, "Corrupted") != clean
    assert "dimmed" in page.locator("#curve").get_attribute("class")  # the study measured another one


def test_the_curve_is_the_studys_and_its_mark_follows_the_slider(page):
    results = toy_run.results(toy_run.finished()).experiment("robustness")
    assert page.locator("#curve .current .mark").count() == len(results.pipelines) == 3
    words = page.locator("#curve svg").get_attribute("aria-label")
    assert f"cnn: {100 * results.pipelines['cnn'].recall[0].mean:.0f}% at 0" in words
    marker = page.locator("#curve .marker")
    before = marker.get_attribute("x1")
    change(page, "#strength", 0.3)
    slider, line = page.locator("#strength").bounding_box(), marker.bounding_box()
    assert marker.get_attribute("x1") != before
    assert results.strengths[-1] == 0.6  # so the slider goes on where the curve ends
    note = page.locator(".prediction .recall >> nth=0").inner_text()
    assert share(note.split(":")[1]) == pytest.approx(results.pipelines["cnn"].recall[1].mean, abs=0.001)
    assert slider["y"] > line["y"]


def test_pipelines_can_be_chosen_and_one_is_the_least(page):
    page.locator("#choose summary").click()
    for name in ("denoiser+cnn", "median+cnn"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    page.get_by_role("checkbox", name="mlp", exact=True).check()
    assert list(columns(page)) == ["cnn", "mlp"]
    page.get_by_role("checkbox", name="cnn", exact=True).uncheck()
    page.get_by_role("checkbox", name="mlp", exact=True).click()
    assert list(columns(page)) == ["mlp"]
    drawn(page, SEVEN)
    assert max(stage(page, "Denoised")) > 0  # the denoiser runs though no pipeline on show has it


def test_a_picture_can_be_opened_and_left_again(tmp_path):
    picture = Image.new("L", (200, 200), 0)
    picture.paste(255, (80, 30, 120, 170))
    picture.save(tmp_path / "stroke.png")
    (tmp_path / "text.png").write_text("no picture")
    with opened(toy_address(), expected="422|400") as page:
        drawn(page, SEVEN)
        drawing = stage(page, "Input")
        page.locator("#file").set_input_files(tmp_path / "stroke.png")
        page.locator("#picture").wait_for()
        settled(page)
        assert stage(page, "Input") != drawing
        assert page.locator("#picture").get_attribute("aria-label").endswith("stroke.png")
        page.get_by_role("button", name="Back to drawing").click()
        settled(page)
        assert stage(page, "Input") == drawing
        page.locator("#file").set_input_files(tmp_path / "text.png")
        page.locator("#error").wait_for()
        assert "picture" in page.locator("#error").inner_text()


def test_a_picture_without_ink_and_one_of_a_large_camera(tmp_path):
    Image.new("L", (300, 300), 255).save(tmp_path / "white.png")
    large = Image.new("L", (5000, 4000), 255)
    large.paste(0, (2300, 900, 2700, 3100))
    large.save(tmp_path / "large.png")
    sizes = []
    with opened(toy_address()) as page:
        settled(page)
        page.on("request", lambda request: sizes.append(len(request.post_data or "")))
        page.locator("#file").set_input_files(tmp_path / "white.png")
        lead = page.locator("#summary", has_text="Nothing can be seen on this picture.")
        lead.wait_for()
        reasons = page.locator(".prediction .reason").all_inner_texts()
        assert set(reasons) == {"Nothing can be seen"}
        page.locator("#file").set_input_files(tmp_path / "large.png")  # 20 megapixels; the server takes 16
        lead.wait_for(state="hidden")
        settled(page)
        assert not page.locator("#error").is_visible() and max(stage(page, "Input")) > 200
        assert max(sizes) < 1_000_000


def test_a_test_image_is_a_start():
    with opened(toy_address()) as page:
        settled(page)
        page.locator("#examples summary").click()
        page.get_by_role("button", name="Test image of class 7").click()
        settled(page)
        assert columns(page)["cnn"]["label"] == "7"
        assert page.locator("#picture").is_visible()


def test_redo_and_an_eraser_that_cuts_strokes(page):
    drawn(page, SEVEN)
    ink = image(page, "#pad")
    page.locator("h1").click()  # not on the pad: the keys work in the whole view
    page.keyboard.press("Control+z")
    settled(page)
    assert max(image(page, "#pad")) == 0
    page.keyboard.press("Control+y")
    settled(page)
    assert image(page, "#pad") == ink
    page.get_by_role("button", name="Erase").click()
    draw(page, [[(0.5, 0.1), (0.5, 0.3)]])  # across the upper bar
    settled(page)
    assert 0 < sum(image(page, "#pad")) < sum(ink)
    page.get_by_role("button", name="Undo").click()
    settled(page)
    assert image(page, "#pad") == ink
    page.get_by_role("button", name="Redo").click()
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#erase").get_attribute("aria-pressed") == "false"


def test_behind_a_proxy_the_page_works_below_a_path():
    address = toy_address()
    prefix = f"{address}some/path/"

    def wait(page):
        page.route(f"{prefix}**", lambda route: route.fulfill(
            response=route.fetch(url=route.request.url.replace(prefix, address))))  # fmt: skip

    with opened(prefix, wait=wait) as page:
        drawn(page, SEVEN)
        assert summary(page) != NOTHING
        names = page.evaluate("() => performance.getEntriesByType('resource').map(entry => entry.name)")
        assert all(name.startswith(prefix) for name in names) and len(names) > 20


GARBAGE = [
    "#view=nowhere&strength=lots&seed=-3&drawing=%00%ff",
    "#drawing=1____&strength=NaN&position=2,2&pipelines=../x,<b>",
    "#&&&=&a=b&view",
    "#picture=AAAA&corruption=constructor&sampler=toString",
]


def test_a_link_brings_everything_back():
    def displayed(page):
        return columns(page), stage(page, "Corrupted"), summary(page), image(page, "#pad")

    with opened(toy_address()) as page:
        draw(page, THREE)
        change(page, "#strength", 0.4)
        change(page, "#seed", 11)
        page.locator("#choose summary").click()
        page.get_by_role("checkbox", name="mlp", exact=True).check()
        settled(page)
        page.wait_for_timeout(600)  # the address follows after 0.4 s
        link, expected = page.url, displayed(page)
    with opened(link) as page:
        settled(page)
        assert displayed(page) == expected
        assert page.locator("#seed").input_value() == "11"
    with opened(toy_address() + "#pipelines=mlp,denoiser+cnn") as page:  # written by hand
        settled(page)
        assert set(columns(page)) == {"mlp", "denoiser+cnn"}


def test_the_link_can_be_copied_and_back_goes_back():
    with opened(toy_address(), permissions=["clipboard-read", "clipboard-write"]) as page:
        draw(page, SEVEN)
        page.get_by_role("button", name="Copy link").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert "drawing=1" in page.url
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        see(page, "generate")
        assert page.locator("#generate").is_visible() and not page.locator("#draw").is_visible()
        assert page.title().startswith("New digits · ")
        page.go_back()
        settled(page)
        assert page.locator("#draw").is_visible() and summary(page) != NOTHING
        assert page.title().startswith("Draw · ")


def test_what_cannot_be_read_in_a_link_is_ignored():
    for garbage in GARBAGE:
        with opened(toy_address() + garbage) as page:
            settled(page)
            assert summary(page) == NOTHING and page.locator("#draw").is_visible()
            assert page.locator("#strength").input_value() == "0"
            see(page, "generate")
            assert page.locator("#samples li").count() == 40
            page.evaluate("location.hash = '#view=study'")
            page.locator("#study").wait_for()


def images(page, part, count):
    return [image(page, f"#{part} canvas >> nth={i}") for i in range(count)]


def test_new_images_follow_their_seed_and_sampler():
    with opened(toy_address() + "#view=generate&samples=5") as page:
        settled(page)
        first = images(page, "samples", 40)
        note = page.locator("#samples-note").inner_text()
        assert re.search(r"about \d+ of 40\.", note) and "of 100." in note  # the study's own
        change(page, "#sample-seed", 6)
        assert images(page, "samples", 40) != first
        change(page, "#sample-seed", 5)
        assert images(page, "samples", 40) == first
        page.get_by_role("radio", name=re.compile("^binary")).check()
        settled(page)
        assert images(page, "samples", 40) != first
        page.locator("#samples button >> nth=3").click()
        settled(page)
        assert all(page.locator(part).is_visible() for part in ("#draw", "#picture"))
        assert summary(page) != NOTHING


def test_a_walk_goes_by_pointer_and_by_keys():
    with opened(toy_address() + "#view=generate") as page:
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


def test_images_around_a_drawing_spread_with_the_slider():
    with opened(toy_address() + "#view=generate") as page:
        settled(page)
        assert page.locator("#neighbors-empty").is_visible() and page.locator("#neighbors li").count() == 0
        see(page, "draw")
        draw(page, SEVEN)
        see(page, "generate")
        change(page, "#sigma", 0)
        still = images(page, "neighbors", 24)
        assert still == still[:1] * 24  # the decoder only repeats
        change(page, "#sigma", 1.5)
        assert still[0] not in images(page, "neighbors", 24)


def test_a_finished_study_shows_its_experiments_curves_and_findings():
    results = toy_run.results(toy_run.finished())
    with opened(toy_address() + "#view=study") as page:
        settled(page)
        page.locator("#findings li").first.wait_for()
        total = toy_run.TRIALS + toy_run.EVALUATIONS
        assert page.locator("#state").inner_text() == f"Finished: {total} of {total} done"
        assert page.locator("#experiments li").count() == 7
        assert page.locator("#training-curves figure").count() == 5
        assert page.locator("#training-curves .line.solid").count() >= 14
        sweep = page.locator("#training-curves figure", has_text="sweep")
        dashes = {line.get_attribute("stroke-dasharray") for line in sweep.locator(".line.solid").all()}
        assert len(dashes) == sweep.locator(".legend .swatch").count() == 3  # not by color alone
        sweep.get_by_role("slider", name="Epoch").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        text = sweep.locator(".reading-text").inner_text()
        assert re.match(r"Epoch 2\. l2 = 0: validation [\d.]+ to [\d.]+, training", text)
        box = sweep.locator("svg").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 60)
        assert (
            "Epoch 4. " in sweep.inner_text() and "Epoch" in sweep.locator(".axis-title").all_text_contents()
        )
        page.get_by_role("radio", name="Validation accuracy").check()
        assert page.locator("#training-curves figure").count() == 4  # a denoiser has none
        mean = results.training["cnn"].settings[0].metrics["test_accuracy"].mean
        row = page.locator("#main-results tr", has=page.get_by_role("rowheader", name="cnn", exact=True))
        assert f"{100 * mean:.2f}%" in row.inner_text()
        assert page.locator("#findings li").count() == len(results.findings)


def test_the_study_leads_to_the_report_and_is_requested_once(tmp_path):
    run = toy_run.copied(tmp_path / "run")
    (run / "report.html").write_text("<!doctype html><html lang=en><title>A report</title><h1>A report</h1>")
    with serving(run) as address, opened(f"{address}#view=study") as page:
        settled(page)
        names = page.evaluate("() => performance.getEntriesByType('resource').map(entry => entry.name)")
        assert sum(name.endswith("api/study") for name in names) == 1
        with page.expect_popup() as popup:
            page.get_by_role("link", name="Open the report").click()
        assert popup.value.locator("h1").inner_text() == "A report"


def test_a_run_without_networks_begins_with_the_study(tmp_path):
    with serving(toy_run.begun(tmp_path / "run")) as address, opened(address) as page:
        settled(page)
        assert page.locator("#study").is_visible()
        assert page.locator("#state").inner_text().startswith("Stopped: 0 of")
        see(page, "draw")
        assert page.locator("#no-networks").is_visible() and not page.locator("#pad").is_visible()
        assert not page.locator('nav [data-view="generate"]').is_visible()


def test_one_model_has_one_view():
    with serving(Run(toy_run.finished()).model_dir("cnn")) as url, opened(url) as page:
        drawn(page, SEVEN)
        assert list(columns(page)) == ["cnn"] and summary(page) != NOTHING
        assert [view for view in VIEWS if page.locator(f'nav [data-view="{view}"]').is_visible()] == ["draw"]
        assert page.locator(".stages li").count() == 2 and not page.locator("#curve").is_visible()


TARGET = (
    "control => (control.type === 'checkbox' ? control.closest('label') : control).getBoundingClientRect()"
)
CONTROLS = "button:visible, select:visible, input:not([type=radio]):visible, summary:visible, nav a:visible"
STOPS = {
    "draw": ["pad", "undo", "open", "pen", "strength", "seed", "new-noise", "copy"],
    "generate": ["sample-seed", "ring", "sigma"],
    "study": ["copy"],
}
"""Identifiers of elements that the Tab key must reach."""


def test_a_lost_server_is_reported_until_it_is_back():
    with opened(toy_address(), expected="ERR_FAILED") as page:
        settled(page)
        box = page.locator("#pad").bounding_box()
        page.route("**/api/predict", lambda route: route.abort())
        draw(page, SEVEN)
        page.get_by_text("The server does not answer").wait_for()
        assert page.locator("#pad").bounding_box() == box  # nothing moves under the hand
        assert summary(page) == "No prediction for this drawing yet."
        assert float(page.locator("#predictions").evaluate("part => getComputedStyle(part).opacity")) < 0.5
        page.unroute("**/api/predict")
        page.get_by_role("button", name="Try now").click()
        page.locator("#error").wait_for(state="hidden")
        settled(page)
        assert summary(page) != NOTHING and not page.locator(".stale").count()


def test_an_error_of_the_server_is_shown_as_text():
    line = "corruption.strength = 7; allowed: 0 to 1 <b>not bold</b>"
    with opened(toy_address(), expected="422") as page:
        page.route("**/api/predict", lambda route: route.fulfill(status=422, json={"error": line}))
        draw(page, SEVEN)
        page.get_by_text(line).wait_for()
        assert page.locator("#error b").count() == 0


def test_many_classes_with_long_names_show_the_ten_most_probable():
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

    with opened(toy_address(), wait=wait, viewport={"width": 360, "height": 740}) as page:
        drawn(page, SEVEN)
        assert list(columns(page)["cnn"]["probabilities"]) == [labels[i] for i in range(29, 19, -1)]
        assert not too_wide(page)
        assert labels[29] in summary(page)


def test_nothing_sticks_out(page):
    draw(page, SEVEN)
    for width in (360, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for view in VIEWS:
            see(page, view)
            assert not too_wide(page), (width, view)


@pytest.mark.parametrize("width", [320, 390, 820])
def test_the_menu_of_pipelines_stays_within_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    names = page.locator("#chips span")
    names.evaluate_all("names => names.forEach(name => { name.textContent += ' with a rather long name'; })")
    page.locator("#choose summary").click()
    assert page.locator("#chips input").first.is_visible() and not too_wide(page)


def test_a_finger_draws_and_the_page_stays_where_it_is():
    with opened(toy_address(), **PHONE) as page:
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
                is_tile = "tile" in (control.get_attribute("class") or "")
                assert is_tile or control.evaluate(TARGET)["height"] >= 44, control.evaluate(
                    "c => c.outerHTML"
                )


def test_everything_has_a_name_and_can_be_reached_by_keys(page):
    draw(page, SEVEN)
    for view in VIEWS:
        see(page, view)
        assert not unnamed(page), view
        page.evaluate("document.activeElement.blur()")
        reached = set()
        for _ in range(110):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        assert set(STOPS[view]) <= reached


def test_a_drawing_by_keys_is_classified_and_announced(page):
    page.locator("#pad").focus()
    for key in ["ArrowUp"] * 10 + ["Space"] + ["ArrowDown"] * 20 + ["Space"]:
        page.keyboard.press(key)
    assert re.fullmatch(
        r"Pen up, 50% from the left, 8\d% from the top\.", page.locator("#announcement").inner_text()
    )
    settled(page)
    assert summary(page) != NOTHING
    page.wait_for_timeout(1200)
    # Screen readers hear it once it has come to rest.
    assert page.locator("#announcement").inner_text() == summary(page)
    page.keyboard.press("Control+z")
    settled(page)
    assert summary(page) == NOTHING


@pytest.mark.parametrize(
    ("preference", "element", "style", "values"),
    [
        ({"dark": True}, "body", "backgroundColor", {"rgb(22, 24, 27)"}),
        ({"reduced_motion": "reduce"}, ".fill", "transitionDuration", {"0s", ""}),
        ({"forced_colors": "active"}, "body", "forcedColorAdjust", {"auto"}),
    ],
)
def test_it_follows_what_a_visitor_likes(preference, element, style, values):
    with opened(toy_address(), **preference) as page:
        drawn(page, SEVEN)
        assert summary(page) != NOTHING
        style_of = f"element => getComputedStyle(element).{style}"
        assert page.locator(element).first.evaluate(style_of) in values


def test_colors_can_be_chosen_and_are_kept():
    with opened(toy_address(), dark=True) as page:
        settled(page)
        ground = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(ground) == "rgb(22, 24, 27)"
        page.get_by_label("Colors").select_option("light")
        page.reload()
        settled(page)
        assert page.evaluate(ground) == "rgb(253, 252, 249)"
        page.get_by_label("Colors").select_option("system")
        assert page.evaluate(ground) == "rgb(22, 24, 27)"
