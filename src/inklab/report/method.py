"""How an experiment was done, in a sentence computed from its plan."""

from collections.abc import Iterator

from inklab.format import format_count, format_percent, format_value, humanize, join_words, pluralize
from inklab.metrics import SPLIT_LABELS
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import (
    AnyExperimentPlan,
    DataInfo,
    DataPlan,
    GenerationPlan,
    Plan,
    RobustnessPlan,
    TrainingPlan,
)
from inklab.records.recipe import Augmentation, CorruptionConfig, Recipe
from inklab.training.objectives import objectives

OPTIMIZER_NAMES = {"sgd": "SGD", "adam": "Adam", "muon": "Muon"}


def describe_method(plan: Plan, experiment: AnyExperimentPlan) -> str:
    """One or two sentences: network, optimizer, epochs, replicates and the like; "" where nothing is done."""
    match experiment:
        case TrainingPlan():
            return _describe_training(plan, experiment)
        case RobustnessPlan():
            return _describe_robustness(experiment)
        case GenerationPlan():
            return _describe_generation(experiment)
        case DataPlan():
            return _describe_data(plan.data)
        case _:
            return ""


def _describe_training(plan: Plan, experiment: TrainingPlan) -> str:
    config = plan.configs[experiment.settings[0].config]
    counts = sorted({len(setting.trials) for setting in experiment.settings})
    replicates = " or ".join(f"{n:,}" for n in counts) + (" replicate" if counts == [1] else " replicates")
    varied = [
        f"{key} in {{{', '.join(dict.fromkeys(format_value(s.values[key]) for s in experiment.settings))}}}"
        for key in experiment.grid
    ]
    parts = [
        describe_network(config.network, experiment.grid),
        *describe_recipe(config.recipe, experiment.grid),
        *_describe_normalization(config.normalize),
        *varied,
    ]
    return (
        f"{'; '.join(parts)}; {format_count(plan.data.train)} training images; {config.precision}; "
        f"{replicates}{' for each setting' if len(experiment.settings) > 1 else ''}."
    )


def describe_network(network: NetworkConfig, varied: tuple[str, ...] = ()) -> str:
    """A network's name and its arguments, without what varies.

    Example:
        >>> describe_network(NetworkConfig.of("mlp", hidden=[64, 64]))
        'Network mlp (hidden 64-64)'
    """
    arguments = {key: value for key, value in network.kwargs.items() if key not in varied}
    listed = ", ".join(f"{key} {format_value(value)}" for key, value in arguments.items())
    return f"Network {network.name}" + (f" ({listed})" if listed else "")


def describe_recipe(recipe: Recipe, varied: tuple[str, ...] = ()) -> list[str]:
    """How a network was trained, without what varies."""
    parts = {
        "optimizer": ", ".join(_describe_optimizer(recipe, varied)),
        "batch_size": f"batches of {recipe.batch_size:,}",
        "epochs": pluralize(recipe.epochs, "epoch"),
        "objective": _describe_loss(recipe.objective),
        "l2": f"L2 {format_value(recipe.l2)}" if recipe.l2 else "",
        "augmentation": describe_augmentation(recipe.augmentation) if recipe.augmentation else "",
        "corruption": describe_corruption(recipe.corruption) if recipe.corruption else "",
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
        yield f"momentum {format_value(recipe.momentum)}"
    if recipe.schedule != "constant" and "schedule" not in varied:
        yield f"{recipe.schedule} schedule"
    if recipe.warmup and "warmup" not in varied:
        yield f"warmup over {format_percent(recipe.warmup, 0)} of the steps"


def _describe_loss(objective: str) -> str:
    """The label of an objective's loss; the bare name if this inklab does not have it."""
    if objective not in objectives:
        return objective
    loss = objectives[objective]
    return loss.label if loss.is_metric else f"{loss.label} (training loss only)"


def describe_augmentation(augmentation: Augmentation) -> str:
    """How training images were moved.

    Example:
        >>> describe_augmentation(Augmentation(shift=2, rotation=10, scale=0.1))
        'random augmentation: shift up to 2 pixels, rotation up to 10 degrees, scale up to 10%'
    """
    shift, rotation = augmentation.shift, augmentation.rotation
    parts = [
        f"shift up to {pluralize(shift, 'pixel')}" if shift else "",
        f"rotation up to {rotation:g} degrees" if rotation else "",
        f"scale up to {format_percent(augmentation.scale, 0)}" if augmentation.scale else "",
        f"elastic with a standard deviation of {augmentation.elastic:g} pixels"
        if augmentation.elastic
        else "",
    ]
    listed = ", ".join(part for part in parts if part)
    return f"random augmentation: {listed}" if listed else ""


def describe_corruption(corruption: CorruptionConfig) -> str:
    """How training images were corrupted.

    Example:
        >>> describe_corruption(CorruptionConfig(name="salt_and_pepper", strength=(0.0, 0.9)))
        'inputs corrupted with salt-and-pepper, strength 0 to 0.9, drawn anew for each image and step'
    """
    strengths = " to ".join(f"{strength:g}" for strength in dict.fromkeys(corruption.strength))
    name = humanize(corruption.name)
    return f"inputs corrupted with {name}, strength {strengths}, drawn anew for each image and step"


def _describe_normalization(normalize: NormalizeConfig) -> list[str]:
    if normalize == NormalizeConfig():
        return []
    mean = f" minus {format_value(normalize.mean)}," if normalize.mean else ""
    return [f"images in [0, 1]{mean} divided by {format_value(normalize.std)} in front of the network"]


def _describe_robustness(plan: RobustnessPlan) -> str:
    n, low, high = len(plan.strengths), min(plan.strengths), max(plan.strengths)
    span = f"strengths from {low:g} to {high:g}" if n > 1 else f"strength {low:g}"
    return (
        f"{format_count(plan.images)} test images corrupted with {humanize(plan.corruption)} at "
        f"{f'{n} ' if n > 1 else ''}{span}, in the same way for every pipeline and replicate. Pipelines: "
        f"{join_words(plan.pipelines)}; replicate k is paired with replicate k."
    )


def _describe_generation(plan: GenerationPlan) -> str:
    return (
        f"{format_count(plan.samples)} images per sampler, generated by the decoder of {plan.decoder} and "
        f"scored by {plan.classifier}. Samplers: {join_words(plan.samplers)}. Distributions are fitted to "
        f"the codes of at most {format_count(plan.max_fit_images)} clean training images; the mixture has "
        f"{pluralize(plan.mixture_components, 'component')}."
    )


def _describe_data(data: DataInfo) -> str:
    sizes = {"train": data.train, "validation": data.validation, "test": data.test}
    splits = [
        f"{format_count(sizes[split])} {label}" for split, label in SPLIT_LABELS.items() if sizes[split]
    ]
    shape = " × ".join(map(str, data.shape))
    return (
        f"Data set {data.dataset}: {join_words(splits)} images of {shape} (channels × height × width), "
        f"{data.n_classes} classes."
    )
