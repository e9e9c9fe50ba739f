"""What the best recipes reach, out of a finished run: of `digits-best`, or of one of them alone.

The run's own results are taken as they stand. Only ensembles are computed here: the mean of the probabilities
of five replicates, in groups that share none, in the order of their numbers.
"""

from pathlib import Path

from benchmarks.driver import BenchmarkError
from benchmarks.storing import Json, day, raw, store
from inklab.data.sources import load_dataset
from inklab.records.estimates import Estimate
from inklab.records.pipeline import Pipeline
from inklab.records.results import Results, RobustnessResults, TrainingResults
from inklab.run import Run
from inklab.statistics import estimate

NAME = "best"
ENSEMBLE = 5
NOISE_BARS = {0.5: 0.975, 0.6: 0.960, 0.7: 0.900, 0.8: 0.740}
"""Mean recall of the denoiser and the cnn behind it, by strength."""

CLAIMS = {  # bar, stretch, unit; an error and a cross-entropy are better if smaller
    "mlp-best/error": (0.012, 0.0095, "share of test images"),
    "cnn-best/accuracy": (0.9965, None, "share of test images"),
    "cnn-best/ensemble": (0.9975, None, "share of test images"),
    "denoiser-best/bce": (0.070, None, "nats a pixel"),
}


def best(out: Path, command: str, run: Path | None) -> list[str]:
    """Store the claims of a finished run.

    Args:
        out: folder of the results.
        command: what was typed.
        run: the run directory.

    Returns:
        A line a claim, and one a strength.

    Raises:
        BenchmarkError: there is no such run, or it has none of the recipes.
    """
    if run is None or not (run / "results.json").is_file():
        raise BenchmarkError(f"--run must name a finished run, but is {run}")
    opened = Run(run)
    results = opened.results
    estimates = _estimates(opened, results)
    if not estimates:
        raise BenchmarkError(f"'{run}' has none of the best recipes, but {', '.join(results.experiments)}")
    robustness = results.experiments.get("robustness")
    has_denoiser = "denoiser-best" in results.experiments and isinstance(robustness, RobustnessResults)
    rows = _robustness(robustness) if has_denoiser else []
    command = command.replace(str(run), "RUN")
    claims = {name: _claim(name, row, command) for name, row in estimates.items()}
    kept: Json = raw(out, NAME) or {"name": NAME, "scores": {}}
    trained = {
        "trained_on": results.environment.model_dump(mode="json", exclude_none=True),
        "date": day(),
        "trained_by": opened.plan.command,
    }
    for name, row in estimates.items():
        kept["scores"][name] = {**row.to_json(), **trained}
    store(out, kept | ({"robustness": rows} if rows else {}), claims)
    lines = [f"{name}: {row.mean:.5f} (SD {row.sd or 0:.5f}, n = {row.n})" for name, row in estimates.items()]
    return lines + [f"noise {row['strength']:g}: {row['recall']:.4f} (bar {row['bar']})" for row in rows]


def _estimates(run: Run, results: Results) -> dict[str, Estimate]:
    """The estimate of each claim that the run is about."""

    def of(experiment: str, metric: str) -> Estimate | None:
        found = results.experiments.get(experiment)
        return found.settings[0].metrics[metric] if isinstance(found, TrainingResults) else None

    estimates: dict[str, Estimate] = {}
    if accuracy := of("mlp-best", "test_accuracy"):
        estimates["mlp-best/error"] = estimate([1 - value for value in accuracy.values], images=10_000)
    if accuracy := of("cnn-best", "test_accuracy"):
        estimates["cnn-best/accuracy"] = accuracy
        estimates["cnn-best/ensemble"] = estimate(_ensembles(run, accuracy.n), images=10_000)
    if bce := of("denoiser-best", "test_bce"):
        estimates["denoiser-best/bce"] = bce
    return estimates


def _claim(name: str, row: Estimate, command: str) -> Json:
    bar, stretch, unit = CLAIMS[name]
    low, high = row.ci95 or (None, None)
    return {
        "value": row.mean, "unit": unit, "low": low, "high": high, "sd": row.sd, "n": row.n,
        "bar": bar, "stretch": stretch, "command": command,
    }  # fmt: skip


def _ensembles(run: Run, replicates: int) -> list[float]:
    """Test accuracies of disjoint groups of replicates whose probabilities are averaged."""
    import torch

    from inklab.evaluation.scores import classification_scores

    def mean_logits(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([model.probabilities(images) for model in models]).mean(0).log()

    test = load_dataset("mnist").test
    accuracies = []
    for start in range(0, replicates - ENSEMBLE + 1, ENSEMBLE):
        models = [run.model("cnn-best", replicate) for replicate in range(start, start + ENSEMBLE)]
        accuracies.append(classification_scores(mean_logits, test.pixels, test.labels).accuracy)
    return accuracies


def _robustness(results: RobustnessResults) -> list[Json]:
    """Mean recall with the best denoiser in front at each strength with a bar; at 0, what it costs."""
    rows: list[Json] = []
    denoised, baseline = (results.pipelines[Pipeline(name)].recall for name in ("denoiser-best+cnn", "cnn"))
    for strength, recall, without in zip(results.strengths, denoised, baseline, strict=True):
        if strength in NOISE_BARS or strength == 0:
            bar = NOISE_BARS.get(strength, (without.mean or 0.0) - 0.002)
            row = {"strength": strength, "recall": recall.mean, "baseline": without.mean, "bar": bar}
            rows.append(row)
    return rows
