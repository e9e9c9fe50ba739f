"""What every request passes first: who may ask, and the headers of every response."""

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inklab.serve.address import AllowedHosts, AuthToken
from inklab.serve.limits import HttpError, error_response

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
WELCOME = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
    '<title>inklab</title><p><a href="/">Continue to the page</a></p></html>'
)
"""Not a redirect: after a link on another site, the browser would follow it without the new cookie."""
COOKIE_SECONDS = 30 * 24 * 3600


class SecurityMiddleware:
    """Passes a request on to the application, or rejects it.

    Other web pages are kept out twice: a page that resolves its own name to this machine (DNS rebinding) by
    the `Host` header, one that sends requests here by `Origin` and `Sec-Fetch-Site`. A request with a body
    must be JSON, which no foreign page can send without asking first.

    Args:
        app: the application.
        hosts: names of this server.
        token: that requests must have, if one is needed.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, token: AuthToken | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secured = _SecuredSend(send)
        request = Request(scope)
        try:
            self._check_host(request)
            _check_origin(request)
            _check_content_type(request)
            if self._token is None or self._token.authorizes(request.headers, request.cookies):
                await self._app(scope, receive, secured)
            else:
                await self._welcome(request, self._token)(scope, receive, secured)
        except HttpError as error:
            if not secured.started:
                await error_response(error)(scope, receive, secured)

    def _check_host(self, request: Request) -> None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1:
            raise HttpError(400, f"{len(hosts)} Host headers; exactly one is needed")
        if not self._hosts.allow(hosts[0]):
            raise HttpError(
                403,
                f"'{hosts[0][:100]}' is not a name of this server; to allow it, start the server with "
                "--allowed-host",
            )

    def _welcome(self, request: Request, token: AuthToken) -> HTMLResponse:
        """Give a browser that opens the link with the token its cookie.

        Raises:
            HttpError: it is not that link.
        """
        given = request.query_params.getlist("token")
        is_page = request.method == "GET" and request.scope["path"] == "/"
        if not is_page or len(given) != 1 or not token.matches(given[0]):
            raise HttpError(
                401,
                "this server needs its token: open the link that it printed, or send it as a Bearer token",
                {"WWW-Authenticate": "Bearer"},
            )
        response = HTMLResponse(WELCOME)
        response.set_cookie(
            token.cookie, token.cookie_value, max_age=COOKIE_SECONDS, httponly=True, samesite="strict"
        )
        return response


def _check_origin(request: Request) -> None:
    """Reject requests of pages from elsewhere. Browsers send these headers, and pages can't change them."""
    host = request.headers["host"].lower()
    for origin in request.headers.getlist("origin"):
        if origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise HttpError(403, f"pages of '{origin[:100]}' may not use this server; only its own page may")
    is_foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if is_foreign and not _follows_link(request):
        raise HttpError(403, "other sites may not use this server; only its own page may")


def _follows_link(request: Request) -> bool:
    """Whether somebody follows a link to the page, which is all that other sites may do."""
    return (
        request.method == "GET"
        and request.scope["path"] == "/"
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest") == "document"
    )


def _check_content_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if request.method == "POST" and content_type.partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, f"Content-Type is '{content_type[:100]}'; only application/json is read")


class _SecuredSend:
    """A `send` that adds the headers of every response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            # Files may be stored by the browser, but are checked each time: the next server may have others.
            headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
            headers.update(SECURITY_HEADERS)
        await self._send(message)
