"""The page as people use it: digits by mouse, finger and keys, 100 test digits by strokes, noise, new digits.

Against `inklab serve` of a run: INKLAB_SLOW_RUN names a finished digits run, else one is made (quick,
some minutes). The test digits are MNIST's where INKLAB_DATA_DIR has them, else those of mnist-5k.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run
from browser import needs_chromium, opened
from page_visits import (
    NOTHING,
    ONE,
    PHONE,
    SEVEN,
    THREE,
    change,
    columns,
    distance,
    draw,
    image,
    see,
    serving,
    settled,
    stage,
    summary,
    touch,
)

from inklab.errors import InklabError

pytestmark = [pytest.mark.slow, needs_chromium]
DIGITS, LOST = 100, 2  # drawn by strokes; fewer right than from pixels, at most
FINER = 4  # times that a digit's pixels are refined before strokes are laid along its rows

STROKES = """strokes => {
  // As pointer events, where a mouse would be. The mouse's pointer is there without a hand, too.
  const pad = document.getElementById("pad"), box = pad.getBoundingClientRect();
  const send = (type, [x, y], buttons) => pad.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, pointerType: "mouse", isPrimary: true, bubbles: true, cancelable: true,
    button: type === "pointermove" ? -1 : 0, buttons,
    clientX: box.left + pad.clientLeft + x * pad.clientWidth,
    clientY: box.top + pad.clientTop + y * pad.clientHeight,
  }));
  for (const stroke of strokes) {
    send("pointerdown", stroke[0], 1);
    for (const place of stroke.slice(1)) send("pointermove", place, 1);
    send("pointerup", stroke.at(-1), 0);
  }
}"""
CANVASES = ("#here", "#map-images", "#samples canvas >> nth=7", "#neighbors canvas >> nth=3")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished digits run."""
    named = os.environ.get("INKLAB_SLOW_RUN")
    if named:
        return Path(named)
    folder = tmp_path_factory.mktemp("slow") / "digits"
    subprocess.run([sys.executable, "-m", "inklab", "run", "digits", "--run-dir", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def address(run):
    with serving(run) as address:
        yield address


def hundred_digits() -> tuple[np.ndarray, np.ndarray]:
    """A hundred test images with their labels, the same ones each time."""
    from inklab.data.sources import load_dataset

    try:
        data = load_dataset("mnist", seed=0).test
    except InklabError:
        data = load_dataset("mnist-5k", seed=0).test
    order = np.random.default_rng(0).permutation(len(data.labels))[:DIGITS]
    return data.pixels[order], data.labels[order]


def strokes_of(pixels: np.ndarray) -> list[list[tuple[float, float]]]:
    """A digit as strokes along its rows, thin and close, in shares of the pad."""
    from PIL import Image

    side = pixels.shape[-1] * FINER
    fine = np.asarray(Image.fromarray(pixels[0]).resize((side, side), Image.Resampling.BICUBIC)) > 127
    strokes = []
    for y, row in enumerate(fine):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for start, end in edges.reshape(-1, 2):
            strokes.append([((start + 0.5) / side, (y + 0.5) / side), ((end - 0.5) / side, (y + 0.5) / side)])
    return strokes


def _confident(page: Any) -> int:
    """About how many of the samples the classifier is confident."""
    match = re.search(r"about (\d+) of", page.locator("#samples-note").inner_text())
    assert match
    return int(match[1])


def clear(page: Any) -> None:
    page.get_by_role("button", name="Clear").click()
    settled(page)


def test_digits_drawn_with_the_mouse_and_a_finger_are_classified(address):
    with opened(address) as page:
        for name, strokes in (("7", SEVEN), ("3", THREE), ("1", ONE)):
            draw(page, strokes)
            settled(page)
            assert columns(page)["cnn"]["label"] == name
            assert summary(page).startswith(f"All four predict {name}")
            clear(page)
    with opened(address, **PHONE) as page:
        settled(page)
        touch(page, SEVEN)
        settled(page)
        assert columns(page)["cnn"]["label"] == "7"


def test_a_hundred_test_digits_by_strokes_are_read_as_well_as_from_pixels(address, run, announce):
    import torch

    from inklab.runs import Run

    pixels, labels = hundred_digits()
    model = Run(run).model("cnn")
    predicted = model.probabilities(torch.from_numpy(pixels).float() / 255).argmax(dim=1).numpy()
    from_pixels = int((predicted == labels).sum())
    thin = 0.01  # the thinnest pen: 1.1 of such a row
    right, abstained, off = 0, 0, []
    with opened(f"{address}#pipelines=cnn&pen={thin}") as page:
        settled(page)
        for digit, label in zip(pixels, labels, strict=True):
            page.evaluate(STROKES, strokes_of(digit))
            settled(page)
            predicted_label = columns(page)["cnn"]["label"]
            right += predicted_label == str(label)
            abstained += predicted_label == "?"
            off.append(distance(stage(page, "Input"), digit.ravel().tolist()))
            clear(page)
    announce(
        f"{DIGITS} test digits: {right} right by strokes ({abstained} abstained), {from_pixels} from pixels; "
        f"preprocessed images differ by {np.mean(off):.1f} of 255 (root mean square)"
    )
    assert right >= from_pixels - LOST
    assert np.mean(off) < 40


def test_noise_denoise_and_generate_change_what_they_should(address):
    with opened(address) as page:
        draw(page, SEVEN)
        settled(page)
        clean, before = stage(page, "Input"), columns(page)["cnn"]
        assert stage(page, "Corrupted") == clean
        change(page, "#strength", 0.5)
        noisy, cleaned = stage(page, "Corrupted"), stage(page, "Denoised")
        replaced = sum(a != b for a, b in zip(noisy, clean, strict=True))
        # Half of the pixels are replaced; on dark ground half of these by black, which changes nothing.
        assert 0.2 < replaced / len(clean) < 0.5
        assert distance(cleaned, clean) < 0.7 * distance(noisy, clean)
        assert columns(page)["cnn"]["probabilities"] != before["probabilities"]
        sure = [columns(page)["cnn"]["probabilities"]["7"]]
        for strength in (0.7, 1):
            change(page, "#strength", strength)
            sure.append(columns(page)["cnn"]["probabilities"]["7"])
        assert min(sure) < before["probabilities"]["7"]
        change(page, "#strength", 0.5)
        assert stage(page, "Corrupted") == noisy  # the same seed
        page.get_by_role("button", name="New noise").click()
        settled(page)
        assert stage(page, "Corrupted") != noisy
        change(page, "#strength", 0)
        assert stage(page, "Corrupted") == clean and columns(page)["cnn"] == before
        see(page, "generate")
        grid = lambda: [image(page, f"#samples canvas >> nth={i}") for i in range(40)]  # noqa: E731
        first = grid()
        confident = _confident(page)
        assert confident >= 20  # of a mixture's forty
        change(page, "#sample-seed", 77)
        other = grid()
        change(page, "#sample-seed", 1)
        assert other != first == grid()
        page.get_by_role("radio", name="binary").check()
        settled(page)
        assert _confident(page) < confident / 4
        page.get_by_role("radio", name="mixture").check()
        settled(page)
        page.get_by_role("slider", name="Position in the square").focus()
        here = [image(page, "#here")]
        for _ in range(8):
            page.keyboard.press("Shift+ArrowRight")
            settled(page)
            here.append(image(page, "#here"))
        steps = [distance(a, b) for a, b in zip(here, here[1:], strict=False)][:5]
        assert min(steps) > 0 and max(steps) < distance(here[0], here[5])  # small steps, a long way


def test_a_link_restores_every_view_in_another_browser(address):
    with opened(address) as page:
        draw(page, THREE)
        change(page, "#strength", 0.35)
        change(page, "#seed", 9)
        see(page, "generate")
        page.get_by_role("radio", name="gaussian").check()
        page.get_by_role("slider", name="Position in the square").focus()
        page.keyboard.press("Shift+ArrowDown")
        change(page, "#sigma", 1)
        page.wait_for_timeout(600)
        link = page.url
        canvases = [image(page, selector) for selector in CANVASES]
        see(page, "draw")
        view = stage(page, "Corrupted"), columns(page), summary(page)
    with opened(link) as page:
        settled(page)
        assert [image(page, selector) for selector in CANVASES] == canvases
        see(page, "draw")
        assert (stage(page, "Corrupted"), columns(page), summary(page)) == view
    assert len(link) < 2000


def test_a_one_drawn_by_keys_alone_is_read(address):
    with opened(address) as page:
        settled(page)
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "pad":
                break
        for key in ["ArrowUp"] * 10 + ["Space"] + ["ArrowDown"] * 20 + ["Space"]:
            page.keyboard.press(key)
        settled(page)
        assert columns(page)["cnn"]["label"] == "1"


def test_a_running_study_moves_by_itself_until_it_has_finished(tmp_path):
    folder = tmp_path / "run"
    command = [
        sys.executable, "-m", "inklab", "run", toy_run.study_file(), "--run-dir", str(folder),
        "--workers", "1", "--set", "cnn.recipe.epochs=60", "--set", "denoiser.recipe.epochs=60",
    ]  # fmt: skip
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (folder / "plan.json").is_file():
            assert driver.poll() is None
        with serving(folder) as address, opened(address + "#view=study", expected="503") as page:
            page.locator("#study").wait_for()
            page.locator("#state", has_text="Running").wait_for()
            page.locator("#running li").first.wait_for()
            states = set()
            while page.locator("#state").inner_text().startswith("Running"):
                states.add(page.locator("#state").inner_text())
                page.wait_for_timeout(100)
            assert len(states) >= 3
            page.locator("#state", has_text="Finished").wait_for(timeout=60_000)
            page.locator("#findings li").first.wait_for(timeout=60_000)
            see(page, "draw")
            page.locator("#pad").wait_for()
            draw(page, SEVEN)
            settled(page)
            assert summary(page) != NOTHING  # networks that were not there when the page was opened
    finally:
        driver.terminate()
        driver.wait(timeout=60)
