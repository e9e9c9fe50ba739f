"""The drawing pad inside the report, in a browser: it computes what the trained models compute."""

import re

import numpy as np
import pytest
import toy_run
from browser import needs_chromium, opened
from pad_runs import DENOISER, MLP, pad_run, predict_in_page, script_tags, to_tensor
from page_visits import draw

from inklab.corruptions.corruption import corruptions
from inklab.evaluation.inspection import layer_activations
from inklab.io.files import write_atomic
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.report import build_report
from inklab.seeding import Seed

pytestmark = [pytest.mark.integration, needs_chromium]
SQUARE = (1, 28, 28)
PAD = "[data-part=drawing]"
PROMPT = "Draw a digit, or pick an example."
HOSTILE = "</script><script>alert(1)</script>"
THREE = [(0.32, 0.24), (0.6, 0.2), (0.66, 0.35), (0.48, 0.48), (0.68, 0.62), (0.6, 0.8), (0.3, 0.78)]


def report_page(folder, **options):
    return opened((folder / "report.html").as_uri(), **options)


def mlp(*hidden, **kwargs):
    return NetworkConfig.of("mlp", hidden=[*hidden], **kwargs)


def autoencoder(*hidden, code):
    return NetworkConfig.of("autoencoder", hidden=[*hidden], code=code)


@pytest.fixture
def page(pad_report):
    with report_page(pad_report.path) as page:
        yield page


class TestNetworks:
    @pytest.mark.parametrize(
        ("networks", "shape", "normalize"),
        [
            ([MLP, DENOISER], SQUARE, NormalizeConfig()),
            ([mlp(30, 20, 10, dropout=0.5)], SQUARE, NormalizeConfig(mean=0.1307, std=0.3081)),
            ([mlp(), autoencoder(code=5)], (1, 9, 14), NormalizeConfig(mean=0.5, std=2.0)),
            ([mlp(*[8] * 12), autoencoder(40, 30, code=20)], (1, 16, 16), NormalizeConfig()),
        ],
        ids=["as in the digits study", "dropout and normalization", "no hidden layer", "twelve layers"],
    )
    def test_the_page_computes_what_the_models_compute(self, tmp_path, networks, shape, normalize):
        run = pad_run(tmp_path, *networks, shape=shape, normalize=normalize)
        pixels = run.dataset.test.pixels
        write_atomic(tmp_path / "report.html", build_report(run, {}))
        models = [run.model(f"e{i}") for i in range(len(networks))]
        with report_page(tmp_path) as page:
            result = predict_in_page(page, pixels)
        images = to_tensor(pixels)
        expected = models[0].probabilities(images).numpy()
        assert np.abs(result["probabilities"] - expected).max() < 1e-5 and expected.std() > 0.01
        denoiser_keys = {"denoised", "denoisedProbabilities"} if len(networks) > 1 else set()
        assert set(result) == {"corrupted", "probabilities", "isOod"} | denoiser_keys
        if len(networks) > 1:
            denoised = models[1].denoise(images)
            assert np.abs(result["denoised"] - denoised.numpy().reshape(len(images), -1)).max() < 1e-5
            expected = models[0].probabilities(denoised).numpy()
            assert np.abs(result["denoisedProbabilities"] - expected).max() < 1e-5

    def test_a_trained_run_predicts_as_its_models_do_and_dots_are_out_of_distribution(self, toy_report):
        pixels, labels = toy_run.images(toy_run.TEST, 2)
        dots = 255 * np.random.default_rng(1).integers(0, 2, (40, toy_run.SIDE, toy_run.SIDE), np.uint8)
        with report_page(toy_report.path) as page:
            result = predict_in_page(page, pixels)
            assert predict_in_page(page, dots)["isOod"].mean() > 0.9
        expected = toy_report.model("mlp").probabilities(to_tensor(pixels[:, None])).numpy()
        assert np.abs(result["probabilities"] - expected).max() < 1e-4
        assert (result["probabilities"].argmax(axis=1) == labels).mean() > 0.8
        assert result["isOod"].mean() < 0.2

    def test_corruption(self, pad_report):
        pixels = pad_report.dataset.test.pixels[:8]
        images = pixels.reshape(8, -1) / 255
        with report_page(pad_report.path) as page:
            none, full, half, again, other, more = (
                predict_in_page(page, pixels, strength=strength, seed=seed)["corrupted"]
                for strength, seed in [(0, 1), (1, 1), (0.5, 1), (0.5, 1), (0.5, 2), (0.6, 1)]
            )
        assert np.array_equal(none, images)
        assert set(np.unique(full)) == {0.0, 1.0} and abs(full.mean() - 0.5) < 0.03
        assert np.array_equal(half, again) and not np.array_equal(half, other)
        draws = (Seed(0) / "pad").draws(first=2)  # the image's number is the seed; tests/web has more of them
        expected = corruptions["salt_and_pepper"](to_tensor(pixels[:1]), 0.5, draws).flatten().numpy()
        np.testing.assert_allclose(other[0], expected, rtol=0, atol=1e-6)
        gray = (images > 0) & (images < 1)
        assert abs((half != images)[gray].mean() - 0.5) < 0.03
        assert (more != images)[gray][(half != images)[gray]].all()  # more strength only adds noise


class TestUse:
    @pytest.mark.parametrize("phone", [False, True])
    def test_drawing_noise_and_clearing_change_the_prediction(self, pad_report, phone):
        options = {"viewport": {"width": 390, "height": 800}, "dark": True} if phone else {}
        with report_page(pad_report.path, **options) as page:
            prediction, values = page.locator("[data-part=prediction]"), page.locator("td.direct .value")
            assert prediction.inner_text() == PROMPT and values.all_inner_texts() == [""] * 10
            draw(page, [THREE], pad=PAD)
            drawn = prediction.inner_text()
            assert re.search(r"As it is: (perhaps )?\d, [\d.]+%\.\nDenoised first: ", drawn)
            assert [page.locator(f"td.{way}.top").count() for way in ("direct", "after-denoising")] == [1, 1]
            page.locator("[data-part=strength]").fill("0.7")
            corrupted = values.all_inner_texts()
            assert page.locator("[data-part=strength-value]").inner_text() == "0.70"
            new_noise = page.get_by_role("button", name="New noise")
            new_noise.click()
            assert values.all_inner_texts() != corrupted
            page.locator("[data-part=strength]").fill("0")
            assert prediction.inner_text() == drawn and new_noise.is_disabled()
            page.get_by_role("button", name="Clear").click()
            assert prediction.inner_text() == PROMPT
            page.get_by_role("button", name="Undo").click()
            assert prediction.inner_text() == drawn
            assert page.evaluate("document.documentElement.scrollWidth") <= (390 if phone else 1280)

    def test_an_example_goes_on_the_pad_as_it_is(self, pad_report, page):
        opacity = "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 3)"
        page.get_by_role("button", name="Put an example of 3 on the pad").click()
        widths = "bars => bars.map(bar => parseFloat(bar.style.width))"
        shares = np.array(page.locator("td.direct .bar-fill").evaluate_all(widths)) / 100
        pixels = pad_report.dataset.test.pixels
        expected = pad_report.model("e0").probabilities(to_tensor(pixels[3:4]))
        assert np.abs(shares - expected.numpy()[0]).max() < 1e-4
        assert page.locator("[data-part=input]").evaluate(opacity) == pixels[3].ravel().tolist()
        draw(page, [THREE], pad=PAD)
        assert not any(page.locator("[data-part=example]").evaluate(opacity))

    def test_by_keyboard_and_with_a_screen_reader(self, pad_report, page):
        focused = "document.activeElement.dataset.part ?? document.activeElement.ariaLabel"
        page.locator(PAD).focus()
        for key in [" ", *["ArrowDown"] * 9, " "]:
            page.keyboard.press(key)
        status = page.get_by_role("status").filter(has_text="As it is")
        status.wait_for(state="attached", timeout=3000)
        for expected in ("undo", "clear", "width", "Put an example of 0 on the pad"):
            page.keyboard.press("Tab")
            assert page.evaluate(focused) == expected
        names = page.locator("#pad button, #pad input").evaluate_all(
            "all => all.map(part => part.ariaLabel || part.innerText || part.labels[0]?.innerText)"
        )
        assert len(names) == 15 and all(names)

    def test_without_scripts_it_says_so_and_on_paper_there_is_no_pad(self, pad_report):
        with report_page(pad_report.path, java_script_enabled=False) as page:
            assert page.locator("#pad-missing").is_visible()
            assert not page.locator("#pad").is_visible()
        with report_page(pad_report.path) as page:
            assert page.locator("#try-it").is_visible() and not page.locator("#pad-missing").is_visible()
            page.emulate_media(media="print")
            assert not page.locator("#try-it").is_visible() and page.locator("#how-it-was-made").is_visible()

    @pytest.mark.parametrize(
        ("old", "new", "kind"),
        [
            ("</main>", "<script>document.title = 'ran'</script></main>", "object"),
            ("const CONFIDENT = 0.5", "const CONFIDENT = 0.6", "undefined"),
        ],
    )
    def test_no_other_script_runs(self, pad_report, tmp_path, old, new, kind):
        text = (pad_report.path / "report.html").read_text(encoding="utf-8")
        write_atomic(tmp_path / "report.html", text.replace(old, new))
        with report_page(tmp_path, expected="policy|Content Security") as page:
            assert page.title() == "Digits" and page.evaluate("typeof inklab") == kind

    def test_nothing_of_a_study_becomes_a_script(self, tmp_path):
        labels = (HOSTILE, "<!--", "tick & cross")
        run = pad_run(tmp_path, mlp(4), shape=(1, 12, 12), labels=labels)
        text = build_report(run, {})
        assert len(script_tags(text)) == 3
        write_atomic(tmp_path / "report.html", text)
        with report_page(tmp_path) as page:
            assert page.evaluate("inklab.labels") == list(labels)
            assert page.locator("#pad tbody th").all_inner_texts() == list(labels)


PAINTED = (
    "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)"
)


class TestInside:
    def test_activations_equal_those_of_torch_and_weights_are_painted(self, pad_report, page):
        model, pixels = pad_report.model("e0"), pad_report.dataset.test.pixels[3:4]
        layers = layer_activations(model.net.net, model.net.normalize(to_tensor(pixels)))
        computed = page.evaluate(
            "inklab.activations(inklab.classifier, Array.from(inklab.examples[3].image, byte => byte / 255))"
        )
        for row, layer in zip(computed[:-1], layers[:-1], strict=True):
            assert np.abs(np.array(row) - layer.maps.values.ravel()).max() < 1e-4
        page.get_by_role("button", name="Put an example of 3 on the pad").click()
        assert not page.locator(
            "[data-part=filters] canvas"
        ).count()  # nothing is computed while it is closed
        page.locator("[data-part=inside] summary").click()
        page.locator("[data-part=filters] canvas").first.wait_for()
        texts = page.locator("[data-part=layers] p").all_inner_texts()
        assert [text.split(",")[0] for text in texts] == [
            "Layer 1: 64 units",
            "Layer 2: 64 units",
            "Layer 3: 10 units",
        ]
        units = [int(text) for text in page.locator("[data-part=filters] p").all_inner_texts()]
        activity = layers[0].maps.values.ravel()
        assert len(units) == 12 and activity[units].min() >= np.delete(activity, units).max()
        weights = np.abs(model.net.net.hidden[0].weight.detach().numpy()[units])
        for i, row in enumerate(weights):
            opacity = page.locator("[data-part=filters] canvas").nth(i).evaluate(PAINTED)
            assert np.abs(opacity - 255 * row / weights.max()).max() <= 1
        page.get_by_role("button", name="Clear").click()
        assert not page.locator("[data-part=filters]").is_visible()

    def test_it_fits_a_phone_and_repaints_in_the_dark(self, pad_report):
        with report_page(pad_report.path, viewport={"width": 390, "height": 800}) as page:
            page.get_by_role("button", name="Put an example of 3 on the pad").click()
            page.locator("[data-part=inside] summary").click()
            page.locator("[data-part=filters] canvas").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            painted = "c => c.toDataURL()"
            light = page.locator("[data-part=layers] canvas").first.evaluate(painted)
            page.emulate_media(color_scheme="dark")
            assert page.locator("[data-part=layers] canvas").first.evaluate(painted) != light


def test_thin_lines_reach_the_networks_with_the_width_of_a_usual_digits(page):
    load = "points => inklab.pad.load([{ pen: 0.03, points }])"
    page.evaluate(load, [list(point) for point in THREE])
    raster = "inklab.pad.raster(280, { balanced })"
    script = f"balanced => [...inklab.preprocess({raster}, 280, inklab.preprocessing)]"
    balanced, plain = page.evaluate(script, True), page.evaluate(script, False)
    input_image = page.locator("[data-part=input]").evaluate(PAINTED)
    assert input_image == balanced and sum(balanced) > 1.5 * sum(plain)
