"""Headless Chromium for tests: one browser for all of them, monitored. Each page is a fresh visitor.

    @needs_chromium
    def test_it(tmp_path):
        with opened((tmp_path / "report.html").as_uri(), dark=True) as page:
            assert page.locator("h1").inner_text() == "A toy"

`opened` fails if a page requests anything from outside, logs a warning or an error, throws, or violates its
content security policy. INKLAB_CHROMIUM names another browser than the detected one.
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
LOCAL = re.compile(r"(file|data|blob|about):|(https?|wss?)://(127\.0\.0\.1|\[::1\]|([\w-]+\.)?localhost)[:/]")
"""What a page may request: nothing of it leaves the machine."""
STAGE = "http://stage.localhost/"
"""Where `files` are; no server listens there."""
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
LOG_VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation', event =>"
    " console.error(`against its policy: ${event.violatedDirective} ${event.blockedURI}`))"
)


def chromium() -> str | None:
    named = os.environ.get("INKLAB_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(
    find_spec("playwright") is None or chromium() is None,
    reason=f"needs playwright and one of {', '.join(NAMES)}, or the browser that INKLAB_CHROMIUM names",
)


@dataclass
class PageMonitor:
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    is_over: bool = False

    def attach(self, context: Any) -> None:
        context.add_init_script(LOG_VIOLATIONS)
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("weberror", lambda thrown: self.errors.append(str(thrown.error)))
        context.on("console", self._log)

    def _log(self, message: Any) -> None:
        if message.type in ("error", "warning") and not self.is_over:
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def check(self, expected: str = "") -> None:
        """Fail for requests to other machines, and for errors that do not match the pattern `expected`."""
        foreign = [url[:200] for url in self.requests if not LOCAL.match(url)]
        assert not foreign, f"requests to other machines: {foreign}"
        errors = [error for error in self.errors if not (expected and re.search(expected, error))]
        assert not errors, f"errors in the page: {errors}"


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
    """A loaded page as playwright's `Page`; when the block ends, `PageMonitor.check` is called.

    Args:
        url: of the page; `files[""]` if left out.
        files: texts by name that are served at `STAGE`, such as `{"": "<!doctype html>...", "a.js": "..."}`.
        expected: a pattern of errors that a test provokes.
        dark: whether the visitor prefers dark colors.
        wait: called with the page before it navigates, such as to `page.route` something.
        context: of playwright's `new_context`.
    """
    usual = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark" if dark else "light"}
    monitor = PageMonitor()
    with _playwright_loop():
        visitor = _started()[0].new_context(**(usual | context))
        try:
            monitor.attach(visitor)
            page = visitor.new_page()
            if files is not None:
                _serve(page, files)
            if wait:
                wait(page)
            page.goto(url)
            yield page
            page.evaluate("0")  # after what the page has logged so far
        finally:
            # A handler at work when its page closes raises in the next test; without handlers, what is
            # requested last, such as an icon, may be missing.
            monitor.is_over = True
            for left in visitor.pages:
                left.unroute_all(behavior="ignoreErrors")
            visitor.close()
    monitor.check(expected)


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
    """The browser, and the loop in which playwright runs."""
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)

    def end() -> None:
        with _playwright_loop():
            browser.close()
            playwright.stop()

    atexit.register(end)
    return browser, asyncio.get_running_loop()


@contextmanager
def _playwright_loop() -> Iterator[None]:
    """Playwright leaves its loop marked as running; outside of a page, `asyncio.run` must work."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(_started()[1])
    try:
        yield
    finally:
        asyncio._set_running_loop(before)
