"""The answers of the API: what is served, predictions, denoising, new images."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from inklab.corruptions.corruption import Corruption, corruptions
from inklab.errors import UnknownNameError
from inklab.serve.app_state import AppState
from inklab.serve.catalog import Catalog
from inklab.serve.inputs import available_corruptions, corrupt_bytes, to_uint8
from inklab.serve.latents import DEFAULT_SAMPLER, available_samplers
from inklab.serve.limits import HttpError
from inklab.serve.model_registry import decoder_id, encoder_id
from inklab.serve.ood import NEAREST, is_empty
from inklab.serve.schemas import (
    CorruptionRequest,
    DenoiseRequest,
    GenerateRequest,
    PredictRequest,
    decode_images,
    encode_images,
    pixels_of,
)

USUAL_CORRUPTION = "salt_and_pepper"  # of a lone bundle, and of a study without noise


class PipelineOutput(NamedTuple):
    """Of a pipeline: what reached the classifier, and what that said."""

    seen: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


class ApiHandlers:
    """Answers about images.

    Args:
        service: what they are made of.
    """

    def __init__(self, service: AppState) -> None:
        self._service = service

    async def predict(self, asked: PredictRequest) -> bytes:
        """What pipelines say of images: JSON as `forms.PredictAnswer`.

        Raises:
            HttpError, InklabError: something in the request doesn't exist.
        """
        chosen = self._pipelines(asked.pipelines)
        images = await self._images(asked)
        shown = await self._shown(images, asked.noise)
        judging, ask = self._service.judging, self._service.batcher.ask
        near = ask(NEAREST, images) if judging.near is not None else None
        if len(chosen) == 1 and len(chosen[0]) == 1:  # the usual question, without a task of its own
            said = [PipelineOutput(shown, *await ask(chosen[0][0], shown))]
        else:
            said = await self._passed(chosen, shown)
        nearness = None if near is None else (await near)[0]
        return self._judged(images, shown, chosen, said, nearness)

    async def denoise(self, asked: DenoiseRequest) -> bytes:
        """What a denoiser makes of images: JSON as `forms.DenoiseAnswer`.

        Raises:
            HttpError, InklabError: something in the request doesn't exist.
        """
        name = _one_of("denoiser", asked.denoiser, self._service.shelf.denoisers)
        images = await self._images(asked)
        shown = await self._shown(images, asked.noise)
        (cleaned,) = await self._service.batcher.ask(name, shown)
        told = [map(encode_images, each) for each in (images, to_uint8(shown), to_uint8(cleaned))]
        rows = (dict(zip(("image", "shown", "cleaned"), row, strict=True)) for row in zip(*told, strict=True))
        return json.dumps({"images": list(rows)}).encode()

    async def generate(self, asked: GenerateRequest) -> bytes:
        """New images and what a classifier sees in them: JSON as `forms.GenerateAnswer`.

        Raises:
            HttpError, InklabError: something in the request doesn't exist.
        """
        shelf, ask = self._service.shelf, self._service.batcher.ask
        known = [name for name in shelf.denoisers if name in self._service.stock.halves]
        usual = shelf.generator.get("decoder")
        name = _one_of("decoder", asked.decoder or (usual if usual in known else None), known)
        samplers = [each.name for each in available_samplers(shelf.generator)]
        sampler = _one_of(
            "sampler", asked.sampler or (DEFAULT_SAMPLER if DEFAULT_SAMPLER in samplers else None), samplers
        )
        near = None if asked.near is None else pixels_of([asked.near], shelf.shape, "near")
        codes = await self._service.decoder(name)
        if near is not None:
            (code,) = await ask(encoder_id(name), near)
            drawn = codes.around(code, asked.count, asked.spread, asked.seed)
        elif asked.at is not None:
            drawn = codes.walk(sampler, asked.at, asked.seed)
        else:
            drawn = codes.drawn(sampler, asked.count, asked.seed)
        (images,) = await ask(decoder_id(name), drawn)
        told = {
            "images": [encode_images(each) for each in to_uint8(images)],
            "recognised": await self._recognised(images),
        }
        return json.dumps(told).encode()

    async def _recognised(self, images: np.ndarray) -> list[dict[str, Any]]:
        shelf = self._service.shelf
        judge = next(
            (
                name
                for name in (shelf.generator.get("judge"), *shelf.classifiers)
                if name in shelf.classifiers
            ),
            None,
        )
        if judge is None:
            return []
        _, probabilities = await self._service.batcher.ask(judge, images)
        rows = zip(probabilities.argmax(axis=1), probabilities.max(axis=1), strict=True)
        return [{"label": shelf.labels[k], "probability": round(float(share), 6)} for k, share in rows]

    def _pipelines(self, asked: Sequence[str] | None) -> list[tuple[str, ...]]:
        known = self._service.shelf.pipelines
        if not known:
            raise HttpError(
                404, "there is no classifier to ask; if the study runs, one will come: see /api/networks"
            )
        if asked is None:
            return [known[0]]
        chosen = [tuple(each.split("+")) for each in dict.fromkeys(asked)]
        for each in chosen:
            if each not in known:
                raise UnknownNameError("pipeline", "+".join(each), ["+".join(parts) for parts in known])
        return chosen

    async def _images(self, asked: PredictRequest | DenoiseRequest) -> np.ndarray:
        framing = self._service.shelf.framing
        if asked.images is not None:
            return pixels_of(asked.images, framing.shape)
        assert asked.picture is not None
        return await self._service.pictures.framed(decode_images(asked.picture, "picture"), framing)

    async def _shown(self, images: np.ndarray, noise: CorruptionRequest | None) -> np.ndarray:
        """The images with noise, as floats; without any, as they are."""
        if noise is None:
            return images
        name = noise.corruption or _usual_corruption(self._service.shelf.corruption)
        return await self._service.in_background(
            lambda: corrupt_bytes(images, name, noise.strength, noise.seed)
        )

    async def _passed(self, chosen: Sequence[tuple[str, ...]], shown: np.ndarray) -> list[PipelineOutput]:
        """What each pipeline says; what several have in common is computed once."""
        ask = self._service.batcher.ask
        seen: dict[tuple[str, ...], np.ndarray] = {(): shown}
        for depth in range(1, max(map(len, chosen))):
            cleaners = list(dict.fromkeys(parts[:depth] for parts in chosen if len(parts) > depth))
            made = await asyncio.gather(*(ask(each[-1], seen[each[:-1]]) for each in cleaners))
            seen |= {each: cleaned for each, (cleaned,) in zip(cleaners, made, strict=True)}
        found = await asyncio.gather(*(ask(parts[-1], seen[parts[:-1]]) for parts in chosen))
        return [PipelineOutput(seen[parts[:-1]], *each) for parts, each in zip(chosen, found, strict=True)]

    def _judged(
        self,
        images: np.ndarray,
        shown: np.ndarray,
        chosen: Sequence[tuple[str, ...]],
        said: Sequence[PipelineOutput],
        nearness: np.ndarray | None,
    ) -> bytes:
        """The answer as JSON, written by hand: the json module takes longer than a network."""
        shelf = self._service.shelf
        empty = is_empty(images, None if shelf.framing.centre == "none" else shelf.framing.light_on_dark)
        judged = [
            self._judgements("+".join(parts), each, nearness, empty)
            for parts, each in zip(chosen, said, strict=True)
        ]
        rows = zip(
            map(encode_images, images),
            map(encode_images, to_uint8(shown)),
            zip(*judged, strict=True),
            strict=True,
        )
        told = [
            f'{{"image":"{image}","shown":"{after}","judgements":[{",".join(each)}]}}'
            for image, after, each in rows
        ]
        return f'{{"images":[{",".join(told)}]}}'.encode()

    def _judgements(
        self, pipeline: str, said: PipelineOutput, nearness: np.ndarray | None, empty: Sequence[bool]
    ) -> list[str]:
        """What one pipeline says of each image, as JSON."""
        seen, logits, probabilities = said
        if not np.isfinite(probabilities).all():
            raise HttpError(500, f"'{pipeline}' gives no numbers for these images")
        familiar = self._service.judging.familiar(pipeline.split("+")[-1], nearness, logits, probabilities)
        form = ",".join(["%.6g"] * probabilities.shape[1])
        labels = [json.dumps(label) for label in self._service.shelf.labels]
        told = []
        for place, image in enumerate(to_uint8(seen)):
            share = None if familiar is None else float(familiar[place])
            abstains = "empty" if empty[place] else "unfamiliar" if share is not None and share < 0 else None
            label = labels[int(probabilities[place].argmax())] if abstains is None else "null"
            told.append(
                f'{{"pipeline":{json.dumps(pipeline)},"seen":"{encode_images(image)}","label":{label},'
                f'"probabilities":[{form % tuple(probabilities[place])}],'
                f'"abstains":{json.dumps(abstains)},"familiarity":{json.dumps(share and round(share, 4))}}}'
            )
        return told


def _one_of(kind: str, asked: str | None, known: Sequence[str]) -> str:
    """What was asked for, or the first."""
    if not known:
        raise HttpError(404, f"there is no {kind} here; see /api/networks")
    if asked is not None and asked not in known:
        raise UnknownNameError(kind, asked, known)
    return known[0] if asked is None else asked


def _usual_corruption(study: str | None) -> str:
    """The study's own corruption, if it is a registered one."""
    return study if study is not None and study in corruptions else USUAL_CORRUPTION


Json = dict[str, Any]


async def network_catalog(service: AppState) -> Json:
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
        "corruptions": [_corruption(each) for each in available_corruptions(shelf.corruption)],
        "strengths": shelf.strengths,
        "denoisers": shelf.denoisers,
        "decoders": [] if references is None else _decoders(service, references.source),
        "limits": {
            "images": service.limits.images, "draws": service.limits.draws, "body": service.limits.body,
            "pixels": service.limits.pixels,
        },
        "curves": shelf.curves,
    }  # fmt: skip


def _pipeline(parts: tuple[str, ...], shelf: Catalog) -> Json:
    name = "+".join(parts)
    return {"id": name, "parts": list(parts), "accuracy": shelf.accuracy.get(name)}


def _corruption(each: Corruption) -> Json:
    return {"id": each.name, "unit": each.unit, "largest": each.largest, "description": each.description}


def _decoders(service: AppState, source: str) -> list[Json]:
    shelf = service.shelf
    samplers = [
        {"id": each.name, "description": each.description} for each in available_samplers(shelf.generator)
    ]
    usual = shelf.generator.get("decoder")
    names = sorted(
        (name for name in shelf.denoisers if name in service.stock.halves), key=lambda each: each != usual
    )
    return [
        {"id": name, "code": service.stock.halves[name].code, "samplers": samplers, "codes_from": source}
        for name in names
    ]
