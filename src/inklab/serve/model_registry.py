"""Bundles that are loaded, and their networks as sessions: each once, however often is looked."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from inklab.corruptions.filters import Filter, filters
from inklab.errors import ModelMismatchError
from inklab.export.graphs import Exportable, decoder, encoder
from inklab.export.graphs import network as whole
from inklab.export.onnx_runtime import Session
from inklab.model import TrainedModel
from inklab.serve.batcher import Network
from inklab.serve.network_cache import load_or_convert, network
from inklab.serve.ood import samples_of
from inklab.study.run_directory import RunDirectory
from inklab.usercode import is_user_code

LONE_ID = "network"  # the id of a lone bundle whose model is code of a user's own
OUTPUTS = {"labels": ("logits", "probabilities"), "images": ("cleaned",)}


class AutoencoderHalves(NamedTuple):
    """An autoencoder's two halves.

    Attributes:
        encode, decode: sessions.
        code: units of a code.
    """

    encode: Session
    decode: Session
    code: int


class ModelRegistry:
    """What is ready to be asked.

    Args:
        run: the run that is served, if it is one; its samples are what converted networks are compared on.
        trusted: code of one's own that may be run.
        threads: of a pass.
        networks: where networks are put by their id, for the batcher.
    """

    def __init__(
        self, run: RunDirectory | None, trusted: Collection[str], threads: int, networks: dict[str, Network]
    ) -> None:
        self._samples, self._trusted, self._threads = samples_of(run), tuple(trusted), threads
        self._networks = networks
        self._loaded: dict[str, tuple[Path, TrainedModel]] = {}
        self.sessions: dict[str, Session] = {}
        self.weights: dict[str, str] = {}
        self.halves: dict[str, AutoencoderHalves] = {}
        for name, each in filters.all().items():
            networks[name] = _filtering(each)

    def usable(self, name: str | None, folder: Path) -> tuple[str, TrainedModel]:
        """Load a bundle and make it ready; see `shelf.Usable`.

        Raises:
            InklabError: it can't be loaded or converted.
        """
        known = self._loaded.get(name or "")
        if known and known[0] == folder:
            return name or "", known[1]
        bundle = TrainedModel.load(folder, trusted=self._trusted)
        model = bundle.model["name"]
        name = name or (LONE_ID if is_user_code(model) else model)
        wanted = whole(bundle, name)
        session = self._ready(wanted)
        if bundle.target == "images":
            self._split(bundle, name)
        self.weights[name] = wanted.about["parts"][0]["weights_sha256"]
        self.sessions[name] = session
        self._networks[name] = network(session, *OUTPUTS[bundle.target])
        self._loaded[name] = (folder, bundle)
        return name, bundle

    def _split(self, bundle: TrainedModel, name: str) -> None:
        """Make an autoencoder's halves ready; other denoisers have none."""
        try:
            first, second = encoder(bundle, name), decoder(bundle, name)
        except ModelMismatchError:
            return
        halves = AutoencoderHalves(self._ready(first), self._ready(second), second.about["code"])
        self._networks[encoder_id(name)] = network(halves.encode, "codes")
        self._networks[decoder_id(name)] = network(halves.decode, "images")
        self.halves[name] = halves

    def _ready(self, wanted: Exportable) -> Session:
        return load_or_convert(wanted, self._samples, self._threads)


def encoder_id(name: str) -> str:
    """The id of a denoiser's encoder; no chapter is called so, for the space."""
    return f"{name} encoder"


def decoder_id(name: str) -> str:
    """The id of a denoiser's decoder."""
    return f"{name} decoder"


def _filtering(each: Filter) -> Network:
    def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        return (each(torch.from_numpy(rows)).numpy(),)

    return run
