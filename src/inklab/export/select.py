"""What to export, selected from a run or a model directory, and where its file goes."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inklab.errors import ConfigError, DataError, InklabError
from inklab.metrics import Task
from inklab.records.components import Pipeline
from inklab.runs import Run, run_of_model

if TYPE_CHECKING:
    from inklab.export.graphs import Exportable

SUFFIX = ".onnx"
CARD_MARK = "<!-- a model card of inklab export -->"
"""First line of every card. A file that begins differently is not a card and is not overwritten."""


class SelectedPart(NamedTuple):
    """An experiment and the id of its trial; a filter has no trial, a model outside a run neither."""

    name: str
    trial: str | None


@dataclass(frozen=True)
class Selection:
    """What is exported.

    Attributes:
        parts: one, or those of a pipeline, in the order in which an image passes them.
        run: where they come from; None for a model outside a run.
        folder: directory of the model, if there is one part.
        decoder: whether only the decoder is exported.
    """

    parts: tuple[SelectedPart, ...]
    run: Run | None
    folder: Path | None
    decoder: bool = False

    @property
    def pipeline(self) -> str:
        """The names of its parts, joined by a plus."""
        return "+".join(part.name for part in self.parts)

    def load(self, trust_code: Collection[str] = ()) -> "Exportable":
        """Load the networks.

        Args:
            trust_code: code of your own that may be run.

        Raises:
            InklabError: what `TrainedModel.load` and `Run.pipeline_models` raise, or the parts don't fit.
        """
        from inklab.export.graphs import NamedPart, decoder_graph, network_graph, pipeline_graph
        from inklab.model import TrainedModel

        if self.folder is None:
            assert self.run is not None
            models = self.run.pipeline_models(self.pipeline, trust_code=trust_code)
            parts = [NamedPart(part.name, model) for part, model in zip(self.parts, models, strict=True)]
            return pipeline_graph(parts[:-1], parts[-1])
        model = TrainedModel.load(self.folder, trust_code=trust_code)
        return (decoder_graph if self.decoder else network_graph)(model, self.parts[0].name)

    def comparison_images(self, shape: tuple[int, ...], dataset: str | None = None) -> np.ndarray | None:
        """Real images to compare on: test images of a dataset if one is named, else the run's samples.

        Raises:
            DataError: the dataset is not available, or its images have another shape.
        """
        if dataset is None:
            samples = self.run.images.samples() if self.run else None
            return None if samples is None else samples.pixels
        from inklab.data.sources import load_dataset

        pixels = load_dataset(dataset).test.pixels
        if pixels.shape[1:] != shape:
            raise DataError(f"'{dataset}' has images of {pixels.shape[1:]}, but the network takes {shape}")
        return pixels


def select_model(folder: Path, *, decoder: bool = False) -> Selection:
    """The trained model in a directory; if that belongs to a trial of a run, with that run."""
    run, trial = run_of_model(folder) or (None, "")
    if run is not None:
        name = run.plan.setting_of(trial).experiment.name
        return Selection((SelectedPart(name, trial),), run, folder, decoder)
    return Selection((SelectedPart("", None),), None, folder, decoder)


def select_experiment(run: Run, experiment: str | None = None, *, decoder: bool = False) -> Selection:
    """The model of an experiment or one of its settings; if none is named, of the first classifier.

    If only the decoder is exported, of the first denoiser.

    Raises:
        InklabError: as `Run.trial_for` and `default_experiment`.
    """
    name = experiment or default_experiment(run, "denoising" if decoder else "classification")
    trial = run.trial_for(name)
    return Selection((SelectedPart(name, trial),), run, run.model_dir(name), decoder)


def select_pipeline(run: Run, pipeline: str) -> Selection:
    """The parts of a pipeline such as `denoiser+cnn`; a part that is no experiment is a filter.

    Raises:
        ConfigError: it has only one part.
        InklabError: as `Run.trial_for`.
    """
    names = Pipeline(pipeline).parts
    if len(names) < 2:
        raise ConfigError(
            f"pipeline '{pipeline}' has one part, but denoisers and then a classifier are needed, such as "
            "denoiser+cnn; name a single network with --experiment"
        )
    trained = {experiment.name for experiment in run.plan.training}
    parts = tuple(
        SelectedPart(name, run.trial_for(name) if name.partition(":")[0] in trained else None)
        for name in names
    )
    return Selection(parts, run, None)


def default_experiment(run: Run, task: Task) -> str:
    """The first experiment of a task that has a trained model; if none has, the first of that task.

    Raises:
        DataError: the run has no experiment of that task.
    """
    names = [experiment.name for experiment in run.plan.training if experiment.task == task]
    if not names:
        others = ", ".join(experiment.name for experiment in run.plan.training) or "none at all"
        raise DataError(f"'{run.path}' has no experiment for {task}; its trained experiments: {others}")
    for name in names:
        with suppress(InklabError):
            run.trial_for(name)
            return name
    return names[0]


def check_output(file: Path) -> None:
    """Refuse a path that no file can be written to, or whose card would overwrite another text.

    Raises:
        ConfigError: it does not end in .onnx, is a directory, or another text is where the card goes.
    """
    if file.suffix.lower() != SUFFIX:
        raise ConfigError(
            f"'{file}' does not end in {SUFFIX}; name a file such as {file.stem or 'net'}{SUFFIX}"
        )
    if file.is_dir() or any(parent.exists() and not parent.is_dir() for parent in file.parents):
        raise ConfigError(f"'{file}' can't be a file there; name another one with --output")
    card = card_path(file)
    if card.exists() and not _is_card(card):
        raise ConfigError(f"'{card}' is not a model card; move it, or name another file with --output")


def card_path(file: Path) -> Path:
    """Where the card of a file is written.

    Example:
        >>> card_path(Path("cnn.onnx")).name
        'cnn.md'
    """
    return file.with_suffix(".md")


def _is_card(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(CARD_MARK)) == CARD_MARK.encode()
