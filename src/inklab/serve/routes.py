"""The routes of the API: predictions, denoising, new images, inspection; what is served, and the study."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Annotated, NamedTuple

import numpy as np
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

import inklab
from inklab.data.mnist import mnist_5k
from inklab.errors import UnknownNameError
from inklab.evaluation.inspection import inspect as inspect_classifier
from inklab.ood import is_empty, why_abstained
from inklab.records.components import Pipeline
from inklab.serve import schemas
from inklab.serve.app_state import NEAREST, AppState
from inklab.serve.batcher import to_floats
from inklab.serve.catalog import Catalog
from inklab.serve.inputs import (
    DEFAULT_SAMPLER,
    available_corruptions,
    available_samplers,
    corrupt_pixels,
    default_corruption,
    to_uint8,
)
from inklab.serve.middleware import HttpError
from inklab.serve.model_registry import AutoencoderHalves, decoder_id, encoder_id
from inklab.serve.schemas import decode_base64, decode_images, encode_image, encode_maps

MAX_TRAINING_DIGITS, MAX_TEST_DIGITS = 1000, 200  # for a training in a browser: 0.9 MB


async def _app_state(request: Request) -> AppState:
    state: AppState = request.app.state.inklab
    return state


State = Annotated[AppState, Depends(_app_state)]


# ---------------------------------------------------------------- images


class PipelineOutput(NamedTuple):
    """What a pipeline computes from some images: the inputs of its classifier, and its outputs."""

    denoised: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


async def predict(body: schemas.PredictRequest, state: State) -> schemas.PredictResponse:
    """What pipelines predict for images."""
    pipelines = _find_pipelines(body.pipelines, state.catalog)
    images = await _read_images(body, state)
    corrupted = await _corrupt(images, body.corruption, state)
    similar = state.batcher.run(NEAREST, images) if state.ood.neighbors is not None else None
    outputs = await _run_pipelines(pipelines, corrupted, state)
    similarity = None if similar is None else (await similar)[0]
    empty = is_empty(images, state.catalog.preprocessing)
    predictions = [
        _predictions(pipeline, output, similarity, empty, state)
        for pipeline, output in zip(pipelines, outputs, strict=True)
    ]
    rows = zip(images, to_uint8(corrupted), zip(*predictions, strict=True), strict=True)
    return schemas.PredictResponse(
        images=[
            schemas.ImagePredictions(
                input=encode_image(image), corrupted=encode_image(after), predictions=list(row)
            )
            for image, after, row in rows
        ]
    )


async def denoise(body: schemas.DenoiseRequest, state: State) -> schemas.DenoiseResponse:
    """What a denoiser makes of images."""
    name = _find_name("denoiser", body.denoiser, state.catalog.denoisers)
    images = await _read_images(body, state)
    corrupted = await _corrupt(images, body.corruption, state)
    (denoised,) = await state.batcher.run(name, corrupted)
    rows = zip(images, to_uint8(corrupted), to_uint8(denoised), strict=True)
    return schemas.DenoiseResponse(
        images=[
            schemas.DenoisedImage(input=encode_image(a), corrupted=encode_image(b), denoised=encode_image(c))
            for a, b, c in rows
        ]
    )


async def inspect(body: schemas.InspectRequest, state: State) -> schemas.InspectResponse:
    """What the classifier of a pipeline computes inside: activations, filters, occlusion."""
    (pipeline,) = _find_pipelines(None if body.pipeline is None else [body.pipeline], state.catalog)
    images = await _read_images(body, state)
    corrupted = await _corrupt(images, body.corruption, state)
    (output,) = await _run_pipelines([pipeline], corrupted, state)
    _check_finite(pipeline, output)
    denoised, label = to_floats(output.denoised), int(output.probabilities[0].argmax())
    model = state.registry[pipeline.classifier].model
    inside = await state.inspector.run(lambda: inspect_classifier(model, denoised, label))
    return schemas.InspectResponse(
        pipeline=pipeline,
        input=encode_image(images[0]),
        corrupted=encode_image(to_uint8(corrupted)[0]),
        denoised=encode_image(to_uint8(denoised)[0]),
        removed=encode_maps([0], to_floats(corrupted) - denoised) if pipeline.denoisers else None,
        label=state.catalog.labels[label],
        layers=[
            schemas.InspectedLayer(
                name=layer.name,
                types=list(layer.types),
                output_shape=list(layer.output_shape),
                maps=encode_maps(layer.maps.units, layer.maps.values),
            )
            for layer in inside.layers
        ],
        filters=None if inside.filters is None else encode_maps(inside.filters.units, inside.filters.values),
        occlusion=None if inside.occlusion is None else encode_maps([0], inside.occlusion[None, None]),
        notes=list(inside.notes),
    )


async def generate(body: schemas.GenerateRequest, state: State) -> schemas.GenerateResponse:
    """New images from a decoder, and what a classifier predicts for them."""
    catalog, run = state.catalog, state.batcher.run
    decoder = _find_name("decoder", body.decoder, list(_decoders(state)))
    samplers = [sampler.name for sampler in available_samplers(catalog.generation)]
    sampler = _find_name("sampler", body.sampler, sorted(samplers, key=lambda name: name != DEFAULT_SAMPLER))
    image = decode_images([body.neighbors_of], catalog.shape, "neighbors_of") if body.neighbors_of else None
    latents = await state.latents(decoder)
    if image is not None:
        (code,) = await run(encoder_id(decoder), image)
        codes = latents.perturb(code, body.count, body.sigma, body.seed)
    elif body.positions is not None:
        codes = latents.interpolate(sampler, body.positions, body.seed)
    else:
        codes = latents.sample(sampler, body.count, body.seed)
    (images,) = await run(decoder_id(decoder), codes)
    labels = await _label_samples(images, state)
    return schemas.GenerateResponse(images=[encode_image(image) for image in to_uint8(images)], labels=labels)


async def _label_samples(images: np.ndarray, state: AppState) -> list[schemas.SampleLabel]:
    classifier = state.catalog.sample_classifier
    if classifier is None:
        return []
    _, probabilities = await state.batcher.run(classifier, images)
    labels = state.catalog.labels
    return [
        schemas.SampleLabel(label=labels[int(row.argmax())], probability=_six_digits(row.max()))
        for row in probabilities
    ]


async def _read_images(body: schemas.ImagesRequest, state: AppState) -> np.ndarray:
    preprocessing = state.catalog.preprocessing
    if body.picture is not None:
        return await state.pictures.preprocess(decode_base64(body.picture, "picture"), preprocessing)
    return decode_images(body.images or [], preprocessing.shape)


async def _corrupt(
    images: np.ndarray, corruption: schemas.CorruptionRequest | None, state: AppState
) -> np.ndarray:
    """The corrupted images as floats; without a corruption, the images themselves."""
    if corruption is None:
        return images
    name = corruption.name or default_corruption(state.catalog.corruption)
    return await state.run_briefly(lambda: corrupt_pixels(images, name, corruption.strength, corruption.seed))


async def _run_pipelines(
    pipelines: Sequence[Pipeline], images: np.ndarray, state: AppState
) -> list[PipelineOutput]:
    """What each pipeline computes; what several have in common is computed once."""
    run = state.batcher.run
    denoised: dict[tuple[str, ...], np.ndarray] = {(): images}
    for depth in range(1, 1 + max(len(pipeline.denoisers) for pipeline in pipelines)):
        prefixes = list(dict.fromkeys(p.denoisers[:depth] for p in pipelines if len(p.denoisers) >= depth))
        outputs = await asyncio.gather(*(run(prefix[-1], denoised[prefix[:-1]]) for prefix in prefixes))
        denoised |= {prefix: output for prefix, (output,) in zip(prefixes, outputs, strict=True)}
    inputs = [denoised[pipeline.denoisers] for pipeline in pipelines]
    if len(pipelines) == 1:  # the usual request, without a task of its own
        return [PipelineOutput(inputs[0], *await run(pipelines[0].classifier, inputs[0]))]
    classified = await asyncio.gather(
        *(run(pipeline.classifier, rows) for pipeline, rows in zip(pipelines, inputs, strict=True))
    )
    return [PipelineOutput(rows, *output) for rows, output in zip(inputs, classified, strict=True)]


def _predictions(
    pipeline: Pipeline,
    output: PipelineOutput,
    similarity: np.ndarray | None,
    empty: np.ndarray,
    state: AppState,
) -> list[schemas.PipelinePrediction]:
    """What one pipeline predicts for each image."""
    _check_finite(pipeline, output)
    scores = state.ood.score(pipeline.classifier, similarity, output.logits, output.probabilities)
    rounded = [None] * len(empty) if scores is None else [round(score, 4) for score in scores.tolist()]
    predictions = []
    for index, image in enumerate(to_uint8(output.denoised)):
        abstained = why_abstained(bool(empty[index]), rounded[index])
        probabilities = output.probabilities[index]
        label = state.catalog.labels[int(probabilities.argmax())] if abstained is None else None
        predictions.append(
            schemas.PipelinePrediction(
                pipeline=pipeline,
                denoised=encode_image(image),
                label=label,
                probabilities=[_six_digits(probability) for probability in probabilities],
                abstained=abstained,
                ood_score=rounded[index],
            )
        )
    return predictions


def _check_finite(pipeline: Pipeline, output: PipelineOutput) -> None:
    if not np.isfinite(output.probabilities).all():
        raise HttpError(500, f"'{pipeline}' computes no finite probabilities for these images")


def _six_digits(probability: np.float32) -> float:
    return float(f"{probability:.6g}")


def _find_pipelines(names: Sequence[str] | None, catalog: Catalog) -> list[Pipeline]:
    known = catalog.pipelines
    if not known:
        raise HttpError(404, "there is no classifier yet; while the study runs, see /api/networks")
    if names is None:
        return [known[0]]
    for name in names:
        if name not in known:
            raise UnknownNameError("pipeline", name, known)
    return [Pipeline(name) for name in dict.fromkeys(names)]


def _find_name(kind: str, name: str | None, known: Sequence[str]) -> str:
    """The name of a request, or the first known one."""
    if not known:
        raise HttpError(404, f"there is no {kind} here; see /api/networks")
    if name is not None and name not in known:
        raise UnknownNameError(kind, name, known)
    return known[0] if name is None else name


def _decoders(state: AppState) -> dict[str, AutoencoderHalves]:
    """Halves of denoisers that have some, the study's own one first."""
    generation = state.catalog.generation
    own = generation.decoder if generation else None
    names = sorted(state.catalog.denoisers, key=lambda name: name != own)
    return {name: halves for name in names if (halves := state.registry[name].halves)}


# ---------------------------------------------------------------- what is served, and the study


async def networks(state: State) -> schemas.NetworksResponse:
    """What is served. After the start, it waits for the training images to be read."""
    catalog = await state.current_catalog()
    references = await state.references()
    return schemas.NetworksResponse(
        **catalog.info.model_dump(),
        labels=list(catalog.labels),
        image=schemas.ImageInfo.model_validate(catalog.preprocessing, from_attributes=True),
        preprocessing=catalog.preprocessing,
        pipelines=[_pipeline_info(pipeline, catalog) for pipeline in catalog.pipelines],
        corruptions=[
            schemas.CorruptionInfo(
                id=entry.name, unit=entry.unit, max_strength=entry.max_strength, description=entry.description
            )
            for entry in available_corruptions(catalog.corruption)
        ],
        strengths=list(catalog.robustness.strengths) if catalog.robustness else None,
        denoisers=catalog.denoisers,
        decoders=[] if references is None else _decoder_infos(state, references.source),
        ood_known=state.ood.ready,
        skipped=dict(catalog.skipped),
        limits=schemas.LimitsInfo.model_validate(state.limits, from_attributes=True),
        robustness_curves=catalog.curves,
    )


def _pipeline_info(pipeline: Pipeline, catalog: Catalog) -> schemas.PipelineInfo:
    accuracy = catalog.accuracies.get(pipeline)
    return schemas.PipelineInfo(
        id=pipeline,
        parts=list(pipeline.parts),
        accuracy=accuracy,
        accuracy_text="" if accuracy is None else accuracy.format("test_accuracy", images="test images"),
    )


def _decoder_infos(state: AppState, source: str) -> list[schemas.DecoderInfo]:
    samplers = [
        schemas.SamplerInfo(id=sampler.name, description=sampler.description)
        for sampler in available_samplers(state.catalog.generation)
    ]
    return [
        schemas.DecoderInfo(id=name, code_size=halves.code_size, samplers=samplers, latents_from=source)
        for name, halves in _decoders(state).items()
    ]


async def examples(state: State) -> schemas.ExamplesResponse:
    """Test images to start with: one of each class."""
    await state.references()
    if state.examples is None:
        return schemas.ExamplesResponse(images=[])
    labels = state.catalog.labels
    rows = zip(state.examples.pixels, state.examples.labels, strict=True)
    images = [schemas.Example(image=encode_image(image), label=labels[label]) for image, label in rows]
    return schemas.ExamplesResponse(images=images)


async def digits() -> schemas.DigitsResponse:
    """Digits that come with inklab, as many as a browser trains a network on."""
    return await asyncio.to_thread(_read_digits)


@cache
def _read_digits() -> schemas.DigitsResponse:
    digits = mnist_5k()
    parts = ((digits.train, MAX_TRAINING_DIGITS), (digits.test, MAX_TEST_DIGITS))
    pixels = np.concatenate([part.pixels[:count] for part, count in parts])
    labels = np.concatenate([part.labels[:count] for part, count in parts])
    return schemas.DigitsResponse(
        height=pixels.shape[2],
        width=pixels.shape[3],
        n_train=MAX_TRAINING_DIGITS,
        images=encode_image(pixels.reshape(1, -1, pixels.shape[3])),
        labels=labels.tolist(),
    )


async def health(state: State) -> schemas.HealthResponse:
    """Whether the server answers."""
    return schemas.HealthResponse(inklab=inklab.__version__, study=state.catalog.info.study)


async def study(state: State) -> schemas.StudyResponse:
    """Results of the study, and its progress."""
    return schemas.StudyResponse() if state.progress_stream is None else await state.progress_stream.study()


async def events(state: State) -> StreamingResponse:
    """Progress of the study, as server-sent events."""
    if state.progress_stream is None:
        raise HttpError(404, "one model is served, so there is no study to follow; serve a run instead")
    stream = state.progress_stream.events()
    first = await anext(stream)  # too many subscribers are refused before a response begins
    return StreamingResponse(_chain(first, stream), media_type="text/event-stream")


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in rest:
        yield event
