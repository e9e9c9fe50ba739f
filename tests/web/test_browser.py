"""The checks of pages in a browser can fail."""

import asyncio

import pytest
from browser import needs_chromium, opened

pytestmark = [pytest.mark.integration, needs_chromium]
PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title><link rel=icon href='data:,'>"


def test_a_page_is_served_and_its_scripts_run():
    files = {"": PAGE + "<script type=module src=one.js></script>", "one.js": "document.title = 'Done'"}
    with opened(files=files) as page:
        assert page.title() == "Done"


def test_asyncio_works_between_pages():
    async def answer() -> int:
        return 1

    with opened(files={"": PAGE}):
        pass
    assert asyncio.run(answer()) == 1
    with opened(files={"": PAGE}) as page:
        assert page.title() == "A page"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("<script>throw new Error('on purpose')</script>", "on purpose"),
        ("<script>console.error('reported')</script>", "reported"),
        ("<script type=module src=nowhere.js></script>", "404"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\"><script>1</script>",
            "policy",
        ),
    ],
)
def test_an_error_in_a_page_is_a_failure(fault, complaint):
    with pytest.raises(AssertionError, match=complaint), opened(files={"": PAGE + fault}):
        pass
    with opened(files={"": PAGE + fault}, expected=f"(?i){complaint}|Refused|violates"):
        pass


def test_a_request_to_another_host_is_a_failure():
    def answer(page):
        page.route("http://example.com/**", lambda route: route.fulfill(body="", content_type="image/png"))

    files = {"": PAGE + "<img alt='' src='http://example.com/a.png'>"}
    with pytest.raises(AssertionError, match="example"), opened(files=files, wait=answer):
        pass
