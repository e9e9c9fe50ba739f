"""Second test sets of a study: loaded before it runs, used once for each trained classifier afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inklab.data.dataset import Dataset, describe_shape
from inklab.data.sources import load_dataset
from inklab.errors import DataError
from inklab.records.outcomes import SecondTest, Snapshot
from inklab.study.run_directory import RunDirectory


def load_second_tests(names: Sequence[str], dataset: Dataset, seed: int) -> dict[str, Dataset]:
    """The datasets whose test sets are used beside that of another one, by name.

    Raises:
        DataError: one can't be loaded, or has other classes or images of another size.
    """
    loaded = {name: load_dataset(name, seed=seed) for name in names}
    for name, second in loaded.items():
        if second.labels != dataset.labels or second.shape != dataset.shape:
            raise DataError(
                f"data.test_on = '{name}': {_describe(second)}, but '{dataset.name}' has "
                f"{_describe(dataset)}; the classes by name, and the size, must be the same"
            )
    return loaded


def _describe(dataset: Dataset) -> str:
    labels = ", ".join(dataset.labels[:3]) + (", ..." if len(dataset.labels) > 3 else "")
    return f"{len(dataset.labels)} classes ({labels}) of {describe_shape(dataset.shape)} pixels"


def evaluate_second_tests(
    run_directory: RunDirectory,
    snapshot: Snapshot,
    datasets: Mapping[str, Dataset],
    trust_code: tuple[str, ...],
) -> None:
    """Evaluate every classifier that is done on every second test set, unless it has been.

    Args:
        run_directory: of the run; scores are written beside the outcomes of its trials.
        snapshot: of the run.
        datasets: by name; of each the test set is used.
        trust_code: the user's own code that may be run.

    Raises:
        InklabError: a model can't be loaded, or the disk refuses; what is computed is kept.
    """
    classifiers = [entry for entry in snapshot.plan.training if entry.task == "classification"]
    trials = dict.fromkeys(trial for entry in classifiers for trial in entry.trials)
    done = {id: outcome for id in trials if (outcome := snapshot.outcomes.get(id)) and outcome.is_done}
    for name, dataset in datasets.items():
        for id, outcome in done.items():
            earlier, weights = run_directory.second_test(id, name), outcome.weights_sha256
            if earlier and (earlier.sha256, earlier.weights_sha256) == (dataset.sha256, weights):
                continue
            metrics = _metrics(run_directory.model_dir(id), dataset, trust_code)
            scores = SecondTest(dataset=name, sha256=dataset.sha256, weights_sha256=weights, metrics=metrics)
            scores.write(run_directory.second_test_path(id, name))


def _metrics(model_dir: Path, dataset: Dataset, trust_code: tuple[str, ...]) -> dict[str, float]:
    """What a trained classifier reaches on a dataset's test images."""
    from inklab.evaluation.class_metrics import class_metrics  # torch, which a run need not import
    from inklab.evaluation.scores import classification_scores
    from inklab.model import TrainedModel

    model = TrainedModel.load(model_dir, trust_code=trust_code)
    scores = classification_scores(model.net, dataset.test.pixels, dataset.test.labels)
    others = class_metrics(scores.probabilities, dataset.test.labels, dataset.labels)
    return {
        "test_accuracy": scores.accuracy,
        "test_loss": scores.loss,
        "test_balanced_accuracy": others["balanced_accuracy"],
    }
