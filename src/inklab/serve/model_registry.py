"""Trained models that are loaded, and their networks as sessions: each converted once, cached, checked."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

import inklab
from inklab.corruptions.filters import Filter, filters
from inklab.data.dataset import Pixels
from inklab.errors import CorruptFileError, ModelMismatchError
from inklab.export.graphs import Exportable, decoder_graph, encoder_graph, network_graph
from inklab.export.onnx_export import to_onnx
from inklab.export.onnx_file import OUTPUT_NAMES, Session
from inklab.export.verify import compare_outputs
from inklab.io.files import cache_dir, cached, fingerprint
from inklab.model import TrainedModel
from inklab.serve.batcher import BatchFn
from inklab.usercode import is_user_code

USER_MODEL_ID = "network"  # the id of a lone model whose network is code of a user's own
THREADS = 1  # of a pass: the event loop has the other core


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

    def logits(self, images: Float32[np.ndarray, "b c h w"]) -> Float32[np.ndarray, "b k"]:
        """Of a classifier, for images in [0, 1]."""
        return self.session(images)["logits"]


class ModelRegistry:
    """What is ready to be asked.

    Args:
        samples: images of the run that converted networks are compared on; None if there are none.
        trust_code: code of your own that may be run.
        networks: where networks are registered by id, for the batcher.
    """

    def __init__(
        self, samples: Pixels | None, trust_code: Collection[str], networks: dict[str, BatchFn]
    ) -> None:
        self._samples, self._trust_code, self._networks = samples, tuple(trust_code), networks
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
        session = self._register(name, graph)
        weights_sha256 = graph.metadata.parts[0].weights_sha256
        assert weights_sha256 is not None
        halves = self._load_halves(model, name) if model.task == "denoising" else None
        self._ready[name] = ReadyModel(path, model, session, weights_sha256, halves)
        return name, model

    def _load_halves(self, model: TrainedModel, name: str) -> AutoencoderHalves | None:
        try:
            encoder, decoder = encoder_graph(model, name), decoder_graph(model, name)
        except ModelMismatchError:  # a denoiser without halves
            return None
        sessions = self._register(encoder_id(name), encoder), self._register(decoder_id(name), decoder)
        return AutoencoderHalves(*sessions, code_size=decoder.input_shape[0])

    def _register(self, name: str, graph: Exportable) -> Session:
        session = load_or_convert(graph, self._samples)

        def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
            arrays = session(rows)
            return tuple(arrays[output] for output in OUTPUT_NAMES[graph.kind])

        self._networks[name] = run
        return session


def encoder_id(name: str) -> str:
    """The id of a denoiser's encoder; no experiment has such a name, for the space."""
    return f"{name} encoder"


def decoder_id(name: str) -> str:
    """The id of a denoiser's decoder."""
    return f"{name} decoder"


def _filter_fn(entry: Filter) -> BatchFn:
    return lambda rows: (entry(torch.from_numpy(rows)).numpy(),)


# ---------------------------------------------------------------- the cache


def load_or_convert(graph: Exportable, samples: Pixels | None) -> Session:
    """A network as a session: converted once, compared with the original, and cached.

    Args:
        graph: the network.
        samples: images to compare on, if any are at hand.

    Raises:
        ModelMismatchError: it can't be converted, or computes something else then.
        InklabError: a package that it needs is not installed.
    """

    def convert() -> bytes:
        raw = to_onnx(graph)
        compare_outputs(graph, Session(raw), samples)
        return raw

    name = fingerprint([graph.metadata.to_json(), inklab.__version__, str(torch.__version__)])
    return Session(cached(cache_dir("onnx") / f"{name}.onnx", convert), threads=THREADS)
