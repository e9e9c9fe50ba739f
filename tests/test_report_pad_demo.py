"""The pad inside the report, in a browser: it computes what the bundles compute, and anybody can use it."""

import json
import re

import numpy as np
import pytest
import toy_run
from browser import needs_chromium, opened
from synthetic_bundles import DENOISER, SMALL, judged, made_up, scripts, tensor

from inklab.io.atomic import write_atomic
from inklab.model import TrainedModel
from inklab.report import build_report

HOSTILE = "</script><script>alert(1)</script>"
THREE = [(0.32, 0.24), (0.6, 0.2), (0.66, 0.35), (0.48, 0.48), (0.68, 0.62), (0.6, 0.8), (0.3, 0.78)]


@needs_chromium
class TestNetworks:
    @pytest.mark.parametrize(
        ("classifier", "denoiser", "shape", "scaling"),
        [
            (SMALL, DENOISER, (1, 28, 28), (0.0, 1.0)),
            ({"name": "mlp", "hidden": [30, 20, 10], "dropout": 0.5}, None, (1, 28, 28), (0.1307, 0.3081)),
            (
                {"name": "mlp", "hidden": []},
                {"name": "autoencoder", "hidden": [], "code": 5},
                (1, 9, 14),
                (0.5, 2.0),
            ),
            (
                {"name": "mlp", "hidden": [8] * 12},
                {"name": "autoencoder", "hidden": [40, 30], "code": 20},
                (1, 16, 16),
                (0.0, 1.0),
            ),
        ],
        ids=["as in the digits study", "dropout and scaling", "no hidden layer", "a dozen layers"],
    )
    def test_the_page_computes_what_the_bundles_compute(self, tmp_path, classifier, denoiser, shape, scaling):
        models = [classifier, denoiser] if denoiser else [classifier]
        run = made_up(tmp_path, *models, shape=shape, scaling=scaling)
        write_atomic(tmp_path / "report.html", build_report(run, {}))
        bundles = [TrainedModel.load(tmp_path / "trials" / f"t{i}" / "bundle") for i in range(len(models))]
        with opened((tmp_path / "report.html").as_uri()) as page:
            found = judged(page, run.pixels)
        images = tensor(run.pixels) / 255
        expected = bundles[0].probabilities(images).numpy()
        assert np.abs(found["probabilities"] - expected).max() < 1e-5 and expected.std() > 0.01
        assert set(found) == {
            "shown",
            "probabilities",
            "unfamiliar",
            *(("cleaned", "ofCleaned") if denoiser else ()),
        }
        if denoiser:
            cleaned = bundles[1].cleaned(images)
            assert np.abs(found["cleaned"] - cleaned.numpy().reshape(len(images), -1)).max() < 1e-5
            expected = bundles[0].probabilities(cleaned).numpy()
            assert np.abs(found["ofCleaned"] - expected).max() < 1e-5

    def test_a_trained_run_judges_its_test_images_as_its_bundles_do(self, toy_page):
        pixels, labels = toy_run.images(toy_run.TEST, 2)
        plan = json.loads((toy_page.parent / "plan.json").read_text())
        trial = next(each for each in plan["chapters"] if each["name"] == "mlp")["settings"][0]["trials"][0]
        bundle = TrainedModel.load(toy_page.parent / "trials" / trial / "bundle")
        with opened(toy_page.as_uri()) as page:
            found = judged(page, pixels)
        expected = bundle.probabilities(tensor(pixels[:, None]) / 255).numpy()
        assert np.abs(found["probabilities"] - expected).max() < 1e-4
        assert (found["probabilities"].argmax(axis=1) == labels).mean() > 0.8
        assert found["unfamiliar"].mean() < 0.2

    def test_what_is_foreign_is_found_out(self, toy_page):
        dots = 255 * np.random.default_rng(1).integers(0, 2, (40, toy_run.SIDE, toy_run.SIDE), np.uint8)
        with opened(toy_page.as_uri()) as page:
            assert judged(page, dots)["unfamiliar"].mean() > 0.9

    def test_noise(self, large):
        pixels = large.pixels[:8]
        images = pixels.reshape(8, -1) / 255
        with opened((large.path / "report.html").as_uri()) as page:
            none, all_, half, again, other, more = (
                judged(page, pixels, noise=noise, seed=seed)["shown"]
                for noise, seed in [(0, 1), (1, 1), (0.5, 1), (0.5, 1), (0.5, 2), (0.6, 1)]
            )
        assert np.array_equal(none, images)
        assert set(np.unique(all_)) == {0.0, 1.0} and abs(all_.mean() - 0.5) < 0.03
        assert np.array_equal(half, again) and not np.array_equal(half, other)
        grey = (images > 0) & (images < 1)
        assert abs((half != images)[grey].mean() - 0.5) < 0.03
        assert (more != images)[grey][(half != images)[grey]].all()  # what was spoiled stays so


@needs_chromium
class TestUse:
    def draw(self, page, points):
        canvas = page.locator("[data-part=drawing]")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()

    @pytest.mark.parametrize("phone", [False, True])
    def test_drawing_noise_and_clearing_change_the_verdict(self, large, phone):
        how = {"viewport": {"width": 390, "height": 800}, "dark": True} if phone else {}
        with opened((large.path / "report.html").as_uri(), **how) as page:
            verdict, shares = page.locator("[data-part=verdict]"), page.locator("td.noisy .figure")
            assert (
                verdict.inner_text() == "Draw a digit, or take an example."
                and shares.all_inner_texts() == [""] * 10
            )
            self.draw(page, THREE)
            drawn = verdict.inner_text()
            assert re.search(r"As it is: (perhaps )?\d, [\d.]+\s%\.\nCleaned first: ", drawn)
            assert page.locator("td.noisy.most").count() == page.locator("td.tidy.most").count() == 1
            page.locator("[data-part=noise]").fill("0.7")
            noisy = shares.all_inner_texts()
            assert page.locator("[data-part=strength]").inner_text() == "0.70"
            page.get_by_role("button", name="New noise").click()
            assert shares.all_inner_texts() != noisy
            page.locator("[data-part=noise]").fill("0")
            assert (
                verdict.inner_text() == drawn and page.get_by_role("button", name="New noise").is_disabled()
            )
            page.get_by_role("button", name="Clear").click()
            assert verdict.inner_text() == "Draw a digit, or take an example."
            page.get_by_role("button", name="Undo").click()
            assert verdict.inner_text() == drawn
            assert page.evaluate("document.documentElement.scrollWidth") <= (390 if phone else 1280)

    def test_an_example_goes_on_the_pad_as_it_is(self, large):
        with opened((large.path / "report.html").as_uri()) as page:
            page.get_by_role("button", name="Put an example of 3 on the pad").click()
            shown = page.locator("td.noisy .share").evaluate_all(
                "all => all.map(each => parseFloat(each.style.width))"
            )
            expected = TrainedModel.load(large.path / "trials/t0/bundle").probabilities(
                tensor(large.pixels[3:4]) / 255
            )
            assert np.abs(np.array(shown) / 100 - expected.numpy()[0]).max() < 1e-4
            framed = page.locator("[data-part=framed]").evaluate(
                "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 3)"
            )
            assert np.array_equal(framed, large.pixels[3].ravel())
            self.draw(page, THREE)
            under = page.locator("[data-part=example]").evaluate(
                "c => c.getContext('2d').getImageData(0, 0, 28, 28).data.some(Boolean)"
            )
            assert not under

    def test_by_keyboard_alone_and_for_those_who_hear_it(self, large):
        with opened((large.path / "report.html").as_uri()) as page:
            page.locator("[data-part=drawing]").focus()
            for key in [" ", *["ArrowDown"] * 9, " "]:
                page.keyboard.press(key)
            spoken = page.get_by_role("status").filter(has_text="As it is")
            spoken.wait_for(state="attached", timeout=3000)
            order = []
            for _ in range(5):
                page.keyboard.press("Tab")
                order.append(
                    page.evaluate("document.activeElement.dataset.part ?? document.activeElement.ariaLabel")
                )
            assert order[:4] == ["undo", "clear", "width", "Put an example of 0 on the pad"]
            names = page.locator("#pad button, #pad input").evaluate_all(
                "all => all.map(each => each.ariaLabel || each.innerText || each.labels[0]?.innerText)"
            )
            assert len(names) == 15 and all(names)

    def test_without_scripts_it_says_so(self, large):
        with opened((large.path / "report.html").as_uri(), java_script_enabled=False) as page:
            assert page.get_by_text("needs a script, and none runs here").is_visible()
            assert not page.locator("#pad").is_visible()

    def test_on_paper_there_is_no_pad(self, large):
        with opened((large.path / "report.html").as_uri()) as page:
            assert page.locator("#try-it").is_visible() and not page.locator("#pad-missing").is_visible()
            page.emulate_media(media="print")
            assert not page.locator("#try-it").is_visible() and page.locator("#how-it-was-made").is_visible()

    def test_no_other_script_runs(self, large, tmp_path):
        text = (large.path / "report.html").read_text(encoding="utf-8")
        write_atomic(
            tmp_path / "a.html", text.replace("</main>", "<script>document.title = 'ran'</script></main>")
        )
        write_atomic(tmp_path / "b.html", text.replace("const SURE = 0.5", "const SURE = 0.6"))
        for name in ("a.html", "b.html"):
            with opened((tmp_path / name).as_uri(), expected="policy|Content Security") as page:
                assert page.title() == "Mine"
                assert page.evaluate("typeof inklab") == ("object" if name == "a.html" else "undefined")

    def test_nothing_of_a_study_becomes_a_script(self, tmp_path):
        labels = (HOSTILE, "<!--", "tick & cross")
        run = made_up(tmp_path, {"name": "mlp", "hidden": [4]}, shape=(1, 12, 12), labels=labels)
        text = build_report(run, {})
        assert len(scripts(text)) == 2
        write_atomic(tmp_path / "report.html", text)
        with opened((tmp_path / "report.html").as_uri()) as page:
            assert page.evaluate("inklab.labels") == list(labels)
            assert page.locator("#pad tbody th").all_inner_texts() == list(labels)
