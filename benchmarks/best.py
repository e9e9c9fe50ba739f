"""What the best recipes reach, out of a finished run: of `digits-best`, or of one of them alone.

The run's own results are taken as they stand. Only ensembles are computed here: the mean of the probabilities
of five replicates, in groups that share none, in the order of their numbers.
"""

from pathlib import Path
from typing import Any

from benchmarks.driver import BenchmarkError
from benchmarks.storing import Json, day, raw, store
from inklab.data.sources import load
from inklab.io.documents import read_json
from inklab.statistics import score
from inklab.study.run_directory import RunDirectory

NAME = "best"
ENSEMBLE = 5
NOISE_BARS = {0.5: 0.975, 0.6: 0.960, 0.7: 0.900, 0.8: 0.740}
"""Mean true-positive rates of the denoiser and the cnn behind it, by strength."""

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
        run: the run's folder.

    Returns:
        A line a claim, and one a strength of noise.

    Raises:
        BenchmarkError: there is no such run, or it has none of the recipes.
    """
    if run is None or not (run / "results.json").is_file():
        raise BenchmarkError(f"--run must name a finished run, but is {run}")
    told = read_json(run / "results.json")
    chapters, environment = told["chapters"], told["environment"]
    found: dict[str, Json] = {}
    if "mlp-best" in chapters:
        accuracy = chapters["mlp-best"]["test_accuracy"]
        found["mlp-best/error"] = score([1 - value for value in accuracy["values"]], images=10_000).to_json()
    if "cnn-best" in chapters:
        found["cnn-best/accuracy"] = accuracy = chapters["cnn-best"]["test_accuracy"]
        ensembles = _ensembles(RunDirectory(run), accuracy["n"])
        found["cnn-best/ensemble"] = score(ensembles, images=10_000).to_json()
    if "denoiser-best" in chapters:
        found["denoiser-best/bce"] = chapters["denoiser-best"]["test_bce"]
    if not found:
        raise BenchmarkError(f"'{run}' has none of the best recipes' chapters, but {', '.join(chapters)}")
    noise = _noise(chapters["noise"]) if "denoiser-best" in chapters and "noise" in chapters else []
    command = command.replace(str(run), "RUN")
    claims = {name: _claim(name, each, command) for name, each in found.items()}
    kept: Json = raw(out, NAME) or {"name": NAME, "scores": {}}
    for name, each in found.items():
        trained = {"trained_on": environment, "date": day(), "trained_by": _typed(RunDirectory(run))}
        kept["scores"][name] = {**each, **trained}
    store(out, kept | ({"noise": noise} if noise else {}), claims)
    lines = [
        f"{name}: {each['mean']:.5f} (SD {each['sd'] or 0:.5f}, n = {each['n']})"
        for name, each in found.items()
    ]
    return lines + [f"noise {row['strength']:g}: {row['tpr']:.4f} (asked {row['bar']})" for row in noise]


def _typed(run: RunDirectory) -> str:
    """The command that made a run, without the folder."""
    return str(run.plan().get("command", ""))


def _claim(name: str, found: Json, command: str) -> Json:
    bar, stretch, unit = CLAIMS[name]
    low, high = found["ci95"] or (None, None)
    return {
        "value": found["mean"], "unit": unit, "low": low, "high": high, "sd": found["sd"], "n": found["n"],
        "bar": bar, "stretch": stretch, "command": command,
    }  # fmt: skip


def _ensembles(run: RunDirectory, replicates: int) -> list[float]:
    """Test accuracies of disjoint groups of replicates whose probabilities are averaged."""
    import torch

    from inklab.evaluation.scores import classification_scores
    from inklab.model import TrainedModel

    def together(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([bundle.probabilities(images) for bundle in bundles]).mean(0).log()

    test = load("mnist").test
    (chapter,) = [each for each in run.plan()["chapters"] if each["name"] == "cnn-best"]
    trials = chapter["settings"][0]["trials"][:replicates]
    found = []
    for start in range(0, len(trials) - ENSEMBLE + 1, ENSEMBLE):
        bundles = [TrainedModel.load(run.bundle(trial)) for trial in trials[start : start + ENSEMBLE]]
        found.append(classification_scores(together, test.pixels, test.labels).accuracy)
    return found


def _noise(chapter: Json) -> list[Json]:
    """Mean rates with the best denoiser in front at each strength that is asked for; at 0, what it costs."""
    rows: list[Json] = []
    pipelines: dict[str, Any] = chapter["pipelines"]
    for place, strength in enumerate(chapter["strengths"]):
        rate, alone = (pipelines[name]["tpr"][place]["mean"] for name in ("denoiser-best+cnn", "cnn"))
        if strength in NOISE_BARS or strength == 0:
            bar = NOISE_BARS.get(strength, alone - 0.002)
            rows.append({"strength": strength, "tpr": rate, "alone": alone, "bar": bar})
    return rows
