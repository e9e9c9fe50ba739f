"""Trained models that are loaded, and their networks as sessions: each once, however often is refreshed."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inklab.corruptions.filters import Filter, filters
from inklab.errors import CorruptFileError, ModelMismatchError
from inklab.export.graphs import Exportable, decoder_graph, encoder_graph, network_graph
from inklab.export.onnx_metadata import OUTPUT_NAMES
from inklab.export.onnx_runtime import Session
from inklab.model import TrainedModel
from inklab.serve.batcher import BatchFn
from inklab.serve.network_cache import load_or_convert
from inklab.shapes import Pixels
from inklab.usercode import is_user_code

USER_MODEL_ID = "network"  # the id of a lone model whose network is code of a user's own


@dataclass(frozen=True)
class AutoencoderHalves:
    """An autoencoder's two halves.

    Attributes:
        encode: images to latent codes.
        decode: latent codes to images.
        code_size: units of a code.
    """

    encode: Session
    decode: Session
    code_size: int


@dataclass(frozen=True)
class ReadyModel:
    """A trained model that can be asked.

    Attributes:
        path: where it was loaded from.
        model: the trained model.
        session: its network.
        weights_sha256: of its network.
        halves: of an autoencoder; None for other networks.
    """

    path: Path
    model: TrainedModel
    session: Session
    weights_sha256: str
    halves: AutoencoderHalves | None


class ModelRegistry:
    """What is ready to be asked.

    Args:
        samples: images of the run that converted networks are compared on; None if there are none.
        trust_code: code of your own that may be run.
        threads: of a pass.
        networks: where networks are registered by id, for the batcher.
    """

    def __init__(
        self,
        samples: Pixels | None,
        trust_code: Collection[str],
        threads: int,
        networks: dict[str, BatchFn],
    ) -> None:
        self._samples, self._trust_code, self._threads = samples, tuple(trust_code), threads
        self._networks = networks
        self._ready: dict[str, ReadyModel] = {}
        networks.update({name: _filter_fn(entry) for name, entry in filters.all().items()})

    def __getitem__(self, name: str) -> ReadyModel:
        return self._ready[name]

    def load(self, path: Path, name: str | None = None) -> tuple[str, TrainedModel]:
        """Load a trained model and make it ready, unless it is already.

        Args:
            path: its directory.
            name: its id; that of its network if left out.

        Returns:
            Its id and the model.

        Raises:
            InklabError: it can't be loaded or converted.
        """
        if name in self._ready and self._ready[name].path == path:
            return name, self._ready[name].model
        model = TrainedModel.load(path, trust_code=self._trust_code)
        if model.preprocessing.shape != model.shape:
            raise CorruptFileError(f"'{path}' is damaged: its preprocessing makes images of another shape")
        name = name or (USER_MODEL_ID if is_user_code(model.name) else model.name)
        graph = network_graph(model, name)
        session = self._load_or_convert(graph)
        weights_sha256 = graph.metadata.parts[0].weights_sha256
        assert weights_sha256 is not None
        halves = self._load_halves(model, name) if model.task == "denoising" else None
        self._ready[name] = ReadyModel(path, model, session, weights_sha256, halves)
        self._networks[name] = _session_fn(session, *OUTPUT_NAMES[graph.kind])
        return name, model

    def _load_halves(self, model: TrainedModel, name: str) -> AutoencoderHalves | None:
        try:
            encoder, decoder = encoder_graph(model, name), decoder_graph(model, name)
        except ModelMismatchError:  # a denoiser without halves
            return None
        (code_size,) = decoder.input_shape
        halves = AutoencoderHalves(self._load_or_convert(encoder), self._load_or_convert(decoder), code_size)
        self._networks[encoder_id(name)] = _session_fn(halves.encode, *OUTPUT_NAMES["encoder"])
        self._networks[decoder_id(name)] = _session_fn(halves.decode, *OUTPUT_NAMES["decoder"])
        return halves

    def _load_or_convert(self, graph: Exportable) -> Session:
        return load_or_convert(graph, self._samples, self._threads)


def encoder_id(name: str) -> str:
    """The id of a denoiser's encoder; no experiment has such a name, for the space."""
    return f"{name} encoder"


def decoder_id(name: str) -> str:
    """The id of a denoiser's decoder."""
    return f"{name} decoder"


def _session_fn(session: Session, *outputs: str) -> BatchFn:
    def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        arrays = session(rows)
        return tuple(arrays[name] for name in outputs)

    return run


def _filter_fn(entry: Filter) -> BatchFn:
    def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        return (entry(torch.from_numpy(rows)).numpy(),)

    return run
