"""Training in the page: its gradient is that of torch; play, pause, step; what a link keeps."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import needs_chromium, opened
from page_visits import settled, too_wide, toy_address, unnamed
from torch import nn

import inklab
from inklab.data.mnist import mnist_5k

PACKAGE = Path(inklab.__file__).parent
NODE = shutil.which("node")
STEPS, RATE = 5, 0.5


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_steps_are_those_of_torch(tmp_path):
    for path in (PACKAGE / "web" / "noise.js", PACKAGE / "serve" / "page" / "dense-training.js"):
        text = path.read_text(encoding="utf-8").replace("./noise.js", "./noise.mjs")
        (tmp_path / path.with_suffix(".mjs").name).write_text(text, encoding="utf-8")
    images, labels = np.random.default_rng(0).random((8, 6)).astype(np.float32), [k % 3 for k in range(8)]
    (tmp_path / "run.mjs").write_text(f"""
        import {{ initialLayers, evaluate, trainStep }} from "./dense-training.mjs";
        const layers = initialLayers([6, 5, 4, 3], 7);
        const copy = () => layers.map(({{ weights, bias }}) => [[...weights], [...bias]]);
        const images = Float32Array.from({images.ravel().tolist()}), labels = {labels}, before = copy();
        const losses = Array.from({{ length: {STEPS} }}, () => trainStep(layers, images, labels, {RATE}));
        console.log(JSON.stringify({{ before, losses, after: copy(), ...evaluate(layers, images, labels) }}));
    """)
    command = [str(NODE), str(tmp_path / "run.mjs")]
    done = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        for layer, (weights, bias) in zip(net[::2], done["before"], strict=True):
            layer.weight.copy_(torch.tensor(weights).reshape_as(layer.weight))
            layer.bias.copy_(torch.tensor(bias))
            bound = (6 / sum(layer.weight.shape)) ** 0.5  # Glorot's
            assert layer.weight.abs().max() <= bound and not layer.bias.any()
    optimizer, losses = torch.optim.SGD(net.parameters(), RATE), []
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(net(torch.from_numpy(images)), torch.tensor(labels))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert done["losses"] == pytest.approx(losses, abs=1e-5) and losses[-1] < losses[0]
    for layer, (weights, bias) in zip(net[::2], done["after"], strict=True):
        assert layer.weight.detach().ravel().tolist() == pytest.approx(weights, abs=1e-5)
        assert layer.bias.tolist() == pytest.approx(bias, abs=1e-5)
    logits, true = net(torch.from_numpy(images)), torch.tensor(labels)
    assert done["loss"] == pytest.approx(nn.functional.cross_entropy(logits, true).item(), abs=1e-5)
    assert done["accuracy"] == (logits.argmax(1) == true).float().mean().item()


READING = re.compile(r"Step (\d+), ([\d.]+) epochs: accuracy ([\d.]+)% on 200 other digits, loss ([\d.]+)")


def reading(page):
    text = page.locator("#reading").inner_text()
    match = READING.fullmatch(text)
    assert match, text
    return int(match[1]), float(match[3]), float(match[4])


def opened_training(fragment="", **options):
    return opened(f"{toy_address()}static/train.html{fragment}", **options)


def loaded(page):
    page.locator("#reading", has_text="Step 0").wait_for()
    return page


@pytest.mark.integration
@needs_chromium
class TestPage:
    def test_it_learns_digits_and_can_be_paused(self):
        with opened_training("#rate=0.3") as page:
            assert loaded(page) and reading(page)[0] == 0
            pixels = mnist_5k().train.pixels[0].ravel() / 255
            first = page.evaluate("[...training.pixels.subarray(0, training.size)]")
            assert np.abs(np.array(first) - pixels).max() < 1e-6
            page.get_by_role("button", name="Play").click()
            while reading(page)[0] < 150:
                page.wait_for_timeout(50)
            page.get_by_role("button", name="Pause").click()
            steps, accuracy, loss = reading(page)
            assert steps >= 150 and accuracy > 70 and loss < 1.2
            page.wait_for_timeout(100)
            assert reading(page)[0] == steps
            page.get_by_role("button", name="Step").click()
            assert reading(page)[0] == steps + 1
            assert (
                page.locator("#loss-curve .line").count() == 2
                and page.locator("#weights canvas").count() == 64
            )
            page.get_by_role("button", name="Restart").click()
            assert reading(page)[0] == 0

    def test_a_seed_repeats_a_training_and_the_link_keeps_the_settings(self):
        run = "Array.from({ length: 3 }, () => { training.step(); return training.losses.at(-1); })"
        with opened_training("#seed=5&noise=0.4&rate=0.03") as page:
            losses = loaded(page).evaluate(run)
            assert page.locator("#rate").input_value() == "0.03"
            assert page.locator("#noise").input_value() == "0.4"
            page.locator("#noise").fill("0.6")
            page.locator("#rate").select_option("1")
            link = page.url
        with opened_training("#seed=5&noise=0.4&rate=0.03") as page:
            assert loaded(page).evaluate(run) == losses
        with opened(link) as page:
            assert loaded(page).evaluate("training.settings") == {"rate": 1, "noise": 0.6, "seed": 5}
        with opened_training("#seed=-1&noise=9&rate=x") as page:  # what can't be parsed is ignored
            assert loaded(page).evaluate("training.settings") == {"rate": 0.1, "noise": 0, "seed": 1}

    def test_it_fits_everywhere_has_names_and_asks_nobody_while_it_learns(self):
        with opened(toy_address()) as page:
            settled(page)
            page.get_by_role("link", name="Train a network in the browser").click()
            loaded(page)
            requests = []
            page.on("request", lambda request: requests.append(request.url))
            page.get_by_role("button", name="Step").click()
            assert not unnamed(page) and not requests
            for width in (360, 820, 1280):
                page.set_viewport_size({"width": width, "height": 800})
                page.wait_for_timeout(100)
                assert not too_wide(page), width
