"""Generates docs/benchmarks.md and its figures from benchmarks/results/; `--check` says if they are current.

.venv/bin/python -m benchmarks.report [--check]
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from textwrap import fill

from benchmarks.figures import TITLES, figure_sources, speed_claims, write_figures
from benchmarks.options import RESULTS, ROOT
from benchmarks.ratios import MedianRatio
from benchmarks.records import (
    AccuracyLevel,
    ApiOverheadResults,
    BenchmarkResults,
    CheckpointResults,
    Claim,
    ComparisonResults,
    LargeRunResults,
    ParityResults,
    PrecisionResults,
    PredictionResults,
    ScalingResults,
    ServingResults,
    StudyResults,
    TimeToAccuracyResults,
)
from benchmarks.results_io import read_results, read_summary
from benchmarks.thresholds import SPEED_CLAIMS, SpeedClaim

PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES_DIR = ROOT / "docs" / "benchmarks"
HEAD = """# Benchmarks

inklab compared with Keras, a plain PyTorch loop and scikit-learn. Made by `python -m benchmarks.report`
from `benchmarks/results/`; do not edit. What each benchmark does, and its rules:
[benchmarks/README.md](../benchmarks/README.md).

- Among the claims, a ratio above 1 means that inklab is faster. It compares member-epochs per second (one
  network, one pass over 60,000 images) of neighboring measurements.
- The others run in fp32 as they come, with all cores. inklab trains as its studies do: populations of
  members, one process per core, compiled, in bf16 where the processor supports it. The column *in fp32*
  is inklab in fp32 (ratio of medians).
- *target* is what the project requires of itself; *stretch* is more ambitious. Missed targets are listed
  too.
"""
WIDTH = 140
MIB = 2**20
DESCRIPTIONS = {
    "l2-sweep": "784-500-300-10, L2 on the hidden kernels, SGD 0.1, batch 128",
    "cnn": "conv 32 - conv 64 - max-pool 3 - dropout 0.5 - dense 300 - dense 10, SGD 0.1, batch 128",
    "denoiser": "784-128-96-128-784, Adam 0.001, cross-entropy per pixel, batch 64, one fixed noisy copy",
}


def render(results: Path) -> str:
    """The page of everything that was measured; the rest is left out."""
    sections = [text for text in (section(results) for section in SECTIONS) if text]
    return "\n".join([HEAD, *(sections or ["Nothing has been measured yet.\n"])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def paragraph(text: str) -> str:
    """A paragraph in lines of at most `WIDTH` characters."""
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _claims(results: Path) -> str:
    measured = speed_claims(results)
    if not measured:
        return ""
    claims = [(claim, measured[claim.name]) for claim in SPEED_CLAIMS if claim.name in measured]
    rows = [_claim_row(claim, value, results) for claim, value in claims]
    head = ("claim", "compared with", "ratio", "range", "n", "target", "stretch", "reached", "in fp32")
    notes = [_coverage_text(measured.values())]
    notes += [
        f"`{claim.name}` is compared with `{value.peer}`, the faster one."
        for claim, value in claims
        if len(claim.peers) > 1
    ]
    return "\n".join(
        ["## Claims", "", table(head, rows), paragraph(" ".join(notes)), "", _figure("speedups")]
    )


def _claim_row(claim: SpeedClaim, value: Claim, results: Path) -> tuple[str, ...]:
    comparison = read_results(results, claim.workload, ComparisonResults)
    fp32 = comparison.fp32_ratios.get(value.peer or "") if comparison else None
    stretch = claim.stretch is not None and value.value >= claim.stretch
    return (
        f"`{claim.name}`", claim.description, f"**{value.value:.2f}**",
        f"{value.low:.2f} to {value.high:.2f}", str(value.n), f"{value.target:g}",
        "" if claim.stretch is None else f"{claim.stretch:g}",
        "stretch" if stretch else _yes(value.value >= value.target), "" if fp32 is None else f"{fp32:.2f}",
    )  # fmt: skip


def _coverage_text(ratios: Iterable[Claim | MedianRatio]) -> str:
    """What `range` is."""
    kinds = sorted({(ratio.n, ratio.coverage or 0.0) for ratio in ratios})
    coverage = "; ".join(f"{coverage:.2%} (n = {n})" for n, coverage in kinds)
    return (
        "The ratio is the median of n pairs. The range lies between two order statistics: the narrowest that "
        "covers the true median with a probability of at least 95%, or else the smallest and the largest "
        f"ratio. Here that probability is {coverage}."
    )


def _comparison(name: str) -> Callable[[Path], str]:
    def section(results: Path) -> str:
        comparison = read_results(results, name, ComparisonResults)
        if comparison is None:
            return ""
        rows = [_program_row(program, comparison) for program in comparison.programs]
        head = ("program", "how", "member-epochs per second", "seconds per unit", "unit")
        info = comparison.programs.values()
        versions = {f"{library} {version}" for peer in info for library, version in peer.versions.items()}
        lines = [table(head, rows), paragraph(f"Versions: {', '.join(sorted(versions))}."), ""]
        return "\n".join([f"## {name}", "", f"{DESCRIPTIONS[name]}.", "", *lines, *_origin(comparison)])

    return section


def _program_row(program: str, comparison: ComparisonResults) -> tuple[str, ...]:
    timings = [unit.timing for units in comparison.rounds for unit in units if unit.program == program]
    return (
        program, comparison.programs[program].description, f"{comparison.speeds[program]:.3f}",
        f"{median(timing.seconds for timing in timings):.2f} (n = {len(timings)})",
        f"{timings[0].images:,} images",
    )  # fmt: skip


def _parity(results: Path) -> str:
    parity = read_results(results, "parity", ParityResults)
    if parity is None:
        return ""
    first = next(iter(parity.networks.values()))
    rows = [
        (
            f"`{name}`", f"{network.learning_rate:g}",
            *(f"{network.differences[backend]:.1e}" for backend in first.differences),
            f"{network.keras_difference:.1e}", "chaotic" if network.chaotic else _yes(network.equal),
        )
        for name, network in parity.networks.items()
    ]  # fmt: skip
    backends = (f"against {first.versions[backend]}" for backend in first.differences)
    head = ("network", "learning rate", *backends, "Keras against Keras", "equal")
    text = (
        "The largest relative difference of the first 50 losses, starting from Keras's initial weights with "
        f"the same batches, without dropout, in fp32. *Equal* means at most {parity.tolerance:g}. At the "
        "CNN's own learning rate, 0.1, its first losses are chaotic: a difference in the seventh digit soon "
        "reaches the first, also between two Keras backends. So the CNN is compared at a tenth of that rate."
    )
    return _section("Agreement with Keras", text, table(head, rows), *_origin(parity))


def _scaling(results: Path) -> str:
    scaling = read_results(results, "scaling", ScalingResults)
    if scaling is None:
        return ""
    rows = [
        (
            str(point.members), f"{point.images:,}", f"{point.member_epoch_seconds:.2f}",
            f"{point.member_seconds:.2f}", f"{point.peak_bytes / MIB:,.0f}",
        )
        for point in scaling.by_members + scaling.by_images
    ]  # fmt: skip
    head = (
        "members", "images", "s per member for 60,000 more images", "s per member for these images",
        "peak MiB",
    )  # fmt: skip
    text = (
        "One process, one thread, the network of l2-sweep. The last column is the peak memory of the process."
    )
    return _section("How cost grows", text, table(head, rows), _figure("scaling"), *_origin(scaling))


def _bf16(results: Path) -> str:
    bf16 = read_results(results, "bf16", PrecisionResults)
    if bf16 is None:
        return ""
    rows = []
    for name, difference in bf16.differences.items():
        low, high = difference.ci95 or (float("nan"), float("nan"))
        means = [f"{fmean(bf16.scores[precision][name]):.5f}" for precision in ("fp32", "bf16")]
        interval = f"{low:+.5f} to {high:+.5f}"
        rows.append((name, *means, f"{difference.mean or 0.0:+.5f}", interval, str(difference.n)))
    head = ("metric", "fp32", "bf16", "bf16 minus fp32", "95% CI", "pairs")
    text = (
        f"The network of l2-sweep with L2 1e-5, {bf16.epochs} epochs over {bf16.images:,} images. A "
        "replicate has the same initial weights and batches in both precisions. Student's t over the paired "
        "differences."
    )
    return _section("Does bf16 change results?", text, table(head, rows), *_origin(bf16))


def _large_runs(results: Path) -> str:
    measured = read_results(results, "large-runs", LargeRunResults)
    if measured is None:
        return ""
    rows = []
    for name, times in measured.commands.items():
        reached = measured.is_reached(name)
        seconds = (f"{times.few.median:.2f}", f"{times.many.median:.2f}", f"{times.difference:+.2f}")
        rows.append((f"`inklab {name}`", *seconds, "" if reached is None else _yes(reached)))
    counts = (f"{count:,} outcomes, s" for count in (measured.few, measured.many))
    head = ("command", *counts, "difference, s", "reached")
    text = (
        f"Medians of {measured.n} runs of each command. Target: at most {measured.target:g} s more for "
        "status and report."
    )
    return _section("Many stored outcomes", text, table(head, rows))


def _checkpoints(results: Path) -> str:
    measured = read_results(results, "checkpoints", CheckpointResults)
    if measured is None:
        return ""
    rows = [
        (
            name, f"{cost.bytes / 1e6:.1f}", f"{median(cost.write_seconds) * 1e3:.0f}",
            f"{cost.slowdown:+.2%}", str(len(cost.pairs)), f"{cost.default_slowdown:+.3%}",
            _yes(cost.default_slowdown <= measured.target),
        )
        for name, cost in measured.workloads.items()
    ]  # fmt: skip
    head = (
        "workload", "MB", "ms to write", "slower with one per second", "n", "slower by default", "reached",
    )  # fmt: skip
    text = (
        "The same training with one checkpoint per second and with none, alternating. The default is one per "
        f"{measured.default_interval_seconds:.0f} s, and costs accordingly less. Target: at most "
        f"{measured.target:.0%}. Time to write one: median of twenty, fsync included."
    )
    return _section("What checkpoints cost", text, table(head, rows), *_origin(measured))


def _study(results: Path) -> str:
    study = read_results(results, "study", StudyResults)
    if study is None:
        return ""
    rows = []
    for profile, runs in study.runs.items():
        peak = max(run.peak_bytes for run in runs)
        seconds = [run.seconds for run in runs]
        times = _seconds_row(f"`inklab run --profile {profile}`", seconds, study.targets[profile])
        rows.append((*times, f"{peak / MIB:,.0f}"))
    for name, command_seconds in study.commands.items():
        rows.append((*_seconds_row(f"`inklab --{name}`", command_seconds, study.targets[name]), ""))
    head = ("command", "median, s", "minimum to maximum", "n", "target, s", "reached", "peak MiB")
    text = (
        "Complete runs on MNIST, from the command to the report, with compiled programs in the cache (the "
        "first run on a machine takes up to a minute longer). Memory is that of the runner and all workers "
        "together."
    )
    return _section("Run times", text, table(head, rows), *_origin(study))


def _serving(results: Path) -> str:
    serving = read_results(results, "serving", ServingResults)
    if serving is None:
        return ""
    rows = [
        (
            clients, f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}", f"{load.requests_per_second:,.0f}",
            str(load.dropped),
        )
        for clients, load in serving.summary.items()
    ]  # fmt: skip
    latency = serving.summary["1"].p50_ms
    throughput = max(load.requests_per_second for load in serving.summary.values())
    targets = serving.targets
    text = (
        f"`/api/predict` of `inklab serve`, one image per request, pipeline `{serving.pipeline}`, over "
        f"persistent connections; {serving.tool} runs on the same cores. Medians of {serving.n} "
        f"times {serving.seconds:g} s, alternating. {latency:.2f} ms with one client (target "
        f"{targets.p50_ms_at_1:g}: {_yes(latency <= targets.p50_ms_at_1)}); {throughput:,.0f} requests per "
        f"second at best (target {targets.requests_per_second:,.0f}: "
        f"{_yes(throughput >= targets.requests_per_second)})."
    )
    head = ("clients", "median, ms", "p99, ms", "requests per second", "dropped")
    return _section("Server latency and throughput", text, table(head, rows), *_origin(serving))


def _predict(results: Path) -> str:
    measured = read_results(results, "predict", PredictionResults)
    if measured is None:
        return ""
    targets, ratios = measured.targets, [row.ratio for row in measured.times]
    rows = [
        (
            f"`{row.network}`", str(row.threads), f"{row.one_image.median_ms:.2f}",
            f"{row.one_image.p95_ms:.2f}", f"{row.bare_one_image.median_ms:.2f}",
            _yes(row.one_image.median_ms <= targets.one_image_ms), *_ratio_cells(row.ratio, targets.ratio),
        )
        for row in measured.times
    ]  # fmt: skip
    head = (
        "network", "threads", "one image: median, ms", "p95, ms", "bare torch, ms", "reached",
        f"{measured.images:,} images: ratio", "range", "n", "reached",
    )  # fmt: skip
    text = (
        "`TrainedModel.predict(images).labels` of arrays of bytes. One image: "
        f"{measured.times[0].one_image.n:,} calls, without the first ones; target: a median of at most "
        f"{targets.one_image_ms:g} ms. The ratio is inklab's time divided by that of a bare torch loop with "
        f"the same network in fp32 and the same batches of {measured.batch_size}, alternating; target: at "
        f"most {targets.ratio:g}. {_coverage_text(ratios)}"
    )
    return _section("Prediction from Python", text, table(head, rows), *_origin(measured))


def _api(results: Path) -> str:
    measured = read_results(results, "api", ApiOverheadResults)
    if measured is None:
        return ""
    seconds = (
        median(pair.command for pair in measured.pairs),
        median(pair.script for pair in measured.pairs),
    )
    row = (*(f"{value:.2f}" for value in seconds), *_ratio_cells(measured.ratio, measured.target))
    head = ("`inklab run`, s", "`inklab.run`, s", "ratio", "range", "n", "reached")
    text = (
        f"The same small study ({measured.trials} trials, {measured.workers} workers) run by the command and "
        "by a Python script that calls `inklab.run` and writes the report, from the start of the process to "
        "its end, alternating. The trials of both have the same numbers to the bit. Target: a ratio of at "
        f"most {measured.target:g}. {_coverage_text([measured.ratio])}"
    )
    return _section("Python and the command line", text, table(head, [row]), *_origin(measured))


def _ratio_cells(ratio: MedianRatio, target: float) -> tuple[str, ...]:
    """A ratio of times, its range, n, and whether it is small enough."""
    extremes = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return f"**{ratio.value:.3f}**", extremes, str(ratio.n), _yes(ratio.value <= target)


def _time_to_accuracy(results: Path) -> str:
    measured = read_results(results, "time-to-accuracy", TimeToAccuracyResults)
    if measured is None:
        return ""
    head = (
        "target", "s, mean", "SD", "test accuracy, mean", "SD", "95% CI", "n", "reached", "recipe", "epochs",
    )  # fmt: skip
    rows = [_level_row(level) for level in measured.levels]
    claim = read_summary(results)["time-to-99.39/keras-tensorflow"]
    return "\n".join(
        [
            "## Time to accuracy", "", *_time_to_accuracy_text(measured, claim), table(head, rows),
            *_recipe_sizes(measured.levels), *_origin(measured),
        ]
    )  # fmt: skip


def _time_to_accuracy_text(measured: TimeToAccuracyResults, claim: Claim) -> list[str]:
    epochs = measured.keras.epoch_seconds
    texts = (
        f"Seconds of training alone, on all cores, over {measured.levels[0].train_images:,} images; the "
        "other 5,000 of MNIST's 60,000 are the validation split. All replicates are trained to the end, "
        "evaluated once, and count. `inklab train --recipe cnn-fast --data mnist` trains the 4 epochs; the "
        "single epoch uses batches of 125, a learning rate of 0.035 and no shifts.",
        "The student report trained its network for 40 epochs with Keras; the best epoch reached 99.39%. "
        f"Between these trainings, one such epoch on TensorFlow took {min(epochs):.0f} to {max(epochs):.0f} "
        f"s. Extrapolated, 40 epochs take **{claim.value:.0f}** times as long as `cnn-fast` takes to 99.39% "
        f"({claim.low:.0f} to {claim.high:.0f}, {len(epochs)} epochs; target {claim.target:g}, stretch "
        f"{claim.stretch:g}). The machine was shared with other tenants.",
    )
    return [part for text in texts for part in (paragraph(text), "")]


def _recipe_sizes(levels: Iterable[AccuracyLevel]) -> list[str]:
    """What each training of the table is, each once."""
    rows = {
        (
            f"`{level.recipe}`", str(level.config.recipe.epochs), f"{level.parameters:,}",
            f"{level.flops / 1e12:.2f}", f"{level.warm_up_seconds:.0f}",
        ): None
        for level in levels
    }  # fmt: skip
    text = (
        "TFLOP are those of one training, two per multiply-add, with a step counted as three forward passes. "
        "The first training is one on noise instead of images, which compiles and loads the program."
    )
    head = ("recipe", "epochs", "parameters", "TFLOP", "first training, s")
    return [paragraph(text), "", table(head, list(rows))]


def _level_row(level: AccuracyLevel) -> tuple[str, ...]:
    test, seconds = level.test, level.time
    low, high = test.ci95 or (float("nan"), float("nan"))
    return (
        f"{level.level:.2%}", f"**{seconds.mean or 0:.1f}**", f"{seconds.sd or 0:.1f}",
        f"{test.mean or 0:.3%}", f"{test.sd or 0:.3%}", f"{low:.3%} to {high:.3%}", str(test.n),
        _yes(level.reached), f"`{level.recipe}` {level.version}", str(level.config.recipe.epochs),
    )  # fmt: skip


def _section(title: str, text: str, *parts: str) -> str:
    return "\n".join([f"## {title}", "", paragraph(text), "", *parts])


def _origin(results: BenchmarkResults) -> list[str]:
    environment, measurement = results.measurement.environment, results.measurement
    text = (
        f"Measured {measurement.date} on {environment.cores} cores of {environment.cpu}, "
        f"{environment.platform}, Python {environment.python}, with `{measurement.command}`."
    )
    return [text, ""]


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _seconds_row(name: str, seconds: Sequence[float], target: float) -> tuple[str, ...]:
    middle, digits = median(seconds), 2 if target < 10 else 0
    extremes = f"{min(seconds):.{digits}f} to {max(seconds):.{digits}f}"
    return name, f"{middle:.{digits}f}", extremes, str(len(seconds)), f"{target:g}", _yes(middle <= target)


def _figure(name: str) -> str:
    return f"![{TITLES[name]}](benchmarks/{name}.svg)\n"


SECTIONS = (
    _claims, _time_to_accuracy, *(_comparison(name) for name in DESCRIPTIONS), _scaling, _bf16, _parity,
    _checkpoints, _large_runs, _study, _api, _predict, _serving,
)  # fmt: skip


def is_current(results: Path = RESULTS, page: Path = PAGE, figures: Path = FIGURES_DIR) -> bool:
    """Whether the page and figures follow from the results.

    Figures are compared by the fingerprint of their numbers: their bytes depend on fonts.
    """
    if not page.is_file() or page.read_text(encoding="utf-8") != render(results):
        return False
    return _figures_are_current(figure_sources(results), figures)


def _figures_are_current(sources: Mapping[str, str], figures: Path) -> bool:
    paths = {name: figures / f"{name}.svg" for name in sources}
    return all(
        path.is_file() and sources[name] in path.read_text(encoding="utf-8") for name, path in paths.items()
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page and its figures, or check them."""
    if "--check" in arguments:
        current = is_current()
        state = "is current" if current else "is outdated: run python -m benchmarks.report"
        print(f"docs/benchmarks.md {state}")
        return 0 if current else 1
    PAGE.write_text(render(RESULTS), encoding="utf-8")
    write_figures(RESULTS, FIGURES_DIR)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
