"""Tables of the report: metrics, comparisons, layers, and what others measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from inklab.format import (
    NOT_AVAILABLE,
    capitalize,
    format_count,
    format_delta,
    format_delta_interval,
    format_interval,
    format_metric,
    format_p,
    format_percent,
    format_ranges,
    format_setting,
    join_words,
)
from inklab.metrics import (
    CLASS_RECALL,
    REPORTED_METRIC,
    SELECTION_METRIC,
    TABLE_METRICS,
    get_metric,
    with_second_tests,
)
from inklab.records.data_report import DataReport
from inklab.records.estimates import Difference, Estimate
from inklab.records.outcomes import CONFIDENT, NEIGHBORHOOD, StateCounts, TrialState
from inklab.records.plan import ExperimentPlan, TrainingPlan
from inklab.records.results import (
    GenerationResults,
    PipelineComparison,
    RobustnessResults,
    SamplerResults,
    SettingResults,
    SplitInfo,
    TrainingResults,
)
from inklab.report.figures.robustness_plots import recall_curves
from inklab.report.figures.training_plots import grid_label
from inklab.results.narrative import find_leaders
from inklab.runs import Run

TABLE_STRENGTHS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0)
"""Strengths that tables show, as far as they were measured."""

MIN_TABLE_STRENGTHS = 3
MAX_SPACED_STRENGTHS = 7
"""Rows of a table if too few of `TABLE_STRENGTHS` were measured: that many, evenly spaced."""

MAX_SIDE_BY_SIDE = 3
"""Pipelines with intervals beside their means; with more the table would be too wide for paper."""

MAX_CELL = 24
"""Characters of a cell in a table of text that still scrolls on a phone."""

DIFFERENCE_COLUMNS = ("Difference", "95% CI", "p", "Minimum detectable effect", "n")


@dataclass(frozen=True)
class Table:
    """A table of the report: a caption, a title for each column, rows of as many cells.

    The first column names the rows; `text_columns` are others of text rather than numbers.
    A table that is `folded` under some words is shown when a reader clicks on them.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: frozenset[int] = frozenset()
    bold_rows: frozenset[int] = frozenset()
    folded: str = ""

    @property
    def is_stacked(self) -> bool:
        """Whether its rows become lists on a phone, where text would make columns too wide or too tall."""
        return bool(self.text_columns) and any(
            len(cell) > MAX_CELL or "\n" in cell for row in self.rows for cell in row[1:]
        )


# ---------------------------------------------------------------- cells


def estimate_cells(estimate: Estimate, metric: str) -> list[str]:
    """An estimate as three cells: mean, 95% interval, SD; a star marks intervals over images.

    Example:
        >>> estimate_cells(Estimate(mean=0.5, sd=None, n=1, ci95=None, values=(0.5,)), "test_accuracy")
        ['50.00%', '—', '—']
    """
    if estimate.mean is None:
        return [NOT_AVAILABLE] * 3
    interval = format_starred(estimate, metric) or NOT_AVAILABLE
    sd = NOT_AVAILABLE if estimate.sd is None else format_delta(estimate.sd, metric, signed=False, unit=False)
    return [format_metric(estimate.mean, metric), interval, sd]


def estimate_cell(estimate: Estimate, metric: str, *, separator: str = " ") -> str:
    """An estimate as one cell: mean and interval; a star marks intervals over images."""
    if estimate.mean is None:
        return NOT_AVAILABLE
    mean = format_metric(estimate.mean, metric)
    interval = format_starred(estimate, metric, "(%s)")
    return f"{mean}{separator}{interval}" if interval else mean


def format_starred(estimate: Estimate, metric: str, pattern: str = "%s") -> str:
    """The interval of an estimate, with a star if it is over images; "" if there is none."""
    if estimate.interval is None:
        return ""
    return pattern % format_interval(estimate.interval, metric) + "*" * (estimate.basis == "images")


def interval_note(estimates: Iterable[Estimate]) -> str:
    """What a star means, and why an interval is missing; "" if there is neither."""
    displayed = [estimate for estimate in estimates if estimate.n]
    over_images = [estimate for estimate in displayed if estimate.basis == "images"]
    reasons = ["there is one replicate"] if any(estimate.n == 1 for estimate in over_images) else []
    reasons += ["all replicates are equal"] if any(e.has_zero_width for e in over_images) else []
    note = f" * Interval over images (Wilson), because {' or '.join(reasons)}." if reasons else ""
    if any(estimate.has_zero_width and estimate.interval is None for estimate in displayed):
        which = " of the other metrics" if reasons else ""
        note += f" No interval{which} where all replicates are equal."
    return note


def difference_cells(difference: Difference, metric: str) -> list[str]:
    """A difference as five cells: mean, interval, p, minimum detectable effect, n."""
    mean, interval, mde = difference.mean, difference.interval, difference.mde
    p = difference.p if difference.p_holm is None else difference.p_holm
    return [
        NOT_AVAILABLE if mean is None else format_delta(mean, metric),
        NOT_AVAILABLE if interval is None else format_delta_interval(interval, metric),
        NOT_AVAILABLE if p is None else format_p(p, ""),
        NOT_AVAILABLE if mde is None else format_delta(mde, metric, signed=False),
        format_count(difference.n) if difference.n else NOT_AVAILABLE,
    ]


def table_indices(strengths: Sequence[float]) -> list[int]:
    """Which strengths a table shows: those of `TABLE_STRENGTHS`, or evenly spaced ones if these are few.

    Example:
        >>> table_indices([0.0, 0.05, 0.1, 0.5]), table_indices([0.0, 0.05])
        ([0, 2, 3], [0, 1])
    """
    usual = [i for i, strength in enumerate(strengths) if strength in TABLE_STRENGTHS]
    if len(usual) >= MIN_TABLE_STRENGTHS:
        return usual
    last, n = len(strengths) - 1, min(MAX_SPACED_STRENGTHS, len(strengths))
    return sorted({round(last * i / max(1, n - 1)) for i in range(n)})


# ---------------------------------------------------------------- training


def training_tables(run: Run, plan: TrainingPlan, results: TrainingResults) -> list[Table]:
    """Every table of a training experiment that has rows."""
    data = run.results.data
    if plan.grid:
        tables = [settings_table(plan, results, data), more_settings_table(plan, results)]
        tables.append(comparisons_table(plan, results))
    else:
        tables = [metrics_table(results.settings[0], data), more_metrics_table(results.settings[0])]
    if results.best is not None:
        tables.append(class_table(results.best, data))
    tables += [reference_table(plan, results), layer_table(run, plan)]
    return [table for table in tables if table.rows]


def metrics_table(setting: SettingResults, data: SplitInfo) -> Table:
    """The main metrics of an experiment with one setting, and what a constant answer would reach."""
    names = with_second_tests(TABLE_METRICS, setting.metrics)
    table = _estimates_table("Metrics after the last epoch.", setting, names)
    rows = [*table.rows]
    if _has_accuracy(setting):
        label, share = data.largest_class
        row = [f"Share of the largest class ({label})", format_percent(share, 2), *[NOT_AVAILABLE] * 3]
        accuracies = sum("_accuracy" in name for name in names if name in setting.metrics)
        rows.insert(min(accuracies, len(rows)), row)
    note = " The share of the largest class is a count and has no interval." if _has_accuracy(setting) else ""
    return replace(table, rows=rows, caption=f"{table.caption}{note}")


def more_metrics_table(setting: SettingResults) -> Table:
    """The other metrics of an experiment with one setting."""
    table = _estimates_table("Other metrics after the last epoch.", setting, _more_metrics([setting]))
    return replace(table, folded="More metrics")


def more_settings_table(plan: TrainingPlan, results: TrainingResults) -> Table:
    """The other metrics of each setting on the test set."""
    names = [name for name in _more_metrics(results.settings) if name.startswith("test_")]
    empty = Estimate.empty()
    estimates = [[setting.metrics.get(name, empty) for name in names] for setting in results.settings]
    rows = [
        [
            grid_label(setting.values),
            *(estimate_cell(*pair, separator="\n") for pair in zip(row, names, strict=True)),
        ]
        for setting, row in zip(results.settings, estimates, strict=True)
    ]
    note = interval_note(estimate for row in estimates for estimate in row)
    return Table(
        caption=f"Other metrics of every setting: mean and 95% CI.{note}",
        header=(", ".join(plan.grid), *(get_metric(name).title for name in names)),
        rows=rows if names else [],
        folded="More metrics",
    )


def class_table(setting: SettingResults, data: SplitInfo) -> Table:
    """How many test images of each class a classifier recognizes."""
    names = {f"test_{CLASS_RECALL}{label}": i for i, label in enumerate(data.labels)}
    estimates = {
        name: estimate for name in names if (estimate := setting.metrics.get(name)) is not None and estimate.n
    }
    which = f" by the best setting ({setting.label})" if setting.label else ""
    return Table(
        caption=(
            f"Recall: share of the test images of each class that are classified correctly{which}."
            f"{interval_note(estimates.values())}"
        ),
        header=("Class", "Test images", "Recall", "95% CI", "SD"),
        rows=[
            [data.labels[i], format_count(data.counts.test[i]), *estimate_cells(estimates[name], name)]
            for name, i in names.items()
            if name in estimates
        ],
        folded="Recall of each class",
    )


def _more_metrics(settings: Sequence[SettingResults]) -> list[str]:
    """Metrics that main tables leave out, without recalls of classes; each on the test set first."""
    names = {name for setting in settings for name, estimate in setting.metrics.items() if estimate.n}
    ordered = [name for setting in settings for name in setting.metrics if name in names]
    in_main_table = with_second_tests(TABLE_METRICS, names) if len(settings) == 1 else TABLE_METRICS
    bases = dict.fromkeys(name.partition("_")[2] for name in ordered if name not in in_main_table)
    return [
        name
        for base in bases
        for name in (f"test_{base}", f"validation_{base}")
        if name in names and not base.startswith(CLASS_RECALL)
    ]


def _estimates_table(title: str, setting: SettingResults, names: Iterable[str]) -> Table:
    estimates = {
        name: estimate for name in names if (estimate := setting.metrics.get(name)) is not None and estimate.n
    }
    is_t = any(estimate.basis == "replicates" for estimate in estimates.values())
    basis = " 95% CI: confidence interval of the mean over replicates (Student's t)." if is_t else ""
    return Table(
        caption=f"{title}{basis}{interval_note(estimates.values())}",
        header=("Metric", "Mean", "95% CI", "SD", "n"),
        rows=[
            [get_metric(name).title, *estimate_cells(estimate, name), format_count(estimate.n)]
            for name, estimate in estimates.items()
        ],
    )


def _has_accuracy(setting: SettingResults) -> bool:
    return bool(setting.metrics.get("test_accuracy", Estimate.empty()).n)


def settings_table(plan: TrainingPlan, results: TrainingResults, data: SplitInfo) -> Table:
    """One row for each setting: its trials, validation and test metric."""
    metrics = (SELECTION_METRIC[plan.task], REPORTED_METRIC[plan.task])
    empty = Estimate.empty()
    rows = [
        [
            grid_label(setting.values),
            _count_trials(setting.outcomes),
            *(cell for name in metrics for cell in estimate_cells(setting.metrics.get(name, empty), name)),
        ]
        for setting in results.settings
    ]
    best = {i for i, setting in enumerate(results.settings) if setting.values == results.best_setting}
    note = f" Bold: the best by {get_metric(metrics[0]).label}." if best else ""
    if any(map(_has_accuracy, results.settings)):
        label, share = data.largest_class
        note += f" The largest class ({label}) is {format_percent(share, 2)} of the test images."
    displayed = [setting.metrics.get(name, empty) for setting in results.settings for name in metrics]
    return Table(
        caption=f"Every setting; means over the trials that are done.{note}{interval_note(displayed)}",
        header=(
            ", ".join(plan.grid), "Trials",
            *(title for name in metrics for title in (get_metric(name).title, "95% CI", "SD")),
        ),
        rows=rows,
        text_columns=frozenset({1}),
        bold_rows=frozenset(best),
    )  # fmt: skip


def _count_trials(outcomes: StateCounts) -> str:
    """Trials that are done of all, and what became of the others."""
    others = [f", {count:,} {state}" for state, count in outcomes.items() if state is not TrialState.DONE]
    return f"{outcomes.get(TrialState.DONE, 0):,} of {sum(outcomes.values()):,}{''.join(others)}"


def comparisons_table(plan: TrainingPlan, results: TrainingResults) -> Table:
    """Each setting compared with the best by validation, in pairs of replicates."""
    metric = get_metric(REPORTED_METRIC[plan.task])
    best = format_setting(results.best_setting or {})
    return Table(
        caption=(
            f"Differences of the {metric.label} of each setting from that of the best ({best}), paired by "
            "replicate. Intervals and p (two-sided t test) are Holm-adjusted for all comparisons of the "
            "table. Minimum detectable effect: the true difference that a single comparison detects with "
            "80% power."
        ),
        header=(", ".join(plan.grid), *DIFFERENCE_COLUMNS),
        rows=[
            [grid_label(row.values), *difference_cells(row.difference, row.metric)]
            for row in results.comparisons
        ],
    )


def layer_table(run: Run, plan: TrainingPlan) -> Table:
    """The layers of the network, of the first trial that has them."""
    outcomes = (run.outcomes[trial] for trial in plan.trials if trial in run.outcomes)
    layers = next((outcome.layers for outcome in outcomes if outcome.layers), ())
    rows = [
        (
            layer.name,
            layer.type,
            layer.activation or NOT_AVAILABLE,
            " × ".join(map(str, layer.output_shape)),
            format_count(layer.parameters),
            NOT_AVAILABLE if layer.macs is None else format_count(layer.macs),
        )
        for layer in layers
    ]
    parameters = format_count(sum(layer.parameters for layer in layers))
    macs = format_count(sum(layer.macs or 0 for layer in layers))
    return Table(
        caption="Layers of the network. Output shape and multiply-accumulates (MACs) are for one image.",
        header=("Layer", "Type", "Activation", "Output", "Parameters", "MACs"),
        rows=[*rows, ("Total", "", "", "", parameters, macs)] if rows else [],
        text_columns=frozenset({1, 2}),
        bold_rows=frozenset({len(rows)}),
    )


def reference_table(plan: TrainingPlan, results: TrainingResults) -> Table:
    """What others measured beside what was measured here, and what differs in protocol."""
    setting = results.settings[0] if len(results.settings) == 1 else results.best
    names = ", ".join(sorted({reference.dataset for reference in plan.references} - {""}))
    return Table(
        caption=f"What was measured here and what others report{', on ' + names if names else ''}.",
        header=("Metric", "Here", "Reference", "Source", "Differences in protocol"),
        rows=[
            [
                get_metric(name).title,
                _measured_here(setting, name),
                format_metric(value, name),
                reference.source,
                "; ".join(reference.notes) or NOT_AVAILABLE,
            ]
            for reference in plan.references
            for name, value in reference.values.items()
        ],
        text_columns=frozenset({1, 3, 4}),
    )


def _measured_here(setting: SettingResults | None, metric: str) -> str:
    if metric == "parameters" and setting is not None and setting.parameters is not None:
        return format_count(setting.parameters)
    estimate = setting.metrics.get(metric) if setting is not None else None
    return NOT_AVAILABLE if estimate is None else estimate.format(metric)


def data_check_table(report: DataReport) -> Table:
    """How many images have each kind of issue, and which the first ones are."""
    train, test = (report.counts[name] for name in ("train", "test"))
    facts = [
        ("training images of the smallest class", f"{min(train):,}", ""),
        ("training images of the largest class", f"{max(train):,}", ""),
        ("test images of the smallest class", f"{min(test):,}", ""),
        ("largest pixel value in the training images", f"{report.largest_value} of 255", ""),
    ]
    issues = [
        (f"images {words}", f"{issue.count:,}", ", ".join(f"{name} {i}" for name, i in issue.examples))
        for words, issue in report.issues
    ]
    return Table(
        caption="What was looked at. Examples are the first images by set and index, counted from 0.",
        header=("What", "Count", "Examples"),
        rows=[*facts, *issues],
        text_columns=frozenset({2}),
    )


def reference_notes(plan: ExperimentPlan) -> list[str]:
    """What others reported without a number for the table.

    Example:
        >>> from inklab.records.plan import DataPlan, Reference
        >>> reference = Reference(source="the student report", notes=("it saw no gain",))
        >>> reference_notes(DataPlan(name="data", references=(reference,)))
        ['The student report: it saw no gain.']
    """
    return [
        f"{capitalize(reference.source)}: {'; '.join(reference.notes).rstrip('.')}."
        for reference in plan.references
        if reference.notes and not reference.values
    ]


# ---------------------------------------------------------------- robustness


def robustness_tables(results: RobustnessResults) -> list[Table]:
    """The pipelines compared, recall at some strengths, and what denoising first changes there."""
    tables = [
        comparison_table(results),
        recall_table(results),
        *([denoising_table(results.denoising)] if results.denoising else []),
    ]
    return [table for table in tables if table.rows]


def comparison_table(results: RobustnessResults) -> Table:
    """Each pipeline: where it leads, where it is better or worse than the baseline, and by how much."""
    compared = [row for row in results.comparisons if row.differences]
    leaders, strengths = find_leaders(results), results.strengths
    paired_over = {"images": "test images", "replicates": "replicates"}
    paired = join_words([paired_over[basis] for basis in sorted({row.paired_over for row in compared})])
    return Table(
        caption=(
            f"Pipelines compared with {results.baseline} in mean recall, paired over {paired}. Highest at: "
            "strengths at which its mean alone is the highest, which is not tested, and is above chance. "
            f"Better and worse: significant after Holm's adjustment for all {len(strengths)} strengths, as "
            f"are the intervals. Largest gain: among these strengths. Clean: at strength {strengths[0]:g}."
        ),
        header=("Pipeline", "Highest at", "Better at", "Worse at", "Largest gain", "Clean", "n"),
        rows=[
            [
                row.pipeline,
                format_ranges(leaders.sole.get(row.pipeline, ()), strengths) or NOT_AVAILABLE,
                format_ranges(row.better_at, strengths) or NOT_AVAILABLE,
                format_ranges(row.worse_at, strengths) or NOT_AVAILABLE,
                f"{_difference_cell(row.best.difference)}\nat {row.best.strength:g}"
                if row.best
                else NOT_AVAILABLE,
                _difference_cell(row.differences[0].difference),
                format_count(row.differences[0].difference.n),
            ]
            for row in compared
        ],
        text_columns=frozenset({1, 2, 3}),
    )


def _difference_cell(difference: Difference) -> str:
    """A difference of recalls above its interval."""
    if difference.mean is None:
        return NOT_AVAILABLE
    mean, interval = format_delta(difference.mean, "recall"), difference.interval
    return f"{mean}\n({format_delta_interval(interval, 'recall')})" if interval else mean


def recall_table(results: RobustnessResults) -> Table:
    """Mean recall of each pipeline at some strengths."""
    curves, strengths = recall_curves(results), results.strengths
    indices = table_indices(strengths) if curves else []
    separator = " " if len(curves) <= MAX_SIDE_BY_SIDE else "\n"
    ns = {name: len(results.pipelines[name].replicates) for name in curves}
    listed = ", ".join(f"{name} n = {n:,}" for name, n in ns.items())
    replicates = listed if len(set(ns.values())) > 1 else f"n = {max(ns.values(), default=0):,}"
    displayed = [estimates[i] for i in indices for estimates in curves.values()]
    return Table(
        caption=f"Mean recall (95% CI) at some strengths; {replicates}.{interval_note(displayed)}",
        header=("Strength", *curves),
        rows=[
            [f"{strengths[i]:g}"]
            + [estimate_cell(estimates[i], "recall", separator=separator) for estimates in curves.values()]
            for i in indices
        ],
    )


def denoising_table(comparison: PipelineComparison) -> Table:
    """Differences of one pipeline from the baseline at some strengths."""
    rows = comparison.differences
    paired_over = "replicates" if comparison.paired_over == "replicates" else "test images"
    return Table(
        caption=(
            f"Difference of the mean recall of {comparison.pipeline} from that of {comparison.baseline}, "
            f"paired over {paired_over}. Intervals and p are Holm-adjusted for all {len(rows)} strengths. "
            "Minimum detectable effect: the true difference that a single comparison detects with 80% power."
        ),
        header=("Strength", *DIFFERENCE_COLUMNS),
        rows=[
            [f"{rows[i].strength:g}", *difference_cells(rows[i].difference, comparison.metric)]
            for i in table_indices([row.strength for row in rows])
        ],
    )


# ---------------------------------------------------------------- generation


def generation_tables(results: GenerationResults) -> list[Table]:
    """Each sampler: confident share, Fréchet distance, nearest training images; overlap with real images."""
    empty = Estimate.empty()
    quality = {
        "confident_share": "Confident share", "frechet_distance": "Fréchet distance",
        "nn_distance": "Nearest neighbor", "nearer_share": "Nearer than test",
    }  # fmt: skip
    overlap = {
        "manifold_precision": "Precision", "manifold_recall": "Recall", "density": "Density",
        "coverage": "Coverage",
    }  # fmt: skip
    rebuilt = [results.confident_share_reconstructed, *[empty] * (len(quality) - 1)]
    tables = [
        _sampler_table(
            results, quality, {"test images, reconstructed": rebuilt},
            "Samplers, with 95% CI. Confident share: images that the classifier gives to a class with a "
            f"probability above {format_percent(CONFIDENT, 0)}. Fréchet distance: squared distance of the "
            "classifier's features from those of training images, lower is better; real test images show "
            "what is achievable. Nearest neighbor: mean distance to the nearest training image. Nearer than "
            "test: how often that distance is smaller than a test image's; 50%: as new as test images, 100%: "
            "copies.",
        ),
        _sampler_table(
            results, overlap, {},
            "Overlap with training images in the classifier's features, with 95% CI. The neighborhood of an "
            f"image reaches to the nearest {NEIGHBORHOOD} of its own set. Precision: generated images in the "
            "neighborhood of a training image. Recall: training images in that of a generated one. Density: "
            "training images in whose neighborhood a generated one lies, divided by "
            f"{NEIGHBORHOOD}. Coverage: training images with a generated one in their neighborhood.",
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _sampler_table(
    results: GenerationResults,
    headings: Mapping[str, str],
    more: Mapping[str, Sequence[Estimate]],
    caption: str,
) -> Table:
    """One row of metrics for each sampler that has any, for `more`, and for real images."""
    rows = {
        **{name: _scores(row, headings) for name, row in results.samplers.items()},
        **more,
        "real test images": _scores(results.real_data, headings),
    }
    present = {name: row for name, row in rows.items() if any(estimate.n for estimate in row)}
    return Table(
        caption=caption + interval_note(estimate for row in present.values() for estimate in row),
        header=("Sampler", *headings.values()),
        rows=[[name, *map(estimate_cell, row, headings)] for name, row in present.items()],
    )


def _scores(row: SamplerResults, metrics: Iterable[str]) -> list[Estimate]:
    return [getattr(row, metric) for metric in metrics]
