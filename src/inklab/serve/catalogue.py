"""What there is, as /api/networks tells it, and who follows the study."""

from typing import Any

from inklab.corrupt.corruption import Corruption
from inklab.serve.generator import offered
from inklab.serve.noise import known_corruptions
from inklab.serve.service import Service
from inklab.serve.shelf import Shelf

Json = dict[str, Any]


async def catalogue(service: Service) -> Json:
    """Everything that a page must know to ask. Waits, after the start, for the images to be found.

    Raises:
        InklabError: the run is damaged.
    """
    shelf = await service.current()
    references = await service.references()
    channels, height, width = shelf.shape
    return {
        **shelf.about,
        "labels": list(shelf.labels),
        "image": {"channels": channels, "height": height, "width": width},
        "framing": shelf.framing.to_json(),
        "pipelines": [_pipeline(parts, shelf) for parts in shelf.pipelines],
        "corruptions": [_corruption(each) for each in known_corruptions(shelf.corruption)],
        "strengths": shelf.strengths,
        "denoisers": shelf.denoisers,
        "decoders": [] if references is None else _decoders(service, references.source),
        "limits": {
            "images": service.limits.images, "draws": service.limits.draws, "body": service.limits.body,
            "pixels": service.limits.pixels,
        },
        "curves": shelf.curves,
    }  # fmt: skip


def _pipeline(parts: tuple[str, ...], shelf: Shelf) -> Json:
    name = "+".join(parts)
    return {"id": name, "parts": list(parts), "accuracy": shelf.accuracy.get(name)}


def _corruption(each: Corruption) -> Json:
    return {"id": each.name, "unit": each.unit, "largest": each.largest, "description": each.description}


def _decoders(service: Service, source: str) -> list[Json]:
    shelf = service.shelf
    samplers = [{"id": each.name, "description": each.description} for each in offered(shelf.generator)]
    usual = shelf.generator.get("decoder")
    names = sorted(
        (name for name in shelf.denoisers if name in service.stock.halves), key=lambda each: each != usual
    )
    return [
        {"id": name, "code": service.stock.halves[name].code, "samplers": samplers, "codes_from": source}
        for name in names
    ]
