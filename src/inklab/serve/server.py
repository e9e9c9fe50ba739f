"""The server: its routes, the page's files, errors as JSON, and its life from an address to its end."""

import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_type_hints

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import inklab
from inklab import web
from inklab.errors import InklabError
from inklab.records.components import PreprocessingWord
from inklab.serve import routes
from inklab.serve.address import BACKLOG, AllowedHosts, AuthToken, BindAddress
from inklab.serve.app_state import AppState
from inklab.serve.middleware import (
    EVENTS,
    CompressionMiddleware,
    HttpError,
    LimitMiddleware,
    Limits,
    SecurityMiddleware,
    error_response,
)
from inklab.serve.openapi import DescribedApp, describe
from inklab.serve.schemas import ErrorResponse, format_validation_error

OnReady = Callable[[Mapping[str, str]], None]
"""Called once the server answers, with the models that can't be served and why."""

SWITCH_INTERVAL = 1e-4
"""Seconds after which Python's threads take turns. A network that has finished waits so long for the event
loop to release the interpreter. With the default of 5e-3, a fifth fewer requests are answered
(1,290 to 1,560 a second against 1,610 to 1,860, at 8 and 64 clients, alternately)."""

SHUTDOWN_SECONDS = 3  # that responses under way may take after the server was asked to end

PAGE = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES = {
    path.name: path
    for path in sorted((*PAGE.iterdir(), *(web.FOLDER / name for name in web.MODULES)))
    if path.suffix in MEDIA_TYPES
}
"""The page's files by name; the drawing pad is shared with the report."""

REPORT = "/report.html"
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Of the report, whose own policy names its scripts by hash; the sandbox takes away origin and cookies."""

ERRORS = {
    400: "not HTTP as it should be", 401: "the token is missing", 403: "another site, or another host name",
    404: "there is no such thing here", 405: "another method", 408: "the body came too slowly",
    413: "the body is too large", 415: "the body is not application/json",
    422: "something in the request is wrong", 503: "too much at once; Retry-After says when to try again",
}  # fmt: skip
Responses = dict[int | str, dict[str, Any]]
RESPONSES: Responses = {
    status: {"model": ErrorResponse, "description": description} for status, description in ERRORS.items()
}


def build_app(state: AppState, on_ready: OnReady, *, needs_token: bool) -> FastAPI:
    """The application; to be used behind `SecurityMiddleware`.

    Args:
        state: what responses are made from.
        on_ready: called once it answers.
        needs_token: whether requests need a token, for /openapi.json.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await state.start()
        on_ready(state.catalog.skipped)
        yield
        await state.stop()

    app = DescribedApp(
        title="inklab serve", version=inklab.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False, generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.state.inklab = state
    _add_routes(app)
    describe(app, state.catalog.shape, needs_token=needs_token)
    for kind in (HTTPException, InklabError, Exception):
        app.add_exception_handler(kind, _on_error)
    return app


class JsonRoute(APIRoute):
    """A route `handler(body, state)` that validates and serializes JSON as bytes.

    FastAPI describes it in /openapi.json; its own way through Python objects takes 0.3 ms longer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request (called by FastAPI)."""
        types = get_type_hints(self.endpoint)
        request_type, response_type = types["body"], TypeAdapter(types["return"])

        async def handle(request: Request) -> Response:
            try:
                body = request_type.model_validate_json(await request.body())
            except ValidationError as error:
                raise HttpError(422, format_validation_error(error)) from None
            response = await self.endpoint(body, request.app.state.inklab)
            return Response(response_type.dump_json(response), media_type="application/json")

        return handle


def _add_routes(app: FastAPI) -> None:
    for handler in (routes.predict, routes.denoise, routes.generate, routes.inspect):
        app.router.add_api_route(
            f"/api/{handler.__name__}", handler, methods=["POST"], responses=RESPONSES, tags=["images"],
            route_class_override=JsonRoute,
        )  # fmt: skip
    app.get("/api/examples", responses=RESPONSES, tags=["images"])(routes.examples)
    app.get("/api/digits", responses=RESPONSES, tags=["images"])(routes.digits)
    app.get("/health", responses=RESPONSES, tags=["server"])(routes.health)
    app.get("/api/networks", responses=RESPONSES, tags=["server"])(routes.networks)
    app.get("/api/study", responses=RESPONSES, tags=["study"])(routes.study)
    stream: Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
    app.get(EVENTS, responses=RESPONSES | stream, response_class=Response, tags=["study"])(routes.events)
    app.get(REPORT, include_in_schema=False)(_report)
    app.get("/", include_in_schema=False)(_index)
    app.get("/static/{name}", include_in_schema=False)(_static)


async def _index(request: Request) -> Response:
    return await _static("index.html", request)


async def _static(name: str, request: Request) -> Response:
    """A file of the page, unless the browser has it already."""
    path = FILES.get(name)
    if path is None:
        raise HttpError(404, "the page has no such file")
    response = FileResponse(path, media_type=MEDIA_TYPES[path.suffix], stat_result=path.stat())
    etag = response.headers["etag"]
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    return response


async def _report(request: Request) -> Response:
    """The run's report, with scripts that can't reach the server: a run may come from anywhere."""
    state: AppState = request.app.state.inklab
    if state.report_path is None or not state.report_path.is_file():
        raise HttpError(404, "there is no report of this run yet; 'inklab report' writes one")
    return FileResponse(
        state.report_path, media_type=MEDIA_TYPES[".html"], headers={"content-security-policy": REPORT_POLICY}
    )


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(_http_error(request, error))


def _http_error(request: Request, error: Exception) -> HTTPException:
    """What a client learns about an error: one line with what to do."""
    match error:
        case HttpError():
            return error
        case InklabError():  # a GET has nothing that could be wrong: the run is damaged
            return HttpError(422 if request.method == "POST" else 503, str(error))
        case HTTPException(status_code=404):
            return HttpError(404, f"there is nothing at '{request.scope['path'][:100]}'; see /openapi.json")
        case HTTPException(status_code=405, headers=headers):
            allowed = (headers or {}).get("Allow", "")
            return HttpError(405, f"{request.method[:20]} is not allowed here; allowed: {allowed}", headers)
        case HTTPException():
            return error
        case _:
            return HttpError(500, "an internal error occurred; see the server's terminal")


# ---------------------------------------------------------------- the life of the server


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP over httptools, with the limit of header sizes that uvicorn has over h11 only.

    h11 takes 0.13 ms more per request; 8 clients then get a fifth fewer answers per second.
    """

    max_header_bytes = Limits.max_header_bytes
    _header_bytes: int | None = 0  # of a request whose headers are incomplete

    def data_received(self, data: bytes) -> None:
        """Parse some bytes; close the connection if they are headers and too many (called by asyncio)."""
        super().data_received(data)
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > self.max_header_bytes and not self.transport.is_closing():
                self.send_400_response(f"Headers exceed {self.max_header_bytes} bytes.")

    def on_message_begin(self) -> None:
        """A request begins (called by the parser)."""
        super().on_message_begin()
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """The body begins (called by the parser)."""
        self._header_bytes = None
        if not self.url.startswith(
            b"/"
        ):  # http://other.example/..., for proxies: a host beside the Host header
            self.url = b"*"
        super().on_headers_complete()


class UvicornServer(uvicorn.Server):
    """uvicorn, which ends the study's event streams before it waits for responses.

    Args:
        config: of uvicorn.
        state: state of the application.
    """

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self.app_state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        if self.app_state.progress_stream is not None:
            await self.app_state.progress_stream.close()
        await super().shutdown(sockets)


def create_server(
    path: Path,
    address: BindAddress,
    listener: socket.socket,
    on_ready: OnReady,
    trust_code: Collection[str] = (),
    limits: Limits | None = None,
    preprocessing: PreprocessingWord | None = None,
) -> UvicornServer:
    """A server that is ready to run: `run(sockets=[listener])` or `await serve(...)`.

    Args:
        path: a run directory, or the directory of a trained model.
        address: where, and for whom.
        listener: the socket there.
        on_ready: called once it answers.
        trust_code: code of your own that may be run.
        limits: of requests; the defaults if left out.
        preprocessing: "mnist" or "resize" in place of what the models say; None for theirs.

    Raises:
        InklabError: there is nothing to serve, or a package is missing.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    limits, port = limits or Limits(), listener.getsockname()[1]
    state = AppState(path, trust_code, limits, preprocessing)
    token = None if address.token is None else AuthToken(address.token, port)
    app = build_app(state, on_ready, needs_token=token is not None)
    config = uvicorn.Config(
        SecurityMiddleware(
            LimitMiddleware(CompressionMiddleware(app), limits), AllowedHosts.of(address, port), token
        ),
        http=type("Http", (LimitedHttpProtocol,), {"max_header_bytes": limits.max_header_bytes}),
        limit_concurrency=limits.max_connections,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    return UvicornServer(config, state)


def serve(
    path: Path,
    address: BindAddress,
    listener: socket.socket,
    on_ready: OnReady,
    trust_code: Collection[str] = (),
    preprocessing: PreprocessingWord | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; arguments as of `create_server`."""
    server = create_server(path, address, listener, on_ready, trust_code, preprocessing=preprocessing)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more after a clean end
        server.run(sockets=[listener])
