"""Denoisers or filters in front of a classifier, used like one trained model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from inklab.corruptions.filters import Filter
from inklab.errors import ModelMismatchError
from inklab.model import TrainedModel, in_batches
from inklab.notebook import card, paragraph
from inklab.predictions import Inputs, Predictions
from inklab.records.record import Shape


@dataclass(frozen=True, eq=False)
class TrainedPipeline(Sequence[TrainedModel | Filter]):
    """A trained classifier behind denoisers or filters: `denoiser+cnn`, `median+cnn`, or a classifier alone.

    It is the sequence of its parts, and is used like one trained model.

    Attributes:
        name: such as "denoiser+cnn".
        parts: in the order in which an image passes them; the last is the classifier.

    Raises:
        ModelMismatchError: the last part is no trained classifier, or an earlier one is a classifier.

    Example:
        >>> import inklab
        >>> pipeline = inklab.load("latest").pipeline("denoiser+cnn")    # doctest: +SKIP
        >>> pipeline.predict(noisy).labels                               # doctest: +SKIP
    """

    name: str
    parts: tuple[TrainedModel | Filter, ...]

    def __post_init__(self) -> None:
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, TrainedModel) or last.task != "classification":
            raise ModelMismatchError(f"'{self.name}' does not end in a trained classifier")
        if any(isinstance(part, TrainedModel) and part.task != "denoising" for part in self.parts[:-1]):
            raise ModelMismatchError(f"'{self.name}' has a classifier before its end")

    def __repr__(self) -> str:
        return f"TrainedPipeline({self.name!r})"

    def _repr_html_(self) -> str:
        parts = (
            part._repr_html_() if isinstance(part, TrainedModel) else paragraph(f"filter: {part.description}")
            for part in self.parts
        )
        return card(self.name, *parts, subtitle="a pipeline; an image passes from top to bottom")

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> TrainedModel | Filter: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TrainedModel | Filter, ...]: ...
    def __getitem__(self, index: int | slice) -> TrainedModel | Filter | tuple[TrainedModel | Filter, ...]:
        return self.parts[index]

    @property
    def classifier(self) -> TrainedModel:
        """Its last part."""
        last = self.parts[-1]
        assert isinstance(last, TrainedModel)  # as checked when it was made
        return last

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each class."""
        return self.classifier.labels

    @property
    def shape(self) -> Shape:
        """Channels, height, width of its images."""
        return self.classifier.shape

    def predict(self, images: object) -> Predictions:
        """Denoise and classify images, as `TrainedModel.predict` takes them.

        OOD scores are of what the classifier is given: the denoised images.

        Raises:
            DataError: a shape that does not fit, or no pictures.
            OutOfRangeError: values that are neither bytes nor floats in [0, 1].
        """
        inputs = Inputs.of(images, self.classifier.preprocessing)
        cleaned = replace(inputs, pixels=self._denoised(inputs.images))
        return self.classifier.predict_inputs(cleaned)

    def predict_proba(self, images: object) -> Float32[np.ndarray, "n k"]:
        """Class probabilities of denoised images: rows that sum to 1, columns as `labels`.

        Raises:
            DataError, OutOfRangeError: as `predict`; also if a file can't be read.
        """
        return self.classifier.predict_proba(self.denoise(images))

    def denoise(self, images: object) -> Float32[np.ndarray, "n c h w"]:
        """What the classifier gets: images in [0, 1] after all denoisers and filters.

        Raises:
            DataError, OutOfRangeError: as `predict`; also if a file can't be read.
        """
        return self._denoised(Inputs.of(images, self.classifier.preprocessing).require_all())

    def _denoised(self, images: Float32[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n c h w"]:
        if len(self.parts) == 1 or not len(images):
            return images
        denoised: np.ndarray = in_batches(self._denoise_batch, torch.from_numpy(images)).numpy()
        return denoised

    def _denoise_batch(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        with torch.inference_mode():
            for part in self.parts[:-1]:
                images = part.denoise(images) if isinstance(part, TrainedModel) else part(images)
        return images
