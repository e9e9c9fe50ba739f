"""The page in a browser, on the toy run: drawing, corruption, denoising, and pictures from files."""

import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import (
    NOTHING,
    SEVEN,
    THREE,
    change,
    columns,
    distance,
    draw,
    image,
    settled,
    share,
    stage,
    summary,
    toy_address,
)
from PIL import Image

pytestmark = [pytest.mark.integration, needs_chromium]


@pytest.fixture(scope="module")
def address():
    return toy_address()


def test_every_pipeline_classifies_a_drawing_at_once(address):
    with opened(address) as page:
        settled(page)
        assert summary(page) == NOTHING and {column["label"] for column in columns(page).values()} == {"–"}
        draw(page, SEVEN)
        settled(page)
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


def test_answers_keep_up_with_the_hand_one_question_at_a_time(address):
    with opened(address) as page:
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
        last = page.evaluate(
            "() => performance.getEntriesByType('resource').filter(e => e.name.endsWith('predict')).length"
        )
        assert 1 < last <= 200


def test_noise_does_to_the_image_what_the_slider_says(address):
    with opened(address) as page:
        draw(page, SEVEN)
        settled(page)
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


def test_the_curve_is_the_studys_and_its_mark_follows_the_slider(address):
    results = toy_run.results(toy_run.finished()).experiment("robustness")
    with opened(address) as page:
        settled(page)
        marks = page.locator("#curve .current .mark")
        assert marks.count() == len(results.pipelines) == 3
        words = page.locator("#curve svg").get_attribute("aria-label")
        assert f"cnn: {100 * results.pipelines['cnn'].recall[0].mean:.0f}% at 0" in words
        before = page.locator("#curve .marker").get_attribute("x1")
        change(page, "#strength", 0.3)
        slider, line = page.locator("#strength").bounding_box(), page.locator("#curve .marker").bounding_box()
        assert page.locator("#curve .marker").get_attribute("x1") != before
        largest = results.strengths[-1]
        assert largest == 0.6  # so the slider goes on where the curve ends, and its axis is not the curve's
        note = page.locator(".prediction .recall >> nth=0").inner_text()
        assert share(note.split(":")[1]) == pytest.approx(results.pipelines["cnn"].recall[1].mean, abs=0.001)
        assert slider["y"] > line["y"]


def test_pipelines_can_be_chosen_and_one_is_the_least(address):
    with opened(address) as page:
        settled(page)
        page.locator("#choose summary").click()
        for name in ("denoiser+cnn", "median+cnn"):
            page.get_by_role("checkbox", name=name, exact=True).uncheck()
        page.get_by_role("checkbox", name="mlp", exact=True).check()
        assert list(columns(page)) == ["cnn", "mlp"]
        page.get_by_role("checkbox", name="cnn", exact=True).uncheck()
        page.get_by_role("checkbox", name="mlp", exact=True).click()
        assert list(columns(page)) == ["mlp"]
        draw(page, SEVEN)
        settled(page)
        assert max(stage(page, "Denoised")) > 0  # the denoiser runs though no pipeline on show has it


def test_a_picture_can_be_opened_and_left_again(address, tmp_path):
    picture = Image.new("L", (200, 200), 0)
    picture.paste(255, (80, 30, 120, 170))
    picture.save(tmp_path / "stroke.png")
    (tmp_path / "text.png").write_text("no picture")
    with opened(address, expected="422|400") as page:
        draw(page, SEVEN)
        settled(page)
        drawn = stage(page, "Input")
        page.locator("#file").set_input_files(tmp_path / "stroke.png")
        page.locator("#picture").wait_for()
        settled(page)
        opened_image = stage(page, "Input")
        assert opened_image != drawn and page.locator("#picture").get_attribute("aria-label").endswith(
            "stroke.png"
        )
        page.get_by_role("button", name="Back to drawing").click()
        settled(page)
        assert stage(page, "Input") == drawn
        page.locator("#file").set_input_files(tmp_path / "text.png")
        page.locator("#error").wait_for()
        assert "picture" in page.locator("#error").inner_text()
