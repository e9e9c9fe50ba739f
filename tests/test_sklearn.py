"""The estimators: scikit-learn's own checks, layouts and ranges of images, equality with a run's trials."""

import copy
import inspect
import io
import math
import pickle
import pickletools
import re
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import inklab
from inklab.errors import ConfigError, InklabError, ModelMismatchError, UnknownNameError
from inklab.evaluation.scores import predict_in_batches
from inklab.model import TrainedModel
from inklab.records.recipe import Augmentation, EarlyStopping, Recipe
from inklab.sklearn import ImageClassifier, ImageDenoiser
from inklab.sklearn.hyperparameters import RECIPE_ARGUMENTS

FAST = {"epochs": 3, "random_state": 0}


@parametrize_with_checks([ImageClassifier(epochs=8, learning_rate=0.01), ImageDenoiser(epochs=2)])
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def rows(digits):
    """200 images as rows of 144 bytes, and 100 more, with their labels."""
    pixels, labels = digits
    flat = pixels.reshape(len(pixels), -1)
    return flat[:200], labels[:200], flat[200:], labels[200:]


@pytest.fixture(scope="module")
def fitted(rows):
    """A classifier of three replicates; a third of the images is its validation part."""
    X, y, _, _ = rows
    return ImageClassifier(n_replicates=3, validation_fraction=0.3, **FAST).fit(X, y)


@pytest.fixture(scope="module")
def denoiser(rows):
    """A denoiser that has seen 10 epochs."""
    return ImageDenoiser(epochs=10, n_replicates=2, validation_fraction=0.2, random_state=0).fit(rows[0])


def probabilities(X, y, test, **params):
    """What a new classifier says about test images."""
    return ImageClassifier(**{**FAST, **params}).fit(X, y).predict_proba(test)


class TestImages:
    @pytest.mark.parametrize("shape", [(12, 12), (1, 12, 12), (12, 12, 1)])
    def test_the_layout_makes_no_difference(self, rows, shape):
        X, y, test, _ = rows
        expected = probabilities(X, y, test)
        stacked, stacked_test = X.reshape(-1, *shape), test.reshape(-1, *shape)
        np.testing.assert_array_equal(probabilities(stacked, y, stacked_test), expected)
        np.testing.assert_array_equal(probabilities(stacked, y, test), expected)
        np.testing.assert_array_equal(probabilities(X, y, stacked_test), expected)

    def test_rows_of_color_images_are_read_as_image_shape_says(self, rows):
        colored = np.stack([rows[0], 255 - rows[0], rows[0] // 2], axis=1).reshape(-1, 3, 12, 12)
        y, last = rows[1], colored.transpose(0, 2, 3, 1)
        expected = probabilities(colored, y, colored, network="cnn", epochs=1)
        for X, shape in (
            (last, None), (last.reshape(200, -1), (12, 12, 3)), (colored.reshape(200, -1), (3, 12, 12)),
        ):  # fmt: skip
            actual = probabilities(X, y, X, network="cnn", epochs=1, image_shape=shape)
            np.testing.assert_array_equal(actual, expected)

    def test_rows_that_are_no_square_are_a_single_row_of_pixels(self, rows):
        assert ImageClassifier(**FAST).fit(rows[0][:, :140], rows[1]).image_shape_ == (1, 1, 140)
        shaped = ImageClassifier(image_shape=(10, 14), **FAST).fit(rows[0][:, :140], rows[1])
        assert shaped.image_shape_ == (1, 10, 14) and shaped.n_features_in_ == 140

    def test_other_shapes_are_refused(self, rows, fitted):
        X, y, test, _ = rows
        with pytest.raises(ConfigError, match=r"image_shape is \(9, 9\), but X has 144 features"):
            ImageClassifier(image_shape=(9, 9)).fit(X, y)
        with pytest.raises(ValueError, match="X has 143 features, but ImageClassifier is expecting 144"):
            fitted.predict(test[:, 1:])
        with pytest.raises(ValueError, match=r"X has images of \(1, 9, 16\) .* was fitted on \(1, 12, 12\)"):
            fitted.predict(test.reshape(-1, 9, 16))
        with pytest.raises(NotFittedError):
            ImageClassifier().predict(test)


class TestValues:
    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x.astype(np.int64), lambda x: x.astype(np.float32), lambda x: x / 255,
            lambda x: x / 255 * 16, lambda x: x / 100 - 7, lambda x: x * 1e-9,
        ],
    )  # fmt: skip
    def test_range_and_type_make_no_difference(self, rows, change):
        X, y, test, _ = rows
        X, test = X.copy(), test
        X[0, :2] = 0, 255  # so that the range is that of bytes
        np.testing.assert_array_equal(probabilities(change(X), y, change(test)), probabilities(X, y, test))

    def test_values_beyond_the_range_are_clipped(self, rows):
        X, y, test, _ = rows
        X = X / 255
        classifier = ImageClassifier(pixel_range=(0.0, 1.0), **FAST).fit(X, y)
        beyond = np.where(test > 200, 3.0, test / 255)
        np.testing.assert_array_equal(
            classifier.predict_proba(beyond), classifier.predict_proba(beyond.clip(0, 1))
        )
        assert ImageClassifier(**FAST).fit(X, y).pixel_range_ == (X.min(), X.max())
        with pytest.raises(ConfigError, match="the lower first"):
            ImageClassifier(pixel_range=(1.0, 0.0)).fit(X, y)

    def test_a_constant_image_set_is_no_division_by_zero(self):
        X, y = np.full((20, 9), 3.5), np.arange(20) % 2
        assert np.isfinite(probabilities(X, y, X)).all()
        assert np.isfinite(ImageDenoiser(**FAST).fit(X).transform(X)).all()

    def test_dataset_statistics_are_those_of_the_images_that_are_trained_on(self, rows):
        X, y, _, _ = rows
        normalize = ImageClassifier(**FAST).fit(X, y).config_.normalize
        assert (normalize.mean, normalize.std) == pytest.approx((X.mean() / 255, X.std() / 255))
        own = ImageClassifier(normalize={"mean": 0.5, "std": 0.25}, **FAST).fit(X, y).config_.normalize
        assert (own.mean, own.std) == (0.5, 0.25)
        with pytest.raises(ConfigError, match="normalize is 'datset'"):
            ImageClassifier(normalize="datset").fit(X, y)


class TestClassifier:
    @pytest.mark.parametrize(
        "names", [list("jihgfedcba"), [-1, 1, *range(2, 10)], np.arange(10) + 0.0, range(90, 100)]
    )
    def test_labels_of_any_type_come_back(self, rows, names):
        X, y, test, labels = rows
        classes = np.asarray(list(names))
        classifier = ImageClassifier(epochs=10, random_state=0).fit(X, classes[y])
        assert classifier.classes_.dtype == classes.dtype
        np.testing.assert_array_equal(classifier.classes_, np.sort(classes))
        assert classifier.score(test, classes[labels]) > 0.8

    def test_two_classes_may_be_booleans(self, rows):
        X, y, test, labels = rows
        predicted = ImageClassifier(epochs=10, random_state=0).fit(X, y < 5).predict(test)
        assert predicted.dtype == bool and accuracy_score(labels < 5, predicted) > 0.8

    def test_one_class_is_refused(self, rows):
        with pytest.raises(ValueError, match="y has one class, a;"):
            ImageClassifier().fit(rows[0], ["a"] * 200)

    def test_probabilities_are_the_mean_over_the_networks(self, rows, fitted):
        images = rows[2].reshape(-1, 1, 12, 12)
        by_network = [predict_in_batches(net, images).double().softmax(1).numpy() for net in fitted.networks_]
        assert len(by_network) == 3 and not np.allclose(by_network[0], by_network[1])
        averaged = fitted.predict_proba(rows[2])
        np.testing.assert_allclose(averaged, np.mean(by_network, axis=0), rtol=1e-5)
        np.testing.assert_allclose(averaged.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(fitted.predict(rows[2]), fitted.classes_[averaged.argmax(axis=1)])

    def test_scores_of_replicates_are_accuracies_on_images_that_are_not_trained_on(self, rows, fitted):
        assert fitted.replicate_scores_.shape == (3,) and fitted.loss_curve_.shape == (3, 3)
        counts = fitted.replicate_scores_ * 60
        np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
        unvalidated = clone(fitted).fit(*rows[:2]).set_params(validation_fraction=0.0).fit(*rows[:2])
        assert not hasattr(unvalidated, "replicate_scores_")

    def test_it_learns_what_it_is_shown(self, rows):
        X, y, test, labels = rows
        assert ImageClassifier(random_state=0).fit(X, y).score(test, labels) > 0.9


class TestReproducible:
    def test_random_state_decides_to_the_bit(self, rows):
        X, y, test, _ = rows
        first = probabilities(X, y, test, network_params={"dropout": 0.2})
        torch.rand(1), np.random.rand()  # noqa: NPY002
        np.testing.assert_array_equal(probabilities(X, y, test, network_params={"dropout": 0.2}), first)
        assert not np.array_equal(probabilities(X, y, test, random_state=1), first)
        by_state = [probabilities(X, y, test, random_state=np.random.RandomState(5)) for _ in range(2)]
        np.testing.assert_array_equal(*by_state)
        assert not np.array_equal(*[probabilities(X, y, test, random_state=None) for _ in range(2)])

    def test_threads_are_the_estimators_own_affair(self, rows):
        expected = probabilities(*rows[:3])
        torch.set_num_threads(2)
        try:
            np.testing.assert_array_equal(probabilities(*rows[:3]), expected)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)

    @pytest.mark.parametrize("network", ["mlp", "cnn"])
    def test_a_replicate_is_the_same_without_the_others(self, rows, network):
        X, y, test, _ = rows
        params = {"network": network, "epochs": 1}
        single = ImageClassifier(**{**FAST, **params}).fit(X, y)
        first = ImageClassifier(n_replicates=3, **{**FAST, **params}).fit(X, y)
        assert same_weights(single.networks_[0], first.networks_[0])
        assert first.loss_curve_[0] == single.loss_curve_[0]

    def test_replicates_are_the_trials_of_a_run(self, rows, tmp_path):
        X, y, test, labels = rows
        y, labels = (np.where(part > 6, 0, part) for part in (y, labels))  # so that balancing has an effect
        images = {"train_images": X.reshape(-1, 12, 12), "test_images": test.reshape(-1, 12, 12)}
        np.savez(tmp_path / "glyphs.npz", train_labels=y, test_labels=labels, **images)
        settings = {"epochs": 12, "l2": 0.001, "clip_norm": 1.0, "label_smoothing": 0.1}
        stopping = {"patience": 2, "min_delta": 0.4}
        run = inklab.train(
            "mlp", tmp_path / "glyphs.npz",
            recipe={**settings, "class_weights": "balanced", "early_stopping": stopping},
            replicates=2, normalize="dataset", seed=7, overrides=["data.validation=40"],
            run_dir=tmp_path / "run", workers=1, threads=1, precision="fp32", compile="no", progress=False,
        )  # fmt: skip
        classifier = ImageClassifier(
            recipe="sgd", class_weight="balanced", early_stopping=True, n_iter_no_change=2, tol=0.4,
            n_replicates=2, validation_fraction=0.2, random_state=7, **settings,
        ).fit(X, y)  # fmt: skip
        trials = list(run.outcomes.values())
        for replicate, net in enumerate(classifier.networks_):
            model = run.model("mlp", replicate)
            assert same_weights(net, model.net)
            assert classifier.replicate_scores_[replicate] == model.manifest.metrics["validation_accuracy"]
            losses = list(trials[replicate].history.train_loss)
            assert len(losses) < 12, "it stops early"
            expected = losses + [np.nan] * (12 - len(losses))
            np.testing.assert_array_equal(classifier.loss_curve_[replicate], expected)


def same_weights(net, other):
    """Whether two networks have the same bits."""
    first, second = net.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class TestHyperparameters:
    def test_arguments_replace_fields_of_the_recipe(self, rows):
        params = {
            "objective": "classify-adversarial", "optimizer": "muon", "learning_rate": 0.04, "momentum": 0.8,
            "weight_decay": 0.0, "schedule": "linear", "warmup": 0.25, "epochs": 2, "batch_size": 50,
            "l2": 1e-4, "clip_norm": 2.0, "label_smoothing": 0.1, "augmentation": {"shift": 1},
        }  # fmt: skip
        assert params.keys() == set(RECIPE_ARGUMENTS)
        recipe = (
            ImageClassifier(corruption="salt_and_pepper", strength=0.1, **params)
            .fit(*rows[:2])
            .config_.recipe
        )
        assert recipe == Recipe.parse(
            {**params, "corruption": {"name": "salt_and_pepper", "strength": (0.1, 0.1)}}
        )

    def test_class_weights_are_given_by_class(self, rows):
        X, y, test, _ = rows
        names = np.array(list("jihgfedcba"))[y]
        named = ImageClassifier(class_weight={"b": 5, "a": np.float32(0.5)}, **FAST).fit(X, names)
        assert named.config_.recipe.class_weights == (0.5, 5.0, *[1.0] * 8)
        assert ImageClassifier(class_weight={0: 1.0}, **FAST).fit(X, y).predict_proba(test) == pytest.approx(
            probabilities(X, y, test), abs=1e-5
        )

    def test_early_stopping_is_that_of_the_recipe_unless_it_is_said(self, rows):
        def rule(**params):
            params = {"validation_fraction": 0.2, **FAST, **params}
            return ImageClassifier(**params).fit(*rows[:2]).config_.recipe.early_stopping

        of_recipe = {"early_stopping": {"patience": 2, "restore_best": False}}
        assert rule(n_iter_no_change=3) is None is rule(recipe=of_recipe, early_stopping=False)
        assert rule(early_stopping=np.True_) == EarlyStopping()
        actual = rule(recipe=of_recipe, tol=np.float64(0.5))
        assert actual == EarlyStopping(patience=2, restore_best=False, min_delta=0.5)

    def test_what_is_not_said_comes_from_the_recipe(self, rows):
        fast = ImageClassifier(
            recipe="cnn-fast", network_params={"channels": [4, 8], "stem_kernel": 3}, epochs=1
        ).fit(*rows[:2]).config_  # fmt: skip
        assert fast.network.name == "compact" and fast.recipe.augmentation == Augmentation(shift=1)
        own = (
            ImageClassifier("mlp", recipe=Recipe(epochs=1, learning_rate=0.2), l2=0.01).fit(*rows[:2]).config_
        )
        assert own.network.name == "mlp"
        assert own.recipe == Recipe(epochs=1, learning_rate=0.2, l2=0.01)

    def test_another_optimizer_has_its_own_learning_rate(self, rows):
        adam = ImageClassifier(epochs=1).fit(*rows[:2]).config_.recipe
        sgd = ImageClassifier(epochs=1, optimizer="sgd").fit(*rows[:2]).config_.recipe
        muon = ImageClassifier(recipe={"epochs": 1, "optimizer": "muon"}).fit(*rows[:2]).config_.recipe
        expected = [Recipe(optimizer=name).learning_rate for name in ("sgd", "muon")]
        assert [adam.learning_rate, sgd.learning_rate, muon.learning_rate] == [0.003, *expected]
        assert adam.batch_size == sgd.batch_size == muon.batch_size == 64

    def test_numbers_of_numpy_are_numbers(self, rows):
        config = ImageClassifier(
            network_params={"hidden": [8], "dropout": np.float32(0.5)}, strength=np.float64(0.25),
            corruption="salt_and_pepper",
        ).set_params(epochs=np.int64(1), learning_rate=np.float32(0.5)).fit(*rows[:2]).config_  # fmt: skip
        assert config.recipe.epochs == 1 and config.network.kwargs == {"hidden": [8], "dropout": 0.5}
        assert config.recipe.corruption.strength == (0.25, 0.25)

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"network": "mpl"}, UnknownNameError, "Did you mean 'mlp'"),
            ({"network_params": {"hiden": [3]}}, UnknownNameError, "Did you mean 'hidden'"),
            ({"recipe": "cnn-fats"}, UnknownNameError, "Did you mean 'cnn-fast'"),
            ({"epochs": 0}, ConfigError, "epochs"),
            ({"optimizer": "adamm"}, ConfigError, "optimizer"),
            ({"corruption": "salt_and_pepper"}, ConfigError, "strength"),
            ({"strength": 0.2}, ConfigError, "name"),
            ({"objective": "reconstruct"}, ConfigError, "use ImageDenoiser"),
            ({"network": "autoencoder"}, ModelMismatchError, "needs"),
            ({"n_replicates": 0}, ConfigError, "at least 1"),
            ({"validation_fraction": 1.0}, ConfigError, "up to but not including 1"),
            ({"recipe": {"epohs": 3}}, ConfigError, "epohs"),
            ({"early_stopping": True}, ConfigError, "validation_fraction=0.0 holds out none of 200"),
            ({"early_stopping": True, "n_iter_no_change": 0}, ConfigError, "n_iter_no_change .* is 0"),
            ({"early_stopping": "loss"}, ConfigError, "'loss'; allowed: True, False"),
            ({"class_weight": "balancd"}, ConfigError, "'balancd'; allowed: None, 'balanced'"),
            ({"class_weight": {3: 0.0}}, ConfigError, "should be above 0"),
            ({"class_weight": {77: 2.0}}, ValueError, "not in class_weight"),
        ],
    )
    def test_wrong_ones_are_refused_where_they_are_used(self, rows, params, error, message):
        with pytest.raises(error, match=message):
            ImageClassifier(**params).fit(*rows[:2])

    def test_both_estimators_have_the_same(self):
        assert inspect.signature(ImageClassifier) == inspect.signature(ImageDenoiser)
        assert {name for name in RECIPE_ARGUMENTS if name not in ImageClassifier().get_params()} == set()


UNLUCKY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[1] * shape[2], classes)
        self.register_buffer("luck", torch.rand(()))

    def forward(self, images):
        logits = self.layer(images.flatten(1))
        is_training = len(images) > 4  # a preflight has four images
        return torch.where(self.luck < 0.5, float("nan"), logits) if is_training else logits
"""


class OwnNet(nn.Module):
    """A network of a user, as in a notebook."""

    def __init__(self, shape, classes, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, classes)
        )

    def forward(self, images):
        return self.layers(images)


def fade(images, strength, draws):
    """Images that lose contrast."""
    return images * (1 - strength)


class TestLiveObjects:
    def test_a_class_is_a_network(self, rows, tmp_path):
        X, y, test, labels = rows
        classifier = ImageClassifier(OwnNet, network_params={"width": 32}, random_state=0).fit(X, y)
        assert classifier.networks_[0].net.layers[1].out_features == 32
        assert classifier.score(test, labels) > 0.8
        again = pickle.loads(pickle.dumps(classifier))
        np.testing.assert_array_equal(again.predict_proba(test), classifier.predict_proba(test))
        assert clone(classifier).network is OwnNet
        search = GridSearchCV(classifier, {"network_params": [{"width": 4}, {"width": 8}]}, cv=2).fit(X, y)
        assert len(search.cv_results_["mean_test_score"]) == 2

    def test_a_function_is_a_corruption(self, rows):
        denoiser = ImageDenoiser(corruption=fade, strength=(0.0, 0.5), epochs=2, random_state=0).fit(rows[0])
        again = pickle.loads(pickle.dumps(denoiser))
        assert again.score(rows[2]) == denoiser.score(rows[2])


class TestDivergence:
    def test_replicates_that_diverge_do_not_count(self, rows, tmp_path):
        (tmp_path / "unlucky.py").write_text(UNLUCKY)
        classifier = ImageClassifier(
            f"{tmp_path / 'unlucky.py'}:Net",
            n_replicates=6,
            validation_fraction=0.2,
            epochs=2,
            random_state=0,
        )
        with pytest.warns(ConvergenceWarning, match="of 6 replicates diverged"):
            classifier.fit(*rows[:2])
        diverged = np.isnan(classifier.replicate_scores_)
        assert 0 < diverged.sum() == 6 - len(classifier.networks_) < 6
        assert np.isfinite(classifier.predict_proba(rows[2])).all()
        np.testing.assert_array_equal(np.isnan(classifier.loss_curve_).all(axis=1), diverged)

    def test_if_all_do_there_is_no_model(self, rows):
        with pytest.raises(InklabError, match="diverged.*lower learning_rate, which is 1e\\+30"):
            ImageClassifier(optimizer="sgd", learning_rate=1e30).fit(*rows[:2])


class TestPickling:
    @pytest.mark.parametrize("make", [ImageClassifier, ImageDenoiser])
    def test_a_copy_computes_the_same_bits(self, rows, make, tmp_path):
        X, y, test, _ = rows
        network = "cnn" if make is ImageClassifier else "unet"
        estimator = make(network, n_replicates=2, epochs=1, random_state=0).fit(X, y)
        joblib.dump(estimator, tmp_path / "estimator.joblib")
        copies = (
            pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator),
            joblib.load(tmp_path / "estimator.joblib"),
        )  # fmt: skip
        method = "predict_proba" if make is ImageClassifier else "transform"
        for other in copies:
            np.testing.assert_array_equal(getattr(other, method)(test), getattr(estimator, method)(test))

    def test_weights_are_in_it_as_safetensors(self, fitted):
        raw = pickle.dumps(fitted)
        names = [str(argument) for _, argument, _ in pickletools.genops(io.BytesIO(raw)) if argument]
        assert not any(name.startswith("torch") for name in names)
        assert sum(b'"net.output.weight"' in part for part in fitted.__getstate__()["networks_"]) == 3

    @pytest.mark.parametrize("make", [ImageClassifier, ImageDenoiser])
    def test_a_network_is_a_model_of_inklab(self, rows, make, tmp_path):
        estimator = make(epochs=1, pixel_range=(0.0, 255.0), random_state=0).fit(*rows[:2])
        (model,) = estimator.models_
        model.save(tmp_path)
        images = torch.from_numpy(rows[2].reshape(-1, 1, 12, 12)).float() / 255
        loaded = TrainedModel.load(tmp_path)
        if make is ImageClassifier:
            assert loaded.labels == tuple("0123456789")
            actual, expected = loaded.probabilities(images), estimator.predict_proba(rows[2])
        else:
            actual, expected = loaded.denoise(images).flatten(1), estimator.transform(rows[2]) / 255
        np.testing.assert_allclose(actual, expected, rtol=1e-4)

    def test_hyperparameters_that_were_set_since_do_not_matter(self, rows, fitted):
        changed = copy.deepcopy(fitted).set_params(network="cnn", network_params={"channels": [4]})
        again = pickle.loads(pickle.dumps(changed))
        np.testing.assert_array_equal(again.predict_proba(rows[2]), fitted.predict_proba(rows[2]))


class TestSearches:
    @pytest.mark.integration
    def test_parallel_jobs_give_the_same_numbers(self, rows):
        X, y, _, _ = rows
        grid = {"learning_rate": [1e-5, 3e-3], "network_params": [{"hidden": [16]}, {"hidden": [24]}]}
        searches = [
            GridSearchCV(ImageClassifier(**FAST), grid, cv=2, n_jobs=jobs).fit(X.reshape(-1, 12, 12), y)
            for jobs in (1, 2)
        ]
        scores = [search.cv_results_["mean_test_score"] for search in searches]
        np.testing.assert_array_equal(*scores)
        assert searches[0].best_params_["learning_rate"] == 3e-3

    def test_it_is_a_step_of_a_pipeline(self, rows):
        X, y, test, labels = rows
        pipeline = make_pipeline(
            ImageDenoiser(strength=0.1, corruption="salt_and_pepper", epochs=30, random_state=0),
            ImageClassifier(random_state=0),
        )
        assert pipeline.fit(X, y).score(test, labels) > 0.5
        pipeline.set_params(imagedenoiser__epochs=1, imageclassifier__epochs=1)
        assert len(cross_val_predict(pipeline, X, y, cv=2)) == len(X)

    def test_a_denoiser_is_searched_by_its_score(self, rows):
        search = GridSearchCV(ImageDenoiser(random_state=0), {"epochs": [1, 20]}, cv=2).fit(rows[0])
        assert search.best_params_ == {"epochs": 20}

    def test_cross_validation_and_clones(self, rows):
        X, y, _, _ = rows
        classifier = ImageClassifier(recipe=Recipe(epochs=2), network_params={"hidden": [8]}, random_state=0)
        scores = [cross_val_score(estimator, X, y, cv=3) for estimator in (classifier, clone(classifier))]
        np.testing.assert_array_equal(*scores)


@pytest.mark.integration
def test_what_the_page_shows_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3 and np.mean(names["scores"]) > 0.85


class TestDenoiser:
    def test_it_is_nearer_to_the_clean_images_than_its_input(self, rows, denoiser):
        clean = rows[2] / 255
        noisy = np.where(np.random.default_rng(0).random(clean.shape) < 0.4, 1.0, clean) * 255
        denoised = denoiser.transform(noisy) / 255
        assert ((denoised - clean) ** 2).mean() < ((noisy / 255 - clean) ** 2).mean() / 3

    def test_the_score_is_the_psnr_in_decibels(self, rows, denoiser):
        assert 8 < denoiser.score(rows[2]) == denoiser.score(rows[2]) < 30
        single = clone(denoiser).set_params(n_replicates=1, validation_fraction=0.5, pixel_range=(0.0, 255.0))
        single.fit(rows[0])
        assert single.replicate_scores_ == pytest.approx(single.score(rows[0]), abs=1.5)
        plain = ImageDenoiser(recipe=Recipe(objective="reconstruct", epochs=1), random_state=0).fit(rows[0])
        mse = ((plain.transform(rows[2]) / 255 - rows[2] / 255) ** 2).mean()
        assert plain.score(rows[2]) == pytest.approx(-10 * math.log10(mse), abs=1e-4)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
    def test_it_returns_the_layout_and_the_range_of_its_input(self, rows, denoiser, dtype):
        flat = denoiser.transform(rows[2].astype(dtype))
        assert flat.dtype == (np.float32 if dtype == "uint8" else dtype)
        assert flat.shape == rows[2].shape and 0 <= flat.min() < 50 and 100 < flat.max() <= 255
        for shape in ((12, 12), (1, 12, 12), (12, 12, 1)):
            actual = denoiser.transform(rows[2].astype(dtype).reshape(-1, *shape))
            np.testing.assert_array_equal(actual, flat.reshape(-1, *shape))

    def test_color_comes_back_where_it_was(self, rows):
        last = np.stack([rows[0], 255 - rows[0], rows[0] // 2], axis=2).reshape(-1, 12, 12, 3)
        denoiser = ImageDenoiser("unet", epochs=3, image_shape=(12, 12, 3), random_state=0)
        flat = denoiser.fit(last.reshape(200, -1)).transform(last.reshape(200, -1))
        np.testing.assert_array_equal(flat.reshape(last.shape), denoiser.transform(last))
        first = denoiser.transform(last.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), flat.reshape(last.shape))
        assert abs(flat.reshape(last.shape) - last).mean() < 60

    def test_columns_keep_their_names(self, rows):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(rows[0][:, :16], columns=[f"pixel {number}" for number in range(16)])
        denoiser = ImageDenoiser(**FAST).set_output(transform="pandas").fit(table)
        assert list(denoiser.transform(table).columns) == list(table.columns)

    def test_a_classifiers_recipe_is_refused(self, rows):
        with pytest.raises(ConfigError, match="use ImageClassifier"):
            ImageDenoiser(recipe="sgd").fit(rows[0])

    @pytest.mark.parametrize("params", [{"class_weight": "balanced"}, {"label_smoothing": 0.1}])
    def test_what_needs_labels_is_refused(self, rows, params):
        with pytest.raises(ConfigError, match=next(iter(params))):
            ImageDenoiser(**params).fit(rows[0])
