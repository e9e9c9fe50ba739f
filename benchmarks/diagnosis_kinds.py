"""Kinds of trainings of the benchmark of diagnoses: with one fault each, and healthy ones."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.options import HOME
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.recipe import Recipe, TrialConfig
from inklab.training.batches import TensorSet, TrainingData, standardization
from inklab.training.recipe_files import read_recipe_file

SOURCE = HOME / "faulty_networks.py"
NETWORKS = ("mlp", "cnn", "compact", "user")
DENOISERS = ("autoencoder", "unet", "user-denoiser")
BUILT_IN = "built-in"
"""The network of kinds that have their own."""

Fields = dict[str, Any]
Damage = Callable[[TrainingData], TrainingData]
HEALTHY: Fields = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 64, "epochs": 3}
DENOISE: Fields = {
    "objective": "reconstruct", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 64, "epochs": 3,
    "corruption": {"name": "salt_and_pepper", "strength": 0.4},
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        expected: diagnoses of which one has to be made; () for healthy trainings.
        fault: of the network.
        recipe: fields that differ from `HEALTHY`, of denoisers from `DENOISE`.
        normalize: in front of the network; None: by the mean and standard deviation of the training images.
        damage: what is done to the data.
        built_in: the only network that is trained; None: each of `NETWORKS` or of `DENOISERS`.
        is_denoiser: whether denoisers are trained.
    """

    expected: tuple[str, ...]
    fault: str = ""
    recipe: Fields = field(default_factory=dict)
    normalize: NormalizeConfig | None = field(default_factory=NormalizeConfig)
    damage: Damage | None = None
    built_in: NetworkConfig | None = None
    is_denoiser: bool = False

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that are trained."""
        return (BUILT_IN,) if self.built_in else DENOISERS if self.is_denoiser else NETWORKS

    def config(self, network: str, data: TrainingData) -> TrialConfig:
        """How one of the networks is trained on some data."""
        function = "faulty_denoiser" if self.is_denoiser else "faulty"
        defaults = DENOISE if self.is_denoiser else HEALTHY
        return TrialConfig(
            network=self.built_in or NetworkConfig.of(f"{SOURCE}:{function}", base=network, fault=self.fault),
            normalize=self.normalize or standardization(data.train),
            recipe=Recipe.parse({**defaults, **self.recipe}), precision="fp32",
        )  # fmt: skip


def _denoiser(*expected: str, fault: str = "", damage: Damage | None = None, **recipe: Any) -> Kind:
    return Kind(expected, fault, recipe, damage=damage, is_denoiser=True)


def _of_recipe_file(name: str, network: NetworkConfig | None = None, **changes: object) -> Kind:
    """A healthy training by a built-in recipe, of the network that it was made for."""
    file = read_recipe_file(name)
    normalize = None if file.normalize == "dataset" else NormalizeConfig()
    return Kind(
        (), recipe=file.merged(changes), normalize=normalize, built_in=file.network or network,
        is_denoiser=file.recipe.objective == "reconstruct",
    )  # fmt: skip


def _shuffled(data: TrainingData) -> TrainingData:
    """All labels of training and validation images in another order."""

    def shuffle(images: TensorSet) -> TensorSet:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
        return replace(images, labels=images.labels[order])

    return replace(data, train=shuffle(data.train), validation=shuffle(data.validation))


def _off_by_one(data: TrainingData) -> TrainingData:
    """Training labels that are one class further than those of the test images."""
    classes = len(data.labels)

    def move(images: TensorSet) -> TensorSet:
        return replace(images, labels=(images.labels + 1) % classes)

    return replace(data, train=move(data.train), validation=move(data.validation))


def _pixels(data: TrainingData, change: Callable[[torch.Tensor], torch.Tensor]) -> TrainingData:
    train, validation, test = (
        replace(part, pixels=change(part.pixels)) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


def _sixteen(data: TrainingData) -> TrainingData:
    """Pixels of 0 to 16."""
    return _pixels(data, lambda pixels: pixels // 16)


def _binary(data: TrainingData) -> TrainingData:
    """Pixels of 0 and 1."""
    return _pixels(data, lambda pixels: (pixels > 127).to(torch.uint8))


def _imbalanced(data: TrainingData) -> TrainingData:
    """One image in a hundred of five classes, in training and validation."""

    def thin(images: TensorSet) -> TensorSet:
        kept = (images.labels >= 5) | (torch.arange(len(images)) % 100 == 0)
        return TensorSet(images.pixels[kept], images.labels[kept])

    return replace(data, train=thin(data.train), validation=thin(data.validation))


def _few(data: TrainingData) -> TrainingData:
    """200 training images."""
    return replace(data, train=_first(data.train, 200))


def _two_classes(data: TrainingData) -> TrainingData:
    """The images of the first two classes."""

    def keep(images: TensorSet) -> TensorSet:
        kept = images.labels < 2
        return TensorSet(images.pixels[kept], images.labels[kept])

    return TrainingData(keep(data.train), keep(data.validation), keep(data.test), data.labels[:2])


def _first(images: TensorSet, count: int) -> TensorSet:
    return TensorSet(images.pixels[:count], images.labels[:count])


LONG: Fields = {"epochs": 150, "batch_size": 20, "optimizer": "adam", "learning_rate": 1e-3}
ADAM: Fields = {"optimizer": "adam", "learning_rate": 1e-3}
SGD = read_recipe_file("sgd").fields
KINDS: dict[str, Kind] = {
    "scaled-twice-normalize": Kind(("inputs-scaled-twice",), normalize=NormalizeConfig(std=255.0)),
    "scaled-twice-network": Kind(("inputs-scaled-twice",), "divides"),
    "not-scaled": Kind(("inputs-too-large",), "multiplies"),
    "pixels-16": Kind(("images-nearly-black",), damage=_sixteen),
    "pixels-binary": Kind(("images-nearly-black",), damage=_binary),
    "labels-shuffled": Kind(("labels-unrelated",), damage=_shuffled),
    "labels-off-by-one": Kind(("labels-permuted",), damage=_off_by_one),
    "loss-off-by-one": Kind(("labels-permuted",), recipe={"objective": f"{SOURCE}:loss_off_by_one"}),
    "imbalance": Kind(("class-imbalance",), damage=_imbalanced),
    "softmax-twice": Kind(("outputs-are-probabilities",), "softmax"),
    "sigmoid-outputs": Kind(("outputs-are-probabilities",), "sigmoid"),
    "relu-outputs": Kind(("relu-on-outputs",), "relu"),
    "activation-removed": Kind(
        ("loss-without-softmax",), recipe={"objective": f"{SOURCE}:loss_of_probabilities"}
    ),
    "nll-of-outputs": Kind(("loss-without-softmax",), recipe={"objective": f"{SOURCE}:loss_nll_of_outputs"}),
    "dead-units": Kind(("dead-units",), "dead"),
    "zero-first-layer": Kind(("zero-weights",), "zero-weights"),
    "zero-weights": Kind(("zero-weights",), "zero-all"),
    "constant-weights": Kind(("zero-weights",), "constant-weights"),
    "large-weights": Kind(("exploding-gradients",), "large-weights"),
    "linear": Kind(("network-is-linear",), "linear"),
    "deep-sigmoid": Kind(("vanishing-gradients",), "deep-sigmoid"),
    "rate-too-high": Kind(("learning-rate-too-high",), recipe={"learning_rate": 20.0}),
    "rate-far-too-high": Kind(("learning-rate-too-high",), recipe={"learning_rate": 1e4}),
    "rate-too-low": Kind(("learning-rate-too-low",), recipe={"learning_rate": 1e-5}),
    "rate-0.001": Kind(
        ("learning-rate-too-low",), recipe={"learning_rate": 1e-3, "batch_size": 128, "epochs": 1}
    ),
    "adam-rate-too-high": Kind(
        ("learning-rate-too-high",), recipe={"optimizer": "adam", "learning_rate": 3.0}
    ),
    "l2-too-strong": Kind(("l2-too-strong",), recipe={"l2": 0.3}),
    "dropout-too-strong": Kind(("dropout-too-strong",), "dropout"),
    "batch-norm-tiny-batches": Kind(
        ("batch-norm-tiny-batches",), "batch-norm", {"batch_size": 2, "epochs": 1}
    ),
    "few-images": Kind(("overfitting",), recipe=LONG, damage=_few),
    "denoiser-scaled-twice": _denoiser("inputs-scaled-twice", fault="divides"),
    "denoiser-not-scaled": _denoiser("inputs-too-large", fault="multiplies"),
    "denoiser-pixels-16": _denoiser("images-nearly-black", damage=_sixteen),
    "denoiser-sigmoid-twice": _denoiser("outputs-are-probabilities", fault="sigmoid"),
    "denoiser-sigmoid-missing": _denoiser("loss-without-sigmoid", objective=f"{SOURCE}:loss_of_pixels"),
    "denoiser-relu-outputs": _denoiser("relu-on-outputs", fault="relu"),
    "denoiser-zero-weights": _denoiser("zero-weights", fault="zero-all"),
    "denoiser-dead-units": _denoiser("dead-units", fault="dead"),
    "denoiser-large-weights": _denoiser("exploding-gradients", fault="large-weights"),
    "denoiser-rate-too-high": _denoiser("learning-rate-too-high", learning_rate=3.0),
    "denoiser-rate-far-too-high": _denoiser("learning-rate-too-high", learning_rate=1e6, optimizer="sgd"),
    "denoiser-rate-too-low": _denoiser("learning-rate-too-low", learning_rate=1e-6),
    "healthy-denoiser": _denoiser(),
    "healthy-denoiser-1-epoch": _denoiser(epochs=1),
    "healthy-denoiser-long": _denoiser(epochs=10),
    "healthy-denoiser-strong-noise": _denoiser(
        corruption={"name": "salt_and_pepper", "strength": [0.0, 0.9]}, eval_strength=0.4
    ),
    "healthy-denoiser-clean": _denoiser(corruption=None),
    "healthy-denoise": _of_recipe_file("denoise", NetworkConfig.of("autoencoder"), epochs=10),
    "healthy-denoiser-best": _of_recipe_file("denoiser-best", epochs=3),
    "healthy": Kind(()),
    "healthy-1-epoch": Kind((), recipe={"epochs": 1}),
    "healthy-long": Kind((), recipe={"epochs": 12}),
    "healthy-small-batches": Kind((), recipe={"epochs": 1, "batch_size": 16, "learning_rate": 0.03}),
    "healthy-adam": Kind((), recipe=ADAM),
    "healthy-adamw": Kind((), recipe={**ADAM, "optimizer": "adamw", "weight_decay": 0.01}, normalize=None),
    "healthy-l2": Kind((), recipe={"l2": 1e-4, "momentum": 0.9, "learning_rate": 0.02}),
    "healthy-cosine": Kind(
        (), recipe={"schedule": "cosine", "warmup": 0.1, "momentum": 0.9, "nesterov": True,
                    "learning_rate": 0.03},
    ),
    "healthy-smoothed": Kind((), recipe={"label_smoothing": 0.1, "clip_norm": 1.0, "ema_decay": 0.98}),
    "healthy-augmented": Kind((), recipe={"augmentation": {"shift": 1, "rotation": 10}, "epochs": 5}),
    "healthy-noise": Kind(
        (), recipe={**ADAM, "corruption": {"name": "salt_and_pepper", "strength": [0.0, 0.3]}, "epochs": 5}
    ),
    "healthy-early-stopping": Kind((), recipe={**ADAM, "epochs": 20, "early_stopping": {"patience": 3}}),
    "healthy-two-classes": Kind((), damage=_two_classes),
    "healthy-500-images": Kind(
        (), recipe={"epochs": 10, "batch_size": 32},
        damage=lambda data: replace(data, train=_first(data.train, 500)),
    ),
    "healthy-mlp-best": _of_recipe_file("mlp-best"),
    "healthy-cnn-fast": _of_recipe_file("cnn-fast"),
    "healthy-cnn-best": _of_recipe_file("cnn-best", epochs=4),
    "healthy-mlp-64-64": Kind((), recipe=SGD, built_in=NetworkConfig.of("mlp", hidden=[64, 64])),
    "healthy-mlp-500-300": Kind((), recipe=SGD, built_in=NetworkConfig.of("mlp", hidden=[500, 300])),
    "healthy-cnn": Kind((), recipe=SGD, built_in=NetworkConfig.of("cnn")),
    "healthy-softmax-regression": Kind((), recipe=SGD, built_in=NetworkConfig.of("mlp", hidden=[])),
}  # fmt: skip
"""Kinds of trainings; three of them are mutants of DeepCrime (Humbatova, Jahangirova and Tonella 2021)."""

MUTANTS = ("zero-first-layer", "activation-removed", "rate-0.001")
