"""The page's sources: the report's colors, which can be read; nothing inline, nothing from elsewhere."""

import re
from itertools import product
from pathlib import Path

import pytest

import inklab
from inklab.report.figures.drawing import DARK, LIGHT, SERIES

PAGE = Path(inklab.__file__).parent / "serve" / "page"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
HTML = (PAGE / "index.html").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.html"))}
CSS = (PAGE / "page.css").read_text(encoding="utf-8")
TEXT, GRAPHIC = 4.5, 3.0  # contrast that WCAG 2 AA asks for


def themes() -> list[dict[str, str]]:
    roots = re.findall(r"^:root(?:\[data-theme=\"dark\"\])? \{(.*?)\n *\}", CSS, re.S | re.M)
    assert len(roots) == 2, "one for light, one for dark"
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", root)) for root in roots]


def contrast(color: str, ground: str) -> float:
    """The ratio of two colors' luminances, as WCAG 2 has it."""

    def luminance(code: str) -> float:
        shares = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(color), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_formula_of_contrast_is_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#777777") == 1
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the known smallest gray


def test_the_colors_are_those_of_the_report():
    for theme, palette in zip(themes(), (LIGHT, DARK), strict=True):
        assert {role: theme[role] for role in palette} == palette


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_everything_can_be_read(theme):
    texts = [*product(("ink", "muted"), ("ground", "wash", "loud")), *product(SERIES, ("ground",))]
    graphics = [
        ("edge", "ground"),
        ("c1", "wash"),
    ]  # edges of controls; names stand along lines, in their color
    for pairs, least in ((texts, TEXT), (graphics, GRAPHIC)):
        for color, ground in pairs:
            assert contrast(theme[color], theme[ground]) >= least, (color, ground)


def test_every_address_is_relative_so_that_a_proxy_can_put_the_page_below_a_path():
    for name, text in {**SCRIPTS, **PAGES}.items():
        assert not re.search(r"[\"'`(]/(?:api|static|health|report)\b", text), name


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    for text in PAGES.values():
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", HTML):
        assert address.startswith(("static/", "#")) or address == "report.html"
    for name, text in {**SCRIPTS, "page.css": CSS}.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text), name


@pytest.mark.parametrize("name", SCRIPTS)
class TestEveryScript:
    def test_what_the_server_says_is_never_markup(self, name):
        ways = r"\w+erHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setHTML"
        assert not re.search(ways, SCRIPTS[name])

    def test_the_elements_that_it_asks_for_are_there(self, name):
        for element in re.findall(r"byId\(\"([\w-]+)\"\)", SCRIPTS[name]):
            assert any(f'id="{element}"' in text for text in PAGES.values()), element

    def test_it_is_short_and_says_what_it_is(self, name):
        lines = SCRIPTS[name].splitlines()
        assert lines[0].startswith("// ") and len(lines) <= 400 and max(map(len, lines)) <= 130


def test_every_element_has_one_id_and_every_label_its_control():
    ids = re.findall(r"\bid=\"([\w-]+)\"", HTML)
    assert len(ids) == len(set(ids)) > 50
    for reference in re.findall(r"(?:\bfor|aria-(?:labelledby|describedby))=\"([\w-]+)\"", HTML):
        assert reference in ids


def test_the_sources_were_found():
    assert {"main.js", "draw.js", "generate.js", "study.js", "state.js"} <= set(SCRIPTS)
    assert len(SCRIPTS) >= 15
