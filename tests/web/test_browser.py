"""The checks of pages in a browser can fail."""

import asyncio

import pytest
from browser import needs_chromium, opened

pytestmark = [pytest.mark.integration, needs_chromium]
POLICY = "Content-Security-Policy"
PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title><link rel=icon href='data:,'>"


def test_a_pages_scripts_run_and_asyncio_works_between_pages():
    files = {"": PAGE + "<script type=module src=one.js></script>", "one.js": "document.title = 'Done'"}
    with opened(files=files) as page:
        assert page.title() == "Done"
    asyncio.run(asyncio.sleep(0))
    with opened(files={"": PAGE}) as page:
        assert page.title() == "A page"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("<script>throw new Error('on purpose')</script>", "on purpose"),
        ("<script>console.error('reported')</script>", "reported"),
        ("<script type=module src=nowhere.js></script>", "404"),
        (f"<meta http-equiv={POLICY} content=\"script-src 'none'\"><script>1</script>", "policy"),
    ],
)
def test_an_error_in_a_page_is_a_failure(fault, complaint):
    with pytest.raises(AssertionError) as caught, opened(files={"": PAGE + fault}):
        pass
    assert complaint in str(caught.value)
    with opened(files={"": PAGE + fault}, expected=f"(?i){complaint}|Refused|violates"):
        pass


def test_a_request_to_another_host_is_a_failure():
    def answer(page):
        page.route("http://example.com/**", lambda route: route.fulfill(body="", content_type="image/png"))

    files = {"": PAGE + "<img alt='' src='http://example.com/a.png'>"}
    with pytest.raises(AssertionError) as caught, opened(files=files, wait=answer):
        pass
    assert "example.com" in str(caught.value)
