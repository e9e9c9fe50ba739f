#!/usr/bin/env python3
"""Write the tables of README.md and docs/results/README.md; with --check say whether they are current.

    scripts/build_readme_tables.py [--check]

Results come from docs/results/results.json, speed and records from benchmarks/results/, references from the
study file: no number is typed twice.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import fill

from inklab.format import (
    format_count,
    format_metric,
    format_outcomes,
    format_value,
    join_words,
    pluralize,
)
from inklab.metrics import METRICS, REPORTED_METRIC, get_metric
from inklab.records.estimates import Estimate
from inklab.records.results import (
    ExperimentResults,
    GenerationResults,
    Results,
    RobustnessResults,
    SettingResults,
    TrainingResults,
)
from inklab.study.load import read_study
from inklab.study.spec import ReferenceSpec

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS_PAGE = ROOT / "README.md", ROOT / "docs" / "results" / "README.md"
RESULTS = ROOT / "docs" / "results" / "results.json"
MEASURED = ROOT / "benchmarks" / "results"
WIDTH = 140
WORKLOADS = ("l2-sweep", "cnn", "denoiser")
PEERS = {
    "keras-tensorflow": "Keras on TensorFlow", "keras-jax": "Keras on JAX", "keras-torch": "Keras on torch",
    "sklearn": "scikit-learn", "torch": "a plain PyTorch loop",
    "keras": "the better of Keras on TensorFlow and JAX",
}  # fmt: skip
RECORDS = {  # score in best.json: recipe, suffix of its name, prefix of the value, metric
    "mlp-best/error": ("mlp-best", "", "error ", "test_accuracy"),
    "cnn-best/accuracy": ("cnn-best", "", "", "test_accuracy"),
    "cnn-best/ensemble": ("cnn-best", ", mean of 5", "", "test_accuracy"),
    "denoiser-best/bce": ("denoiser-best", ", strength 0.4", "BCE ", "test_bce"),
}


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; the cells of its head are separated by bars."""
    columns = head.split("|")
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (columns, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(columns)}", *lines[1:]])


# ---------------------------------------------------------------- results


def render_results(results: Results) -> str:
    """How the numbers were made, and a row for each experiment: what was measured here, and by others."""
    references = dict(_references(results))
    rows = [
        (f"`{name}`", _measured(entry), "; ".join(filter(None, map(_reference, references.get(name, ())))))
        for name, entry in results.experiments.items()
        if entry.kind != "data"
    ]
    return f"{_setup(results)}\n\n{table('experiment|here|reference', rows)}"


def _setup(results: Results) -> str:
    data, machine = results.data, results.environment
    return fill(
        f"Study `{results.study}`, {data.dataset} ({data.train:,} training, {data.validation:,} validation, "
        f"{data.test:,} test images), seed {results.seed}, {machine.precision}, torch {machine.torch}, "
        f"{pluralize(machine.cores, 'core')} of {machine.cpu}.",
        WIDTH,
    )


def _measured(entry: ExperimentResults) -> str:
    if isinstance(entry, TrainingResults):
        clauses = _grid_clauses(entry) if entry.grid else _training_clauses(entry)
        return "; ".join(filter(None, [*clauses, format_outcomes(entry.outcomes, hide_complete=True)]))
    if isinstance(entry, RobustnessResults):
        return _robustness(entry)
    return _generation(entry) if isinstance(entry, GenerationResults) else ""


def _training_clauses(entry: TrainingResults) -> Iterator[str]:
    setting = entry.settings[0]
    yield _reported(setting, entry)
    for diagnosis in setting.diagnoses:
        yield f"diagnosis `{diagnosis.name}` in {diagnosis.trials} of {sum(entry.outcomes.values())}"


def _grid_clauses(entry: TrainingResults) -> Iterator[str]:
    if entry.best is None:
        yield "no value yet"
        return
    yield f"best by validation: {entry.best.label}, {_reported(entry.best, entry)}"
    others = [row.values for row in entry.comparisons if row.difference.significant]
    labels = [format_value(list(values.values())) for values in others]
    yield f"significantly different: {', '.join(labels)}" if others else "no significant differences"


def _reported(setting: SettingResults, entry: TrainingResults) -> str:
    name = REPORTED_METRIC[entry.task]
    return f"{_symbol(name)}{setting.metrics[name].format(name)}"


def _symbol(name: str) -> str:
    """What stands in front of a value that its unit does not explain, such as "BCE "."""
    metric = get_metric(name)
    return "" if metric.is_share else f"{METRICS[name.removeprefix(f'{metric.split}_')].label} "


def _robustness(entry: RobustnessResults) -> str:
    comparison = entry.denoising
    if comparison is None or comparison.best is None:
        return "denoising does not help significantly at any strength"
    best = comparison.best
    return (
        f"denoising helps from strength {comparison.significant_from:g}; recall at {best.strength:g}: "
        f"{best.difference.format('recall')}"
    )


def _generation(entry: GenerationResults) -> str:
    shares = {name: sampler.confident_share for name, sampler in entry.samplers.items()}
    ranked = sorted(shares.items(), key=lambda item: -(item[1].mean or 0.0))
    texts = [f"{name} {format_metric(share.mean or 0.0, 'confident_share')}" for name, share in ranked]
    return f"confident share: {', '.join(texts)} (n = {max(share.n for share in shares.values())})"


def _references(results: Results) -> Iterator[tuple[str, tuple[ReferenceSpec, ...]]]:
    spec = read_study(results.study, profile=results.profile).spec
    for name, experiment in spec.experiments.items():
        yield name, experiment.references


def _reference(reference: ReferenceSpec) -> str:
    values = [
        f"{_symbol(name)}{format_metric(reference.values[name], name)}"
        for name in REPORTED_METRIC.values()
        if name in reference.values
    ]
    return f"{reference.source} {', '.join(values)}" if values else ""


# ---------------------------------------------------------------- the page of the results


def render_timings(results: Results) -> str:
    """A row for each experiment: its trials or evaluations, its network's parameters, its seconds."""
    rows = [
        (
            f"`{name}`",
            _count(results.experiments[name]),
            _parameters(results.experiments[name]),
            f"{seconds:,.0f}",
        )
        for name, seconds in results.timings.experiments.items()
    ]
    return table("experiment|computed|parameters|seconds, summed over parallel workers", rows)


def _count(entry: ExperimentResults) -> str:
    if isinstance(entry, TrainingResults):
        return pluralize(sum(entry.outcomes.values()), "trial")
    if isinstance(entry, RobustnessResults | GenerationResults):
        return pluralize(sum(entry.outcomes.values()), "evaluation")
    return ""


def _parameters(entry: ExperimentResults) -> str:
    settings = entry.settings if isinstance(entry, TrainingResults) else ()
    return join_words(
        sorted({format_count(setting.parameters) for setting in settings if setting.parameters})
    )


def render_references(results: Results) -> str:
    """Every reference with its value and what differs in protocol."""
    return "\n".join(
        fill(
            f"- `{name}`: {_reference(reference) or reference.source} ({'; '.join(reference.notes)})",
            WIDTH,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        for name, references in _references(results)
        for reference in references
    )


# ---------------------------------------------------------------- benchmarks


def render_speed(summary_path: Path = MEASURED / "summary.json") -> str:
    """A row for each workload and library: how many times as fast inklab trains, and what repeats it."""
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    rows = [
        (
            f"`{workload}`",
            label,
            f"**{row['value']:.1f}** ({row['low']:.1f} to {row['high']:.1f})",
            _command(row["command"]),
        )
        for workload in WORKLOADS
        for peer, label in PEERS.items()
        if (row := summary.get(f"{workload}/{peer}")) is not None
    ]
    return table("workload|compared with|times as fast|measured by", rows)


def render_records(measured: Path = MEASURED) -> str:
    """A row for each recipe: what its replicates reach on MNIST's test set, in what time, what repeats it."""
    rows = [*_fast_recipes(measured / "time-to-accuracy.json"), *_best_recipes(measured / "best.json")]
    return table("recipe|MNIST test set|trained in|measured by", rows)


def _fast_recipes(path: Path) -> Iterator[tuple[str, ...]]:
    """Those of the time to accuracy; a training may reach several levels."""
    document = json.loads(path.read_text(encoding="utf-8"))
    levels = {json.dumps(level["config"], sort_keys=True): level for level in document["levels"]}
    for level in levels.values():
        epochs = pluralize(level["config"]["recipe"]["epochs"], "epoch")
        accuracy = _estimate(level["test"]).format("test_accuracy")
        seconds = f"{level['time']['mean']:.1f} s"
        yield (
            f"{_card(level['recipe'])}, {epochs}",
            accuracy,
            seconds,
            _command(document["measurement"]["command"]),
        )


def _best_recipes(path: Path) -> Iterator[tuple[str, ...]]:
    for name, row in json.loads(path.read_text(encoding="utf-8"))["scores"].items():
        recipe, suffix, prefix, metric = RECORDS[name]
        value = f"{prefix}{_estimate(row).format(metric)}"
        yield f"{_card(recipe)}{suffix}", value, "", _command(row["trained_by"])


def _estimate(row: object) -> Estimate:
    fields = dict(row) if isinstance(row, dict) else {}
    return Estimate.model_validate({name: fields[name] for name in Estimate.model_fields if name in fields})


def _card(recipe: str) -> str:
    return f"[`{recipe}`](docs/recipes/{recipe}.md)"


def _command(command: str) -> str:
    return f"`{command.removeprefix('.venv/bin/')}`"


# ---------------------------------------------------------------- pages


def fill_page(page: str, marker: str, text: str) -> str:
    """A page with a text between `<!-- marker -->` and `<!-- /marker -->`.

    Raises:
        ValueError: the markers are missing or in the wrong order.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"the page needs the markers {begin} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def render_pages() -> dict[Path, str]:
    """Every page with its tables."""
    results = Results.read(RESULTS)
    blocks = {
        README: {"results": render_results(results), "speed": render_speed(), "records": render_records()},
        RESULTS_PAGE: {"timings": render_timings(results), "references": render_references(results)},
    }
    pages = {}
    for path, texts in blocks.items():
        page = path.read_text(encoding="utf-8")
        for marker, text in texts.items():
            page = fill_page(page, marker, text)
        pages[path] = page
    return pages


def main(arguments: list[str]) -> int:
    """Write the tables, or check them."""
    stale = {path: page for path, page in render_pages().items() if path.read_text(encoding="utf-8") != page}
    names = join_words([str(path.relative_to(ROOT)) for path in stale])
    if "--check" in arguments:
        print(
            f"not current: {names}; run scripts/build_readme_tables.py" if stale else "the tables are current"
        )
        return 1 if stale else 0
    for path, page in stale.items():
        path.write_text(page, encoding="utf-8")
    print(f"wrote {names}" if stale else "the tables were current")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
