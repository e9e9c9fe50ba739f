"""The application: routes, the page's files, errors as JSON."""

import math
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

import inklab
from inklab import web
from inklab.errors import InklabError
from inklab.serve import api
from inklab.serve.app_state import AppState
from inklab.serve.limits import EVENTS, HttpError, error_response
from inklab.serve.schemas import ErrorResponse, format_validation_error

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


def build_app(state: AppState, on_ready: Callable[[Mapping[str, str]], None] = lambda _: None) -> FastAPI:
    """The application; to be used behind `security.SecurityMiddleware`.

    Args:
        state: what responses are made from.
        on_ready: called once it answers, with the models that can't be served and why.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await state.start()
        on_ready(state.catalog.skipped)
        yield
        await state.stop()

    app = FastAPI(
        title="inklab serve", version=inklab.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.inklab = state
    _add_routes(app, _examples(state.catalog.shape))
    _add_error_handlers(app)
    return app


def _add_routes(app: FastAPI, examples: dict[str, dict[str, object]]) -> None:
    for handler in (api.predict, api.denoise, api.generate):
        path = f"/api/{handler.__name__}"
        content = {"application/json": {"examples": examples[path]}}
        extra = {"requestBody": {"content": content}}
        app.post(path, responses=RESPONSES, openapi_extra=extra)(handler)
    app.get("/health", responses=RESPONSES)(api.health)
    app.get("/api/networks", responses=RESPONSES)(api.networks)
    app.get("/api/study", responses=RESPONSES)(api.study)
    stream: Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
    app.get(EVENTS, responses=RESPONSES | stream, response_class=Response)(api.events)
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


def _examples(shape: tuple[int, int, int]) -> dict[str, dict[str, object]]:
    """Requests for /openapi.json that this server answers: an image is black."""
    image = b64encode(bytes(math.prod(shape))).decode()
    corruption = {"strength": 0.2, "seed": 1}
    corrupted = {"images": [image], "corruption": corruption}
    return {
        "/api/predict": {"one image": {"value": {"images": [image]}}, "corrupted": {"value": corrupted}},
        "/api/denoise": {"corrupted": {"value": corrupted}},
        "/api/generate": {
            "from a sampler": {"value": {"count": 4, "seed": 1}},
            "between four images": {"value": {"positions": [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]}},
            "near an image": {"value": {"neighbors_of": image, "count": 4, "sigma": 0.5}},
        },
    }


def _add_error_handlers(app: FastAPI) -> None:
    """Every error is one line of JSON."""

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return error_response(_with_advice(request, error))

    async def on_invalid_request(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(HttpError(422, format_validation_error(error)))

    async def on_inklab_error(request: Request, error: Exception) -> JSONResponse:
        # A GET has nothing that could be wrong: the run is damaged.
        return error_response(HttpError(422 if request.method == "POST" else 503, str(error)))

    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        return error_response(HttpError(500, "an internal error occurred; see the server's terminal"))

    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(InklabError, on_inklab_error)
    app.add_exception_handler(Exception, on_bug)


def _with_advice(request: Request, error: HTTPException) -> HTTPException:
    """An error of the router, with what to do."""
    if isinstance(error, HttpError):
        return error
    if error.status_code == 404:
        return HttpError(404, f"there is nothing at '{request.scope['path'][:100]}'; see /openapi.json")
    if error.status_code == 405:
        headers = error.headers or {}
        allowed = headers.get("Allow", "")
        return HttpError(405, f"{request.method[:20]} is not allowed here; allowed: {allowed}", headers)
    return error
