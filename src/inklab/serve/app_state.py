"""What is behind the routes: the catalog, networks run in batches, what is learned in the background."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from inklab.data.dataset import Dataset, ImageSet
from inklab.errors import InklabError
from inklab.ood import OodDetector, ReferenceImages
from inklab.records.components import Preprocessing, PreprocessingWord
from inklab.records.record import PLAN_FILE, REPORT_FILE
from inklab.runs import Run
from inklab.serve.batcher import Batcher
from inklab.serve.catalog import Catalog, catalog_of_model, catalog_of_run
from inklab.serve.inputs import BoundedThread, ImagePreprocessor, LatentSampler, fit_latent_sampler
from inklab.serve.middleware import HttpError, Limits, service_unavailable
from inklab.serve.model_registry import THREADS, ModelRegistry
from inklab.serve.progress_stream import ProgressStream
from inklab.study.run_directory import RunDirectory

NEAREST = "nearest training image"
"""Id of the nearest neighbor search among the batcher's networks: no experiment's name, for its spaces."""
REFRESH_SECONDS = 2.0  # between two refreshes of the catalog
MAX_REFRESH_WAIT = 2.0  # seconds that a request waits for a refresh
MAX_EXAMPLES = 30  # classes of which an example is offered

T = TypeVar("T")

log = logging.getLogger("inklab.serve")


class AppState:
    """Everything that responses are made from.

    Args:
        path: a run directory, or the directory of a trained model.
        trust_code: code of your own that may be run.
        limits: of requests.
        preprocessing: "mnist" or "resize" in place of what the models say; None for theirs.

    Attributes:
        report_path: where the run's report is, once it is written; None if one model is served.
        examples: the first test image of each class, after `references`; None without the dataset.
        refresh_seconds: between two refreshes of the catalog.
        max_refresh_wait: seconds that a request waits for one.

    Raises:
        InklabError: it is damaged, or a package is missing.
    """

    def __init__(
        self,
        path: Path,
        trust_code: Collection[str] = (),
        limits: Limits | None = None,
        preprocessing: PreprocessingWord | None = None,
    ) -> None:
        torch.set_num_threads(THREADS)
        self.limits = limits or Limits()
        self.refresh_seconds, self.max_refresh_wait = REFRESH_SECONDS, MAX_REFRESH_WAIT
        self._path, self._preprocessing = path, preprocessing
        run = Run(path) if (path / PLAN_FILE).is_file() else None
        samples = run.images.samples() if run else None
        self.report_path = path / REPORT_FILE if run else None
        self.batcher = Batcher(self.limits.max_queued_bytes)
        self.registry = ModelRegistry(samples.pixels if samples else None, trust_code, self.batcher.networks)
        self.pictures = ImagePreprocessor(self.limits.max_picture_pixels, self.limits.max_queued_pictures)
        self.inspector = BoundedThread(
            "inklab inspection", self.limits.max_queued_inspections, "too many images wait for inspection"
        )
        self.ood = OodDetector()
        self.examples: ImageSet | None = None
        self.batcher.networks[NEAREST] = self.ood.similarity
        self.progress_stream = (
            ProgressStream(RunDirectory(path), self.limits.max_subscribers) if run else None
        )
        self.catalog = self.load_catalog()
        self._corrupting = ThreadPoolExecutor(1, "inklab corruptions")
        self._background = ThreadPoolExecutor(1, "inklab learning")
        self._refresh: asyncio.Task[None] | None = None
        self._refreshed_at = time.monotonic()
        self._latents: dict[str, asyncio.Task[LatentSampler]] = {}
        self._references: asyncio.Task[ReferenceImages | None]
        self._learning: asyncio.Task[None]

    @property
    def is_learning(self) -> bool:
        """Whether something is still learned in the background."""
        return not self._learning.done()

    def load_catalog(self) -> Catalog:
        """What there is now.

        Raises:
            InklabError: the run or the model is damaged.
        """
        if self.progress_stream is None:
            catalog = catalog_of_model(self._path, self.registry)
        else:
            catalog = catalog_of_run(Run(self._path), self.registry)
        if self._preprocessing is None:
            return catalog
        return replace(catalog, preprocessing=Preprocessing.of(self._preprocessing, catalog.shape))

    async def start(self) -> None:
        """Begin to answer, and to learn."""
        self.batcher.start()
        self._references = asyncio.create_task(self._read_references())
        self._learning = asyncio.create_task(self._learn())

    async def stop(self) -> None:
        """End everything that can be ended."""
        if self.progress_stream is not None:
            await self.progress_stream.close()
        for task in (self._references, self._learning, self._refresh, *self._latents.values()):
            if task is not None:
                task.cancel()
        self.batcher.stop()
        self.pictures.stop()
        self.inspector.stop()
        for pool in (self._corrupting, self._background):
            pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ the catalog

    async def current_catalog(self) -> Catalog:
        """What there is now: models appear when their trainings end.

        One that must be converted first is not waited for long; it is there at a later request.

        Raises:
            InklabError: the run is damaged.
        """
        is_idle = self._refresh is None or self._refresh.done()
        is_old = time.monotonic() - self._refreshed_at > self.refresh_seconds
        if self.progress_stream is not None and is_idle and is_old and not self.is_learning:
            self._refresh = asyncio.create_task(self._refresh_catalog())
        if self._refresh is not None:
            await asyncio.wait([self._refresh], timeout=self.max_refresh_wait)
            if self._refresh.done():
                self._refresh.result()
        return self.catalog

    async def _refresh_catalog(self) -> None:
        before = self.catalog.models
        self.catalog = await asyncio.to_thread(self.load_catalog)
        self._refreshed_at = time.monotonic()
        new = [name for name, model in self.catalog.models.items() if before.get(name) is not model]
        for name in new:
            self.ood.energies.pop(name, None)
            self._latents.pop(name, None)
        if new:
            self._learning = asyncio.create_task(self._learn())

    # ------------------------------------------------------------ what requests wait for

    async def references(self) -> ReferenceImages | None:
        """Images to compare with; read in the background after the start."""
        return await asyncio.shield(self._references)

    async def latents(self, decoder: str) -> LatentSampler:
        """The latent codes of a decoder, as soon as they are there.

        Raises:
            HttpError: they can't be learned (503).
        """
        return await asyncio.shield(self._latent_task(decoder))

    async def run_briefly(self, compute: Callable[[], T]) -> T:
        """Something short that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._corrupting, compute)

    # ------------------------------------------------------------ learning in the background

    async def _learn(self) -> None:
        """Learn what images and codes look like. Failures are logged, and nothing depends on it."""
        references = await self.references()
        try:
            if references is not None:
                await self._in_background(lambda: self._calibrate(references))
        except Exception as error:
            _log("inputs out of distribution are detected by the largest probability only", error)
        self.ood.ready = True
        decoders = [name for name in self.catalog.denoisers if self.registry[name].halves is not None]
        await asyncio.gather(*map(self._latent_task, decoders), return_exceptions=True)

    async def _read_references(self) -> ReferenceImages | None:
        try:
            if self.progress_stream is not None:
                images = await self._in_background(lambda: Run(self._path).images)
                references = await self._in_background(lambda: images.reference_images)
                self.examples = await self._in_background(lambda: _first_of_each_class(images.dataset))
                if images.note:
                    log.warning("OOD scores are rough: %s", images.note)
                return references
        except Exception as error:
            _log("no training images are at hand", error)
        return None

    def _calibrate(self, references: ReferenceImages) -> None:
        if self.ood.neighbors is None:
            self.ood.fit_distance(references)
        for name in self.catalog.classifiers:
            if name not in self.ood.energies:
                ready = self.registry[name]
                self.ood.fit_energy(name, ready.weights_sha256, ready.logits, references)

    def _latent_task(self, name: str) -> asyncio.Task[LatentSampler]:
        if name not in self._latents:
            self._latents[name] = asyncio.create_task(self._learn_latents(name))
        return self._latents[name]

    async def _learn_latents(self, name: str) -> LatentSampler:
        ready, references = self.registry[name], await self.references()
        if references is None:
            raise service_unavailable("there are no images to learn latent codes from", 60)
        halves, weights_sha256 = ready.halves, ready.weights_sha256
        assert halves is not None
        try:
            return await self._in_background(
                lambda: fit_latent_sampler(halves.encode, weights_sha256, references, self.catalog.generation)
            )
        except Exception as error:
            _log(f"'{name}' generates no images", error)
            raise HttpError(503, f"'{name}' generates no images: {error}") from error

    async def _in_background(self, compute: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._background, compute)


def _first_of_each_class(dataset: Dataset | None) -> ImageSet | None:
    """Test images to start with; None without a dataset."""
    if dataset is None:
        return None
    _, first = np.unique(dataset.test.labels, return_index=True)
    return ImageSet(dataset.test.pixels[first[:MAX_EXAMPLES]], dataset.test.labels[first[:MAX_EXAMPLES]])


def _log(consequence: str, error: Exception) -> None:
    """Log a failure in the background, with its traceback if it is a bug."""
    log.warning("%s: %s", consequence, error, exc_info=None if isinstance(error, InklabError) else error)
