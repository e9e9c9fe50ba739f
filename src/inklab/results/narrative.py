"""Sentences computed from results: what was asked, what came out, how certain it is.

Each function describes one thing in a list of sentences or clauses; empty ones are left out where they are
joined. Numbers are written by `Estimate.format` and `Difference.format` alone.
"""

from collections.abc import Iterable, Sequence
from math import isclose
from typing import NamedTuple

import numpy as np

from inklab.format import (
    capitalize,
    format_count,
    format_delta,
    format_interval,
    format_metric,
    format_number,
    format_outcomes,
    format_percent,
    format_ranges,
    format_setting,
    humanize,
    join_words,
    pluralize,
)
from inklab.metrics import FINDINGS_METRICS, SELECTION_METRIC, Metric, get_metric
from inklab.records.components import Pipeline
from inklab.records.estimates import MIN_REPLICATES, Difference, Estimate
from inklab.records.plan import ExperimentPlan, Plan, Reference
from inklab.records.results import (
    CorruptionErrorResults,
    DataResults,
    GenerationResults,
    PipelineComparison,
    Results,
    RobustnessResults,
    SettingComparison,
    SettingResults,
    SplitInfo,
    TrainingResults,
)
from inklab.stats import prediction_interval

READING_NOTE = (
    "Settings were chosen on the validation set; the test set only reports. An interval over replicates "
    "shows how training again would vary, one over images how other images would; failed trials are counted "
    "and never averaged in."
)
RECALL = "recall"

MIN_SKILL = 0.1
"""An accuracy is near the share of the largest class if it avoids less than this share of its errors."""


def findings(results: Results, plan: Plan) -> tuple[str, ...]:
    """One finding for each experiment with numbers, and last how to read the intervals.

    Findings that the results already have are not read.

    Returns:
        `NAME: QUESTION ANSWER`, in the order of the plan. The answer is short; `sentence` has the whole one.
    """
    lines = [
        f"{experiment.name}: {_join([experiment.question.strip(), answer])}"
        for experiment in plan.experiments
        if (answer := _join(_describe(experiment, results, brief=True)))
    ]
    return (*lines, READING_NOTE)


def sentence(experiment: ExperimentPlan, results: Results) -> str:
    """What came out of one experiment; empty for one without numbers."""
    return _join(_describe(experiment, results, brief=False))


def _join(sentences: Iterable[str]) -> str:
    return " ".join(filter(None, sentences))


def _describe(experiment: ExperimentPlan, results: Results, *, brief: bool) -> list[str]:
    match results.experiments.get(experiment.name):
        case DataResults():
            return _describe_data(results.data, brief)
        case TrainingResults() as entry:
            describe = _describe_grid if entry.grid else _describe_training
            return describe(entry, experiment.references, results.data, brief)
        case RobustnessResults() as entry:
            return _describe_robustness(entry)
        case GenerationResults() as entry:
            return _describe_generation(entry, brief)
        case CorruptionErrorResults() as entry:
            return _describe_corruption_error(entry)
    return []


def _describe_data(data: SplitInfo, brief: bool) -> list[str]:
    shares = [count / data.train for count in data.counts.train]
    least, most = format_percent(min(shares), 1), format_percent(max(shares), 1)
    balance = f"Each class has {least}" if least == most else f"A class has {least} to {most}"
    return [
        f"{data.dataset} has {data.train:,} training, {data.validation:,} validation and {data.test:,} test "
        f"images in {len(data.labels)} classes.",
        "" if brief else f"{balance} of the training images.",
        f"{data.note.rstrip('.')}." if data.note else "",
    ]


# ---------------------------------------------------------------- trained networks


def _describe_training(
    entry: TrainingResults, references: Sequence[Reference], data: SplitInfo, brief: bool
) -> list[str]:
    """The metrics, the references and the diagnoses; briefly the first metric and the first reference."""
    setting = entry.settings[0]
    clauses = _metric_clauses(setting, data)
    if setting.parameters and clauses:
        clauses.append(f"{format_count(setting.parameters)} parameters")
    texts = _compare_references(setting, references, brief)
    trials = pluralize(sum(entry.outcomes.values()), "trial")
    return [
        _outcome_sentence(entry, "trial"),
        _sentence_of(clauses[:1] if brief else clauses),
        *([] if brief and setting.diagnoses else _near_largest_class(setting, data)),
        *texts,
        *(f"Diagnosis {row.name} in {row.trials:,} of {trials}." for row in setting.diagnoses),
    ]


def _describe_grid(
    entry: TrainingResults, references: Sequence[Reference], data: SplitInfo, brief: bool
) -> list[str]:
    """The best setting by validation, and how the others differ from it; briefly without the sizes."""
    best, outcomes = entry.best, _outcome_sentence(entry, "trial")
    if best is None:
        return [outcomes, "Nothing can be chosen yet: no setting has a metric on the validation set."]
    metric = SELECTION_METRIC[entry.task]
    choice = f"The best by {get_metric(metric).label} is {best.label}"
    clauses, references_text = _metric_clauses(best, data), _compare_references(best, references, brief)
    if brief:
        differences = _name_differences(entry.comparisons)
        return [outcomes, f"{choice}.", _sentence_of(clauses[:1]), *differences, *references_text]
    selected = best.metrics[metric].format(metric, images=data.images_of(metric))
    return [
        outcomes,
        _sentence_of([f"{choice}: {selected}", *clauses]),
        *_near_largest_class(best, data),
        *_describe_comparisons(entry.comparisons, best.label),
        *references_text,
    ]


def _metric_clauses(setting: SettingResults, data: SplitInfo) -> list[str]:
    return [
        f"{get_metric(name).label} {estimate.format(name, images=data.images_of(name))}"
        for name in FINDINGS_METRICS
        if (estimate := setting.metrics.get(name)) is not None and estimate.n
    ]


def _near_largest_class(setting: SettingResults, data: SplitInfo) -> list[str]:
    """A sentence if a classifier is hardly more often right than the largest class is the label."""
    accuracy, balanced = map(setting.metrics.get, ("test_accuracy", "test_balanced_accuracy"))
    label, share = data.largest_class
    if accuracy is None or accuracy.mean is None or accuracy.mean - share > MIN_SKILL * (1 - share):
        return []
    sentence = (
        f"Always answering the largest class, {label}, would have a test accuracy of "
        f"{format_percent(share, 2)}, so this accuracy says little"
    )
    if balanced is None or balanced.mean is None:
        return [f"{sentence}."]
    return [f"{sentence}; the balanced accuracy is {balanced.format('test_balanced_accuracy')}."]


def _describe_comparisons(comparisons: Sequence[SettingComparison], best: str) -> list[str]:
    """Significant differences one by one; then the others together, with what could have been detected."""
    significant = [row for row in comparisons if row.difference.significant]
    others = [row for row in comparisons if row.difference.n and not row.difference.significant]
    sentences = [
        f"{format_setting(row.values)} differs from {best} in {get_metric(row.metric).label} by "
        f"{row.difference.format(row.metric)}."
        for row in significant
    ]
    if others:
        metric, settings = others[0].metric, join_words([format_setting(row.values) for row in others])
        detectable = _detectable([row.difference for row in others], metric)
        sentences.append(
            f"No significant difference in {get_metric(metric).label} between {best} and {settings}; "
            f"{detectable}."
        )
    return sentences


def _name_differences(comparisons: Sequence[SettingComparison]) -> list[str]:
    """Which settings differ significantly from the best one, and which do not."""
    compared = [row for row in comparisons if row.difference.n]
    names = {
        is_significant: [
            format_setting(row.values) for row in compared if row.difference.significant is is_significant
        ]
        for is_significant in (True, False)
    }
    return [
        f"Significantly different from it: {join_words(names[True])}." if names[True] else "",
        f"Not significantly different from it: {join_words(names[False])}." if names[False] else "",
    ]


def _detectable(differences: Sequence[Difference], metric: str) -> str:
    effects = [difference.mde for difference in differences if difference.mde is not None]
    if len(effects) < len(differences):
        return "the spread is unknown, and so is the minimum detectable effect"
    return f"minimum detectable effect {format_delta(max(effects), metric, signed=False)} (80% power)"


def _compare_references(setting: SettingResults, references: Sequence[Reference], brief: bool) -> list[str]:
    """What others measured, and on which side of what one run here would give it lies.

    Briefly, one number of the first of them.
    """
    measured = {name for name, estimate in setting.metrics.items() if estimate.n}
    measured |= {"parameters"} if setting.parameters else set()
    sentences = []
    for reference in references:
        values = {name: value for name, value in reference.values.items() if name in measured}
        clauses = [_compare_reference(setting, name, value) for name, value in values.items()]
        if clauses:
            kept = clauses[:1] if brief else clauses
            sentences.append(f"{capitalize(reference.source)}: {'; '.join(kept)}.")
    return sentences[:1] if brief else sentences


def _compare_reference(setting: SettingResults, name: str, value: float) -> str:
    if name == "parameters":
        same = setting.parameters == value
        here = "as here" if same else f"here {format_count(setting.parameters or 0)}"
        return f"{format_count(value)} parameters, {here}"
    metric = get_metric(name)
    return f"{metric.label} {format_metric(value, metric)}, {_side(value, setting.metrics[name], metric)}"


def _side(value: float, estimate: Estimate, metric: Metric) -> str:
    """A reference is one run, so it is compared with one more run here, not with the interval of the mean."""
    interval = prediction_interval(np.array(estimate.values, dtype=float))
    if interval is None or estimate.has_zero_width:
        runs = "the one run" if interval is None else "every run"
        return f"{_relation(value, (min(estimate.values), max(estimate.values)), 'equal to')} {runs} here"
    relation = _relation(value, interval, "within")
    return f"{relation} the 95% prediction interval of one run here ({format_interval(interval, metric)})"


def _relation(value: float, interval: tuple[float, float], inside: str) -> str:
    low, high = interval
    return "below" if value < low else "above" if value > high else inside


# ---------------------------------------------------------------- robustness


class Leaders(NamedTuple):
    """Which pipeline has the highest mean recall at which strengths.

    Attributes:
        sole: pipeline to the strengths at which it alone has the highest mean.
        tied: strengths at which several have it.
        chance: strengths at which the interval of the highest reaches down to 1 / classes, what guessing has.
            With fewer than three replicates it is the interval over images.
    """

    sole: dict[Pipeline, list[float]]
    tied: list[float]
    chance: list[float]


def find_leaders(entry: RobustnessResults) -> Leaders:
    """The leading pipelines among those with replicates; ties and chance level count for none."""
    curves = {name: pipeline.recall for name, pipeline in entry.pipelines.items() if pipeline.replicates}
    leaders = Leaders({name: [] for name in curves}, [], [])
    for position, strength in enumerate(entry.strengths if curves else ()):
        estimates = {name: curve[position] for name, curve in curves.items()}
        best = max(estimates.values(), key=_mean)
        first = [name for name, estimate in estimates.items() if isclose(_mean(estimate), _mean(best))]
        n_classes = sum(recall is not None for recall in entry.pipelines[first[0]].recall_per_class[position])
        interval = best.interval if best.n >= MIN_REPLICATES else best.ci95_images or best.interval
        lower = interval[0] if interval else _mean(best)
        if lower <= 1 / n_classes:
            leaders.chance.append(strength)
        elif len(first) > 1:
            leaders.tied.append(strength)
        else:
            leaders.sole[first[0]].append(strength)
    return leaders


def _mean(estimate: Estimate) -> float:
    return estimate.mean or 0.0


def _describe_robustness(entry: RobustnessResults) -> list[str]:
    """Three short sentences: the report's tables have the numbers of every pipeline and strength."""
    comparison = entry.denoising or next(iter(entry.comparisons), None)
    outcomes = _outcome_sentence(entry, "evaluation")
    if comparison is None or not comparison.differences:
        return [outcomes, _describe_baseline(entry)]
    return [
        outcomes,
        _describe_gain(comparison, entry.strengths),
        _describe_clean_change(comparison),
        _describe_leader(entry) or _describe_baseline(entry),
    ]


def _describe_baseline(entry: RobustnessResults) -> str:
    recall, strengths = entry.pipelines[entry.baseline].recall, entry.strengths
    if not recall[0].n:
        return ""
    first, last = (format_metric(_mean(estimate), RECALL) for estimate in (recall[0], recall[-1]))
    return (
        f"The {get_metric(RECALL).label} of {entry.baseline} is {first} at strength {strengths[0]:g} of "
        f"{humanize(entry.corruption)} and {last} at {strengths[-1]:g} (n = {recall[0].n:,})."
    )


def _describe_gain(row: PipelineComparison, strengths: Sequence[float]) -> str:
    """At which strengths a pipeline is better than the baseline, and by how much at most."""
    best = row.best
    if best is None or best.difference.mean is None:
        sample = _sample(row.differences[0].difference, row)
        return f"{row.pipeline} is not significantly better than {row.baseline} at any strength ({sample})."
    gain = f"{format_delta(best.difference.mean, RECALL)}, {_sample(best.difference, row)}"
    return (
        f"{row.pipeline} is significantly better than {row.baseline} at strength "
        f"{format_ranges(row.better_at, strengths)}, most at {best.strength:g} ({gain})."
    )


def _describe_clean_change(row: PipelineComparison) -> str:
    first = row.differences[0]
    if first.difference.mean is None:
        return ""
    change = f"{format_delta(first.difference.mean, RECALL)}, {_sample(first.difference, row)}"
    if not first.difference.significant:
        return f"At strength {first.strength:g} there is no significant difference ({change})."
    side = "worse" if first.difference.mean < 0 else "better"
    return f"At strength {first.strength:g} it is significantly {side} ({change})."


def _sample(difference: Difference, row: PipelineComparison) -> str:
    return f"n = {difference.n:,}{' images' if row.paired_over == 'images' else ''}"


def _describe_leader(entry: RobustnessResults) -> str:
    """Which pipeline alone has the highest mean at most strengths; "" unless several are compared."""
    leaders = find_leaders(entry).sole
    if len(leaders) < 2:
        return ""
    name, led = max(leaders.items(), key=lambda item: len(item[1]))
    if not led:
        return ""
    where = f"{len(led)} of {len(entry.strengths)} strengths ({format_ranges(led, entry.strengths)})"
    return f"{name} has the highest {get_metric(RECALL).label} at {where}."


# ---------------------------------------------------------------- several corruptions


def _describe_corruption_error(entry: CorruptionErrorResults) -> list[str]:
    """Mean accuracies over all corruptions, the best first, and mean corruption errors."""
    done = {name: row for name, row in entry.pipelines.items() if row.mean_accuracy.n}
    ranked = sorted(done, key=lambda name: -_mean(done[name].mean_accuracy))
    accuracies = [f"{name} {done[name].mean_accuracy.format('mean_accuracy')}" for name in ranked]
    errors = [
        f"{name} {error.format('mean_corruption_error')}"
        for name in ranked
        if name != entry.baseline and (error := done[name].mean_corruption_error).n
    ]
    n = pluralize(len(entry.experiments), "corruption")
    return [
        _outcome_sentence(entry, "evaluation"),
        f"Mean accuracy under {n}: {'; '.join(accuracies)}." if accuracies else "",
        f"Mean corruption error relative to {entry.baseline}: {'; '.join(errors)}." if errors else "",
    ]


# ---------------------------------------------------------------- generation


def _describe_generation(entry: GenerationResults, brief: bool) -> list[str]:
    """About which images the classifier is confident, real ones among them; and which are nearest to real.

    Briefly, the best samplers alone.
    """
    samples, real = _confident_samples(entry), _confident_real_images(entry)
    clauses = samples[:1] if brief else [*samples, *real]
    confidence = f"Confident share by {entry.classifier}: {'; '.join(clauses)}." if clauses else ""
    outcomes = _outcome_sentence(entry, "evaluation")
    overlap = "" if brief else _describe_overlap(entry)
    return [outcomes, confidence, _describe_frechet(entry), overlap]


def _confident_samples(entry: GenerationResults) -> list[str]:
    """The samplers, the best first; only that one with its interval."""
    samplers = entry.samplers.items()
    shares = {name: sampler.confident_share for name, sampler in samplers if sampler.confident_share.n}
    if not shares:
        return []
    first, *others = sorted(shares, key=lambda name: -_mean(shares[name]))
    best = shares[first].format("confident_share", images=pluralize(entry.samples, "sample"))
    rest = [f"{name} {format_metric(_mean(shares[name]), 'confident_share')}" for name in others]
    return [f"{first} {best}", *([join_words(rest)] if rest else [])]


def _confident_real_images(entry: GenerationResults) -> list[str]:
    images = pluralize(entry.test_images, "test image")
    test, rebuilt = entry.real_data.confident_share, entry.confident_share_reconstructed
    shares = (("test images", test), ("their reconstructions", rebuilt))
    return [f"{name} {share.format('confident_share', images=images)}" for name, share in shares if share.n]


def _describe_frechet(entry: GenerationResults) -> str:
    means = {name: sampler.frechet_distance.mean for name, sampler in entry.samplers.items()}
    distances = {name: mean for name, mean in means.items() if mean is not None}
    if not distances:
        return ""
    nearest = min(distances, key=lambda name: distances[name])
    real = entry.real_data.frechet_distance.mean
    beside = "" if real is None else f"; test images have {format_number(real)}"
    return f"The smallest Fréchet distance is that of {nearest}, {format_number(distances[nearest])}{beside}."


def _describe_overlap(entry: GenerationResults) -> str:
    """The sampler with the highest coverage, beside real images, and whether its images are new."""
    coverages = {name: row.coverage.mean for name, row in entry.samplers.items() if row.coverage.n}
    if not coverages:
        return ""
    first = max(coverages, key=lambda name: coverages[name] or 0.0)
    row, real = entry.samplers[first], entry.real_data
    beside = (
        f"; test images have {format_metric(_mean(real.coverage), 'coverage')}" if real.coverage.n else ""
    )
    text = f"{capitalize(first)} has the highest coverage, {row.coverage.format('coverage')}{beside}."
    if not row.nearer_share.n:
        return text
    nearer = format_metric(_mean(row.nearer_share), "nearer_share")
    return (
        f"{text} In {nearer} of pairs its image is nearer to a training image than a test image is; 50% "
        "would be as new as test images."
    )


# ---------------------------------------------------------------- clauses


def _outcome_sentence(
    entry: TrainingResults | RobustnessResults | GenerationResults | CorruptionErrorResults, noun: str
) -> str:
    text = format_outcomes(entry.outcomes, noun, hide_complete=True)
    return f"{text}." if text else ""


def _sentence_of(clauses: Sequence[str]) -> str:
    return f"{capitalize('; '.join(clauses))}." if clauses else ""
