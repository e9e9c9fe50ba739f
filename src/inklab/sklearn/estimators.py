"""The estimators themselves: they read images, train replicates in this process, and are pickled."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped, UInt8
from joblib import effective_n_jobs
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn.base import ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from inklab.data.conversion import channels_first
from inklab.data.dataset import stratified_sample
from inklab.data.image_layout import suitable_preprocessing
from inklab.errors import ConfigError, InklabError
from inklab.evaluation.scores import classification_scores, predict_in_batches, reconstruction_scores
from inklab.metrics import Task
from inklab.model import TrainedModel
from inklab.networks.layers import NormalizedModel, for_inference
from inklab.records.components import NetworkConfig, Normalization
from inklab.records.plan import Trial
from inklab.records.recipe import CorruptionConfig, Recipe, TrialConfig
from inklab.seeding import Seed
from inklab.sklearn.hyperparameters import Hyperparameters
from inklab.training.batches import TrainingData, evaluation_inputs, to_tensor_set
from inklab.training.population import PopulationSpec, build_normalized
from inklab.training.preflight import preflight
from inklab.training.trainer import TrainingResult, train_population
from inklab.usercode import reference

__all__ = ["ImageClassifier", "ImageDenoiser"]

Images = Shaped[np.ndarray, "n c h w"]
Pixels = UInt8[np.ndarray, "n c h w"]

CHUNK = 4096  # images converted at once, so that a large array is not copied as floats
NOT_VALIDATED = "no_validation"  # scikit-learn's own mark of data without labels


class _ImageEstimator(Hyperparameters):
    """What both estimators share: reading images, training replicates, keeping and pickling networks."""

    image_shape_: tuple[int, int, int]
    pixel_range_: tuple[float, float]
    config_: TrialConfig
    networks_: list[NormalizedModel]
    loss_curve_: Float[np.ndarray, "replicates epochs"]
    replicate_scores_: Float[np.ndarray, " replicates"]
    seed_: int

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # scikit-learn tests only estimators that take flat rows, and warns of dimensions that are not tagged.
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = True
        return tags

    # ------------------------------------------------------------ images

    def _read(self, X: object, y: object = NOT_VALIDATED, *, reset: bool) -> tuple[Images, object]:
        """Validate images of any layout, as scikit-learn validates rows: channels first, values as given."""
        rows, layout = _rows(X)
        validated = validate_data(self, rows, y, reset=reset)
        values, y = (validated, None) if isinstance(y, str) else validated
        if reset:
            self._flat_layout = layout or _layout_of_rows(values.shape[1], self.image_shape)
        images = channels_first(values.reshape(len(values), *(layout or self._flat_layout)), "X")
        shape = cast(tuple[int, int, int], images.shape[1:])
        if reset:
            self.image_shape_ = shape
        elif shape != self.image_shape_:
            raise ValueError(
                f"X has images of {shape} (channels, height, width), but {type(self).__name__} was fitted on "
                f"{self.image_shape_}"
            )
        return images, y

    def _learn_range(self, images: Images) -> None:
        """Which values are black and white."""
        if self.pixel_range is not None:
            low, high = map(float, self.pixel_range)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(
                    f"pixel_range is {self.pixel_range}; give two numbers, the lower first", key="pixel_range"
                )
        elif images.dtype == np.uint8:
            low, high = 0.0, 255.0
        else:
            low, high = float(images.min()), float(images.max())
        self.pixel_range_ = low, high

    def _to_pixels(self, images: Images) -> Pixels:
        """Values as bytes: the range that was learned becomes 0 to 255; what is outside is clipped."""
        low, high = self.pixel_range_
        if images.dtype == np.uint8 and (low, high) == (0, 255):
            return np.ascontiguousarray(images)
        span = (high - low) or 1.0
        pixels = np.empty(images.shape, np.uint8)
        for start in range(0, len(images), CHUNK):
            share = (images[start : start + CHUNK].astype(np.float64) - low) / span
            pixels[start : start + CHUNK] = np.rint(share * 255).clip(0, 255)
        return pixels

    @property
    def models_(self) -> list[TrainedModel]:
        """Each of the networks as a model of inklab, to save, export or serve.

        Its images go from 0 (black) to 1 (white), whatever they are in `X`.

        Raises:
            NotFittedError: it was not fitted.
        """
        check_is_fitted(self)
        labels = tuple(map(str, getattr(self, "classes_", ["image"])))
        return [
            TrainedModel.of(net, self.config_.network, self._task, labels, self._preprocessing)
            for net in self.networks_
        ]

    def _mean_output(
        self, inputs: Pixels | Float[Tensor, "n c h w"], activation: Callable[[Tensor], Tensor]
    ) -> Float64[Tensor, "n ..."]:
        """The mean over replicates of what an activation makes of their logits."""
        with _threads(self.n_jobs):
            outputs = (activation(predict_in_batches(net, inputs).double()) for net in self.networks_)
            return sum(outputs, torch.zeros(())) / len(self.networks_)

    # ------------------------------------------------------------ training

    def _train(self, images: Images, labels: Int64[np.ndarray, " n"], n_classes: int) -> None:
        """Train all replicates as one population where the preflight allows that."""
        self._learn_range(images)
        pixels = self._to_pixels(images)
        # A network's random stream is its replicate's, so that replicate k is the k-th trial of a run.
        if isinstance(self.random_state, int | np.integer):
            self.seed_ = int(self.random_state)
        else:
            self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._preprocessing = suitable_preprocessing(pixels)
        data = self._split(pixels, labels, n_classes)
        config = self._config(data, n_classes)
        with _threads(self.n_jobs):
            traits = preflight(config, self.image_shape_, n_classes, len(data.train))
            trials = [Trial(f"replicate-{k}", config, k) for k in range(self.n_replicates)]
            stacked = traits.vmappable and not traits.has_convolutions
            results = train_population(
                PopulationSpec(trials, stacked, traits.uses_global_rng, self.seed_), data
            )
            self._keep(config, results, data)

    def _split(self, pixels: Pixels, labels: Int64[np.ndarray, " n"], n_classes: int) -> TrainingData:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction is {self.validation_fraction}; allowed: 0 up to but not including 1",
                key="validation_fraction",
            )
        count = min(round(self.validation_fraction * len(labels)), len(labels) - 1)
        held_out = np.zeros(len(labels), bool)
        held_out[stratified_sample(labels, count, Seed(self.seed_) / "split")] = True
        train, validation, test = (
            to_tensor_set(pixels[part], labels[part]) for part in (~held_out, held_out, slice(0))
        )
        return TrainingData(train, validation, test, tuple(map(str, range(n_classes))))

    def _keep(self, config: TrialConfig, results: Sequence[TrainingResult], data: TrainingData) -> None:
        """Keep the networks that did not diverge, and what became of all of them."""
        reasons = [result.divergence for result in results if result.divergence]
        advice = f"lower learning_rate, which is {config.recipe.learning_rate:g}"
        if len(reasons) == len(results):
            raise InklabError(f"the training diverged: {reasons[0]}; {advice}", key="learning_rate")
        if reasons:
            warnings.warn(
                f"{len(reasons)} of {len(results)} replicates diverged, and do not count: "
                f"{reasons[0]}; {advice}",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.config_, self._network = config, self.network
        self.networks_ = [result.net for result in results if not result.divergence]
        self.loss_curve_ = np.full((len(results), config.recipe.epochs), np.nan)
        for row, result in zip(self.loss_curve_, results, strict=True):
            row[: len(result.history.train_loss)] = result.history.train_loss
        if len(data.validation):
            scores = [
                np.nan if result.divergence else self._validation_score(result.net, data)
                for result in results
            ]
            self.replicate_scores_ = np.array(scores)
        elif hasattr(self, "replicate_scores_"):
            del self.replicate_scores_  # of an earlier fit

    def _validation_score(self, net: NormalizedModel, data: TrainingData) -> float:
        raise NotImplementedError

    # ------------------------------------------------------------ pickling

    def __getstate__(self) -> dict[str, object]:
        state = dict(super().__getstate__())
        if "networks_" in state:  # as safetensors: bytes that no library has to unpickle
            state["networks_"] = [
                save_tensors({name: value.contiguous() for name, value in net.state_dict().items()})
                for net in self.networks_
            ]
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(dict(state))
        if callable(self.corruption):  # a function is known to a process once its reference is made
            reference(self.corruption)
        if "networks_" in state:
            self.networks_ = [self._restore(raw) for raw in cast(list[bytes], state["networks_"])]

    def _restore(self, weights: bytes) -> NormalizedModel:
        config = self.config_
        if callable(self._network):  # as above
            network = NetworkConfig.parse({**config.network.kwargs, "name": self._network})
            config = config.model_copy(update={"network": network})
        classes = len(getattr(self, "classes_", [0]))
        net = build_normalized(config, self.image_shape_, classes, Seed(0))
        net.load_state_dict(load_tensors(weights))
        return for_inference(net)


class ImageClassifier(ClassifierMixin, _ImageEstimator):  # type: ignore[misc]
    """A neural network that classifies images, or several whose probabilities are averaged.

    **Values.** inklab's networks are given images as bytes. `fit` learns which values are black and white,
    and every later image is mapped the same way, clipped: 0 and 255 of uint8, the smallest and the largest
    value of `X` of any other type. So images may go from 0 to 255, 0 to 16 or 0 to 1, as they are; rounding
    moves a value by at most 0.2% of the range. All pixels have one range, since they have one unit: scaling
    each by its own standard deviation, as `StandardScaler` does, spends the range on pixels that are hardly
    ever used.

    **Reproducible.** The same data, hyperparameters and integer `random_state` give the same predictions, to
    the bit on one machine, in any process. Replicate k is trial k of a run with the same images, recipe and
    seed, to the bit if that is in fp32 and not compiled.

    **Defaults** suit some hundred to ten thousand images: Adam with a learning rate of 0.003, 30 epochs,
    batches of 64. For more images name a recipe, such as `recipe="cnn-fast"`.

    Args:
        network: a registered name (`inklab list networks`), `file.py:Name`, or a class or function that makes
            an `nn.Module`; None for the recipe's, or "mlp".
        network_params: keyword arguments of the network, such as `{"hidden": [100]}`.
        recipe: a name (`inklab list recipes`), the path of a TOML file, or an `inklab.Recipe`; None for the
            defaults above; a dictionary of fields for the defaults with these in place of theirs, such as
            `{"ema_decay": 0.99}`. The arguments down to `strength` replace fields where they are not None.
        objective: what is minimized: "classify", "classify-smoothed", ....
        optimizer: "sgd", "adam", "adamw" or "muon". Another one than the recipe's has its own default of
            the learning rate.
        learning_rate: at its peak, if the schedule moves it; above 0.
        momentum: of SGD and Muon, in [0, 1).
        weight_decay: of AdamW.
        schedule: of the learning rate: "constant", "cosine", "linear" or "one-cycle".
        warmup: share of all steps in which the learning rate rises to its peak, in [0, 1).
        epochs: passes over the training images, at least 1.
        batch_size: images a step, at least 1.
        l2: strength of `l2 * sum(w ** 2)`; torch's `weight_decay` is twice this number.
        clip_norm: most that the gradient's norm may be; a longer gradient is scaled down to it.
        label_smoothing: share of each target that is spread evenly over all classes, in [0, 1].
        augmentation: an `inklab.Augmentation`, a dictionary such as `{"shift": 1, "rotation": 10}`, or a
            function.
        class_weight: of the images in the loss, as in scikit-learn: "balanced", or `{class: weight}`, above
            0; a class that is not in it has the weight 1. None for the recipe's, or equal weights.
        early_stopping: whether each replicate ends once its validation loss does not improve, with the
            weights of its best epoch; needs a `validation_fraction`. None for the recipe's, or False.
        n_iter_no_change: epochs without improvement before it ends; None for the recipe's, or 5.
        tol: by how much the validation loss must improve, in nats; None for the recipe's, or 0.
        corruption: what training images are corrupted with: a registered name (`inklab list corruptions`) or
            a function, together with `strength`; None for the recipe's, or none.
        strength: of the corruption, in its unit; a number, or `(lowest, highest)`.
        normalize: in front of the network: "dataset" (mean and standard deviation of the training images),
            "none", or `{"mean": 0.5, "std": 0.5}` of images in [0, 1]; None for the recipe's, or "dataset".
        n_replicates: networks that are trained, from different initial weights and orders of the images.
        validation_fraction: share of `X` on which replicates are scored and not trained, in [0, 1); each
            class has its share. Early stopping uses it.
        image_shape: of one row of `(n, p)`: `(height, width)`, `(channels, height, width)` or
            `(height, width, channels)`. None: a square; one row of pixels, if p is not a square number.
        pixel_range: the values of black and white; None: learned from `X`, see above.
        n_jobs: threads, as in scikit-learn; None is one. More threads change the last bits, and pay off only
            for convolutions.
        random_state: an integer for reproducible results; a `RandomState`; None for others in each fit.

    Attributes:
        classes_: `(k,)` the labels in ascending order, of their own type.
        n_features_in_: pixels times channels.
        feature_names_in_: of the columns, if `X` was a table with names.
        image_shape_: channels, height, width.
        pixel_range_: the values of black and white.
        config_: network, normalization and recipe in full.
        networks_: of each replicate that did not diverge, an `nn.Module`: images `(n, c, h, w)` in [0, 1] to
            logits.
        models_: the same networks as `TrainedModel`, to save, export or serve.
        loss_curve_: `(n_replicates, epochs)` mean training loss of each epoch, in nats; NaN after the end of
            a replicate that stopped early or diverged.
        replicate_scores_: `(n_replicates,)` accuracy of each on the validation part, NaN if it diverged; only
            with a `validation_fraction`.
        seed_: the root seed; `random_state`, if that is an integer.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.model_selection import cross_val_score
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = ImageClassifier("mlp", epochs=10, random_state=0)
        >>> bool(cross_val_score(classifier, X[:600], y[:600], cv=3).mean() > 0.85)
        True
    """

    _task: ClassVar[Task] = "classification"
    _default_network: ClassVar[str] = "mlp"
    _default_normalize: ClassVar[Normalization] = "dataset"
    _default_recipe: ClassVar[Recipe] = Recipe(optimizer="adam", learning_rate=3e-3, epochs=30, batch_size=64)

    classes_: Shaped[np.ndarray, " k"]

    def fit(self, X: object, y: object) -> "ImageClassifier":
        """Train on labeled images.

        Args:
            X: `(n, p)` rows of pixels, `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` with c 1 or 3; numbers.
            y: `(n,)` labels of any type that can be sorted; at least two classes.

        Raises:
            ValueError: X or y are not as documented; in scikit-learn's words.
            ConfigError: a hyperparameter is outside its range, or names something that does not exist.
            ModelMismatchError: the network does not fit these images.
            InklabError: every replicate diverged.
        """
        images, y = self._read(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(cast(np.ndarray, y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]}; a classifier needs two")
        self._train(images, labels.astype(np.int64), len(self.classes_))
        return self

    def predict(self, X: object) -> Shaped[np.ndarray, " n"]:
        """The most probable class of each image, `(n,)`; the first of equals."""
        most_probable = self.predict_proba(X).argmax(axis=1)
        return cast(np.ndarray, self.classes_[most_probable])

    def predict_proba(self, X: object) -> Float[np.ndarray, "n k"]:
        """Class probabilities `(n, k)` in float32, in the order of `classes_`; their mean over replicates.

        Raises:
            NotFittedError: it was not fitted.
            ValueError: images of another shape than in `fit`.
        """
        check_is_fitted(self)
        pixels = self._to_pixels(self._read(X, reset=False)[0])
        return self._mean_output(pixels, partial(torch.softmax, dim=1)).float().numpy()

    def _validation_score(self, net: NormalizedModel, data: TrainingData) -> float:
        return classification_scores(net, data.validation.pixels, data.validation.labels).accuracy


class ImageDenoiser(OneToOneFeatureMixin, TransformerMixin, _ImageEstimator):  # type: ignore[misc]
    """A neural network that removes noise from images, or several whose outputs are averaged; a transformer.

    `fit(X)` takes clean images, corrupts them anew in every step and learns to undo that; `transform(X)`
    denoises. What it returns has the layout and the units of `X`. It has the arguments and attributes of
    `ImageClassifier`, except for those below and `classes_`. There are no labels for `class_weight` and
    `label_smoothing`: both are refused.

    Args:
        network: None for the recipe's, or "autoencoder".
        recipe: None for Adam with a learning rate of 0.003, 30 epochs, batches of 64.
        objective: "reconstruct", or another one for denoising.
        corruption: what it learns to undo; None for the recipe's, or salt-and-pepper noise on 40% of the
            pixels.
        normalize: None for the recipe's, or "none".

    Attributes:
        networks_: of each replicate that did not diverge, an `nn.Module`: images `(n, c, h, w)` in [0, 1] to
            logits of pixels.
        loss_curve_: `(n_replicates, epochs)` mean training loss of each epoch, in nats per pixel.
        replicate_scores_: `(n_replicates,)` PSNR of each on the validation part in dB, NaN if it diverged;
            only with a `validation_fraction`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, _ = load_digits(return_X_y=True)
        >>> denoiser = ImageDenoiser(corruption="salt_and_pepper", strength=0.2, epochs=5, random_state=0)
        >>> denoiser.fit(X[:500]).transform(X[500:510]).shape
        (10, 64)
    """

    _task: ClassVar[Task] = "denoising"
    _default_network: ClassVar[str] = "autoencoder"
    _default_normalize: ClassVar[Normalization] = "none"
    _default_recipe: ClassVar[Recipe] = Recipe(
        objective="reconstruct", optimizer="adam", learning_rate=3e-3, epochs=30, batch_size=64,
        corruption=CorruptionConfig(name="salt_and_pepper", strength=(0.4, 0.4)),
    )  # fmt: skip

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: object, y: object = None) -> "ImageDenoiser":
        """Train on clean images.

        Args:
            X: `(n, p)` rows of pixels, `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` with c 1 or 3; numbers.
            y: not used.

        Raises:
            ValueError: X is not as documented; in scikit-learn's words.
            ConfigError: a hyperparameter is outside its range, or names something that does not exist.
            ModelMismatchError: the network does not fit these images.
            InklabError: every replicate diverged.
        """
        images, _ = self._read(X, reset=True)
        self._train(images, np.zeros(len(images), np.int64), 1)
        return self

    def transform(self, X: object) -> Float[np.ndarray, "n ..."]:
        """Denoise images; the layout, range and float type of `X` (other types become float32).

        Raises:
            NotFittedError: it was not fitted.
            ValueError: images of another shape than in `fit`.
        """
        check_is_fitted(self)
        images, _ = self._read(X, reset=False)
        low, high = self.pixel_range_
        denoised = low + (high - low) * self._mean_output(self._to_pixels(images), torch.sigmoid).numpy()
        dtype = images.dtype if images.dtype.kind == "f" else np.float32
        layout = _rows(X)[1]
        if len(layout or self._flat_layout) == 3 and (layout or self._flat_layout) != self.image_shape_:
            denoised = denoised.transpose(0, 2, 3, 1)
        return denoised.reshape(len(denoised), *(layout or [-1])).astype(dtype)

    def score(self, X: object, y: object = None) -> float:
        """Peak signal-to-noise ratio, in dB, of clean images that are corrupted as in training and denoised.

        Higher is better, so that a search can choose by it. The noise is the same in every call.

        Args:
            X: clean images, as in `fit`.
            y: not used.
        """
        check_is_fitted(self)
        pixels = self._to_pixels(self._read(X, reset=False)[0])
        images = to_tensor_set(pixels, np.zeros(len(pixels), np.int64))
        inputs = evaluation_inputs(
            images, self.config_.recipe.eval_corruption, Seed(self.seed_) / "test noise"
        )

        def mean_logits(batch: Tensor) -> Tensor:
            outputs = [net(batch).double().sigmoid() for net in self.networks_]
            return torch.stack(outputs).mean(dim=0).logit(eps=1e-12)

        with _threads(self.n_jobs):
            return reconstruction_scores(mean_logits, inputs, images.all_images).psnr

    def _validation_score(self, net: NormalizedModel, data: TrainingData) -> float:
        seed = Seed(self.seed_) / "validation noise"
        inputs = evaluation_inputs(data.validation, self.config_.recipe.eval_corruption, seed)
        return reconstruction_scores(net, inputs, data.validation.all_images).psnr


def _rows(X: object) -> tuple[object, tuple[int, ...]]:
    """Images as rows of values, and the layout of one image; () if X has rows already, or is wrong."""
    array = X if hasattr(X, "ndim") else np.asarray(X)
    if array.ndim < 3:
        return X, ()
    images = np.asarray(array)
    return images.reshape(len(images), math.prod(images.shape[1:])), images.shape[1:]


def _layout_of_rows(n_features: int, image_shape: Sequence[int] | None) -> tuple[int, ...]:
    """How a row of pixels is an image: as the user says, a square, or a single row."""
    if image_shape is None:
        side = math.isqrt(n_features)
        return (side, side) if side * side == n_features else (1, n_features)
    layout = tuple(image_shape)
    if len(layout) not in (2, 3) or math.prod(layout) != n_features:
        raise ConfigError(
            f"image_shape is {layout}, but X has {n_features} features; give (height, width), "
            "(channels, height, width) or (height, width, channels) with that product",
            key="image_shape",
        )
    return layout


@contextmanager
def _threads(n_jobs: int | None) -> Iterator[None]:
    """Compute with so many threads: the last bits depend on it, and parallel jobs share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(effective_n_jobs(n_jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)
