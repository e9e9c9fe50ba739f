"""The watch over the browser can fail."""

import asyncio

import pytest
from browser import needs_chromium, opened

pytestmark = needs_chromium
PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title><link rel=icon href='data:,'>"


def test_a_page_is_served_and_its_scripts_run():
    files = {"": PAGE + "<script type=module src=one.js></script>", "one.js": "document.title = 'Done'"}
    with opened(files=files) as page:
        assert page.title() == "Done"


def test_asyncio_of_others_works_between_pages():
    async def one() -> int:
        return 1

    with opened(files={"": PAGE}):
        pass
    assert asyncio.run(one()) == 1
    with opened(files={"": PAGE}) as page:
        assert page.title() == "A page"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("<script>throw new Error('on purpose')</script>", "on purpose"),
        ("<script>console.error('said so')</script>", "said so"),
        ("<script type=module src=nowhere.js></script>", "404"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\"><script>1</script>",
            "policy",
        ),
    ],
)
def test_what_goes_wrong_in_a_page_is_a_failure(wrong, told):
    with pytest.raises(AssertionError, match=told), opened(files={"": PAGE + wrong}):
        pass
    with opened(files={"": PAGE + wrong}, expected=f"(?i){told}|Refused|violates"):
        pass


def test_what_asks_for_something_elsewhere_is_a_failure():
    def answer(page):
        page.route("http://example.com/**", lambda route: route.fulfill(body="", content_type="image/png"))

    files = {"": PAGE + "<img alt='' src='http://example.com/a.png'>"}
    with pytest.raises(AssertionError, match="example"), opened(files=files, wait=answer):
        pass
