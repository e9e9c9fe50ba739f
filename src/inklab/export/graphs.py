"""What can be exported: a bundle's network, its halves, a pipeline of several; and how it is loaded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from inklab.corruptions.filters import Filter, filters
from inklab.errors import DataError, InklabError, ModelMismatchError
from inklab.export.select import ModelRef, Selection
from inklab.io.documents import sha256_of
from inklab.model import TrainedModel
from inklab.networks.network import check_model
from inklab.run import StoredRun

GraphOutputs = dict[str, Tensor]
Cleaner = TrainedModel | Filter
IMAGES, CODES = "images", "codes"


@dataclass(frozen=True)
class Exportable:
    """Something that becomes one ONNX graph.

    Attributes:
        kind: "classifier", "denoiser", "pipeline", "encoder" or "decoder".
        net: maps `(b, *takes)` to a tuple, one tensor `(b, *shape)` for each of `gives`. Is converted.
        original: the same by the bundles' own methods, as inklab computes it elsewhere. Is compared with.
        takes: the shape of one input: an image, or a code.
        gives: the outputs' names and the shape of each for one input.
        about: what is told of it: `labels`, `shape`, `framing`, `parts`, `data_sha256`. JSON values.
        encode: of a decoder: images to codes, for codes that it may meet.
    """

    kind: str
    net: nn.Module
    original: Callable[[Tensor], GraphOutputs]
    takes: tuple[int, ...]
    gives: Mapping[str, tuple[int, ...]]
    about: dict[str, Any]
    encode: Callable[[Tensor], Tensor] | None = None

    @property
    def given(self) -> str:
        """The name of its input."""
        return CODES if self.kind == "decoder" else IMAGES

    @property
    def name(self) -> str:
        """What to call it in messages: the names of its parts."""
        return "+".join(part["name"] for part in self.about["parts"])


def network(bundle: TrainedModel, name: str = "") -> Exportable:
    """A bundle's network: a classifier gives `logits` and `probabilities`, a denoiser `cleaned`.

    Args:
        bundle: what is exported.
        name: what it is called, such as its chapter's; the model's name if left out.

    Raises:
        ModelMismatchError: it makes of an image what its bundle does not promise.
    """
    about = _about([(bundle, name)])
    if bundle.target == "images":
        net, original = _Chain([bundle.net]), _original([bundle])
        return _try_on(Exportable("denoiser", net, original, bundle.shape, {"cleaned": bundle.shape}, about))
    net, original = _Chain([], bundle.net), _original([], bundle)
    return _try_on(Exportable("classifier", net, original, bundle.shape, _joined(bundle), about))


def pipeline(cleaners: Sequence[tuple[Cleaner, str]], classifier: tuple[TrainedModel, str]) -> Exportable:
    """Denoisers or filters, then a classifier: gives `cleaned`, `logits` and `probabilities`.

    Args:
        cleaners: what an image passes first, each with its name.
        classifier: what judges it, with its name.

    Raises:
        ModelMismatchError: the parts don't take or give what they should, or their images differ in form.
    """
    last, name = classifier
    for cleaner, called in cleaners:
        if isinstance(cleaner, TrainedModel) and (cleaner.shape, cleaner.framing) != (
            last.shape,
            last.framing,
        ):
            raise ModelMismatchError(
                f"'{called}' and '{name}' were trained on images of another form: {cleaner.shape} and "
                f"{last.shape}, framed as {cleaner.framing} and {last.framing}; take both from one run"
            )
    parts = [cleaner for cleaner, _ in cleaners]
    net = _Chain([part.net if isinstance(part, TrainedModel) else part for part in parts], last.net)
    gives = {"cleaned": last.shape, **_joined(last)}
    about = _about([*cleaners, classifier])
    return _try_on(Exportable("pipeline", net, _original(parts, last), last.shape, gives, about))


def encoder(bundle: TrainedModel, name: str = "") -> Exportable:
    """The half of an autoencoder that makes `codes` of images, with the scaling in front.

    Raises:
        ModelMismatchError: its network has no modules `encoder` and `decoder`, or the codes are no rows.
    """
    half = nn.Sequential(bundle.net.scaling, _half(bundle, "encoder"))
    gives = {CODES: (_code_size(bundle, half),)}
    return _try_on(
        Exportable(
            "encoder", _Single(half), _named(CODES, half), bundle.shape, gives, _about([(bundle, name)])
        )
    )


def decoder(bundle: TrainedModel, name: str = "") -> Exportable:
    """The half of an autoencoder that makes `images` in [0, 1] of codes `(b, d)`.

    Raises:
        ModelMismatchError: its network has no modules `encoder` and `decoder`, or the codes are no rows.
    """
    encode = nn.Sequential(bundle.net.scaling, _half(bundle, "encoder"))
    half = nn.Sequential(_half(bundle, "decoder"), nn.Sigmoid())
    size = _code_size(bundle, encode)
    about = {**_about([(bundle, name)]), "code": size}
    net, original = _Single(half), _named(IMAGES, half)
    return _try_on(Exportable("decoder", net, original, (size,), {IMAGES: bundle.shape}, about, encode))


class _Chain(nn.Module):
    """Cleaners, then a classifier or nothing; what comes out has the order of `gives`."""

    def __init__(self, cleaners: Sequence[nn.Module | Filter], classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.cleaners = nn.ModuleList(
            _Filtering(each) if isinstance(each, Filter) else _Cleaning(each) for each in cleaners
        )
        self.classifier = classifier
        self.eval()

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        for cleaner in self.cleaners:
            images = cleaner(images)
        cleaned = (images,) if len(self.cleaners) else ()
        if self.classifier is None:
            return cleaned
        logits = self.classifier(images)
        return (*cleaned, logits, torch.softmax(logits, dim=1))


class _Cleaning(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.sigmoid(self.net(images))


class _Filtering(nn.Module):
    """A filter over all channels of all images as if they were the channels of one.

    Filters look at each channel by itself, and some go through images block by block, which no graph with a
    free number of images can. One that did otherwise would not pass the comparison.
    """

    def __init__(self, cleaner: Filter) -> None:
        super().__init__()
        self.run = cleaner.run

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        _, channels, height, width = images.shape
        return self.run(images.reshape(1, -1, height, width)).reshape(-1, channels, height, width)


class _Single(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, given: Float[Tensor, "b ..."]) -> tuple[Tensor]:
        return (self.net(given),)


def _original(
    cleaners: Sequence[Cleaner], classifier: TrainedModel | None = None
) -> Callable[[Tensor], GraphOutputs]:
    def made_of(images: Tensor) -> GraphOutputs:
        for each in cleaners:
            images = each.cleaned(images) if isinstance(each, TrainedModel) else each(images)
        made = {"cleaned": images} if cleaners else {}
        if classifier is not None:
            made |= {"logits": classifier.net(images), "probabilities": classifier.probabilities(images)}
        return made

    return made_of


def _named(name: str, net: nn.Module) -> Callable[[Tensor], GraphOutputs]:
    return lambda given: {name: net(given)}


def _joined(bundle: TrainedModel) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("logits", "probabilities"), (len(bundle.labels),))


def _half(bundle: TrainedModel, name: str) -> nn.Module:
    half = getattr(bundle.net.net, name, None)
    if not isinstance(half, nn.Module):
        raise ModelMismatchError(
            f"'{bundle.model['name']}' has no {name} module; halves are exported of a network with encoder "
            "and decoder, as 'autoencoder' has them"
        )
    return half


def _code_size(bundle: TrainedModel, encode: nn.Module) -> int:
    with torch.inference_mode():
        codes = encode(torch.zeros(1, *bundle.shape))
    if codes.ndim != 2 or len(codes) != 1:
        raise ModelMismatchError(
            f"the encoder of '{bundle.model['name']}' makes {tuple(codes.shape)} of one image, not (1, d)"
        )
    return int(codes.shape[1])


def _try_on(wanted: Exportable) -> Exportable:
    """The same, if of one input it makes what it promises; whatever a network of one's own raises is told."""
    try:
        with torch.inference_mode():
            made = wanted.original(torch.zeros(1, *wanted.takes))
    except InklabError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        raise ModelMismatchError(
            f"'{wanted.name}' fails on an image: {type(error).__name__}: {told}"
        ) from error
    found = {name: tuple(each.shape[1:]) for name, each in made.items()}
    if found != dict(wanted.gives):
        raise ModelMismatchError(
            f"'{wanted.name}' makes {found} of {wanted.takes}, but promises {wanted.gives}"
        )
    return wanted


def _about(parts: Sequence[tuple[Cleaner, str]]) -> dict[str, Any]:
    last = parts[-1][0]
    assert isinstance(last, TrainedModel)
    return {
        "labels": list(last.labels),
        "shape": list(last.shape),
        "framing": last.framing,
        "data_sha256": last.made_by.get("data_sha256"),
        "parts": [_metadata(part, name) for part, name in parts],
    }


def _metadata(part: Cleaner, name: str) -> dict[str, Any]:
    if isinstance(part, Filter):
        return {"name": part.name, "filter": part.description}
    return {
        "name": name or part.model["name"], "model": part.model, "target": part.target,
        "scaling": {key: float(getattr(part.net.scaling, key)) for key in ("mean", "spread")},
        "scores": part.scores, "made_by": part.made_by, "weights_sha256": _weights_sha256(part),
        "source_sha256": check_model(part.model),
    }  # fmt: skip


def _weights_sha256(bundle: TrainedModel) -> str:
    """Of the weights that are exported, not of a file: the same number if they are the file's."""
    state = bundle.net.state_dict()
    return sha256_of(save_tensors({name: value.clone().contiguous() for name, value in state.items()}))


def load_selection(chosen: Selection, *, trusted: Collection[str] = ()) -> Exportable:
    """Load the networks that were chosen.

    Args:
        chosen: which.
        trusted: code of one's own that may be run.

    Raises:
        InklabError: what `TrainedModel.load` raises, or the parts don't fit each other.
    """
    *cleaners, last = chosen.parts
    bundle = _bundle(last, trusted)
    if cleaners:
        return pipeline([(_part(each, trusted), each.name) for each in cleaners], (bundle, last.name))
    return (decoder if chosen.half else network)(bundle, last.name)


def real_images(chosen: Selection, source: str | None = None) -> np.ndarray | None:
    """Images to compare on: test images of a source, if one is named, else those that the run keeps.

    Raises:
        DataError: the source can't be had, or its images have another shape.
    """
    shape = _shape(chosen)
    if source is None:
        found = StoredRun(chosen.run).samples() if chosen.run else None
        return None if found is None or list(found[0].shape[1:]) != shape else found[0]
    from inklab.data.sources import load as load_source

    pixels = load_source(source).test.pixels
    if list(pixels.shape[1:]) != shape:
        raise DataError(
            f"'{source}' has images of {tuple(pixels.shape[1:])}, the network takes {tuple(shape)}"
        )
    return pixels


def _shape(chosen: Selection) -> list[int]:
    from inklab.io.documents import read_json

    folder = chosen.parts[-1].folder
    assert folder is not None
    found: list[int] = read_json(folder / "bundle.json")["shape"]
    return found


def _part(place: ModelRef, trusted: Collection[str]) -> Cleaner:
    return filters[place.name] if place.folder is None else _bundle(place, trusted)


def _bundle(place: ModelRef, trusted: Collection[str]) -> TrainedModel:
    assert place.folder is not None
    return TrainedModel.load(place.folder, trusted=trusted)
