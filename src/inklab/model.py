"""A bundle ships a network for use: weights, scaling, framing, labels and scores; no pickle.

(A checkpoint, for going on with training, is another thing and never shipped.)
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inklab.errors import ConfigError, CorruptFileError, DataError, ModelMismatchError
from inklab.io.atomic import write_atomic
from inklab.io.documents import read_json, sha256_of, write_json
from inklab.io.tensor_file import check_header, read_capped
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import Shape, build_net, check_model
from inklab.seeding import Seed
from inklab.usercode import is_user_code

FORMAT = 1
MANIFEST, WEIGHTS = "bundle.json", "weights.safetensors"
MAX_MANIFEST = 4 * 1024**2  # bytes
MAX_NUMBER = 1e100  # as in a run folder's files: what is larger may be no float


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with everything that using it needs.

    Attributes:
        net: scaling and network, in evaluation mode; maps images in [0, 1] to logits.
        model: the settings it is built from, `{"name": ..., ...}`.
        shape: channels, height, width of its images.
        labels: a name for each class.
        target: "labels" for a classifier, "images" for a denoiser.
        framing: how any picture is brought into the form of its training images.
        made_by: trial, replicate, versions, the data's SHA-256.
        scores: numbers about it by name.
    """

    net: NormalizedModel
    model: dict[str, Any]
    shape: Shape
    labels: tuple[str, ...]
    target: str
    framing: dict[str, Any]
    made_by: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def save(self, folder: Path) -> str:
        """Write `weights.safetensors` and then `bundle.json` into a folder.

        Returns:
            The SHA-256 of the weights file.
        """
        raw = save_tensors(
            {name: value.clone().contiguous() for name, value in self.net.state_dict().items()}
        )
        write_atomic(folder / WEIGHTS, raw)
        digest = sha256_of(raw)
        manifest = {
            "format": FORMAT,
            "model": self.model,
            "shape": list(self.shape),
            "labels": list(self.labels),
            "target": self.target,
            "scaling": _scaling_of(self.net),
            "framing": self.framing,
            "made_by": self.made_by,
            "scores": self.scores,
            "source_sha256": check_model(self.model),
            "weights_sha256": digest,
        }
        write_json(folder / MANIFEST, manifest)
        return digest

    @classmethod
    def load(cls, folder: Path, *, trusted: Collection[str] = ()) -> "TrainedModel":
        """Read a bundle, checking everything against its manifest.

        Args:
            folder: where it lies.
            trusted: code of your own that may be run, such as "my_net.py:Net". A bundle that needs other
                code is refused: what a manifest names is not run because the manifest says so.

        Raises:
            DataError: there is no bundle.
            ConfigError: it needs code that is not trusted.
            CorruptFileError: it is damaged, or made by another version of the user's source.
            ModelMismatchError: the weights do not fit the network.
        """
        manifest = _read_manifest(folder)
        weights = _read_weights(folder / WEIGHTS, manifest["weights_sha256"])
        if check_model(manifest["model"]) != manifest["source_sha256"]:
            raise CorruptFileError(
                f"'{manifest['model']['name']}' has changed since '{folder}' was made; restore that file, "
                "or train again"
            )
        name = manifest["model"]["name"]
        if is_user_code(name) and name not in trusted:
            raise ConfigError(
                f"'{folder}' runs the code '{name}' when it is loaded; if you trust it, add --code {name}"
            )
        if manifest["source_sha256"] is None:  # ours, so it can be sketched: a hostile size costs no memory
            with torch.device("meta"):
                _check_sizes(_instantiate(manifest), weights, folder)
        net = _instantiate(manifest)
        _load_weights(net, weights, folder)
        if manifest["scaling"] != _scaling_of(net):
            raise CorruptFileError(
                f"'{folder / MANIFEST}' is damaged: its scaling is not that of the weights"
            )
        return cls(
            net=for_inference(net),
            model=manifest["model"],
            shape=tuple(manifest["shape"]),
            labels=tuple(manifest["labels"]),
            target=manifest["target"],
            framing=manifest["framing"],
            made_by=manifest["made_by"],
            scores={name: float(score) for name, score in manifest["scores"].items()},  # JSON may say 0
        )

    def probabilities(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """What a classifier makes of images in [0, 1]: rows that sum to 1."""
        if self.target != "labels":
            raise ModelMismatchError("this bundle holds a denoiser; it gives images, not classes")
        with torch.inference_mode():
            return torch.softmax(self._manifest(images, (len(self.labels),)), dim=1)

    def cleaned(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """What a denoiser makes of images in [0, 1]: images in [0, 1]."""
        if self.target != "images":
            raise ModelMismatchError("this bundle holds a classifier; it gives classes, not images")
        with torch.inference_mode():
            return torch.sigmoid(self._manifest(images, self.shape))

    def _manifest(self, images: Float[Tensor, "n c h w"], each: tuple[int, ...]) -> Tensor:
        """What the network makes of images, if it is what its manifest says that it makes."""
        made: Tensor = self.net(images)
        if tuple(made.shape) != (len(images), *each):
            raise ModelMismatchError(
                f"'{self.model['name']}' makes {tuple(made.shape[1:])} of an image, but as {self.target} "
                f"that must be {each}; restore the bundle from a copy"
            )
        return made


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"there is no bundle in '{folder}' ({MANIFEST} is missing); name a folder such as "
            "runs/.../trials/<id>/bundle"
        )
    manifest = read_json(path, largest=MAX_MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CorruptFileError(f"'{path}' is not a bundle of format {FORMAT}")
    wrong = [key for key, sound in VALID.items() if not sound(manifest.get(key))]
    if wrong:
        raise CorruptFileError(f"'{path}' is damaged: {', '.join(wrong)} is missing or of the wrong type")
    manifest.setdefault("source_sha256", None)
    return manifest


def _check_shape(shape: object) -> bool:
    # Capped so that a hostile manifest can't have a huge network built for it.
    return (
        isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 1 <= n <= 4096 for n in shape)
    )


def _check_labels(labels: object) -> bool:
    return isinstance(labels, list) and bool(labels) and all(isinstance(label, str) for label in labels)


def _check_model(model: object) -> bool:
    return isinstance(model, dict) and isinstance(model.get("name"), str)


def _table(table: object) -> bool:
    return isinstance(table, dict)


def _numbers(table: object) -> bool:
    return isinstance(table, dict) and all(
        type(number) in (int, float) and abs(number) <= MAX_NUMBER for number in table.values()
    )


VALID: dict[str, Callable[[object], bool]] = {
    "model": _check_model, "shape": _check_shape, "labels": _check_labels,
    "target": lambda target: isinstance(target, str) and target in ("labels", "images"),
    "scaling": _numbers, "framing": _table, "made_by": _table, "scores": _numbers,
    "weights_sha256": lambda digest: isinstance(digest, str),
}  # fmt: skip
"""Of each key of a manifest, whether what stands there can be what it must be."""


def _instantiate(manifest: dict[str, Any]) -> NormalizedModel:
    shape = tuple(manifest["shape"])
    return NormalizedModel(Normalize(), build_net(manifest["model"], shape, len(manifest["labels"]), Seed(0)))


def _scaling_of(net: NormalizedModel) -> dict[str, float]:
    return {"mean": float(net.scaling.mean), "spread": float(net.scaling.spread)}


def _check_sizes(sketch: NormalizedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    wanted, found = (
        {name: tuple(value.shape) for name, value in each.items()} for each in (sketch.state_dict(), weights)
    )
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ModelMismatchError(
                f"the weights in '{folder}' do not fit the network: '{name}' is "
                f"{found.get(name, 'missing')}, but the network has {wanted.get(name, 'no such tensor')}"
            )


def _read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise CorruptFileError(f"'{path}' is missing; restore it, or train again")
    raw = read_capped(path)
    if sha256_of(raw) != expected:
        raise CorruptFileError(
            f"'{path}' is damaged: its SHA-256 is not the one in {MANIFEST}; restore it, or train again"
        )
    try:
        return load_tensors(check_header(raw, str(path)))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptFileError(f"'{path}' is not a safetensors file: {error}") from error


def _load_weights(net: NormalizedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelMismatchError(
            f"the weights in '{folder}' do not fit the network: {' '.join(str(error).split())}"
        ) from error
