"""The images of a run, as far as they are on this machine."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from inklab.data.dataset import Dataset, ImageSet, Labels, Pixels, split
from inklab.data.published import download_time
from inklab.data.sources import datasets, load_dataset
from inklab.errors import DatasetUnavailableError, InklabError
from inklab.format import pluralize
from inklab.ood import ReferenceImages
from inklab.records.components import PreprocessingChoice
from inklab.records.plan import Plan
from inklab.results.arrays import StoredArrays
from inklab.seeding import Seed
from inklab.usercode import is_user_code


class RunImages:
    """The images of a run: its dataset if that is on this machine, and the samples that the run stores.

    Nothing is downloaded for them, and no code of the user's is run.

    Args:
        plan: of the run.
        stored: its arrays.
        dataset: its images, if at hand; otherwise they are loaded by the dataset's name when first needed.
    """

    def __init__(self, plan: Plan, stored: StoredArrays, dataset: Dataset | None = None) -> None:
        self._plan = plan
        self._stored = stored
        self._given_dataset = dataset

    @cached_property
    def _dataset_or_reason(self) -> Dataset | str:
        """The dataset; or why it is not at hand, and what to do."""
        data, name = self._plan.data, self._plan.data.dataset
        if self._given_dataset is not None:
            return self._given_dataset
        give = "inklab.Run(path, dataset) takes them"
        if is_user_code(name):  # a plan may come from anywhere; only code that the user names is run
            return f"'{name}' is code of yours, which is not run for that; {give}"
        if name not in datasets and not Path(name).exists():
            if Path(name).is_absolute():
                return f"there is nothing at '{name}' any more; put them back there"
            return f"'{name}' is not in this directory, or came from a Python session; {give}"
        choices: tuple[PreprocessingChoice, ...] = ("auto", data.preprocessing)  # may make other images
        try:
            with download_time(0):
                for choice in choices:
                    dataset = load_dataset(name, seed=self._plan.seed, preprocessing=choice)
                    for turned in (dataset, dataset.transposed()):  # `data.transpose` is not in the plan
                        if turned.sha256 == data.sha256:
                            return replace(turned, preprocessing=data.preprocessing)
        except DatasetUnavailableError:
            return f"'{name}' is not on this machine; inklab data fetch {name} downloads it"
        except InklabError as error:
            return str(error)
        return f"'{name}' has other images than the run was trained on; restore those"

    @property
    def dataset(self) -> Dataset | None:
        """The dataset of the run; None if it is not on this machine, or has changed since."""
        return None if isinstance(self._dataset_or_reason, str) else self._dataset_or_reason

    @property
    def why_missing(self) -> str:
        """Why there is no dataset, and what to do; "" if there is one."""
        return self._dataset_or_reason if isinstance(self._dataset_or_reason, str) else ""

    def samples(self) -> ImageSet | None:
        """The first training images of each class; stored in the run directory, so a moved run has them."""
        arrays = self._stored.samples()
        return ImageSet(arrays["pixels"], arrays["labels"].astype(np.int64)) if arrays else None

    def test_images(self, indices: Integer[np.ndarray, " m"]) -> Pixels | None:
        """Some images of the test set, if the data is at hand."""
        return None if self.dataset is None else self.dataset.test.pixels[indices]

    def test_labels(self) -> Labels | None:
        """All labels of the test set, if the data is at hand."""
        return None if self.dataset is None else self.dataset.test.labels

    def training_sets(self) -> tuple[ImageSet, ImageSet] | None:
        """Training and validation set as the study split them, if the data is at hand."""
        if self.dataset is None:
            return None
        parts = split(self.dataset, validation=self._plan.data.validation, seed=self._plan.seed)
        return parts.train, parts.validation

    @cached_property
    def reference_images(self) -> ReferenceImages | None:
        """What OOD scores compare inputs with: training images, else samples of them; None without any."""
        plan, sets = self._plan, self.training_sets()
        identity = (plan.data.sha256, plan.seed, plan.data.validation)
        if sets is not None:
            return ReferenceImages.draw(*sets, Seed(plan.seed), identity)
        samples = self.samples()
        return None if samples is None else ReferenceImages.of_samples(samples, identity)

    @property
    def note(self) -> str:
        """What OOD scores lack, why, and what to do; "" with all training images."""
        if not self.why_missing:
            return ""
        samples = self.samples()
        at_hand = f"only {pluralize(len(samples), 'training image')}" if samples else "no training images"
        return f"{at_hand} at hand: {self.why_missing}"
