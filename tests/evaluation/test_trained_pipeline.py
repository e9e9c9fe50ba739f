"""A pipeline as an object: the same numbers as its parts one after the other, and as the run's evaluation."""

import numpy as np
import pytest
import torch
import toy_run
from scipy.ndimage import median_filter

import inklab
from inklab.corruptions.corruption import get_corruption
from inklab.corruptions.filters import filters
from inklab.data.dataset import stratified_sample
from inklab.errors import ConfigError, ModelMismatchError, UnknownNameError
from inklab.evaluation.attacks import attacks
from inklab.evaluation.robustness import pipeline_functions, robustness_curve
from inklab.evaluation.trained_pipeline import TrainedPipeline
from inklab.runs import Run
from inklab.seeding import Seed


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(toy_run.finished())


@pytest.fixture(scope="module")
def pixels(run) -> np.ndarray:
    return run.dataset.test.pixels[:7]


def test_it_is_its_parts_one_after_the_other(run, pixels):
    pipeline = run.pipeline("denoiser+cnn", 1)
    denoiser, classifier = run.model("denoiser", 1), run.model("cnn", 1)
    images = torch.from_numpy(pixels).float() / 255
    denoised = denoiser.denoise(images)
    np.testing.assert_array_equal(pipeline.denoise(pixels), denoised.numpy())
    probabilities = classifier.probabilities(denoised).numpy()
    np.testing.assert_array_equal(pipeline.predict_proba(pixels), probabilities)
    predictions = pipeline.predict(pixels)
    assert len(predictions) == 7
    assert list(predictions.labels) == [pipeline.labels[k] for k in probabilities.argmax(axis=1)]


def test_a_filter_needs_no_training(run, pixels):
    pipeline = run.pipeline("median+cnn")
    assert pipeline[0] is filters["median"] and len(pipeline) == 2
    expected = median_filter(pixels.astype(np.float32) / 255, size=(1, 1, 3, 3), mode="nearest")
    np.testing.assert_allclose(pipeline.denoise(pixels), expected, atol=1e-6)


def test_a_function_is_a_filter_as_a_registered_one_is(run, pixels, tmp_path):
    def smooth(images):
        return filters["median"].fn(images)

    (tmp_path / "own.py").write_text(
        "from inklab.corruptions.filters import filters\nsmooth = filters['median']"
    )
    registered, labels = run.pipeline("median+cnn"), np.arange(7) % 2
    corruption = get_corruption("salt_and_pepper")
    for parts in ([smooth, "cnn"], f"{tmp_path / 'own.py'}:smooth+cnn"):
        pipeline = run.pipeline(parts)
        np.testing.assert_array_equal(pipeline.predict_proba(pixels), registered.predict_proba(pixels))
        curves = [
            robustness_curve(
                classify, pixels, labels, corruption, strengths=[0.0, 0.4], seed=Seed(3), denoise=denoise
            )
            for classify, denoise in map(
                pipeline_functions, (pipeline, registered, ["median", run.model("cnn")])
            )
        ]
        for curve in curves[1:]:
            np.testing.assert_array_equal(curve.denoised, curves[0].denoised)
            np.testing.assert_array_equal(curve.predicted, curves[0].predicted)
    assert repr(run.pipeline([smooth, "cnn"])) == "TrainedPipeline('smooth+cnn')"


def test_a_table_of_a_curve_names_the_classes_as_the_run_does(run, pixels):
    curve = inklab.robustness_curve(["median", run.model("cnn")], pixels, np.arange(7) % 2, strengths=[0.0])
    names = [f"recall_{label}" for label in run.model("cnn").labels]
    assert list(curve.to_pandas().columns) == ["strength", "recall", "accuracy", "ece", *names]


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        (lambda images: images[:, :, 1:], "must keep both"),
        (lambda images: images * 2, "must return 0 to 1"),
        (dict, "is no function; a filter is a function from images in"),
    ],
)
def test_a_function_that_does_not_filter_is_refused(run, pixels, filter_, message):
    with pytest.raises((ConfigError, ModelMismatchError), match=message):
        run.pipeline([filter_, "cnn"]).predict_proba(pixels)


def test_a_classifier_alone_is_one_too(run, pixels):
    pipeline = run.pipeline("cnn")
    np.testing.assert_array_equal(pipeline.predict_proba(pixels), run.model("cnn").predict_proba(pixels))
    assert repr(pipeline) == "TrainedPipeline('cnn')" and pipeline.shape == (1, 12, 12)


def test_bad_files_are_reported_and_the_others_answered(run, pixels, tmp_path):
    from PIL import Image

    Image.fromarray(pixels[0, 0]).resize((28, 28)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    predictions = run.pipeline("denoiser+cnn").predict(tmp_path)
    assert [prediction.error is None for prediction in predictions] == [True, False]


def test_its_robustness_curve_is_that_of_the_run(run):
    evaluation = next(
        entry.evaluation
        for entry in run.evaluations.values()
        if getattr(entry.evaluation, "pipeline", "") == "denoiser+cnn" and entry.evaluation.replicate == 1
    )
    seed, test = Seed(run.plan.seed), run.dataset.test
    indices = stratified_sample(test.labels, evaluation.images, seed / "noise images")
    classify, denoise = pipeline_functions(run.pipeline("denoiser+cnn", 1))
    curve = robustness_curve(
        classify, torch.from_numpy(test.pixels[indices]), test.labels[indices],
        get_corruption(evaluation.corruption), strengths=evaluation.strengths, seed=seed / "noise",
        denoise=denoise,
    )  # fmt: skip
    outcome = run.evaluations[evaluation.id]
    assert tuple(curve.recall) == outcome.recall and tuple(curve.accuracy) == outcome.accuracy
    rows = curve.data
    assert [row["accuracy"] for row in rows] == list(outcome.accuracy)
    assert len(curve.to_pandas()) == 3 and "recall_9" in rows[0]
    assert curve._repr_html_().count("<tr") == 4 and "60 images" in repr(curve)


def test_what_is_no_pipeline(run):
    denoiser, cnn = run.model("denoiser"), run.model("cnn")
    for parts in ((), (denoiser,), (cnn, denoiser), (cnn, cnn)):
        with pytest.raises(ModelMismatchError, match="'it'"):
            TrainedPipeline("it", parts)
    with pytest.raises(UnknownNameError):
        run.pipeline("denoisr+cnn")


def test_an_attack_goes_through_denoiser_and_classifier(run):
    """Each of its images is moved by the sign of the gradient of the whole pipeline."""
    pixels, labels = run.dataset.test.pixels[:120], run.dataset.test.labels[:120].astype(np.int64)
    denoiser, classifier = pipeline = run.pipeline("denoiser+cnn", 0)
    images = (torch.from_numpy(pixels).float() / 255).requires_grad_()
    logits = classifier.net(torch.sigmoid(denoiser.net(images)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    expected = (images + 0.1 * gradient.sign()).clamp(0, 1).detach()
    classify, denoise = pipeline_functions(pipeline)
    curve = robustness_curve(
        classify, pixels, labels, attacks["fgsm"], strengths=[0.0, 0.1], seed=Seed(0), denoise=denoise
    )
    examples = np.unique(labels, return_index=True)[1]
    np.testing.assert_array_equal(curve.corrupted[1], (expected[examples] * 255).round().byte().numpy())
    assert curve.accuracy[1] < curve.accuracy[0]
    assert curve.accuracy[0] == (pipeline.predict_proba(pixels).argmax(axis=1) == labels).mean()
