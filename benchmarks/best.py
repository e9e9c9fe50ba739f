"""What the best recipes reach, from a finished run of `digits-best` or of one of its recipes.

The run's own results are used as they are. Only ensembles are computed here: the mean of the probabilities
of five replicates, in disjoint groups, in the order of their numbers.
"""

from benchmarks.options import BenchmarkError, Options
from benchmarks.records import BestResults, BestScore, Claim, RecallAtStrength
from benchmarks.results_io import read_results, today, write_results
from inklab.data.sources import load_dataset
from inklab.records.components import Pipeline
from inklab.records.estimates import Estimate
from inklab.records.results import Results, RobustnessResults, TrainingResults
from inklab.runs import Run
from inklab.stats import estimate

ENSEMBLE_SIZE = 5
TEST_IMAGES = 10_000
RECALL_TARGETS = {0.5: 0.975, 0.6: 0.960, 0.7: 0.900, 0.8: 0.740}
"""Mean recall of the denoiser followed by the cnn, by strength."""
MAX_COST_WHEN_CLEAN = 0.002

TARGETS: dict[str, tuple[float, float | None, str]] = {
    "mlp-best/error": (0.012, 0.0095, "share of test images"),
    "cnn-best/accuracy": (0.9965, None, "share of test images"),
    "cnn-best/ensemble": (0.9975, None, "share of test images"),
    "denoiser-best/bce": (0.070, None, "nats per pixel"),
}
"""Target, stretch and unit; an error and a cross-entropy are better if smaller."""


def store_best(options: Options) -> list[str]:
    """Store the claims of the finished run `options.run`.

    Returns:
        A line per claim, and one per strength.

    Raises:
        BenchmarkError: there is no such run, or it has none of the recipes.
    """
    if options.run is None or not (options.run / "results.json").is_file():
        raise BenchmarkError(f"--run must name a finished run, but is {options.run}")
    run = Run(options.run)
    results = run.results
    estimates = _estimates(run, results)
    if not estimates:
        raise BenchmarkError(
            f"'{run.path}' has none of the best recipes, but {', '.join(results.experiments)}"
        )
    rows = _recalls(results)
    previous = read_results(options.output, "best", BestResults) or BestResults()
    scores = {name: _score(row, results, run) for name, row in estimates.items()}
    best = BestResults(scores={**previous.scores, **scores}, robustness=rows or previous.robustness)
    command = options.command.replace(str(options.run), "RUN")
    claims = {name: _claim(name, row, command) for name, row in estimates.items()}
    write_results(options.output, "best", best, claims)
    lines = [f"{name}: {row.mean:.5f} (SD {row.sd or 0:.5f}, n = {row.n})" for name, row in estimates.items()]
    return lines + [f"strength {row.strength:g}: {row.recall:.4f} (target {row.target:g})" for row in rows]


def _score(row: Estimate, results: Results, run: Run) -> BestScore:
    origin = {"environment": results.environment, "date": today(), "trained_by": run.plan.command}
    return BestScore.model_validate(dict(row) | origin)


def _estimates(run: Run, results: Results) -> dict[str, Estimate]:
    """The estimate of each claim that the run is about."""

    def find(experiment: str, metric: str) -> Estimate | None:
        entry = results.experiments.get(experiment)
        return entry.settings[0].metrics[metric] if isinstance(entry, TrainingResults) else None

    estimates: dict[str, Estimate] = {}
    if accuracy := find("mlp-best", "test_accuracy"):
        errors = [1 - value for value in accuracy.values]
        estimates["mlp-best/error"] = estimate(errors, images=TEST_IMAGES)
    if accuracy := find("cnn-best", "test_accuracy"):
        estimates["cnn-best/accuracy"] = accuracy
        estimates["cnn-best/ensemble"] = estimate(_ensemble_accuracies(run, accuracy.n), images=TEST_IMAGES)
    if bce := find("denoiser-best", "test_bce"):
        estimates["denoiser-best/bce"] = bce
    return estimates


def _claim(name: str, row: Estimate, command: str) -> Claim:
    target, stretch, unit = TARGETS[name]
    low, high = row.ci95 or (None, None)
    assert row.mean is not None
    return Claim(
        value=row.mean, unit=unit, low=low, high=high, sd=row.sd, n=row.n, target=target, stretch=stretch,
        command=command,
    )  # fmt: skip


def _ensemble_accuracies(run: Run, replicates: int) -> list[float]:
    """Test accuracies of disjoint groups of replicates whose probabilities are averaged."""
    import torch

    from inklab.evaluation.scores import classification_scores

    def mean_logits(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([model.probabilities(images) for model in models]).mean(0).log()

    test = load_dataset("mnist").test
    accuracies = []
    for start in range(0, replicates - ENSEMBLE_SIZE + 1, ENSEMBLE_SIZE):
        models = [run.model("cnn-best", replicate) for replicate in range(start, start + ENSEMBLE_SIZE)]
        accuracies.append(classification_scores(mean_logits, test.pixels, test.labels).accuracy)
    return accuracies


def _recalls(results: Results) -> tuple[RecallAtStrength, ...]:
    """Mean recall with the best denoiser at each strength with a target; at 0, what it costs."""
    robustness = results.experiments.get("robustness")
    if "denoiser-best" not in results.experiments or not isinstance(robustness, RobustnessResults):
        return ()
    rows = []
    recalls = (robustness.pipelines[Pipeline(name)].recall for name in ("denoiser-best+cnn", "cnn"))
    for strength, recall, baseline in zip(robustness.strengths, *recalls, strict=True):
        if strength in RECALL_TARGETS or strength == 0:
            target = RECALL_TARGETS.get(strength, (baseline.mean or 0.0) - MAX_COST_WHEN_CLEAN)
            rows.append(
                RecallAtStrength(strength=strength, recall=recall.mean, baseline=baseline.mean, target=target)
            )
    return tuple(rows)
