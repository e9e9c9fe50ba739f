"""The rules of diagnoses. A new one is a decorated function here.

A threshold has its reason beside it. All are chosen such that healthy trainings, of one epoch, of few images
or of a user's own network, have no diagnosis; how often they are right is measured by
`python -m benchmarks diagnosis`.
"""

import torch

from inklab.training.diagnostics import Finding, Stage, diagnosis
from inklab.training.measurements import ClassifierMeasurements, DenoiserMeasurements, TrainingMeasurements
from inklab.training.network_measurements import LONGER_STEP

MIN_STEPS = 50  # before which nothing is said about what was learned
STRONG_DROPOUT = 0.7  # usual are 0.1 to 0.5
MIN_DENOISER_STEPS = 300  # a denoiser first learns the mean image, which takes some epochs of 5,000 images

# ---------------------------------------------------------------- data


@diagnosis("images-nearly-black", Stage.DATA)
def images_nearly_black(measured: TrainingMeasurements) -> Finding | None:
    """The brightest pixel is below 0.1 of the range, and normalization does not make up for it."""
    largest, spread = float(measured.images.max()), float(measured.images.std())
    if not 0 < largest < 0.1 or not measured.before.layers or spread * measured.input_ratio > 0.1:
        return None
    return Finding(
        f"the brightest of all pixels has {largest:.4f} of the range (as bytes: {largest * 255:.0f} of 255), "
        f"so the images are nearly black",
        "scale the pixels to 0 to 255 (uint8) or 0 to 1 (floats), or set normalize to standard",
        {"largest_pixel": largest, "pixel_std": spread},
    )


@diagnosis("labels-unrelated", Stage.DATA, ClassifierMeasurements)
def labels_unrelated(measured: ClassifierMeasurements) -> Finding | None:
    """Labels that no pixel tells anything about: shuffled, or shifted against the images."""
    z = measured.label_z
    if z is None or z > 2 or not measured.is_at_chance or measured.steps < MIN_STEPS:
        return None
    return Finding(
        f"labels seem to be unrelated to the images: a nearest-centroid classifier of pixels is {z:.1f} "
        f"standard errors above chance, and the accuracy is {measured.accuracy:.1%}",
        "check that images and labels are in the same order; one of them may be shuffled or shifted",
        {"label_z": z, "accuracy": measured.accuracy},
    )


@diagnosis("labels-permuted", Stage.DATA, ClassifierMeasurements)
def labels_permuted(measured: ClassifierMeasurements) -> Finding | None:
    """Predictions that are right but for the names of the classes."""
    for split, (predicted, labels) in measured.answers.items():
        k = int(max(predicted.max(), labels.max())) + 1
        table = torch.bincount(predicted * k + labels, minlength=k * k).reshape(k, k)
        accuracy, renamed = (float(hits.sum() / len(labels)) for hits in (table.diagonal(), table.amax(1)))
        # Of unrelated answers on 256 images, renaming makes at most 0.3 right.
        if (
            accuracy < 0.3
            and renamed > 0.5
            and len(table.argmax(1)[table.sum(1) > 0].bincount().nonzero()) > 1
        ):
            return Finding(
                f"{accuracy:.1%} of the {split} images are classified correctly, but {renamed:.1%} would be "
                "if classes had other names",
                f"the labels of the {split} images differ from those that the loss is computed with: look "
                "for labels that begin at 1, or for other class names in one of the splits",
                {"accuracy": accuracy, "renamed_accuracy": renamed},
            )
    return None


@diagnosis("class-imbalance", Stage.DATA, ClassifierMeasurements)
def class_imbalance(measured: ClassifierMeasurements) -> Finding | None:
    """Rare classes that are hardly ever recognized."""
    counts = measured.class_counts
    rare = (counts > 0) & (counts < 0.2 * counts.max())
    split = "test" if "test" in measured.answers else "training"
    predicted, labels = measured.answers[split]
    is_rare = rare[labels]
    if measured.steps < MIN_STEPS or measured.divergence or int(is_rare.sum()) < 20 or bool(is_rare.all()):
        return None
    recalls = [float((predicted == labels)[part].double().mean()) for part in (is_rare, ~is_rare)]
    if recalls[0] > 0.5 * recalls[1]:
        return None
    smallest, largest = int(counts[counts > 0].min()), int(counts.max())
    return Finding(
        f"the classes have {smallest:,} to {largest:,} training images; of the {split} images of rare "
        f"classes {recalls[0]:.1%} are recognized, of the others {recalls[1]:.1%}",
        'set class_weights = "balanced" in the recipe, add images of the rare classes, and compare mean '
        "recall rather than accuracy",
        {
            "smallest_class": smallest, "largest_class": largest,
            "rare_recall": recalls[0], "recall": recalls[1],
        },
    )  # fmt: skip


# ---------------------------------------------------------------- inputs


@diagnosis("inputs-scaled-twice", Stage.INPUTS)
def inputs_scaled_twice(measured: TrainingMeasurements) -> Finding | None:
    """What enters the first layer has less than 1/50 of the spread of the images; divided twice: 1/255.

    The most likely cause of the student report's 11.35%.
    """
    ratio = measured.input_ratio
    if not 0 < ratio < 0.02:
        return None
    evidence = {"spread_ratio": ratio, "loss": measured.after.loss}
    guess, others = f"answering with the mean image {measured.guess_loss:.3f}", {}
    if isinstance(measured, ClassifierMeasurements):
        guess = f"guessing by class frequencies {measured.guess_loss:.3f}"
        others = {"label_entropy": measured.guess_loss, "largest_class_share": measured.predicted_share}
    return Finding(
        f"the standard deviation of what enters the first layer with weights "
        f"('{measured.before.layers[0].name}') is {ratio:.2g} times that of the images; the loss is "
        f"{measured.after.loss:.3f}, that of {guess}",
        "images are already divided by 255 when they are loaded; remove the second scaling (in a study: "
        "normalize; in a network of your own: a division in forward())",
        {**evidence, **others},
    )


@diagnosis("inputs-too-large", Stage.INPUTS)
def inputs_too_large(measured: TrainingMeasurements) -> Finding | None:
    """What enters the first layer is far larger than any initial weights are made for."""
    first = measured.before.layers[0] if measured.before.layers else None
    if first is None or not first.input_std > 20:  # of bytes that were not divided: 80
        return None
    return Finding(
        f"the standard deviation of what enters the first layer with weights ('{first.name}') is "
        f"{first.input_std:.3g}; initial weights are made for about 1",
        "images are in [0, 1] when the network gets them; remove the multiplication, or divide by "
        "their spread",
        {"input_std": first.input_std, "initial_loss": measured.before.loss},
    )


# ---------------------------------------------------------------- network


@diagnosis("zero-weights", Stage.NETWORK)
def zero_weights(measured: TrainingMeasurements) -> Finding | None:
    """Units that start equal, in the first layer, or in a hidden one where they still are equal at the end.

    The last layer may start at zero, as may the end of a residual branch, which does not stay so.
    """
    pairs = list(zip(measured.before.layers, measured.after.layers, strict=False))
    for number, (before, after) in enumerate(pairs[:-1]):
        if before.has_equal_units and (number == 0 or after.has_equal_units):
            value = float(before.weights.flatten()[0])
            return Finding(
                f"all units of layer '{before.name}' start with the same weights ({value:g}), so they get "
                "the same gradient and can't become different",
                "draw the initial weights at random, as torch does by default",
                {
                    "initial_weight": value,
                    "initial_weight_rms": before.weight_rms,
                    "weight_rms": after.weight_rms,
                },
            )
    return None


@diagnosis("outputs-are-probabilities", Stage.NETWORK)
def outputs_are_probabilities(measured: TrainingMeasurements) -> Finding | None:
    """A softmax or sigmoid at the end of the network, before the loss that has its own."""
    parts = (measured.before.outputs, measured.after.outputs)
    if any(float(part.min()) < 0 or float(part.max()) > 1 + 1e-5 for part in parts):
        return None
    if not float(parts[0].max()) > 0 or float((parts[0] == 0).double().mean()) > 0.05:  # a ReLU
        return None
    evidence = {"largest_output": float(parts[1].max()), "loss": measured.after.loss}
    if isinstance(measured, DenoiserMeasurements):
        if not 0.25 < float(parts[0].mean()) < 0.75:  # small outputs that happen to be positive
            return None
        return Finding(
            "all outputs lie in [0, 1], as those of a sigmoid; the loss applies a sigmoid itself, so that no "
            "pixel can be darker than one half",
            "remove the sigmoid at the end of the network, so that it returns logits",
            evidence,
        )
    total = float(parts[0].sum(1).mean())
    kind = "softmax" if abs(total - 1) < 1e-3 else "sigmoid"
    return Finding(
        f"all outputs lie in [0, 1] and add up to {total:.3g} for each image, as those of a {kind}; the loss "
        "applies a softmax itself, to logits",
        f"remove the {kind} at the end of the network, so that it returns logits",
        {**evidence, "mean_sum": total},
    )


@diagnosis("relu-on-outputs", Stage.NETWORK)
def relu_on_outputs(measured: TrainingMeasurements) -> Finding | None:
    """Outputs that are never negative and often exactly zero."""
    outputs = measured.before.outputs
    zeros = max(float((part.outputs == 0).double().mean()) for part in (measured.before, measured.after))
    is_last_zero = bool(measured.before.layers) and measured.before.layers[-1].weight_rms == 0
    if float(outputs.min()) < 0 or float(measured.after.outputs.min()) < 0 or zeros < 0.05 or is_last_zero:
        return None
    return Finding(
        f"no output of the network is negative, and {zeros:.0%} are exactly 0, as after a ReLU",
        "remove the activation after the last layer, so that it returns logits",
        {"zero_outputs": zeros, "loss": measured.after.loss},
    )


@diagnosis("loss-without-softmax", Stage.NETWORK, ClassifierMeasurements)
def loss_without_softmax(measured: ClassifierMeasurements) -> Finding | None:
    """A loss that takes logits for probabilities; others that see a shift, such as squared errors, learn."""
    losses = measured.history.values("train_loss")
    is_negative = bool(losses) and losses[-1] < 0
    if measured.shift_error < 1e-3 or not (is_negative or measured.train_accuracy < 0.5):
        return None
    return Finding(
        f"the training loss changes by {measured.shift_error:.2g} times its value if the same number is "
        f"added to all outputs of an image, and ends at {losses[-1] if losses else float('nan'):.3g}: "
        "it does not apply a softmax",
        "give it log-probabilities (torch.log_softmax of the outputs), or use cross_entropy",
        {"shift_error": measured.shift_error, "accuracy": measured.accuracy},
    )


@diagnosis("loss-without-sigmoid", Stage.NETWORK, DenoiserMeasurements)
def loss_without_sigmoid(measured: DenoiserMeasurements) -> Finding | None:
    """A loss of one's own that takes outputs for pixels: everywhere else, pixels are their sigmoid."""
    errors = measured.pixel_errors
    if not measured.user_objective or measured.steps < MIN_STEPS or errors.plain > 0.5 * errors.sigmoid:
        return None
    return Finding(
        f"the outputs as they are differ from the clean images by a mean square of {errors.plain:.3g}, their "
        f"sigmoid by {errors.sigmoid:.3g}: the loss takes outputs for pixels, not for logits",
        "apply torch.sigmoid to the outputs in the loss, or use binary_cross_entropy_with_logits",
        {"plain_error": errors.plain, "sigmoid_error": errors.sigmoid},
    )


@diagnosis("network-is-linear", Stage.NETWORK)
def network_is_linear(measured: TrainingMeasurements) -> Finding | None:
    """Two or more layers without an activation between them."""
    n_layers = len(measured.after.layers)
    if (
        n_layers < 2
        or measured.divergence
        or measured.before.has_equal_units
        or measured.midpoint_error > 1e-3
    ):
        return None
    if not float(measured.after.outputs.std(0).max()) > 1e-4:  # a constant is linear, too
        return None
    return Finding(
        f"the network has {n_layers} layers with weights, but is a linear function of the images: outputs of "
        f"the mean of two images differ by {measured.midpoint_error:.1g} from the mean of their outputs",
        "put an activation such as nn.ReLU() between the layers",
        {"layers": n_layers, "midpoint_error": measured.midpoint_error},
    )


@diagnosis("batch-norm-tiny-batches", Stage.NETWORK)
def batch_norm_tiny_batches(measured: TrainingMeasurements) -> Finding | None:
    """BatchNorm with statistics of at most four images."""
    size = measured.recipe.batch_size
    if not measured.has_batch_norm or size > 4:
        return None
    return Finding(
        f"BatchNorm takes its means and variances from batches of {size} images, which are mostly noise",
        "use batches of 16 images or more, or GroupNorm instead",
        {"batch_size": size},
    )


@diagnosis("exploding-gradients", Stage.NETWORK)
def exploding_gradients(measured: TrainingMeasurements) -> Finding | None:
    """A loss before training that is ten times that of guessing: initial weights are far too large."""
    loss = measured.before.loss
    if not loss > 10 * measured.flat_loss:
        return None
    gradient = max((layer.gradient_rms for layer in measured.before.layers), default=0.0)
    return Finding(
        f"the loss before training is {loss:.3g}, that of guessing {measured.flat_loss:.3f}; signals and "
        "gradients grow from layer to layer",
        "make the initial weights smaller (torch's and Keras' defaults are right), or add normalization "
        "layers",
        {"initial_loss": loss, "guess_loss": measured.flat_loss, "gradient_rms": gradient},
    )


@diagnosis("vanishing-gradients", Stage.NETWORK)
def vanishing_gradients(measured: TrainingMeasurements) -> Finding | None:
    """Gradients that get lost on the way to the first layer of a deep network that has not learned."""
    layers = measured.before.layers
    if len(layers) < 4 or not measured.has_learned_little or measured.steps < MIN_STEPS:
        return None
    first, last = layers[0], layers[-1]
    ratio = first.gradient_rms / last.gradient_rms if last.gradient_rms else 1.0
    if ratio > 1e-3 or measured.before.has_equal_units:  # which is a cause of its own
        return None
    return Finding(
        f"before training, the gradient of the first layer is {ratio:.1g} times that of the last one",
        "use ReLU in place of sigmoid or tanh, add normalization layers or skip connections, or make the "
        "network less deep",
        {"gradient_ratio": ratio, "layers": len(layers), **measured.scores},
    )


# ---------------------------------------------------------------- optimization


@diagnosis("learning-rate-too-high", Stage.OPTIMIZATION)
def learning_rate_too_high(measured: TrainingMeasurements) -> Finding | None:
    """A loss that became NaN, or never fell below that of guessing while the weights moved far."""
    rate = measured.recipe.learning_rate
    evidence = {"learning_rate": rate, "weight_change": measured.change, "loss": measured.after.loss}
    advice = (
        "divide the learning rate by 10, or find one by inklab.learning_rate_range; a warmup or clip_norm "
        "also help"
    )
    if measured.divergence:
        return Finding(f"with a learning rate of {rate:g} {measured.divergence}", advice, evidence)
    is_stuck = measured.is_at_chance or min(measured.losses, default=0.0) > measured.guess_loss
    is_stuck = is_stuck or measured.has_died and measured.has_learned_little
    if not is_stuck or measured.steps < MIN_STEPS or measured.change < 1.2:
        return None
    return Finding(
        f"with a learning rate of {rate:g} the weights moved by {measured.change:.2g} times their size, but "
        f"{measured.result}",
        advice,
        evidence,
    )


@diagnosis("dead-units", Stage.ACTIVATION)
def dead_units(measured: TrainingMeasurements) -> Finding | None:
    """Nine of ten units of a hidden layer that are zero for every image, in a network that does badly."""
    if measured.has_learned_well or measured.divergence:
        return None
    for before, layer in zip(measured.after.layers, measured.after.layers[1:], strict=False):
        if layer.silent_inputs >= 0.9:
            return Finding(
                f"{layer.silent_inputs:.0%} of the units between '{before.name}' and '{layer.name}' are 0 "
                "for every image: their ReLU passes nothing on, so no gradient reaches what is before it",
                "make the learning rate smaller, or initial biases zero; LeakyReLU and normalization layers "
                "can't die like this",
                {"dead_share": layer.silent_inputs, **measured.scores},
            )
    return None


@diagnosis("learning-rate-too-low", Stage.OPTIMIZATION)
def learning_rate_too_low(measured: TrainingMeasurements) -> Finding | None:
    """A step of thirty times the learning rate does no harm, and the loss is far from low.

    In healthy trainings of one epoch and more such a step multiplies the loss by 20 or more.
    """
    ratio = measured.longer_step_loss
    is_dead = any(layer.silent_inputs >= 0.9 for layer in measured.after.layers[1:])  # no gradient, no harm
    if ratio is None or ratio > 1.02 or measured.change > 0.5 or measured.steps < 20:
        return None
    if measured.has_low_loss or measured.has_learned_well or is_dead or measured.divergence:
        return None
    if measured.dropout >= STRONG_DROPOUT:  # which is a cause of its own
        return None
    rate = measured.recipe.learning_rate
    return Finding(
        f"after {measured.steps:,} steps with a learning rate of {rate:g} the loss is still "
        f"{measured.after.loss:.3f}, and the weights moved by {measured.change:.2g} times their size; even a "
        f"step {LONGER_STEP:g} times as long leaves the loss at {ratio:.3f} times its value",
        "multiply the learning rate by 10 or more, or find one by inklab.learning_rate_range",
        {"learning_rate": rate, "longer_step_loss_ratio": ratio, "weight_change": measured.change},
    )


# ---------------------------------------------------------------- regularization


@diagnosis("l2-too-strong", Stage.REGULARIZATION)
def l2_too_strong(measured: TrainingMeasurements) -> Finding | None:
    """Weights that shrank to less than half in a network that has not learned its training images."""
    strength = measured.recipe.l2 or measured.recipe.weight_decay
    if not strength or measured.shrinkage > 0.5 or measured.has_low_loss:
        return None
    key = "l2" if measured.recipe.l2 else "weight_decay"
    return Finding(
        f"with {key} = {strength:g} the weights shrank to {measured.shrinkage:.2g} times their initial size, "
        f"and the loss on training images is {measured.after.loss:.3f}",
        f"divide {key} by 10 or more",
        {key: strength, "weight_ratio": measured.shrinkage, "loss": measured.after.loss},
    )


@diagnosis("dropout-too-strong", Stage.REGULARIZATION, ClassifierMeasurements)
def dropout_too_strong(measured: ClassifierMeasurements) -> Finding | None:
    """Dropout of 0.7 or more, with a training loss far above that of the same network without it."""
    losses = measured.history.values("train_loss")
    if measured.dropout < STRONG_DROPOUT or not losses or losses[-1] < 0.25 * measured.guess_loss:
        return None
    hinders = measured.dropout >= 0.9 or measured.has_learned_little or losses[-1] > 1.2 * measured.after.loss
    if measured.steps < MIN_STEPS or not hinders:
        return None
    return Finding(
        f"a layer sets {measured.dropout:.0%} of its inputs to 0 in training; the training loss is "
        f"{losses[-1]:.3f}, without dropout {measured.after.loss:.3f}",
        "use a dropout of 0.2 to 0.5",
        {"dropout": measured.dropout, "train_loss": losses[-1], "loss": measured.after.loss},
    )


# ---------------------------------------------------------------- symptoms


@diagnosis("one-class-predicted", Stage.SYMPTOM, ClassifierMeasurements)
def one_class_predicted(measured: ClassifierMeasurements) -> Finding | None:
    """The same answer for every image, though the classes are not so unequal."""
    if measured.divergence or measured.steps < MIN_STEPS or measured.largest_share > 0.8:
        return None
    if measured.predicted_share < 0.99:
        return None
    return Finding(
        f"{measured.predicted_share:.0%} of the training images are predicted as one class, which has "
        f"{measured.largest_share:.0%} of them at most",
        "train longer, try other learning rates (inklab.learning_rate_range) and a network known to learn, "
        "such as mlp",
        {"predicted_share": measured.predicted_share, "largest_class_share": measured.largest_share},
    )


@diagnosis("nothing-learned", Stage.SYMPTOM)
def nothing_learned(measured: TrainingMeasurements) -> Finding | None:
    """A result that the same answer for every image has, too: the largest class, or the mean image."""
    if not measured.is_at_chance or measured.divergence or measured.steps < MIN_STEPS:
        return None
    advice = (
        "try other learning rates (inklab.learning_rate_range) and a network known to learn, such as "
        "{network}; if that fails too, look at the images (inklab data check)"
    )
    if not isinstance(measured, ClassifierMeasurements):
        if measured.steps < MIN_DENOISER_STEPS:
            return None
        return Finding(measured.result, advice.format(network="autoencoder"), measured.scores)
    if measured.largest_share > 0.8:  # so high that it is class imbalance, if anything
        return None
    return Finding(
        f"the accuracy of {measured.accuracy:.1%} is no better than that of always answering the largest "
        f"class ({measured.largest_share:.1%}, {measured.n_images:,} images)",
        advice.format(network="mlp"),
        {"accuracy": measured.accuracy, "largest_class_share": measured.largest_share},
    )


@diagnosis("not-converged", Stage.SYMPTOM)
def not_converged(measured: TrainingMeasurements) -> Finding | None:
    """Training of at least three epochs that ended while the loss was high and still fell."""
    losses = measured.losses
    if len(losses) < 3 or measured.divergence or losses[-2] <= 0:
        return None
    drop = 1 - losses[-1] / losses[-2]
    if drop < 0.05 or measured.loss_share(losses[-1]) < measured.LOW_LOSS:
        return None
    if isinstance(measured, ClassifierMeasurements):
        has_learned = measured.train_accuracy > 0.6
    else:
        has_learned = not measured.has_learned_little or measured.steps < MIN_DENOISER_STEPS
    if has_learned:
        return None
    return Finding(
        f"in the last of {len(losses)} epochs the loss still fell by {drop:.0%}, to {losses[-1]:.3f}",
        "train for more epochs, or with a higher learning rate",
        {"last_drop": drop, "last_loss": losses[-1], **measured.scores},
    )


@diagnosis("overfitting", Stage.SYMPTOM, ClassifierMeasurements)
def overfitting(measured: ClassifierMeasurements) -> Finding | None:
    """A validation loss that rose again, and a tenth between both accuracies."""
    losses = measured.history.values("validation_loss")
    accuracies = measured.history.values("validation_accuracy")
    if not losses or not accuracies or measured.n_validation < 100 or measured.recipe.early_stopping:
        return None
    gap, rise = measured.train_accuracy - accuracies[-1], losses[-1] / min(losses) if min(losses) > 0 else 1.0
    if gap < 0.1 or rise < 1.15:
        return None
    return Finding(
        f"{measured.train_accuracy:.1%} of the training images are classified correctly, but "
        f"{accuracies[-1]:.1%} of the validation images, whose loss rose from {min(losses):.3f} to "
        f"{losses[-1]:.3f}",
        "use early_stopping, more images or augmentation, dropout or l2, or a smaller network",
        {"accuracy_gap": gap, "validation_loss_ratio": rise, "best_epoch": losses.index(min(losses)) + 1},
    )
