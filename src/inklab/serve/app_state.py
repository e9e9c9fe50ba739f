"""What is behind the routes: what there is, networks asked in batches, what is learnt in the background."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from inklab.errors import InklabError
from inklab.serve.batcher import Batcher
from inklab.serve.catalog import Catalog, catalog_of_bundle, catalog_of_run
from inklab.serve.inputs import ImagePreprocessor
from inklab.serve.latents import LatentSampler, latent_sampler
from inklab.serve.limits import HttpError, Limits, service_unavailable
from inklab.serve.model_registry import ModelRegistry
from inklab.serve.network_cache import network
from inklab.serve.ood import NEAREST, OodDetector, ReferenceImages, references_of
from inklab.serve.progress_stream import ProgressStream
from inklab.study.run_directory import RunDirectory

REFRESH_INTERVAL = 2.0  # seconds between two looks at what there is
REFRESH_TIMEOUT = 2.0  # seconds that somebody who asks waits for a look
THREADS = 1  # of a pass: the event loop has the other core

T = TypeVar("T")

log = logging.getLogger("inklab.serve")


class AppState:
    """Everything that answers are made of.

    Args:
        folder: a run or a bundle.
        trusted: code of one's own that may be run.
        limits: of what is taken.

    Raises:
        InklabError: it is damaged, or a package is missing.
    """

    def __init__(self, folder: Path, trusted: Collection[str] = (), limits: Limits | None = None) -> None:
        torch.set_num_threads(THREADS)
        self.limits = limits or Limits()
        self.run = RunDirectory.existing(folder) if (folder / "plan.json").is_file() else None
        self._folder = folder
        self.batcher = Batcher(self.limits.waiting)
        self.stock = ModelRegistry(self.run, trusted, THREADS, self.batcher.networks)
        self.pictures = ImagePreprocessor(self.limits.pixels, self.limits.pictures)
        self.judging = OodDetector()
        self.follower = None if self.run is None else ProgressStream(self.run, self.limits.listeners)
        self.shelf = self._look()
        self._noise = ThreadPoolExecutor(1, "inklab noise")
        self._slow = ThreadPoolExecutor(1, "inklab learning")
        self._looking: asyncio.Task[None] | None = None
        self._looked = time.monotonic()
        self._decoders: dict[str, asyncio.Future[LatentSampler]] = {}
        self._references: asyncio.Future[ReferenceImages | None]
        self._learning: asyncio.Task[None]

    def _look(self) -> Catalog:
        if self.run is None:
            return catalog_of_bundle(self._folder, self.stock.usable)
        return catalog_of_run(self.run, self.stock.usable)

    async def start(self) -> None:
        """Begin to answer, and to learn."""
        self.batcher.start()
        self._references = asyncio.get_running_loop().create_future()
        self._learning = asyncio.create_task(self._learn())

    async def stop(self) -> None:
        """End what runs, as far as it can be ended."""
        if self.follower is not None:
            await self.follower.close()
        self._learning.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self.batcher.stop()
        self.pictures.stop()
        for pool in (self._noise, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)

    async def current(self) -> Catalog:
        """What there is now: networks appear when their trainings end.

        One that must be converted first is not waited for long: it is there when one asks again.

        Raises:
            InklabError: the run is damaged.
        """
        if self._is_due():
            self._looking = asyncio.create_task(self._look_again())
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=REFRESH_TIMEOUT)
            if self._looking.done():
                self._looking.result()
        return self.shelf

    def _is_due(self) -> bool:
        """Whether it is time to look again, and nobody is at it."""
        idle = self._looking is None or self._looking.done()
        late = time.monotonic() - self._looked > REFRESH_INTERVAL
        return self.run is not None and idle and late and self._learning.done()

    async def _look_again(self) -> None:
        before = dict(self.shelf.bundles)
        self.shelf = await asyncio.to_thread(self._look)
        self._looked = time.monotonic()
        for name, bundle in self.shelf.bundles.items():
            if before.get(name) is not bundle:
                self.judging.energies.pop(name, None)
                self._decoders.pop(name, None)
        if {*map(id, self.shelf.bundles.values())} - {*map(id, before.values())}:
            self._learning = asyncio.create_task(self._learn())

    async def references(self) -> ReferenceImages | None:
        """Images to compare with; read in the background after the start."""
        return await asyncio.shield(self._references)

    async def in_background(self, do: Callable[[], T]) -> T:
        """Something short that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._noise, do)

    async def decoder(self, name: str) -> LatentSampler:
        """A decoder's codes, as soon as they are there.

        Raises:
            HttpError: there are no images whose codes could be learnt from (503).
        """
        if name not in self._decoders:
            self._decoders[name] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._decoders[name])

    async def _learn(self) -> None:
        """Find out what images and codes are like. What goes wrong is told, and nothing waits for it."""
        references = await self._read()
        try:
            if references is not None:
                await self._learn_images(references)
                for name in self.shelf.classifiers:
                    await self._learn_classifier(name, references)
        except Exception as error:
            _tell("unfamiliar images are known by the largest probability only", error)
        self.judging.learnt = True
        for name in self.shelf.denoisers:
            if name in self.stock.halves:
                await self._learn_codes(name, references)

    async def _read(self) -> ReferenceImages | None:
        if not self._references.done():
            try:
                self._references.set_result(await self._slowly(lambda: references_of(self.run)))
            except Exception as error:
                self._references.set_result(None)
                _tell("no training images are at hand", error)
        return self._references.result()

    async def _learn_images(self, references: ReferenceImages) -> None:
        if self.judging.near is None:
            session = await self._slowly(
                lambda: self.judging.fit_distance(references, self.shelf.shape, THREADS)
            )
            self.batcher.networks[NEAREST] = network(session, "logits")
            await self._slowly(lambda: self.judging.calibrate_images(references, session))

    async def _learn_classifier(self, name: str, references: ReferenceImages) -> None:
        if name not in self.judging.energies:
            weights, session = self.stock.weights[name], self.stock.sessions[name]
            await self._slowly(lambda: self.judging.fit_energy(name, weights, session, references))

    async def _learn_codes(self, name: str, references: ReferenceImages | None) -> None:
        known = self._decoders.setdefault(name, asyncio.get_running_loop().create_future())
        if known.done():
            return
        half, weights, chapter = self.stock.halves[name], self.stock.weights[name], self.shelf.generator
        try:
            if references is None:
                raise service_unavailable("there are no images whose codes could be learnt from", 60)
            known.set_result(
                await self._slowly(lambda: latent_sampler(half.encode, weights, references, chapter))
            )
        except HttpError as error:
            known.set_exception(error)
        except Exception as error:
            _tell(f"no images come from '{name}'", error)
            known.set_exception(HttpError(503, f"no images come from '{name}': {error}"))
        known.exception()  # looked at: asyncio would complain of one that nobody asks for

    async def _slowly(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._slow, do)


def _tell(what: str, error: Exception) -> None:
    """Say what went wrong in the background; where it is a bug, from where it came."""
    log.warning("%s: %s", what, error, exc_info=None if isinstance(error, InklabError) else error)
