"""What trained models answer to arrays, tensors, pictures, files and folders."""

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic_training import SMALL_AUTOENCODER, SMALL_MLP
from test_model import trained_model

import inklab
from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.errors import DataError, ModelMismatchError, OutOfRangeError
from inklab.evaluation.robustness import robustness_curve as evaluate
from inklab.ood import MIN_PROBABILITY
from inklab.predictions import array_pixels
from inklab.seeding import Seed

SHAPE, COLOR = (1, 12, 12), (3, 12, 10)


@pytest.fixture(scope="module")
def model(data):
    return trained_model(SMALL_MLP, data)


@pytest.fixture(scope="module")
def pixels(data) -> np.ndarray:
    return np.asarray(data.test.pixels[:7])


@pytest.fixture
def photos(tmp_path, pixels):
    """A folder with a nested one, a damaged and a blank file, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "more/c.PNG"):
        picture = np.zeros((40, 30), np.uint8)
        picture[8:32, 12:17] = 255
        Image.fromarray(picture).save(folder / name, "PNG")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    Image.new("L", (20, 20), 255).save(folder / "blank.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


class TestArrays:
    def test_every_form_of_the_same_images_gets_the_same_probabilities(self, model, pixels):
        floats = pixels.astype(np.float32) / np.float32(255)
        expected = model.probabilities(torch.from_numpy(floats)).numpy()
        forms = [
            pixels, floats, floats.astype(np.float64), torch.from_numpy(pixels), torch.from_numpy(floats),
            pixels[:, 0], np.moveaxis(pixels, 1, -1), pixels.reshape(len(pixels), -1), list(pixels[:, 0]),
        ]  # fmt: skip
        for form in forms:
            assert np.array_equal(model.predict_proba(form), expected)
        for image in (pixels[0], pixels[0, 0], pixels[0].ravel()):
            assert np.allclose(model.predict_proba(image), expected[:1], atol=1e-6)

    def test_bytes_are_divided_once_also_by_the_methods_for_tensors(self, model, pixels):
        floats = torch.from_numpy(pixels).float() / 255
        assert torch.equal(model.logits(torch.from_numpy(pixels)), model.logits(floats))

    def test_batches_do_not_change_the_answers(self, model, pixels):
        many = np.tile(pixels, (100, 1, 1, 1))
        assert np.allclose(model.predict_proba(many)[-7:], model.predict_proba(pixels), atol=1e-6)

    def test_axes_of_color_images(self):
        images = np.random.default_rng(0).integers(0, 256, (4, *COLOR), dtype=np.uint8)
        expected = array_pixels(images, COLOR)
        assert np.array_equal(array_pixels(np.moveaxis(images, 1, -1), COLOR), expected)
        assert np.array_equal(array_pixels(np.moveaxis(images[0], 0, -1), COLOR), expected[:1])
        assert np.array_equal(array_pixels(images.reshape(4, -1), COLOR), expected)
        images.flags.writeable = False  # as of a file that is mapped into memory: torch would warn
        assert array_pixels(images, COLOR).flags.writeable

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (np.full((2, 12, 12), 255.0), OutOfRangeError, "255 to 255"),
            (np.full((2, 12, 12), np.nan), OutOfRangeError, "nan"),
            (np.full((2, 12, 12), -1.0), OutOfRangeError, "from -1 to -1"),
            (np.full((2, 12, 12), 7), OutOfRangeError, "floats in"),
            (np.zeros((2, 28, 28)), DataError, r"images of 1 x 12 x 12"),
            (np.array([["a"]]), DataError, "not numbers"),
            ([], DataError, "no pictures"),
        ],
    )
    def test_others_are_refused(self, model, value, error, message):
        with pytest.raises(error, match=message):
            model.predict(value)

    def test_denoised_images_are_of_the_type_that_was_given(self, data, pixels):
        denoiser = trained_model(SMALL_AUTOENCODER, data, "denoising")
        clean = denoiser.denoise(torch.from_numpy(pixels).float() / 255)
        assert isinstance(clean, torch.Tensor)
        assert np.array_equal(denoiser.denoise(pixels), clean.numpy())
        with pytest.raises(ModelMismatchError, match="denoising"):
            denoiser.predict(pixels)


class TestFiles:
    def test_those_that_can_be_read_are_answered(self, model, photos):
        predictions = model.predict(photos)
        assert [row.source for row in predictions] == [
            str(photos / name) for name in ("a.png", "b.png", "blank.png", "more/c.PNG")
        ]
        assert [row.error is None for row in predictions] == [True, False, True, True]
        assert predictions.errors.keys() == {str(photos / "b.png")}
        assert [row.abstained for row in predictions][1:3] == [None, "empty"]
        assert predictions[0].probabilities == predictions[3].probabilities
        assert predictions.labels.tolist() == [row.label for row in predictions]
        assert np.isnan(predictions.probabilities[1]).all()
        with pytest.raises(DataError, match=r"b\.png"):
            model.predict_proba(photos)

    def test_a_picture_is_its_file(self, model, photos):
        with Image.open(photos / "a.png") as picture:
            expected = model.predict_proba(picture)
            mixed = model.predict_proba([picture, str(photos / "more")])
        assert np.array_equal(model.predict_proba(str(photos / "a.png")), expected)
        assert np.allclose(mixed, np.repeat(expected, 2, axis=0), atol=1e-6)

    def test_a_folder_without_pictures_is_refused(self, model, tmp_path):
        with pytest.raises(DataError, match="no pictures"):
            model.predict(tmp_path)


class TestPredictions:
    def test_entries_agree_with_the_arrays(self, model, pixels):
        predictions = model.predict(pixels)
        assert len(predictions) == 7 and predictions[-1] == predictions[6] == predictions[5:][1]
        for row, probabilities in zip(predictions, predictions.probabilities, strict=True):
            assert row.label == model.labels[probabilities.argmax()]
            assert row.probability == probabilities.max() and list(row.probabilities) == list(model.labels)
            assert row.ood_score == pytest.approx((1 - row.probability) / (1 - MIN_PROBABILITY))
            assert (row.abstained == "ood") == (row.probability < MIN_PROBABILITY)

    def test_they_show_themselves(self, model, photos):
        html = model.predict(photos)._repr_html_()
        assert html.count("data:image/png") == 3 and html.count("<tr>") == 5
        assert "largest probability" in html and "b.png" in html and "(an empty image)" in html
        assert repr(model.predict(photos)).startswith("Predictions(4, 1 not read: ")

    def test_a_score_that_rounds_to_zero_has_no_sign(self, model, pixels):
        predictions = model.predict(pixels[:1])
        vars(predictions)["ood_scores"] = np.array([-0.001])  # as computed and cached
        assert "<td>0.00</td>" in predictions._repr_html_()

    def test_the_frame_has_a_row_for_each(self, model, photos):
        pytest.importorskip("pandas")
        frame = model.predict(photos).to_pandas()
        assert frame.shape == (4, 6 + len(model.labels)) and frame["error"].notna().sum() == 1


class TestRobustnessCurve:
    def test_it_is_that_of_the_evaluation(self, model, data):
        images, labels = np.asarray(data.test.pixels), np.asarray(data.test.labels)
        curve = inklab.robustness_curve(model, images, labels, strengths=[0.0, 0.5], seed=3)
        expected = evaluate(
            model.net, images, labels, corruptions["salt_and_pepper"], strengths=[0.0, 0.5],
            seed=Seed(3) / "noise",
        )  # fmt: skip
        assert np.array_equal(curve.predicted, expected.predicted)
        assert np.array_equal(curve.predicted[0], model.predict_proba(images).argmax(axis=1))
        names = [model.labels[label] for label in labels]
        named = inklab.robustness_curve(model, images, names, strengths=[0.0, 0.5], seed=3)
        assert np.array_equal(named.predicted, curve.predicted)

    def test_parts_of_a_pipeline_denoise_first(self, model, data):
        images, labels = np.asarray(data.test.pixels), np.asarray(data.test.labels)
        median = filters["median"]
        curve = inklab.robustness_curve([median, model], images, labels, strengths=[0.0])
        denoised = median(torch.from_numpy(images).float() / 255)
        assert np.array_equal(curve.predicted[0], model.predict_proba(denoised).argmax(axis=1))

    def test_what_does_not_classify_is_refused(self, model, data):
        images, labels = np.asarray(data.test.pixels), np.asarray(data.test.labels)
        with pytest.raises(ModelMismatchError, match="trained classifier"):
            inklab.robustness_curve("cnn", images, labels)
        with pytest.raises(DataError, match="no class of the model"):
            inklab.robustness_curve(model, images, ["zebra"] * len(labels))


@pytest.mark.integration
def test_exported_it_computes_the_same(model, pixels, tmp_path):
    from inklab.export.onnx_file import read_onnx

    path = model.to_folder(tmp_path / "net") / "model.onnx"
    assert path.read_bytes() == model.export_onnx(tmp_path / "net.onnx").read_bytes()
    images = pixels.astype(np.float32) / np.float32(255)
    outputs = read_onnx(path).session(images)
    assert np.abs(outputs["probabilities"] - model.predict_proba(pixels)).max() < 1e-5
