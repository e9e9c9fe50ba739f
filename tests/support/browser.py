"""Headless Chromium for tests: one for all of them, watched. Each page is a fresh visitor.

    @needs_chromium
    def test_it(tmp_path):
        with opened((tmp_path / "report.html").as_uri(), dark=True) as page:
            assert page.locator("h1").inner_text() == "A toy"

`opened` fails where a page asks for anything from elsewhere, complains in its console, throws, or breaks its
own content security policy. INKLAB_CHROMIUM names another browser than the one that is found.
"""

import asyncio
import atexit
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NEAR = re.compile(r"(file|data|blob|about):|(https?|wss?)://(127\.0\.0\.1|\[::1\]|([\w-]+\.)?localhost)[:/]")
"""Where a page may ask: nothing of this leaves the machine."""
STAGE = "http://stage.localhost/"
"""Where `files` lie; nobody listens there."""
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
TELL_BREACHES = (
    "document.addEventListener('securitypolicyviolation', breach =>"
    " console.error(`against its policy: ${breach.violatedDirective} ${breach.blockedURI}`))"
)


def chromium() -> str | None:
    """Path of the browser, if there is one."""
    named = os.environ.get("INKLAB_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def missing() -> str:
    """What is needed and not there; empty if all is."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install playwright"
    return "" if chromium() else f"no {', '.join(NAMES)} is to be found, and INKLAB_CHROMIUM names none"


needs_chromium = pytest.mark.skipif(bool(missing()), reason=missing())


@dataclass
class Watch:
    """What a page did."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def attach(self, context: Any) -> None:
        """Look at every page of a visitor, from its first request on."""
        context.add_init_script(TELL_BREACHES)
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda thrown: self.complaints.append(str(thrown.error)))
        context.on("console", self._hear)

    def _hear(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(f"{said.text} ({said.location.get('url', '')})")

    def check(self, expected: str = "") -> None:
        """Fail for what a page should not have done.

        Args:
            expected: a pattern of complaints that a test provokes.
        """
        foreign = [url[:200] for url in self.requests if not NEAR.match(url)]
        assert not foreign, f"asked for what is elsewhere: {foreign}"
        told = [each for each in self.complaints if not (expected and re.search(expected, each))]
        assert not told, f"complained: {told}"


@contextmanager
def opened(
    url: str = STAGE,
    *,
    files: Mapping[str, str] | None = None,
    expected: str = "",
    dark: bool = False,
    wait: Callable[[Any], None] | None = None,
    **context: Any,
) -> Iterator[Any]:
    """A page, loaded, as playwright's `Page`; watched until the block ends, where `Watch.check` holds it.

    Args:
        url: where it is; `files[""]` if left out.
        files: texts by name that are served at `STAGE`, such as `{"": "<!doctype html>...", "a.js": "..."}`.
        expected: a pattern of complaints that a test provokes.
        dark: whether the visitor likes it dark.
        wait: called with the page before it goes anywhere, say to `page.route` something.
        context: of playwright's `new_context`, such as `viewport={"width": 390, "height": 844}`,
            `has_touch=True`, `device_scale_factor=2`, `java_script_enabled=False`, `reduced_motion="reduce"`.
    """
    usual = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark" if dark else "light"}
    watch = Watch()
    with _playing():
        visitor = _browser().new_context(**(usual | context))
        try:
            watch.attach(visitor)
            page = visitor.new_page()
            if files is not None:
                _serve(page, files)
            if wait:
                wait(page)
            page.goto(url)
            yield page
        finally:
            visitor.close()
    watch.check(expected)


def _serve(page: Any, files: Mapping[str, str]) -> None:
    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(STAGE).partition("?")[0]
        kind = KINDS.get(Path(name or ".html").suffix or ".html", "text/plain")
        if name in files:
            route.fulfill(body=files[name], content_type=f"{kind}; charset=utf-8")
        else:
            route.fulfill(status=204 if name == "favicon.ico" else 404)

    page.route(f"{STAGE}**", answer)


@functools.cache
def _started() -> tuple[Any, Any]:
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)

    def end() -> None:
        with _playing():
            browser.close()
            playwright.stop()

    atexit.register(end)
    return browser, asyncio.get_running_loop()


def _browser() -> Any:
    return _started()[0]


@contextmanager
def _playing() -> Iterator[None]:
    """Playwright leaves its loop marked as running; outside of a page, `asyncio.run` of others must work."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(_started()[1])
    try:
        yield
    finally:
        asyncio._set_running_loop(before)
