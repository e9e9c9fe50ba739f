"""Text of a report computed from the run: findings, how each experiment and the run were made."""

from collections.abc import Iterator
from typing import NamedTuple

from inklab.format import (
    format_count,
    format_duration,
    format_percent,
    format_span,
    format_value,
    humanize,
    join_words,
    pluralize,
)
from inklab.metrics import SPLIT_LABELS
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import (
    AnyExperimentPlan,
    CorruptionErrorPlan,
    DataInfo,
    DataPlan,
    GenerationPlan,
    Plan,
    RobustnessPlan,
    TrainingPlan,
)
from inklab.records.recipe import Augmentation, CorruptionConfig, EarlyStopping, Recipe
from inklab.report.figures.drawing import slug
from inklab.report.tables import Table
from inklab.runs import Run
from inklab.training.objectives import objectives
from inklab.usercode import short_name

MAX_LISTED = 5
"""Classes that a sentence lists; others are counted."""

OPTIMIZER_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}


class KeyFinding(NamedTuple):
    """A finding; title and anchor of its section, "" if it belongs to none."""

    text: str
    title: str = ""
    anchor: str = ""


class TimeTable(NamedTuple):
    """Computing times: a row for each experiment; and for each row its share of the longest experiment."""

    table: Table
    bars: list[float]


def key_findings(run: Run) -> list[KeyFinding]:
    """The findings of the results, each under the title of its section."""
    return [_find_section(run, text) for text in run.results.findings]


def _find_section(run: Run, text: str) -> KeyFinding:
    for plan in run.plan.experiments:
        prefix = f"{plan.name}: "
        if text.startswith(prefix):
            answer = text.removeprefix(prefix).removeprefix(plan.question.strip()).strip()
            return KeyFinding(answer, plan.title or plan.name, slug(plan.name))
    return KeyFinding(text)


# ---------------------------------------------------------------- how it was made


def environment_table(run: Run) -> list[tuple[str, str]]:
    """Everything that is needed to reproduce the run: data, seed, execution, machine, versions."""
    plan = run.plan
    rows: list[tuple[str, object]] = [
        ("study", plan.study),
        ("profile", plan.profile),
        ("run", run.path.name),
        ("root seed", plan.seed),
        ("dataset", plan.data.dataset),
        ("SHA-256 of the data", plan.data.sha256),
        ("largest population", plan.execution.max_population),
        ("compile", plan.execution.compile),
        *run.results.environment,
        *((f"reason for {name}", reason) for name, reason in plan.execution.reasons.items()),
    ]
    return [(key.replace("_", " "), str(value)) for key, value in rows if value not in (None, "")]


def commands(run: Run) -> Iterator[tuple[str, str]]:
    """What to type to repeat, resume, redraw and read."""
    plan = run.plan
    arguments = f"{plan.study} --profile {plan.profile} --data {plan.data.dataset}"
    seed = f" --set seed={plan.seed}" if plan.seed else ""
    path = f"runs/{plan.study}/{run.path.name}"
    yield "Repeat the study", plan.command or f"inklab run {arguments}{seed}"
    yield "Resume an unfinished run", f"inklab resume {path}"
    yield "Redraw the figures and this page", f"inklab report {path}"
    yield "Read the numbers with a program", f"inklab show {path} --json"


def time_table(run: Run) -> TimeTable | None:
    """Seconds of each experiment; None before anything has been computed."""
    timings = run.results.timings
    longest = max(timings.experiments.values(), default=0.0)
    if not longest:
        return None
    rows = [[name, format_duration(seconds)] for name, seconds in timings.experiments.items()]
    table = Table(
        caption=(
            "Computing time of each experiment, summed over the workers (what two experiments share counts "
            "in both), and the time from start to end."
        ),
        header=("Experiment", "Time"),
        rows=[*rows, ["Elapsed", format_duration(timings.total)]],
        bold_rows=frozenset({len(rows)}),
    )
    return TimeTable(table, [*(seconds / longest for seconds in timings.experiments.values()), 0.0])


# ---------------------------------------------------------------- how an experiment was done


def describe_method(plan: Plan, experiment: AnyExperimentPlan) -> str:
    """One or two sentences: network, optimizer, epochs, replicates and the like; "" where nothing is done."""
    match experiment:
        case TrainingPlan():
            return _describe_training(plan, experiment)
        case RobustnessPlan():
            return _describe_robustness(plan.data, experiment)
        case GenerationPlan():
            return _describe_generation(experiment)
        case CorruptionErrorPlan():
            return _describe_corruption_error(experiment)
        case DataPlan():
            return _describe_data(plan.data)
        case _:
            return ""


def _describe_training(plan: Plan, experiment: TrainingPlan) -> str:
    config = plan.configs[experiment.settings[0].config]
    counts = sorted({len(setting.trials) for setting in experiment.settings})
    replicates = f"{' or '.join(f'{n:,}' for n in counts)} replicate{'' if counts == [1] else 's'}"
    varied = [
        f"{key} in {{{', '.join(dict.fromkeys(format_value(s.values[key]) for s in experiment.settings))}}}"
        for key in experiment.grid
    ]
    parts = [
        describe_network(config.network, experiment.grid),
        *describe_recipe(config.recipe, experiment.grid),
        _describe_normalization(config.normalize),
        *varied,
        f"{format_count(plan.data.train)} training images",
        config.precision,
        f"{replicates}{' for each setting' if len(experiment.settings) > 1 else ''}",
    ]
    return f"{'; '.join(filter(None, parts))}."


def describe_network(network: NetworkConfig, varied: tuple[str, ...] = ()) -> str:
    """A network's name and its arguments, without what varies.

    Example:
        >>> describe_network(NetworkConfig.of("mlp", hidden=[64, 64]))
        'Network mlp (hidden 64-64)'
    """
    arguments = {key: value for key, value in network.kwargs.items() if key not in varied}
    listed = ", ".join(f"{key} {format_value(value)}" for key, value in arguments.items())
    return f"Network {short_name(network.name)}" + (f" ({listed})" if listed else "")


def describe_recipe(recipe: Recipe, varied: tuple[str, ...] = ()) -> list[str]:
    """How a network was trained, without what varies."""
    parts = {
        "optimizer": ", ".join(_describe_optimizer(recipe, varied)),
        "batch_size": f"batches of {recipe.batch_size:,}",
        "epochs": pluralize(recipe.epochs, "epoch"),
        "objective": _describe_loss(recipe.objective),
        "label_smoothing": (
            f"labels smoothed by {format_value(recipe.label_smoothing)}" if recipe.label_smoothing else ""
        ),
        "class_weights": _describe_class_weights(recipe),
        "l2": f"L2 {format_value(recipe.l2)}" if recipe.l2 else "",
        "augmentation": describe_augmentation(recipe.augmentation) if recipe.augmentation else "",
        "corruption": describe_corruption(recipe.corruption) if recipe.corruption else "",
        "early_stopping": _describe_stopping(recipe.early_stopping) if recipe.early_stopping else "",
        "eval_strength": (
            "" if recipe.eval_strength is None else f"evaluated at strength {recipe.eval_strength:g}"
        ),
    }
    return [part for key, part in parts.items() if part and key not in varied]


def _describe_optimizer(recipe: Recipe, varied: tuple[str, ...]) -> Iterator[str]:
    yield OPTIMIZER_NAMES[recipe.optimizer]
    if "learning_rate" not in varied:
        yield f"learning rate {format_value(recipe.learning_rate)}"
    if recipe.momentum and "momentum" not in varied:
        yield f"{'Nesterov ' if recipe.nesterov else ''}momentum {format_value(recipe.momentum)}"
    if recipe.weight_decay and "weight_decay" not in varied:
        yield f"weight decay {format_value(recipe.weight_decay)}"
    if recipe.clip_norm is not None and "clip_norm" not in varied:
        yield f"gradients clipped to a norm of {format_value(recipe.clip_norm)}"
    if recipe.schedule != "constant" and "schedule" not in varied:
        yield f"{recipe.schedule} schedule{_describe_drops(recipe)}"
    if recipe.warmup and "warmup" not in varied:
        yield f"warmup over {format_percent(recipe.warmup, 0)} of the steps"
    if recipe.ema_decay is not None and "ema_decay" not in varied:
        yield f"weights averaged with a decay of {recipe.ema_decay:g}"


def _describe_drops(recipe: Recipe) -> str:
    if recipe.step_epochs is None:
        return ""
    return f" (times {recipe.step_factor:g} every {pluralize(recipe.step_epochs, 'epoch')})"


def _describe_class_weights(recipe: Recipe) -> str:
    match recipe.class_weights:
        case None:
            return ""
        case "balanced":
            return "classes weighted inversely to their numbers of images"
        case weights:
            return f"classes weighted {', '.join(f'{weight:g}' for weight in weights)}"


def _describe_stopping(rule: EarlyStopping) -> str:
    metric = rule.metric.replace("_", " ")
    better = f" better by more than {rule.min_delta:g}" if rule.min_delta else " better"
    weights = "best" if rule.restore_best else "last"
    patience = pluralize(rule.patience, "epoch")
    return f"stopped after {patience} without a{better} {metric}, with the weights of the {weights} epoch"


def _describe_loss(objective: str) -> str:
    """The label of an objective's loss; the bare name if this inklab does not have it."""
    if objective not in objectives:
        return short_name(objective)
    loss = objectives[objective]
    return loss.label if loss.is_metric else f"{loss.label} (training loss only)"


def describe_augmentation(augmentation: Augmentation) -> str:
    """How training images were moved.

    Example:
        >>> describe_augmentation(Augmentation(shift=2, rotation=10, scale=0.1))
        'random augmentation: shift up to 2 pixels, rotation up to 10 degrees, scale up to 10%'
    """
    descriptions = {
        f"shift up to {pluralize(augmentation.shift, 'pixel')}": augmentation.shift,
        f"rotation up to {augmentation.rotation:g} degrees": augmentation.rotation,
        f"scale up to {format_percent(augmentation.scale, 0)}": augmentation.scale,
        f"elastic with a standard deviation of {augmentation.elastic:g} pixels": augmentation.elastic,
        short_name(augmentation.function or ""): augmentation.function,
    }
    listed = ", ".join(description for description, amount in descriptions.items() if amount)
    return f"random augmentation: {listed}" if listed else ""


def describe_corruption(corruption: CorruptionConfig) -> str:
    """How training images were corrupted.

    Example:
        >>> describe_corruption(CorruptionConfig(name="salt_and_pepper", strength=(0.0, 0.9)))
        'inputs corrupted with salt-and-pepper, strength 0 to 0.9, drawn anew for each image and step'
    """
    name, strength = humanize(corruption.name), format_span(corruption.strength)
    return f"inputs corrupted with {name}, strength {strength}, drawn anew for each image and step"


def _describe_normalization(normalize: NormalizeConfig) -> str:
    if normalize == NormalizeConfig():
        return ""
    mean = f" minus {format_value(normalize.mean)}," if normalize.mean else ""
    return f"images in [0, 1]{mean} divided by {format_value(normalize.std)} in front of the network"


def _describe_robustness(data: DataInfo, plan: RobustnessPlan) -> str:
    n, span = len(plan.strengths), format_span((min(plan.strengths), max(plan.strengths)))
    strengths = f"{n} strengths from {span}" if n > 1 else f"strength {span}"
    how = (
        "each pipeline and replicate by its own gradient, through denoiser and classifier"
        if plan.is_attack
        else "in the same way for every pipeline and replicate"
    )
    return (
        f"{format_count(plan.images)} test images {'attacked' if plan.is_attack else 'corrupted'} with "
        f"{humanize(plan.corruption)} at {strengths}, {how}. Pipelines: "
        f"{join_words(plan.pipelines)}; replicate k is paired with replicate k.{_left_out(data)}"
    )


def _left_out(data: DataInfo) -> str:
    """Which classes means over classes leave out."""
    names = [label for label, count in zip(data.labels, data.counts.test, strict=True) if not count]
    if not names:
        return ""
    listed = join_words(
        [*names[:MAX_LISTED], *([f"{len(names) - MAX_LISTED:,} more"] if names[MAX_LISTED:] else [])]
    )
    return f" Without test images, and so left out of all means over classes: {listed}."


def _describe_generation(plan: GenerationPlan) -> str:
    return (
        f"{format_count(plan.samples)} images per sampler, generated by the decoder of {plan.decoder} and "
        f"scored by {plan.classifier}. Samplers: {join_words(plan.samplers)}. Distributions are fitted to "
        f"the codes of at most {format_count(plan.max_fit_images)} clean training images; the mixture has "
        f"{pluralize(plan.mixture_components, 'component')}."
    )


def _describe_corruption_error(plan: CorruptionErrorPlan) -> str:
    return (
        f"Put together from {pluralize(len(plan.experiments), 'experiment')} with one corruption each: "
        f"{join_words(plan.experiments)}. Errors are relative to those of {plan.baseline}, and averaged with "
        "equal weights (Hendrycks and Dietterich 2019)."
    )


def _describe_data(data: DataInfo) -> str:
    sizes = {label: getattr(data, split) for split, label in SPLIT_LABELS.items()}
    splits = [f"{format_count(size)} {label}" for label, size in sizes.items() if size]
    shape = " × ".join(map(str, data.shape))
    return (
        f"Dataset {data.dataset}: {join_words(splits)} images of {shape} (channels × height × width), "
        f"{data.n_classes} classes."
    )
