"""A run as tidy tables: trials, learning curves, estimates, robustness and predictions; one row a case.

Tables are columns of plain values, so that they need no pandas: `notebook.as_rows` and `as_frame` turn them
into lists of dictionaries and DataFrames.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import product, zip_longest
from math import floor, log10
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import numpy as np
from pydantic import JsonValue

from inklab.data.dataset import Labels
from inklab.format import (
    format_delta,
    format_interval,
    format_metric,
    format_outcomes,
    format_study,
    format_value,
    pluralize,
)
from inklab.metrics import CLASS_RECALL, REPORTED_METRIC, get_metric
from inklab.notebook import MUTED, Columns, Row, as_columns, bullet_list, card, folded, html_table, paragraph
from inklab.records.estimates import Estimate
from inklab.records.outcomes import EvaluationOutcome, History, RobustnessOutcome, TrialOutcome, TrialState
from inklab.records.plan import Plan, RobustnessPlan
from inklab.records.results import CorruptionErrorResults, Results
from inklab.results.arrays import Arrays

FrameKind = Literal["trials", "history", "estimates", "robustness", "corruption_errors", "predictions"]
MAX_DECIMALS = 8
MAX_SHOWN = 20
"""Settings and findings that a notebook shows of a run."""

FRAMES: tuple[FrameKind, ...] = (
    "trials", "history", "estimates", "robustness", "corruption_errors", "predictions",
)  # fmt: skip

Spread = Literal["ci95", "sd"]


class RunTrial(NamedTuple):
    """One training of a run, and what became of it.

    Attributes:
        id: of the trial; two experiments may share one.
        experiment: that it is part of.
        setting: what varies there, by key; empty where nothing does.
        replicate: which repetition.
        state: what became of it; "waiting" while there is no outcome.
        outcome: metrics, learning curves, diagnoses and more; None while it is waiting.
    """

    id: str
    experiment: str
    setting: Mapping[str, JsonValue]
    replicate: int
    state: TrialState
    outcome: TrialOutcome | None

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics by name, such as `test_accuracy`; empty unless it is done."""
        return (self.outcome.metrics if self.outcome else None) or {}

    @property
    def history(self) -> History:
        """Learning curves, as far as it got."""
        return self.outcome.history if self.outcome else History()

    def __repr__(self) -> str:
        setting = f" {format_value(self.setting)}" if self.setting else ""
        return f"RunTrial({self.experiment}{setting}, replicate {self.replicate}: {self.state})"


def list_trials(plan: Plan, outcomes: Mapping[str, TrialOutcome], experiment: str = "") -> list[RunTrial]:
    """Every trial of a plan, or of one of its experiments: setting by setting, replicate by replicate."""
    trials = []
    for planned in plan.training:
        if experiment in ("", planned.name):
            for setting in planned.settings:
                for replicate, id in enumerate(setting.trials):
                    outcome = outcomes.get(id)
                    state = outcome.state if outcome else TrialState.WAITING
                    trials.append(RunTrial(id, planned.name, setting.values, replicate, state, outcome))
    return trials


# ---------------------------------------------------------------- tables

HEAD, TAIL = ("experiment", "setting"), ("replicate", "state")
MEASURED = ("epochs", "seconds", "parameters", "trial", "reason")
HISTORY = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
ESTIMATE = ("metric", "mean", "sd", "n", "ci95_low", "ci95_high", "ci95_images_low", "ci95_images_high")
ROBUSTNESS = ("experiment", "corruption", "pipeline", "strength", "replicate", "recall", "accuracy", "ece")
CORRUPTION_ERRORS = (
    "experiment", "robustness", "corruption", "pipeline", "replicate", "accuracy", "corruption_error",
    "relative_corruption_error",
)  # fmt: skip
PREDICTIONS = ("index", "label", "predicted", "confidence")
RESERVED = {*HEAD, *TAIL, *MEASURED, *HISTORY, *ESTIMATE, *PREDICTIONS}


def setting_columns(values: Mapping[str, JsonValue]) -> Row:
    """A setting as columns: one for all of it as text, then one for each key.

    Lists are tuples, so that one can group by them. A key that is the name of another column, such as
    `epochs`, has `setting_` in front.

    Example:
        >>> setting_columns({"hidden": [64, 32], "epochs": 3})
        {'setting': 'hidden = 64-32, epochs = 3', 'hidden': (64, 32), 'setting_epochs': 3}
    """
    columns: Row = {"setting": format_value(values) if values else ""}
    for key, value in values.items():
        plain = tuple(value) if isinstance(value, list) else value
        columns[f"setting_{key}" if key in RESERVED else key] = (
            format_value(value) if isinstance(value, Mapping) else plain
        )
    return columns


def _of(trial: RunTrial) -> Row:
    return {"experiment": trial.experiment, **setting_columns(trial.setting), "replicate": trial.replicate}


def _keys(trials: Sequence[RunTrial]) -> dict[str, None]:
    """Columns of all settings."""
    return dict.fromkeys(key for trial in trials for key in setting_columns(trial.setting))


def trial_columns(trials: Sequence[RunTrial]) -> Columns:
    """A row for each trial: its setting, replicate, state, every metric, epochs, seconds, parameters."""
    metrics = sorted(
        dict.fromkeys(name for trial in trials for name in trial.metrics),
        key=lambda name: get_metric(name).split != "test",
    )
    rows: list[Row] = []
    for trial in trials:
        outcome = trial.outcome
        measured: Row = {"trial": trial.id}
        if outcome is not None:
            measured |= {
                "epochs": max(outcome.history.epoch, default=0), "seconds": outcome.seconds,
                "parameters": outcome.parameters, "reason": outcome.reason,
            }  # fmt: skip
        rows.append({**_of(trial), "state": trial.state.value, **trial.metrics, **measured})
    return as_columns(rows, ["experiment", "setting", *_keys(trials), *TAIL, *metrics, *MEASURED])


def history_columns(trials: Sequence[RunTrial]) -> Columns:
    """A row for each trial and epoch: losses and accuracies; None where one was not measured."""
    rows: list[Row] = []
    for trial in trials:
        curves = dict(trial.history)
        for index, epoch in enumerate(trial.history.epoch):
            values = {name: curve[index] if curve else None for name, curve in curves.items()}
            rows.append({**_of(trial), **values, "epoch": epoch})
    return as_columns(rows, ["experiment", "setting", *_keys(trials), "replicate", *HISTORY])


def estimate_columns(results: Results, experiment: str = "") -> Columns:
    """A row for each setting and metric: mean, standard deviation, n, and both intervals."""
    rows: list[Row] = []
    for name, training in results.training.items():
        if experiment not in ("", name):
            continue
        for setting in training.settings:
            of = {"experiment": name, **setting_columns(setting.values)}
            rows += [{**of, **_estimate_row(metric, e)} for metric, e in setting.metrics.items() if e.n]
    keys = dict.fromkeys(key for row in rows for key in row if key not in RESERVED)
    return as_columns(rows, ["experiment", "setting", *keys, *ESTIMATE])


def _estimate_row(metric: str, estimate: Estimate) -> Row:
    low, high = estimate.ci95 or (None, None)
    images_low, images_high = estimate.ci95_images or (None, None)
    values = (metric, estimate.mean, estimate.sd, estimate.n, low, high, images_low, images_high)
    return dict(zip(ESTIMATE, values, strict=True))


def robustness_columns(
    plan: Plan, evaluations: Mapping[str, EvaluationOutcome], experiment: str = ""
) -> Columns:
    """A row for each pipeline, replicate and strength: recall, accuracy, ECE, and each class's recall."""
    rows: list[Row] = []
    for planned in plan.experiments:
        if not isinstance(planned, RobustnessPlan) or experiment not in ("", planned.name):
            continue
        for evaluation in planned.evaluations:
            outcome = evaluations.get(evaluation.id)
            if isinstance(outcome, RobustnessOutcome) and outcome.is_done:
                rows += _robustness_rows(planned, outcome, plan.data.labels)
    return as_columns(rows, ROBUSTNESS)


def _robustness_rows(
    planned: RobustnessPlan, outcome: RobustnessOutcome, labels: Sequence[str]
) -> Iterator[Row]:
    evaluation = outcome.evaluation
    columns = (outcome.recall, outcome.accuracy, outcome.ece, outcome.recall_per_class)
    curves = zip(evaluation.strengths, *columns, strict=True)
    for strength, recall, accuracy, ece, per_class in curves:
        yield {
            "experiment": planned.name, "corruption": planned.corruption,
            "pipeline": str(evaluation.pipeline), "strength": strength, "replicate": evaluation.replicate,
            "recall": recall, "accuracy": accuracy, "ece": ece,
            **{f"{CLASS_RECALL}{label}": share for label, share in zip(labels, per_class, strict=True)},
        }  # fmt: skip


def corruption_error_columns(results: Results, experiment: str = "") -> Columns:
    """A row for each corruption, pipeline and replicate; the mean over corruptions is the mCE."""
    rows: list[Row] = []
    for name, entry in results.experiments.items():
        if not isinstance(entry, CorruptionErrorResults) or experiment not in ("", name):
            continue
        for (robustness, corruption), (pipeline, errors) in product(
            zip(entry.experiments, entry.corruptions, strict=True), entry.pipelines.items()
        ):
            metrics = (errors.accuracy, errors.corruption_error, errors.relative_corruption_error)
            columns = zip_longest(errors.replicates, *(metric[robustness].values for metric in metrics))
            of = (name, robustness, corruption, str(pipeline))
            rows += [dict(zip(CORRUPTION_ERRORS, (*of, *values), strict=True)) for values in columns]
    return as_columns(rows, CORRUPTION_ERRORS)


def prediction_columns(
    trials: Sequence[RunTrial],
    arrays: Callable[[str], Arrays],
    names: Sequence[str],
    labels: Labels | None,
) -> Columns:
    """A row for each test image and trial: what it is, what the network answers, how confident it is.

    Args:
        trials: those without predictions, such as denoisers, are left out.
        arrays: reads those of a trial.
        names: of the classes.
        labels: of the test images; None if the data is not at hand, and then in the table.
    """
    classes = np.array(names, dtype=object)
    stored = [(trial, kept) for trial in trials if "predicted" in (kept := arrays(trial.id))]
    pieces: list[dict[str, np.ndarray]] = []
    for trial, kept in stored:
        n = len(kept["predicted"])
        known = labels is not None and len(labels) == n
        constant = {name: _repeat(value, n) for name, value in _of(trial).items()}
        pieces.append(
            {
                **constant,
                "index": np.arange(n),
                "label": classes[labels] if known else _repeat(None, n),
                "predicted": classes[kept["predicted"]],
                "confidence": kept["confidence"],
            }
        )
    order = ["experiment", "setting", *_keys([trial for trial, _ in stored]), "replicate", *PREDICTIONS]
    sizes = [len(piece["index"]) for piece in pieces]
    return {
        name: np.concatenate(
            [piece.get(name, _repeat(None, n)) for piece, n in zip(pieces, sizes, strict=True)]
        ).tolist()
        if pieces
        else []
        for name in dict.fromkeys(order)
    }


def _repeat(value: object, n: int) -> np.ndarray:
    repeated = np.empty(n, dtype=object)
    repeated[:] = [value] * n
    return repeated


# ---------------------------------------------------------------- estimates


class Estimates(Mapping[str, Estimate]):
    """The estimates of one metric by experiment, or `experiment:key=value` where a grid varies something.

    The names are those that `Run.compare` takes. In a notebook it is a table.

    Attributes:
        metric: its name, such as `test_accuracy`.
        images: what it was measured on, such as "10,000 test images".

    Example:
        >>> one = Estimate(mean=0.5, sd=0.1, n=2, ci95=(0.4, 0.6), values=(0.4, 0.6))
        >>> Estimates("test_accuracy", {"cnn": one})
        cnn  50.00% (95% CI 40.00 to 60.00, n = 2)
    """

    def __init__(self, metric: str, estimates: Mapping[str, Estimate], images: str = "") -> None:
        self.metric, self.images, self._estimates = metric, images, dict(estimates)

    def __getitem__(self, name: str) -> Estimate:
        return self._estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        lines = (f"{name:<{width}}  {estimate.format(self.metric)}" for name, estimate in self.items())
        return "\n".join(lines) or f"no {get_metric(self.metric).label} yet"

    def _repr_html_(self) -> str:
        rows = [[name, *estimate_cells(estimate, self.metric)] for name, estimate in self.items()]
        table = html_table(("", "mean", "95% CI", "SD", "n"), rows, right=(1, 2, 3, 4))
        return card(get_metric(self.metric).title, table, subtitle=self.images)


def estimate_cells(estimate: Estimate, metric: str) -> list[str]:
    """Mean, interval, standard deviation and n as text; an interval over images says so."""
    if estimate.mean is None:
        return ["", "", "", "0"]
    interval = "" if estimate.interval is None else _format_interval(estimate, metric)
    sd = "" if estimate.sd is None else format_delta(estimate.sd, metric, signed=False, unit=False)
    return [format_metric(estimate.mean, metric), interval, sd, f"{estimate.n:,}"]


def _format_interval(estimate: Estimate, metric: str) -> str:
    over = " (images)" if estimate.basis == "images" else ""
    return f"{format_interval(estimate.interval or (), metric)}{over}"


def text_columns(
    results: Results, metrics: Sequence[str], experiment: str = "", spread: str = "ci95"
) -> Columns:
    """A row for each setting with the metrics as text, such as "97.84 ± 0.12"; for papers.

    Args:
        results: of a run.
        metrics: a column each.
        experiment: only this one; all that have one of the metrics if left out.
        spread: after ±: half the 95% interval over replicates, or the standard deviation.
    """
    rows: list[Row] = []
    for name, training in results.training.items():
        if experiment not in ("", name):
            continue
        for setting in training.settings:
            known = {metric: e for metric in metrics if (e := setting.metrics.get(metric)) and e.n}
            if known:
                cells = {_column_title(metric): _plus_minus(e, metric, spread) for metric, e in known.items()}
                n = max(estimate.n for estimate in known.values())
                rows.append({"experiment": name, "setting": setting.label, **cells, "n": n})
    if not any(row["setting"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "setting"} for row in rows]
    titles = [_column_title(metric) for metric in metrics]
    head = [name for name in HEAD if any(name in row for row in rows)]
    return as_columns(rows, [*head, *titles, "n"])


def _column_title(name: str) -> str:
    metric = get_metric(name)
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _plus_minus(estimate: Estimate, metric: str, spread: str) -> str:
    mean = format_metric(estimate.mean or 0.0, metric, unit=False)
    half = estimate.sd
    if spread == "ci95":
        low, high = estimate.ci95 if estimate.ci95 and estimate.basis == "replicates" else (0.0, 0.0)
        half = (high - low) / 2
    if not half or not mean.replace(".", "").lstrip("-").isdigit():
        return mean if not half else f"{mean} ± {format_delta(half, metric, signed=False, unit=False)}"
    # As many decimals on both sides; more where the spread would be 0 otherwise.
    scale = 100 if get_metric(metric).is_share else 1
    decimals = max(len(mean.partition(".")[2]), min(MAX_DECIMALS, -floor(log10(scale * half))))
    return f"{scale * (estimate.mean or 0.0):.{decimals}f} ± {scale * half:.{decimals}f}"


# ---------------------------------------------------------------- a run in a notebook


def run_html(plan: Plan, results: Results, path: Path) -> str:
    """The estimates of a run, its findings, and where it lies."""
    rows = [
        [
            f"{name} {setting.label}".strip(),
            get_metric(metric).label,
            *estimate_cells(estimate, metric),
            format_outcomes(setting.outcomes, hide_complete=True),
        ]
        for name, training in results.training.items()
        for setting in training.settings
        if (estimate := setting.metrics.get(metric := REPORTED_METRIC[training.task])) is not None
    ]
    header = ("experiment", "metric", "mean", "95% CI", "SD", "n", "")
    table = html_table(header, rows[:MAX_SHOWN], right=(2, 3, 4, 5)) if rows else ""
    more = paragraph(f"and {len(rows) - MAX_SHOWN:,} more settings", muted=True) if rows[MAX_SHOWN:] else ""
    n_findings = pluralize(len(results.findings), "finding")
    findings = folded(n_findings, bullet_list(results.findings[:MAX_SHOWN]))
    about = f"{format_study(plan.study, plan.profile)}, data {plan.data.dataset}, seed {plan.seed}"
    return card(plan.title or plan.study, table, more, findings, _links(path), subtitle=about)


def _links(path: Path) -> str:
    """Where a run lies, with a link to its report if there is one."""
    report = path / "report.html"
    if not report.is_file():
        return paragraph(str(path), muted=True)
    try:
        address = os.path.relpath(report)
    except ValueError:  # another drive of Windows
        address = str(report)
    link = f"<a href='{quote(address)}' target='_blank'>report.html</a>"
    return f"<div><span style='{MUTED}'>{escape(str(path))}</span> {link}</div>"
