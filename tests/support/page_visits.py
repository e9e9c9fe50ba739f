"""Visits to the page of a real `inklab serve`: starting it, drawing on it, reading what it shows."""

import atexit
import functools
import json
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

Stroke = Sequence[tuple[float, float]]

ONE: list[Stroke] = [[(0.5, 0.15), (0.5, 0.85)]]
SEVEN: list[Stroke] = [[(0.25, 0.2), (0.75, 0.2), (0.5, 0.6), (0.42, 0.85)]]
THREE: list[Stroke] = [[
    (0.3, 0.2), (0.5, 0.14), (0.68, 0.25), (0.62, 0.42), (0.45, 0.48), (0.66, 0.56), (0.72, 0.72),
    (0.52, 0.86), (0.28, 0.78),
]]  # fmt: skip
NOTHING = "Nothing is drawn yet."
PHONE = dict(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
SECONDS = 90  # until a server must have learned OOD scores

PIXELS = """canvas => {
  const sheet = new OffscreenCanvas(canvas.width, canvas.height);
  const copy = sheet.getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  const from = canvas.matches(".ink, #pad") ? 3 : 0;
  return Array.from({ length: data.length / 4 }, (_, pixel) => data[4 * pixel + from]);
}"""
"""Bytes of the image that stands on a canvas of the page."""


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """`inklab serve` of a run or a model in a process of its own; yields its address once it is all there."""
    command = [sys.executable, "-m", "inklab", "serve", str(path), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = _address(process)
        _wait_until_learned(address)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


@functools.cache
def toy_address() -> str:
    import toy_run

    server = serving(toy_run.finished())
    address = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return address


def see(page: Any, view: str) -> None:
    page.locator(f'nav [data-view="{view}"]').click()
    settled(page)


def _address(process: subprocess.Popen[str]) -> str:
    output = []
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if match := re.search(r"serving .* at (http://\S+)", line):
            return match[1]
    raise AssertionError(f"the server ended: {''.join(output)[-2000:]}")


def _wait_until_learned(address: str) -> None:
    """OOD scores are learned in the background; responses before and after may differ."""
    networks = _fetch(f"{address}api/networks")
    form, pipelines = networks["image"], [pipeline["id"] for pipeline in networks["pipelines"]]
    gray = b64encode(bytes([99]) * form["channels"] * form["height"] * form["width"]).decode()
    end = time.monotonic() + SECONDS
    while pipelines and time.monotonic() < end:
        [image] = _fetch(f"{address}api/predict", {"images": [gray], "pipelines": pipelines})["images"]
        if all(row["ood_score"] is not None for row in image["predictions"]):
            return
        time.sleep(0.1)
    assert not pipelines, f"nothing is learned in {SECONDS} s"


def _fetch(address: str, body: object = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def draw(page: Any, strokes: Sequence[Stroke], steps: int = 6, pad: str = "#pad") -> None:
    page.locator(pad).scroll_into_view_if_needed()
    box = page.locator(pad).bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=steps)
        page.mouse.up()


def drawn(page: Any, strokes: Sequence[Stroke]) -> None:
    draw(page, strokes)
    settled(page)


def settled(page: Any) -> None:
    """Wait until no request is under way and the last response is displayed."""
    for _ in range(2):
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.locator("#main[aria-busy=false]").wait_for()


def change(page: Any, selector: str, value: object) -> None:
    page.locator(selector).fill(str(value))
    settled(page)


def image(page: Any, selector: str) -> list[int]:
    return list(page.locator(selector).evaluate(PIXELS))


def stage(page: Any, title: str) -> list[int]:
    return image(page, f".stages li:has-text('{title}') canvas")


def columns(page: Any) -> dict[str, dict[str, Any]]:
    """What stands in each pipeline's column: its label and its probabilities by class."""
    predictions = {}
    for column in page.locator(".prediction").all():
        rows = [re.split(r"\s*\n\s*", row.strip()) for row in column.locator(".bars li").all_inner_texts()]
        predictions[column.get_attribute("aria-label")] = {
            "label": column.locator(".label").inner_text(),
            "probabilities": {row[0]: share(row[1]) for row in rows if len(row) > 1},
        }
    return predictions


def share(text: str) -> float:
    return float(text.strip(" >%")) / 100


def summary(page: Any) -> str:
    return str(page.locator("#summary").inner_text())


def distance(first: Sequence[int], second: Sequence[int]) -> float:
    total = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    return float((total / len(first)) ** 0.5)


def touch(page: Any, strokes: Sequence[Stroke]) -> None:
    box = page.locator("#pad").bounding_box()
    wire = page.context.new_cdp_session(page)
    for stroke in strokes:
        points = [stroke[0]]
        for (x0, y0), (x1, y1) in pairwise(stroke):
            points += [(x0 + (x1 - x0) * i / 6, y0 + (y1 - y0) * i / 6) for i in range(1, 7)]
        pixels = [[{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}] for x, y in points]
        kinds = ["touchStart", *["touchMove"] * (len(pixels) - 1), "touchEnd"]
        for kind, touched in zip(kinds, [*pixels, []], strict=True):
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})
    wire.detach()


def unnamed(page: Any) -> list[str]:
    """What can be used or seen on a page, and has no name for a screen reader."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
    roles = set("button slider link checkbox radio combobox spinbutton image img progressbar textbox".split())
    nodes = [node for node in tree["nodes"] if not node.get("ignored") and "role" in node]
    return [
        f"{node['role']['value']} {node.get('backendDOMNodeId')}"
        for node in nodes
        if node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]


def too_wide(page: Any) -> list[str]:
    """What sticks out of the window on the left or the right."""
    elements: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
          .filter(element => !element.closest(".scroll, .visually-hidden, .skip"))
          .map(element => [element, element.getBoundingClientRect()])
          .filter(([, box]) => box.width &&
            Math.max(-box.left, box.right - document.documentElement.clientWidth) > 0.5)
          .map(([element]) => `${element.tagName}.${element.getAttribute("class")}`)"""
    )
    is_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return elements + (["the page"] if is_wide else [])
