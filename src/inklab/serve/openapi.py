"""The description of the server at /openapi.json: from the forms, with examples that work here."""

import math
from base64 import b64encode
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from inklab.corruptions.corruption import corruptions
from inklab.serve.app_state import AppState
from inklab.serve.catalog import Catalog
from inklab.serve.latents import available_samplers
from inklab.serve.schemas import DenoiseRequest, ErrorResponse, GenerateRequest, PredictRequest

Json = dict[str, Any]

FORMS = {"/api/predict": PredictRequest, "/api/denoise": DenoiseRequest, "/api/generate": GenerateRequest}
PLACE = "#/components/schemas/{model}"
ERRORS = {
    "400": "not HTTP as it should be", "401": "the token is missing", "403": "another site, or another name",
    "404": "there is no such thing here", "405": "another method", "408": "the body came too slowly",
    "413": "the body is too large", "415": "the body is not application/json",
    "422": "something in the request is wrong", "503": "too much at once; Retry-After says when to ask again",
}  # fmt: skip
OF_ALL = ("400", "401", "403", "405", "503")
OF_POST = ("404", "408", "413", "415", "422")
SUMMARIES = {
    "/api/predict": "What pipelines say of images",
    "/api/denoise": "What a denoiser makes of images",
    "/api/generate": "New images from a decoder",
    "/health": "Whether the server answers",
    "/api/networks": "What there is to ask",
    "/api/study": "Results of the study, and how far it is",
    "/api/study/events": "How far the study is, as server-sent events",
}


def describe_api(app: FastAPI, service: AppState) -> None:
    """Have `app.openapi()` tell everything, with the ids that there are now and examples that work."""
    app.openapi = lambda: _described(app, service)  # type: ignore[method-assign]


def _described(app: FastAPI, service: AppState) -> Json:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    wanted: list[Any] = [(each, "validation") for each in (*FORMS.values(), ErrorResponse)]
    _, forms = models_json_schema(wanted, ref_template=PLACE)
    schemas.update(forms["$defs"])
    _detail(schemas, service)
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            _complete(path, method, operation, service.shelf)
    return found


def _detail(schemas: Json, service: AppState) -> None:
    """Say which ids there are, and how large an image is: what the forms alone can't know."""
    shelf, halves = service.shelf, service.stock.halves
    image = {"pattern": _pattern(shelf.shape)}
    ids = {
        ("CorruptionRequest", "corruption"): list(corruptions),
        ("DenoiseRequest", "denoiser"): shelf.denoisers,
        ("GenerateRequest", "decoder"): [name for name in shelf.denoisers if name in halves],
        ("GenerateRequest", "sampler"): [each.name for each in available_samplers(shelf.generator)],
    }  # fmt: skip
    for (form, name), known in ids.items():
        _first(schemas[form]["properties"][name])["enum"] = known
    for form in ("PredictRequest", "DenoiseRequest"):
        _first(schemas[form]["properties"]["images"])["items"].update(image)
        schemas[form]["oneOf"] = [
            {"required": [name], "properties": {name: {"type": kind}}}
            for name, kind in (("images", "array"), ("picture", "string"))
        ]
    _first(schemas["GenerateRequest"]["properties"]["near"]).update(image)
    pipelines = _first(schemas["PredictRequest"]["properties"]["pipelines"])["items"]
    pipelines["enum"] = ["+".join(each) for each in shelf.pipelines]


def _first(schema: Json) -> Json:
    """What a field is where it is not null."""
    found: Json = schema["anyOf"][0]
    return found


def _pattern(shape: tuple[int, int, int]) -> str:
    """What base64 of an image's bytes looks like."""
    whole, rest = divmod(math.prod(shape), 3)
    return f"^[A-Za-z0-9+/]{{{4 * whole + (rest and rest + 1)}}}{'=' * (3 - rest) if rest else ''}$"


def _complete(path: str, method: str, operation: Json, shelf: Catalog) -> None:
    operation["summary"] = SUMMARIES[path]
    codes = (*OF_ALL, *(OF_POST if method == "post" else ()), *(("404",) if path.endswith("events") else ()))
    for code in codes:
        content: Json = {"application/json": {"schema": {"$ref": PLACE.format(model="ErrorResponse")}}}
        operation["responses"][code] = {"description": ERRORS[code], "content": content}
    if path.endswith("events"):
        operation["responses"]["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    if path in FORMS:
        schema = {"$ref": PLACE.format(model=FORMS[path].__name__)}
        content = {"schema": schema, "examples": _examples(path, shelf)}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}


def _examples(path: str, shelf: Catalog) -> Json:
    channels, height, width = shelf.shape
    image = b64encode(bytes(channels * height * width)).decode()
    noise: Json = {"strength": 0.2, "seed": 1}
    found: Json = {
        "/api/predict": {"one image": {"images": [image]}, "with noise": {"images": [image], "noise": noise}},
        "/api/denoise": {"with noise": {"images": [image], "noise": noise}},
        "/api/generate": {
            "anywhere": {"count": 4, "seed": 1},
            "a walk": {"at": [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], "seed": 1},
            "near an image": {"near": image, "count": 4, "spread": 0.5},
        },
    }
    return {name: {"value": value} for name, value in found[path].items()}
