"""The application: routes, the page's files, and what stands in every answer."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

import inklab
from inklab import web
from inklab.errors import InklabError
from inklab.serve.api import ApiHandlers, network_catalog
from inklab.serve.app_state import AppState
from inklab.serve.limits import HttpError
from inklab.serve.openapi import describe_api
from inklab.serve.progress_stream import no_study
from inklab.serve.schemas import (
    DenoiseRequest,
    DenoiseResponse,
    GenerateRequest,
    GenerateResponse,
    Health,
    PredictRequest,
    PredictResponse,
    StudyResponse,
    format_errors,
)

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"


@dataclass(frozen=True)
class StaticFile:
    """A file of the page.

    Attributes:
        content: its bytes.
        kind: its Content-Type.
        tag: changes with the content; a browser that has it is not sent it again.
    """

    content: bytes
    kind: str
    tag: str


def page_files() -> dict[str, StaticFile]:
    """Every file of the page, and the pad's modules, by name.

    Example:
        >>> "drawing.js" in page_files()
        True
    """
    found = {path.name: path.read_bytes() for path in sorted(PAGE.glob("*")) if path.suffix in KINDS}
    found |= {name: web.source(name).encode() for name in web.MODULES}
    return {name: _file(name, content) for name, content in found.items()}


def _file(name: str, content: bytes) -> StaticFile:
    tag = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(content, KINDS[Path(name).suffix], f'"{tag}"')


RequestModel = TypeVar("RequestModel", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
CACHE_CONTROL = "no-cache"  # kept, but asked for each time: the next start may have another one


class RawBodyRoute(APIRoute):
    """A route whose function gets the request as it is: FastAPI describes it, and stays out of the way."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The function itself."""
        handler: Callable[[Request], Any] = self.endpoint
        return handler


def build_app(service: AppState) -> FastAPI:
    """The application over a service; to be asked through a `guard.Guard`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="inklab serve", version=inklab.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.router.route_class = RawBodyRoute
    _add_images(app, ApiHandlers(service))
    _add_study(app, service)
    _add_page(app, page_files())
    _add_errors(app)
    describe_api(app, service)
    return app


def _add_images(app: FastAPI, answers: ApiHandlers) -> None:
    """The questions about images."""
    routes: tuple[tuple[str, Handler, type[BaseModel]], ...] = (
        ("predict", _asking(PredictRequest, answers.predict), PredictResponse),
        ("denoise", _asking(DenoiseRequest, answers.denoise), DenoiseResponse),
        ("generate", _asking(GenerateRequest, answers.generate), GenerateResponse),
    )
    for name, handler, answer in routes:
        app.add_api_route(f"/api/{name}", handler, methods=["POST"], response_model=answer, name=name)


def _asking(form: type[RequestModel], ask: Callable[[RequestModel], Awaitable[bytes]]) -> Handler:
    async def handler(request: Request) -> Response:
        try:
            asked = form.model_validate_json(request.scope["body"])
        except ValidationError as error:
            raise HttpError(422, format_errors(error)) from None
        return Response(await ask(asked), media_type=JSON)

    return handler


def _add_study(app: FastAPI, service: AppState) -> None:
    """What there is, and the study."""

    async def health(_: Request) -> Response:
        return _json({"status": "ok", "inklab": inklab.__version__, "study": service.shelf.about["study"]})

    async def networks(_: Request) -> Response:
        return _json(await network_catalog(service))

    async def study(_: Request) -> Response:
        follower = service.follower
        return _json({"results": None, "progress": None} if follower is None else await follower.study())

    async def events(_: Request) -> Response:
        if service.follower is None:
            raise no_study()
        stream = service.follower.events()
        first = await anext(stream)  # too many listeners are refused before an answer begins
        return StreamingResponse(_all(first, stream), media_type="text/event-stream")

    app.add_api_route("/health", health, methods=["GET"], response_model=Health)
    app.add_api_route("/api/networks", networks, methods=["GET"], response_model=dict[str, Any])
    app.add_api_route("/api/study", study, methods=["GET"], response_model=StudyResponse)
    app.add_api_route("/api/study/events", events, methods=["GET"], response_class=StreamingResponse)


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for each in rest:
            yield each
    finally:
        await rest.aclose()  # type: ignore[attr-defined]


def _add_page(app: FastAPI, files: Mapping[str, StaticFile]) -> None:
    """The page's files, and the description of all this."""

    async def index(request: Request) -> Response:
        return _sent(files.get(INDEX), request)

    async def static(request: Request) -> Response:
        return _sent(files.get(request.path_params["name"]), request)

    async def description(_: Request) -> Response:
        return _json(app.openapi())

    for path, handler in (("/", index), ("/static/{name}", static), ("/openapi.json", description)):
        app.add_api_route(path, handler, methods=["GET"], include_in_schema=False)


def _sent(file: StaticFile | None, request: Request) -> Response:
    if file is None:
        raise HttpError(404, "the page has no such file")
    headers = {"etag": file.tag, "cache-control": CACHE_CONTROL}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.kind, headers=headers)


def _json(value: MutableMapping[str, Any]) -> Response:
    return Response(json.dumps(value, allow_nan=False), media_type=JSON)


def _add_errors(app: FastAPI) -> None:
    """Every error is one line of JSON."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HttpError)
        return Response(error.body, error.status, error.headers, JSON)

    async def mistake(request: Request, error: Exception) -> Response:
        asked = request.method == "POST"  # else nothing was asked that could be wrong: the run is damaged
        return await refused(request, HttpError(422 if asked else 503, str(error)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await refused(request, HttpError(error.status_code, _said(request, error), error.headers))

    async def internal(request: Request, _: Exception) -> Response:
        return await refused(
            request, HttpError(500, "something went wrong here; the server's terminal says what")
        )

    app.add_exception_handler(HttpError, refused)
    app.add_exception_handler(InklabError, mistake)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, internal)


def _said(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return f"there is nothing at '{request.url.path[:100]}'; see /openapi.json"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow") or (error.headers or {}).get("allow", "")
        return f"{request.method[:20]} is not done here; allowed: {allowed}"
    return str(error.detail)
