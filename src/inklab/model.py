"""Save, load and apply trained models.

A trained model is a directory with `model.json` and `weights.safetensors`: all that using it needs.

A checkpoint, which continues a training, is something else and stays in the run directory's `work/`.
"""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from inklab.data.conversion import to_numpy
from inklab.data.dataset import describe
from inklab.errors import ConfigError, CorruptFileError, DataError, ModelMismatchError
from inklab.io.files import read_bytes_capped, sha256_of, write_atomic
from inklab.io.tensor_file import MAX_FILE_BYTES, check_header
from inklab.metrics import Task
from inklab.model_summary import ModelSummary
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import build_network, check_network
from inklab.ood import OodDetector, TrainingRun
from inklab.predictions import CLASSIFIER, Inputs, Pixels, Predictions
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.manifest import MANIFEST, WEIGHTS, ModelManifest, Provenance
from inklab.records.record import Shape
from inklab.seeding import Seed
from inklab.usercode import is_known, is_live, reference, short_name

__all__ = ["MANIFEST", "WEIGHTS", "TrainedModel"]

BATCH = 250  # images of one pass: few enough for the processor's cache, enough to keep it busy


class Halves(NamedTuple):
    """An autoencoder's two halves.

    Attributes:
        encode: images to codes.
        decode: codes to images.
        code_size: units of a code.
    """

    encode: nn.Module
    decode: nn.Module
    code_size: int


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with everything that using it needs.

    Attributes:
        net: normalization and network, in evaluation mode; maps images in [0, 1] to logits.
        manifest: what it is: its network, labels, preprocessing, metrics and origin.
        run: the run that trained it, whose images OOD scores compare with; None for a model without one.

    Example:
        >>> import inklab
        >>> model = inklab.load("latest").model("cnn")  # doctest: +SKIP
        >>> model.predict(["photo.png", "scan.png"]).labels  # doctest: +SKIP
        >>> model.net(torch.rand(8, *model.shape)).shape  # logits  # doctest: +SKIP
    """

    net: NormalizedModel
    manifest: ModelManifest
    run: TrainingRun | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"TrainedModel({self.name!r}, {self.task}, weights {self.manifest.weights_sha256[:8]})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @classmethod
    def of(
        cls, net: NormalizedModel, network: NetworkConfig, task: Task, labels: tuple[str, ...],
        preprocessing: Preprocessing, *, provenance: Provenance | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> "TrainedModel":  # fmt: skip
        """A network that was just trained; the arguments are fields of `ModelManifest`."""
        manifest = ModelManifest(
            network=network, shape=preprocessing.shape, labels=labels, task=task,
            normalize=_normalize_config(net), preprocessing=preprocessing,
            provenance=provenance or Provenance(), metrics=dict(metrics or {}),
            source_sha256=check_network(network), weights_sha256=sha256_of(_weights(net)),
        )  # fmt: skip
        return cls(net, manifest)

    @property
    def name(self) -> str:
        """Name of its network."""
        return self.manifest.network.name

    @property
    def shape(self) -> Shape:
        """Channels, height, width of its images."""
        return self.manifest.shape

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each class."""
        return self.manifest.labels

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return self.manifest.task

    @property
    def preprocessing(self) -> Preprocessing:
        """How any picture becomes an image of its training data."""
        return self.manifest.preprocessing

    # ------------------------------------------------------------ files

    def save(self, folder: str | Path) -> str:
        """Write `weights.safetensors` and then `model.json` into a directory; `inklab.load` reads it.

        Returns:
            The SHA-256 of the weights file.

        Raises:
            WriteError: the disk refuses.
        """
        folder = Path(folder)
        write_atomic(folder / WEIGHTS, _weights(self.net))
        self.manifest.write(folder / MANIFEST)
        return self.manifest.weights_sha256

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        network: str | Callable[..., object] | None = None,
        trust_code: Collection[str] = (),
        run: TrainingRun | None = None,
    ) -> "TrainedModel":
        """Read a trained model and check it against its manifest. Nothing is unpickled.

        Args:
            folder: directory with model.json and weights.safetensors.
            network: the class or function of your own that it was trained with; not needed in the session
                that trained it.
            trust_code: code of your own that may be run, such as "my_net.py:Net". A manifest may come from
                anywhere, so the code that it names is run only if you name it too. The file may lie elsewhere
                than it did.
            run: the run that it belongs to.

        Raises:
            DataError: there is no trained model.
            ConfigError: it needs code that is not trusted, or an object of another session.
            CorruptFileError: it is damaged, or was made with another version of the user's code.
            ModelMismatchError: the weights do not fit the network.
        """
        folder = Path(folder)
        manifest = ModelManifest.read_from(folder)
        weights = _read_weights(folder / WEIGHTS, manifest.weights_sha256)
        trusted = trust_code if network is None else (*trust_code, _code_of(network, manifest))
        config = _trusted_network(manifest, folder, trusted)
        if not config.is_user_code:
            # A registered network is first built without memory, so a malicious size costs nothing.
            with torch.device("meta"):
                _check_shapes(_build(config, manifest), weights, folder)
        net = _build(config, manifest)
        _check_shapes(net, weights, folder)
        net.load_state_dict(weights)
        if manifest.normalize != _normalize_config(net):
            raise CorruptFileError(
                f"'{folder / MANIFEST}' is damaged: its 'normalize' differs from that of the weights; "
                f"{ModelManifest.repair_advice}"
            )
        return cls(for_inference(net), manifest, run)

    # ------------------------------------------------------------ use

    def logits(self, images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n ..."]:
        """What the network computes from images in [0, 1]: a logit for each class, or for each pixel.

        Bytes are divided by 255. Gradients are computed only where the images require them.

        Raises:
            ModelMismatchError: the network computes something of another shape than its task needs.
        """
        expected = self.manifest.output_shape
        with torch.inference_mode(not images.requires_grad):
            if images.dtype == torch.uint8:  # a copy of our own: it may be written into
                logits = self.net.infer(images.float().div_(255))
            else:
                logits = self.net(images)
        if tuple(logits.shape) != (len(images), *expected):
            raise ModelMismatchError(
                f"'{self.name}' returns {tuple(logits.shape[1:])} for an image, but {self.task} needs "
                f"{expected}; restore the model from a copy"
            )
        return logits

    def probabilities(
        self, images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"]
    ) -> Float[Tensor, "n k"]:
        """Class probabilities of images in [0, 1], or of bytes: rows that sum to 1.

        Raises:
            ModelMismatchError: it is a denoiser.
        """
        self.check_task("classification")
        return torch.softmax(self.logits(images), dim=1)

    def predict(self, images: object) -> Predictions:
        """Classify images of any kind. A file that can't be read is an entry with an error.

        Images unlike the training images, and empty ones, are marked: see `Predictions`.

        Args:
            images: an array or tensor of images of the training format, bytes or floats in [0, 1]:
                `(n, h, w)`, `(n, c, h, w)`, `(n, h, w, c)`, flat `(n, c*h*w)`, or one image. Or what is
                preprocessed first: a PIL picture, the path of a file or of a folder (with its folders), or a
                list of those.

        Raises:
            DataError: a shape that does not fit, or no pictures.
            OutOfRangeError: values that are neither bytes nor floats in [0, 1].
            ModelMismatchError: it is a denoiser.

        Example:
            >>> model.predict("photos").to_pandas()                      # doctest: +SKIP
        """
        self.check_task("classification")
        return self.predict_inputs(Inputs.of(images, self.preprocessing))

    def predict_inputs(self, inputs: Inputs) -> Predictions:
        """Classify what was read already, as a pipeline does whose denoisers changed the images."""
        logits = self._logits_of(inputs.pixels)
        answers = torch.softmax(logits, dim=1).numpy()
        return Predictions(inputs, answers, self.labels, logits.numpy(), self._find_detector)

    def predict_proba(self, images: object) -> Float32[np.ndarray, "n k"]:
        """Class probabilities of images, as `predict` takes them: rows that sum to 1, columns as `labels`.

        Raises:
            DataError, OutOfRangeError, ModelMismatchError: as `predict`; also if a file can't be read.
        """
        self.check_task("classification")
        logits = self._logits_of(Inputs.of(images, self.preprocessing).require_all())
        rows: np.ndarray = torch.softmax(logits, dim=1).numpy()
        return rows

    def denoise(self, images: object) -> Any:
        """Denoise images, as `predict` takes them.

        Returns:
            `(n, c, h, w)` float32 in [0, 1]: a tensor if a tensor is given, else an array.

        Raises:
            DataError, OutOfRangeError, ModelMismatchError: as `predict`; also if a file can't be read.
        """
        self.check_task("denoising")
        return self._transform(lambda batch: torch.sigmoid(self.logits(batch)), images)

    def encode(self, images: object) -> Any:
        """Codes of images, as `predict` takes them, by the first half of an autoencoder.

        Returns:
            `(n, d)` float32: a tensor if a tensor is given, else an array.

        Raises:
            ModelMismatchError: the network has no modules `encoder` and `decoder`.
            DataError, OutOfRangeError: as `predict`; also if a file can't be read.

        Example:
            >>> model.decode(model.encode("photos"))                     # doctest: +SKIP
        """
        return self._transform(self.halves.encode, images)

    def decode(self, codes: object) -> Any:
        """Images of codes, by the second half of an autoencoder.

        Args:
            codes: `(n, d)` array or tensor of floats, or one code `(d,)`.

        Returns:
            `(n, c, h, w)` float32 in [0, 1]: a tensor if a tensor is given, else an array.
            `decode(encode(images))` is `denoise(images)`, to the bit.

        Raises:
            ModelMismatchError: the network has no modules `encoder` and `decoder`.
            DataError: codes of another shape, or not finite.
        """
        rows, d = to_numpy(codes, "codes"), self.halves.code_size
        if rows.dtype.kind not in "uif" or rows.shape[-1:] != (d,) or rows.ndim not in (1, 2):
            raise DataError(f"codes is {describe(rows)}; needed are numbers (n, {d}), as encode returns them")
        if not np.isfinite(rows).all():
            raise DataError("codes has values that are not finite; give numbers, as encode returns them")
        with torch.inference_mode():
            images = in_batches(self.halves.decode, torch.from_numpy(rows.astype(np.float32).reshape(-1, d)))
        return images if isinstance(codes, Tensor) else images.numpy()

    @cached_property
    def halves(self) -> Halves:
        """The two halves of an autoencoder: images to codes, codes to images in [0, 1].

        Raises:
            ModelMismatchError: its network has no modules `encoder` and `decoder`, or a code is no row.
        """
        encoder, decoder = (getattr(self.net.net, name, None) for name in ("encoder", "decoder"))
        if not (isinstance(encoder, nn.Module) and isinstance(decoder, nn.Module)):
            raise ModelMismatchError(
                f"'{self.name}' has no modules 'encoder' and 'decoder'; only a network with both, such as "
                "'autoencoder', has two halves",
                key=self.name,
            )
        encode = nn.Sequential(self.net.normalize, encoder)
        with torch.inference_mode():
            codes = encode(torch.zeros(1, *self.shape))
        if codes.ndim != 2 or len(codes) != 1:
            raise ModelMismatchError(
                f"the encoder of '{self.name}' returns {tuple(codes.shape)} for an image, not (1, d)"
            )
        return Halves(encode, nn.Sequential(decoder, nn.Sigmoid()), int(codes.shape[1]))

    def summary(self) -> ModelSummary:
        """Its layers with output shapes and parameters, and where it comes from. Shows itself."""
        layers = tuple(layer_table(self.net.net, self.shape))
        parameters = sum(values.numel() for values in self.net.parameters())
        return ModelSummary(self.manifest, layers, parameters, self.run.plan if self.run else None)

    def export_onnx(self, path: str | Path) -> Path:
        """Write the network as an ONNX file that maps images to probabilities, after comparing its outputs.

        Args:
            path: the file to write, `.onnx`. Preprocessing, labels and provenance are in its metadata.

        Returns:
            The path.

        Raises:
            InklabError: the extra `inklab[onnx]` is not installed, or the network can't be exported.
            WriteError: the disk refuses.
        """
        from inklab.export.graphs import network_graph
        from inklab.export.onnx_export import export_model

        write_atomic(Path(path), export_model(network_graph(self)).raw)
        return Path(path)

    def to_folder(self, path: str | Path) -> Path:
        """Write a folder that can be pushed to the Hugging Face hub, and that `inklab.load` reads.

        It has the model's files, a README.md that is its model card, and with the extra `inklab[onnx]`
        model.onnx. A network of your own is copied too: its file, and the modules beside it that it imports;
        to load it, name them by `trust_code`, as the card says. The license is left to you.

        Args:
            path: a folder that is not there yet, is empty, or was written by this method.

        Returns:
            The path.

        Raises:
            ConfigError: the folder holds something else.
            WriteError: the disk refuses.
        """
        from inklab.export.hub_folder import write_hub_folder

        return write_hub_folder(self, Path(path))

    def _logits_of(self, images: Pixels) -> Float[Tensor, "n k"]:
        if not len(images):
            return torch.zeros(0, len(self.labels))
        return in_batches(self.logits, torch.from_numpy(images))

    def _transform(self, compute: Callable[[Tensor], Tensor], images: object) -> Any:
        """What is computed of images: a tensor of tensors, else an array."""
        if isinstance(images, Tensor) and images.is_floating_point() and images.shape[1:] == self.shape:
            inputs = images  # as it is: not checked, so that pipelines lose no time
        else:
            inputs = torch.from_numpy(Inputs.of(images, self.preprocessing).require_all())
        with torch.inference_mode(not inputs.requires_grad):
            outputs = in_batches(compute, inputs)
        return outputs if isinstance(images, Tensor) else outputs.numpy()

    def _find_detector(self) -> OodDetector:
        return self._detector

    @cached_property
    def _detector(self) -> OodDetector:
        """What scores inputs; learned when it is first needed."""
        return OodDetector.fit(
            self.run,
            CLASSIFIER,
            self.manifest.weights_sha256,
            lambda images: self._logits_of(images).numpy(),
        )

    def check_task(self, task: Task) -> None:
        """Refuse to be used for another task.

        Raises:
            ModelMismatchError: it was trained for something else.
        """
        if self.task != task:
            raise ModelMismatchError(f"'{self.name}' was trained for {self.task}, not for {task}")


def in_batches(
    compute: Callable[[Tensor], Tensor], inputs: Float[Tensor, "n ..."] | UInt8[Tensor, "n ..."]
) -> Float[Tensor, "n ..."]:
    """What is computed for images or codes, in batches so that memory stays small."""
    if len(inputs) <= BATCH:
        return compute(inputs)
    return torch.cat([compute(batch) for batch in torch.split(inputs, BATCH)])


def _code_of(network: str | Callable[..., object], manifest: ModelManifest) -> str:
    """A class or function that is handed over, named as the manifest names it: by file or by itself."""
    if callable(network) and not is_live(manifest.network.name):
        with suppress(TypeError):  # it has no file
            return f"{inspect.getsourcefile(network)}:{network.__qualname__}"
    return reference(network)


def _trusted_network(manifest: ModelManifest, folder: Path, trust_code: Collection[str]) -> NetworkConfig:
    """Its network, with code of the user's named as the user trusts it, wherever that lies.

    Raises:
        ConfigError: the user did not name that code, or it is an object of another session.
        CorruptFileError: the code has changed since.
    """
    config, name = manifest.network, manifest.network.name
    if not os.path.isabs(name) and os.path.isfile(folder / name.rpartition(":")[0]):  # its code is beside it
        name = str(folder / name)
    attribute = short_name(name).rpartition(":")[2]
    codes = [code for code in trust_code if short_name(code).rpartition(":")[2] == attribute]
    if not codes and (is_known(name) or not is_live(name)):
        codes = [name]
    if not codes:
        raise ConfigError(
            f"'{folder}' was trained with '{attribute}' of another Python session; define that again, and "
            f"load the model with network={attribute}",
            key=name,
        )
    configs = [config.model_copy(update={"name": code}) for code in codes]
    same = [config for config in configs if check_network(config) == manifest.source_sha256]
    if not same:
        raise CorruptFileError(
            f"'{name}' has changed since '{folder}' was trained; restore that code, or train again"
        )
    if config.is_user_code and not is_live(name) and same[0].name not in trust_code:
        raise ConfigError(
            f"loading '{folder}' runs the code '{name}'; if you trust it, add --trust-code {name}, "
            f"or trust_code=['{name}'] in Python",
            key=name,
        )
    return same[0]


def _build(config: NetworkConfig, manifest: ModelManifest) -> NormalizedModel:
    net = build_network(config, manifest.shape, len(manifest.labels), Seed(0))
    return NormalizedModel(Normalize(), net)


def _weights(net: NormalizedModel) -> bytes:
    """The bytes of the weights as safetensors; their SHA-256 identifies the network."""
    return save_tensors({name: value.clone().contiguous() for name, value in net.state_dict().items()})


def _normalize_config(net: NormalizedModel) -> NormalizeConfig:
    return NormalizeConfig(mean=float(net.normalize.mean), std=float(net.normalize.std))


def _check_shapes(net: NormalizedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    stored = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | stored.keys()):
        if expected.get(name) != stored.get(name):
            raise ModelMismatchError(
                f"the weights in '{folder}' do not fit the network: '{name}' is "
                f"{stored.get(name, 'missing')}, but the network has {expected.get(name, 'no such tensor')}",
                key=name,
            )


def _read_weights(path: Path, expected_sha256: str) -> dict[str, Tensor]:
    advice = ModelManifest.repair_advice
    if not path.is_file():
        raise CorruptFileError(f"'{path}' is missing; {advice}")
    raw = read_bytes_capped(path, MAX_FILE_BYTES)
    if sha256_of(raw) != expected_sha256:
        raise CorruptFileError(f"'{path}' is damaged: its SHA-256 is not the one in {MANIFEST}; {advice}")
    try:
        return load_tensors(check_header(raw, str(path)))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptFileError(f"'{path}' is not a safetensors file: {error}; {advice}") from error
