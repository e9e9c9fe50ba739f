"""The OpenAPI document: examples, tags, the token, and schemas that client generators understand whole."""

import math
from base64 import b64encode
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

Document = dict[str, Any]
"""A JSON document whose form FastAPI defines."""

TAGS = {
    "images": "Classify, denoise, inspect and generate images.",
    "server": "What is served, and whether the server answers.",
    "study": "Results and progress of the served run.",
}
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "the token that was set or printed when the server started",
}


class DescribedApp(FastAPI):
    """An application whose document at `/openapi.json` is made by `describe`."""

    document: Document

    def openapi(self) -> Document:
        """The document (called by FastAPI)."""
        return self.document


def describe(app: DescribedApp, shape: tuple[int, int, int], *, needs_token: bool) -> None:
    """Write the document that `/openapi.json` shows.

    openapi-python-client 0.29 generates a typed client for every endpoint of it.

    Args:
        app: with all its routes.
        shape: channels, height and width of the images that this server takes.
        needs_token: whether requests need a token; the document then says so.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in TAGS.items()],
    )
    for path, examples in _examples(shape).items():
        document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"] = examples
    if needs_token:
        document["components"]["securitySchemes"] = {"token": BEARER}
        document["security"] = [{"token": []}]
    _type_values(document["components"]["schemas"])
    app.document = document


def _examples(shape: tuple[int, int, int]) -> dict[str, Document]:
    """Requests that this server answers. The image is an upright bar: a digit 1, or at least not empty."""
    channels, height, width = shape
    rows, columns = range(height // 6, height - height // 6), range(3 * width // 7, math.ceil(4 * width / 7))
    pixels = bytearray(channels * height * width)
    for row in rows:
        for column in columns:
            pixels[row * width + column :: height * width] = b"\xff" * channels
    image = b64encode(pixels).decode()
    corrupted = {"images": [image], "corruption": {"strength": 0.2, "seed": 1}}
    return {
        "/api/predict": {"one image": {"value": {"images": [image]}}, "corrupted": {"value": corrupted}},
        "/api/denoise": {"corrupted": {"value": corrupted}},
        "/api/inspect": {"one image": {"value": {"images": [image]}}},
        "/api/generate": {
            "from a sampler": {"value": {"count": 4, "seed": 1}},
            "between four images": {"value": {"positions": [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]}},
            "near an image": {"value": {"neighbors_of": image, "count": 4, "sigma": 0.5}},
        },
    }


def _type_values(schema: object) -> None:
    """Turn `patternProperties` into `additionalProperties`, in place.

    pydantic writes the former where keys have a pattern. Generators ignore it, so values lose their type.
    """
    if isinstance(schema, dict):
        patterns = schema.get("patternProperties")
        if isinstance(patterns, dict) and len(patterns) == 1 and schema.get("type") == "object":
            del schema["patternProperties"]
            (schema["additionalProperties"],) = patterns.values()
    if isinstance(schema, dict | list):
        for part in schema.values() if isinstance(schema, dict) else schema:
            _type_values(part)
