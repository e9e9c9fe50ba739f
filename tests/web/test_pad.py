"""The drawing pad in a browser, and that its preprocessing is that of Python."""

import base64

import numpy as np
import pytest
from browser import needs_chromium, opened
from PIL import Image

from inklab.data.mnist import mnist_5k
from inklab.data.preprocessing import preprocess_picture
from inklab.records.components import Preprocessing
from inklab.web import MODULES, inline_modules, source

SIDE = 280
FILES = {name: source(name) for name in MODULES} | {
    "": """<!doctype html><html lang=en><meta charset=utf-8><title>A pad</title><link rel=icon href="data:,">
<style>
canvas { width: 300px; height: 300px; border: 10px solid; color: #123456 }
body { height: 5000px }
</style>
<canvas></canvas><script type=module>
import { Pad } from "./drawing.js";
import { preprocess } from "./preprocessing.js";
const pad = new Pad(document.querySelector("canvas")), events = [];
for (const kind of ["change", "strokeend", "nib"]) pad.addEventListener(kind, () => events.push(kind));
Object.assign(globalThis, { pad, events, preprocess });
</script>"""
}
HOOK = [[(0.3, 0.2), (0.3, 0.7), (0.7, 0.7)]]


@pytest.fixture
def page():
    with opened(files=FILES) as page:
        yield page


def on_canvas(page, x, y):
    """Where shares of the canvas are in the window, in pixels."""
    box = page.locator("canvas").bounding_box()
    return box["x"] + 10 + 300 * x, box["y"] + 10 + 300 * y


def draw(page, strokes, steps=3):
    for points in strokes:
        page.mouse.move(*on_canvas(page, *points[0]))
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*on_canvas(page, *point), steps=steps)
        page.mouse.up()


def strokes_of(page):
    return page.evaluate("pad.strokes.map(({ pen, points }) => ({ pen, points }))")


def load(page, strokes, pen=0.08):
    page.evaluate("strokes => pad.load(strokes)", [{"pen": pen, "points": points} for points in strokes])


def width_of_line(page) -> float:
    """Of the vertical line of HOOK, in hundredths of the canvas."""
    return raster(page, 100)[45].astype(float).sum() / 255


def raster(page, side=SIDE, balanced=False) -> np.ndarray:
    packed = page.evaluate(
        "([side, balanced]) => { const r = pad.raster(side, { balanced }); let t = '';"
        " for (const b of r) t += String.fromCharCode(b); return btoa(t) }",
        [side, balanced],
    )
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(side, side)


def preprocess_in_page(page, ink: np.ndarray, config: Preprocessing) -> np.ndarray | None:
    arguments = [base64.b64encode(ink.tobytes()).decode(), len(ink), config.to_json()]
    joined = page.evaluate(
        "([ink, side, config]) => preprocess(Uint8Array.from(atob(ink), c => c.charCodeAt(0)), side, config)"
        "?.join()",
        arguments,
    )
    return None if joined is None else np.array(joined.split(","), np.uint8).reshape(config.shape)


def scribbles(count: int, seed: int) -> list[list[list[tuple[float, float]]]]:
    rng = np.random.default_rng(seed)

    def stroke():
        turns = np.cumsum(rng.normal(0, 0.09, (rng.integers(2, 12), 2)), axis=0)
        return [(x, y) for x, y in (turns + rng.uniform(0.3, 0.7, 2)).clip(0, 1).tolist()]

    return [[stroke() for _ in range(rng.integers(1, 4))] for _ in range(count)]


@pytest.mark.integration
@needs_chromium
class TestDrawing:
    def test_a_stroke_by_mouse(self, page):
        assert page.evaluate("pad.empty") and not raster(page).any()
        draw(page, HOOK, steps=10)
        (stroke,) = strokes_of(page)
        points = np.array(stroke["points"])
        assert stroke["pen"] == 0.08 and 15 <= len(points) <= 25 and not page.evaluate("pad.empty")
        assert np.abs(points[0] - (0.3, 0.2)).max() < 0.005
        assert np.abs(points[-1] - (0.7, 0.7)).max() < 0.005
        events = page.evaluate("events")
        assert events[-2:] == ["change", "strokeend"] and events.count("strokeend") == 1
        ink = raster(page, 100)
        assert ink[45, 30] == 255 and ink[70, 50] == 255 and ink[20, 60] == 0 and ink[90, 50] == 0
        assert abs(width_of_line(page) - 8) < 0.3  # the pen's

    def test_events_between_frames_are_drawn_and_reported_once(self, page):
        move = """() => new Promise(done => {
            const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
            const at = (x, y, more) => new PointerEvent("pointermove", { pointerId: 1, bubbles: true,
                clientX: box.left + 10 + 300 * x, clientY: box.top + 10 + 300 * y, ...more });
            events.length = 0;
            for (let k = 0; k < 5; k++) {
                const moves = Array.from({ length: 8 }, (_, i) => at(0.2 + 0.1 * k + 0.0125 * i, 0.5));
                canvas.dispatchEvent(at(0.2 + 0.1 * (k + 1), 0.5, { coalescedEvents: moves }));
            }
            const report = () => done([events.length, pad.strokes[0].points.length]);
            requestAnimationFrame(() => requestAnimationFrame(report));
        })"""
        page.mouse.move(*on_canvas(page, 0.2, 0.5))
        page.mouse.down()
        changes, points = page.evaluate(move)
        page.mouse.up()
        assert changes == 1 and points > 35

    def test_a_finger_draws_and_a_second_one_is_ignored(self):
        with opened(files=FILES, has_touch=True, is_mobile=True) as page:
            touch = page.context.new_cdp_session(page)

            def send(kind, *touches):
                pixels = [(i, *on_canvas(page, x, y)) for i, x, y in touches]
                points = [{"x": x, "y": y, "id": i} for i, x, y in pixels]
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

            send("touchStart", (0, 0.2, 0.2))
            send("touchMove", (0, 0.3, 0.4))
            send("touchStart", (0, 0.3, 0.4), (1, 0.9, 0.9))
            send("touchMove", (0, 0.3, 0.6), (1, 0.6, 0.9))
            send("touchEnd", (0, 0.3, 0.6))
            send("touchEnd")
            (stroke,) = strokes_of(page)
            assert np.array(stroke["points"]).max() < 0.7
            assert page.evaluate("scrollY") == 0 and page.evaluate("events").count("strokeend") == 1

    def test_undo_clear_and_what_was_cleared(self, page):
        draw(page, [*HOOK, [(0.5, 0.1), (0.9, 0.1)]])
        both = strokes_of(page)
        page.keyboard.press("Control+z")  # the canvas has the focus: one has just drawn on it
        assert strokes_of(page) == both[:1]
        page.keyboard.press("Delete")
        assert page.evaluate("pad.empty") and not raster(page).any()
        page.evaluate("pad.undo()")
        assert strokes_of(page) == both[:1]
        page.evaluate("() => { pad.undo(); pad.undo(); pad.undo() }")
        assert page.evaluate("pad.empty")

    def test_redo_ends_with_a_new_stroke(self, page):
        draw(page, HOOK)
        hook = strokes_of(page)
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+Shift+z")
        assert strokes_of(page) == hook
        page.evaluate("pad.undo()")
        draw(page, [[(0.5, 0.1), (0.9, 0.1)]])
        before = strokes_of(page)
        page.evaluate("pad.redo()")
        assert strokes_of(page) == before

    def test_an_eraser_takes_what_it_touches_and_nothing_else(self, page):
        load(page, [[(0.2, 0.5), (0.8, 0.5)], [(0.2, 0.9), (0.8, 0.9)]])
        page.evaluate("pad.erases = true")
        draw(page, [[(0.5, 0.2), (0.5, 0.7)]], steps=2)
        left, right, other = (np.array(stroke["points"]) for stroke in strokes_of(page))
        # Pen and eraser have a radius of 0.04 each.
        assert 0.39 < left.max(axis=0)[0] <= 0.42 and 0.58 <= right.min(axis=0)[0] < 0.61
        assert other.tolist() == [[x / 1024, 922 / 1024] for x in (205, 819)]
        page.evaluate("pad.undo()")
        assert len(strokes_of(page)) == 2

    @pytest.mark.parametrize(("size", "pen"), [(0.2, 0.08), (0.8, 0.02), (0.6, 0.08)])
    def test_lines_are_balanced_to_the_size_of_the_drawing(self, page, size, pen):
        load(page, [[(0.1, 0.1), (0.1, 0.1 + size)]], pen)
        share = lambda ink: (ink > 127).sum(1).max() / (ink > 127).any(1).sum()  # noqa: E731
        plain, balanced = raster(page), raster(page, balanced=True)
        assert 0.08 < share(balanced) < 0.15
        assert (share(plain) == share(balanced)) == (0.09 <= pen / (size + pen) <= 0.14)
        page.evaluate("pad.clear()")
        draw(page, [[(0.5, 0.5)]])
        assert (raster(page) == raster(page, balanced=True)).all()  # a dot has no size to go by

    def test_lines_have_the_width_of_the_pen_and_a_touch_is_a_dot(self, page):
        draw(page, [[(0.5, 0.5)]])
        assert abs(raster(page, 100).astype(float).sum() / 255 - np.pi * 16) < 3
        for pen in (0.03, 0.15):
            page.evaluate("pen => { pad.clear(); pad.pen = pen }", pen)
            draw(page, HOOK)
            assert abs(width_of_line(page) - 100 * pen) < 0.4
        page.evaluate("pad.pen = 'wide'")
        assert 0 < page.evaluate("pad.pen") <= 0.25

    def test_by_keyboard(self, page):
        page.keyboard.press("Tab")
        for key in ["ArrowLeft", " ", *["ArrowDown"] * 6, *["Shift+ArrowRight"] * 4, " ", "ArrowUp"]:
            page.keyboard.press(key)
        (stroke,) = strokes_of(page)
        assert stroke["points"][0] == [0.5 - 1 / 32, 0.5] and stroke["points"][-1] == [0.5, 0.5 + 6 / 32]
        assert page.evaluate("scrollY") == 0 and page.evaluate("events").count("nib") == 14
        page.keyboard.press("Escape")
        assert page.evaluate("pad.empty")
        assert page.locator("canvas").get_attribute("aria-label").startswith("Drawing pad")

    def test_pixels_depend_neither_on_theme_nor_on_screen(self):
        rasters = []
        for dark, scale in ((False, 1), (True, 3)):
            with opened(files=FILES, dark=dark, device_scale_factor=scale) as page:
                load(page, scribbles(1, seed=4)[0])
                rasters.append(raster(page).tobytes())
                assert page.evaluate("document.querySelector('canvas').width") == 300 * scale
        assert rasters[0] == rasters[1] and any(rasters[0])

    def test_the_canvas_follows_size_and_color(self, page):
        load(page, HOOK)
        canvas = page.locator("canvas")
        canvas.evaluate("canvas => canvas.style = 'width: 120px; height: 120px; color: #ff0000'")
        page.wait_for_function("document.querySelector('canvas').width === 120")
        page.evaluate("pad.redraw()")
        color = "canvas => [...canvas.getContext('2d').getImageData(36, 54, 1, 1).data]"
        assert canvas.evaluate(color) == [255, 0, 0, 255]


@pytest.mark.integration
@needs_chromium
class TestText:
    def test_drawings_come_back_from_text_and_fit_into_a_link(self, page):
        for strokes in [[], *scribbles(8, seed=1)]:
            load(page, strokes, pen=0.05)
            before, text = strokes_of(page), page.evaluate("pad.toText()")
            page.evaluate("text => { pad.load([]); pad.fromText(text) }", text)
            assert strokes_of(page) == before
            assert text.replace("-", "").replace("_", "").isalnum()
        page.evaluate("pad.clear()")
        draw(page, [[(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]], steps=25)
        assert len(page.evaluate("pad.toText()")) < 300

    def test_garbage_leaves_the_pad_empty(self, page):
        load(page, HOOK)
        text = page.evaluate("pad.toText()")
        damaged = ["2" + text[1:], text[:-2], text[:3], text + "AA", text[1:]]
        damaged += ["", "1%%%%", "1AAAA", "1" + "_" * 5000, "é"]
        for bad in [*damaged, None, 7, {"a": 1}]:
            page.evaluate("([good, bad]) => { pad.fromText(good); pad.fromText(bad) }", [text, bad])
            assert page.evaluate("pad.empty"), bad

    def test_random_texts_never_throw_and_stay_inside(self):
        rng = np.random.default_rng(2)
        texts = ["1" + base64.urlsafe_b64encode(rng.bytes(n % 40)).decode().rstrip("=") for n in range(400)]
        with opened(files=FILES) as page:
            outside = page.evaluate(
                """texts => texts.filter(text => {
                    pad.fromText(text);
                    const bad = ({ pen, points }) => !(pen >= 0.01 && pen <= 0.25) ||
                        points.flat().some(x => !(x >= 0 && x <= 1));
                    return pad.strokes.some(bad);
                })""",
                texts,
            )
        assert outside == []


@pytest.mark.integration
@needs_chromium
class TestPreprocessing:
    @pytest.mark.parametrize(
        "config",
        [
            Preprocessing(), Preprocessing(height=20, width=32, fit_to=15, center="box"),
            Preprocessing(height=12, width=12, fit_to=9, light_on_dark=False),
            Preprocessing.resize_only((1, 12, 16)), Preprocessing.resize_only((3, 32, 32)),
        ],
        ids=lambda config: f"{config.center} {config.height} x {config.width}",
    )  # fmt: skip
    def test_a_drawing_becomes_the_image_that_python_makes_of_its_picture(self, config, page):
        for strokes in scribbles(6, seed=3):
            load(page, strokes)
            ink = raster(page)
            image = preprocess_in_page(page, ink, config)
            expected = preprocess_picture(Image.fromarray(ink), config)
            assert image is not None and image.shape == expected.shape
            assert np.abs(image.astype(float) - expected).mean() < 0.002 * 255

    def test_real_digits_enlarged_come_back(self):
        pixels = mnist_5k().test.pixels[::83, 0]
        with opened(files=FILES) as page:
            errors = []
            for digit in pixels:
                ink = np.asarray(Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
                image = preprocess_in_page(page, ink, Preprocessing())
                assert image is not None
                expected = preprocess_picture(Image.fromarray(ink), Preprocessing()).astype(float)
                errors.append(np.abs(image - expected).mean() / 255)
        # Python takes them for photographs and removes their background, so a few are shifted by a pixel.
        assert len(errors) > 10 and np.median(errors) < 0.005 and np.mean(np.array(errors) < 0.02) > 0.8

    def test_without_ink_there_is_no_image(self, page):
        for blank in (np.zeros((50, 50), np.uint8), np.full((50, 50), 40, np.uint8)):
            assert preprocess_in_page(page, blank, Preprocessing()) is None


def test_a_script_for_a_page_has_no_modules_left():
    assert [*MODULES] == ["drawing.js", "preprocessing.js", "maps.js", "noise.js"]
    assert all("export " in source(name) for name in MODULES)
    script = inline_modules(*map(source, MODULES))
    assert "\nclass Pad" in script and "\nfunction preprocess(" in script and "export " not in script


@pytest.mark.parametrize(
    "wrong",
    ["export default 3;", "export { a };", 'import * as b from "./a.js";', "'</script>'", "'<!--'",
     "  import 'a'"],
)  # fmt: skip
def test_what_would_break_a_page_is_rejected(wrong):
    with pytest.raises(ValueError):
        inline_modules("const fine = 1;\n", wrong)
