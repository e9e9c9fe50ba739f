"""What can be exported as one graph: a trained network, its halves, a pipeline of several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inklab.corruptions.filters import Filter
from inklab.errors import InklabError, ModelMismatchError, format_error
from inklab.export.onnx_file import GraphKind, GraphMetadata, GraphPart
from inklab.model import TrainedModel

GraphOutputs = dict[str, Tensor]


class NamedPart(NamedTuple):
    """A trained model by the name of its experiment, or a filter by its own."""

    name: str
    model: TrainedModel | Filter


@dataclass(frozen=True)
class Exportable:
    """Something that becomes one ONNX graph.

    Attributes:
        metadata: what the file says about itself.
        net: maps `(b, *input_shape)` to a tuple of tensors, one for each output. It is converted.
        reference: the same by the methods of `TrainedModel`. The converted graph is compared with it.
        input_shape: of one image, or one code.
        output_shapes: of each output for one input, by name.
        encode: of a decoder, images to codes: they are what it is compared on.
    """

    metadata: GraphMetadata
    net: nn.Module
    reference: Callable[[Tensor], GraphOutputs]
    input_shape: tuple[int, ...]
    output_shapes: Mapping[str, tuple[int, ...]]
    encode: Callable[[Tensor], Tensor] | None = None

    @property
    def name(self) -> str:
        """What messages call it: the names of its parts."""
        return self.metadata.name

    @property
    def kind(self) -> GraphKind:
        """Of graph."""
        return self.metadata.kind

    @property
    def input_name(self) -> str:
        """The name of its input."""
        return "codes" if self.kind == "decoder" else "images"


def network_graph(model: TrainedModel, name: str = "") -> Exportable:
    """A trained network: a classifier gives `logits` and `probabilities`, a denoiser `denoised`.

    Args:
        model: what is exported.
        name: such as its experiment; the name of its network if left out.

    Raises:
        ModelMismatchError: the network computes something else than its task needs.
    """
    part = NamedPart(name or model.name, model)
    if model.task == "denoising":
        return _chain("denoiser", [part], None)
    return _chain("classifier", [], part)


def pipeline_graph(denoisers: Sequence[NamedPart], classifier: NamedPart) -> Exportable:
    """Denoisers or filters, then a classifier: gives `denoised`, `logits` and `probabilities`.

    Args:
        denoisers: what an image passes first.
        classifier: a trained model.

    Raises:
        ModelMismatchError: the parts don't fit each other.
    """
    last = _trained(classifier)
    for part in denoisers:
        if isinstance(part.model, TrainedModel) and part.model.preprocessing != last.preprocessing:
            raise ModelMismatchError(
                f"'{part.name}' and '{classifier.name}' were trained on images of different form: "
                f"{part.model.preprocessing} and {last.preprocessing}; take both from one run"
            )
    return _chain("pipeline", denoisers, classifier)


def encoder_graph(model: TrainedModel, name: str = "") -> Exportable:
    """The half of an autoencoder that makes `codes` of images, with normalization in front.

    Raises:
        ModelMismatchError: its network has no modules `encoder` and `decoder`, or a code is no row.
    """
    return _half_graph("encoder", model, name)


def decoder_graph(model: TrainedModel, name: str = "") -> Exportable:
    """The half of an autoencoder that makes `images` in [0, 1] of codes `(b, d)`.

    Raises:
        ModelMismatchError: its network has no modules `encoder` and `decoder`, or a code is no row.
    """
    return _half_graph("decoder", model, name)


def _half_graph(kind: Literal["encoder", "decoder"], model: TrainedModel, name: str) -> Exportable:
    encode, decode, code_size = model.halves
    is_encoder, code_shape = kind == "encoder", (code_size,)
    net, output = (encode, "codes") if is_encoder else (decode, "images")
    return _check_outputs(
        Exportable(
            metadata=_metadata(
                kind, [NamedPart(name or model.name, model)], None if is_encoder else code_size
            ),
            net=_Chain([net], None),
            reference=lambda inputs: {output: net(inputs)},
            input_shape=model.shape if is_encoder else code_shape,
            output_shapes={output: code_shape if is_encoder else model.shape},
            encode=None if is_encoder else encode,
        )
    )


def _chain(kind: GraphKind, denoisers: Sequence[NamedPart], classifier: NamedPart | None) -> Exportable:
    """Denoisers, then a classifier or nothing."""
    parts = [*denoisers, *([classifier] if classifier else [])]
    last = _trained(parts[-1])
    stages = [
        _FilterLayer(part.model)
        if isinstance(part.model, Filter)
        else nn.Sequential(part.model.net, nn.Sigmoid())
        for part in denoisers
    ]
    shapes: dict[str, tuple[int, ...]] = {"denoised": last.shape} if denoisers else {}
    if classifier:
        shapes |= dict.fromkeys(("logits", "probabilities"), (len(last.labels),))
    return _check_outputs(
        Exportable(
            metadata=_metadata(kind, parts),
            net=_Chain(stages, last.net if classifier else None),
            reference=_chain_reference([part.model for part in denoisers], last if classifier else None),
            input_shape=last.shape,
            output_shapes=shapes,
        )
    )


def _chain_reference(
    denoisers: Sequence[TrainedModel | Filter], classifier: TrainedModel | None
) -> Callable[[Tensor], GraphOutputs]:
    def compute(images: Tensor) -> GraphOutputs:
        for denoiser in denoisers:
            images = denoiser.denoise(images) if isinstance(denoiser, TrainedModel) else denoiser(images)
        outputs = {"denoised": images} if denoisers else {}
        if classifier is not None:
            logits, probabilities = classifier.logits(images), classifier.probabilities(images)
            outputs |= {"logits": logits, "probabilities": probabilities}
        return outputs

    return compute


class _Chain(nn.Module):
    """Stages with one output, then a classifier or nothing; outputs have the order of `output_shapes`."""

    def __init__(self, stages: Sequence[nn.Module], classifier: nn.Module | None) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.classifier = classifier
        self.eval()

    def forward(self, values: Float[Tensor, "b ..."]) -> tuple[Tensor, ...]:
        for stage in self.stages:
            values = stage(values)
        outputs = (values,) if len(self.stages) else ()
        if self.classifier is None:
            return outputs
        logits = self.classifier(values)
        return (*outputs, logits, torch.softmax(logits, dim=1))


class _FilterLayer(nn.Module):
    """A filter over all channels of all images as if they were the channels of one image.

    A filter may go through a batch in blocks, which no graph for any number of images can. It treats each
    channel by itself, so this computes the same; if one did not, the comparison would refuse it.
    """

    def __init__(self, image_filter: Filter) -> None:
        super().__init__()
        self.fn = image_filter.fn

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        _, channels, height, width = images.shape
        return self.fn(images.reshape(1, -1, height, width)).reshape(-1, channels, height, width)


def _trained(part: NamedPart) -> TrainedModel:
    if isinstance(part.model, Filter):
        raise ModelMismatchError(f"'{part.name}' is a filter, but the last part must be a trained network")
    return part.model


def _check_outputs(graph: Exportable) -> Exportable:
    """The same graph, if its reference computes what it declares; a user's network may raise anything."""
    try:
        with torch.inference_mode():
            outputs = graph.reference(torch.zeros(1, *graph.input_shape))
    except InklabError:
        raise
    except Exception as error:
        raise ModelMismatchError(f"'{graph.name}' fails on an image: {format_error(error)[:300]}") from error
    shapes = {name: tuple(value.shape[1:]) for name, value in outputs.items()}
    if shapes != dict(graph.output_shapes):
        raise ModelMismatchError(
            f"'{graph.name}' returns {shapes} for {graph.input_shape}, not {graph.output_shapes}"
        )
    return graph


def _metadata(kind: GraphKind, parts: Sequence[NamedPart], code_size: int | None = None) -> GraphMetadata:
    last = _trained(parts[-1])
    return GraphMetadata(
        kind=kind,
        labels=last.labels,
        shape=last.shape,
        preprocessing=last.preprocessing,
        parts=tuple(_part_metadata(part) for part in parts),
        data_sha256=last.manifest.provenance.data_sha256,
        code_size=code_size,
    )


def _part_metadata(part: NamedPart) -> GraphPart:
    if isinstance(part.model, Filter):
        return GraphPart(name=part.name, filter=part.model.description)
    manifest = part.model.manifest
    return GraphPart(
        name=part.name,
        network=manifest.network,
        task=manifest.task,
        normalize=manifest.normalize,
        metrics=manifest.metrics,
        provenance=manifest.provenance,
        weights_sha256=manifest.weights_sha256,
        source_sha256=manifest.source_sha256,
    )
