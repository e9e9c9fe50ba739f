"""Responses about images: the numbers of the trained models, whatever else is requested at the same time."""

import asyncio
import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import live_server
import numpy as np
import pytest
import torch
import toy_run
from export_samples import untrained_model, write_own
from PIL import Image

import inklab
from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.evaluation.inspection import blank_value, occlusion
from inklab.io.files import cache_dir
from inklab.records.components import Preprocessing
from inklab.runs import Run
from inklab.serve.inputs import BoundedThread
from inklab.serve.middleware import HttpError

PIPELINES = ["cnn", "denoiser+cnn", "median+cnn", "mlp", "scaled-twice", "sweep"]
PIXELS, IMAGES = live_server.examples(), live_server.encoded_examples()
ONE = IMAGES[:1]
BLANK = live_server.encode(np.zeros(toy_run.SIDE**2))


@pytest.fixture(scope="module")
def server():
    return live_server.shared()


@pytest.fixture(scope="module")
def run():
    return Run(toy_run.finished())


def floats(pixels):
    return torch.from_numpy(np.array(pixels)).float() / 255


def probabilities(response, pipeline):
    return np.array([
        next(row["probabilities"] for row in image["predictions"] if row["pipeline"] == pipeline)
        for image in response["images"]
    ])  # fmt: skip


def stacked(response, key):
    return np.stack([live_server.decode(image[key]) for image in response["images"]])


def abstained(response):
    return [image["predictions"][0]["abstained"] for image in response["images"]]


def test_examples_are_the_first_test_image_of_each_class(server):
    images = server.client.get("/api/examples").json()["images"]
    pixels, labels = toy_run.images(toy_run.TEST, 2)
    assert [int(example["label"]) for example in images] == list(range(toy_run.CLASSES))
    for k, example in enumerate(images):
        assert (live_server.decode(example["image"])[0] == pixels[labels == k][0]).all()


class TestNetworks:
    def test_everything_of_the_run_is_listed(self, server, run):
        networks = server.networks()
        assert [pipeline.id for pipeline in networks.pipelines] == PIPELINES
        assert networks.pipelines[1].parts == ["denoiser", "cnn"]
        assert (networks.image.channels, networks.image.height) == (1, toy_run.SIDE)
        assert (networks.kind, networks.study, networks.title) == ("run", "toy", "A toy")
        assert networks.labels == [str(k) for k in range(toy_run.CLASSES)]
        assert networks.denoisers == ["denoiser"]
        assert networks.preprocessing == run.plan.data.preprocessing
        assert networks.ood_known and not networks.skipped
        assert networks.corruptions[0].id == "salt_and_pepper"  # the study's comes first
        assert {corruption.id for corruption in networks.corruptions} == set(corruptions)
        assert networks.strengths == [0, 0.3, 0.6]
        (decoder,) = networks.decoders
        assert (decoder.id, decoder.code_size, decoder.latents_from) == ("denoiser", 8, "training images")
        assert [sampler.id for sampler in decoder.samplers][:2] == ["binary", "mixture"]
        assert server.client.get("/health").json()["study"] == "toy"

    def test_accuracies_and_curves_are_those_of_the_results(self, server, run):
        networks, results = server.networks(), run.results
        accuracies = {pipeline.id: pipeline.accuracy for pipeline in networks.pipelines}
        assert accuracies["cnn"] == results.training["cnn"].settings[0].metrics["test_accuracy"]
        assert accuracies["sweep"] == results.training["sweep"].best.metrics["test_accuracy"]
        robustness = results.experiment("robustness")
        assert accuracies["denoiser+cnn"] == robustness.pipelines["denoiser+cnn"].accuracy[0]
        curve = networks.robustness_curves.pipelines["cnn"]
        assert curve.recall == [estimate.mean for estimate in robustness.pipelines["cnn"].recall]
        ordered = [sorted(row) == [*row] for row in zip(curve.low, curve.recall, curve.high, strict=True)]
        assert ordered and all(ordered)


class TestPredict:
    @pytest.mark.parametrize("name", ["cnn", "mlp", "scaled-twice", "sweep"])
    def test_a_classifier_predicts_what_its_model_predicts(self, server, run, name):
        """Of a grid, the model of the best setting."""
        response = server.post("predict", images=IMAGES, pipelines=[name])
        expected = run.model(name).probabilities(floats(PIXELS)).numpy()
        assert np.abs(probabilities(response, name) - expected).max() < 1e-5
        for image in response["images"]:
            (row,) = image["predictions"]
            assert row["label"] in (str(int(np.argmax(row["probabilities"]))), None)
            assert abs(sum(row["probabilities"]) - 1) < 1e-4

    def test_pipelines_denoise_first_and_return_the_input_of_the_classifier(self, server, run):
        body = {"images": IMAGES[:5], "corruption": {"strength": 0.3, "seed": 4}}
        response = server.post("predict", pipelines=PIPELINES[:3], **body)
        corrupted = stacked(response, "corrupted")
        assert (stacked(server.post("predict", **body), "corrupted") == corrupted).all()
        denoisers = {
            "cnn": lambda images: images,
            "denoiser+cnn": run.model("denoiser").denoise,
            "median+cnn": filters["median"],
        }
        for index, (pipeline, denoise) in enumerate(denoisers.items()):
            denoised = denoise(floats(corrupted))
            expected = run.model("cnn").probabilities(denoised).numpy()
            assert np.abs(probabilities(response, pipeline) - expected).max() < 1e-5
            returned = [image["predictions"][index]["denoised"] for image in response["images"]]
            pixels = np.stack([live_server.decode(text) for text in returned])
            assert np.abs(pixels - 255 * denoised.numpy()).max() <= 0.51

    def test_images_come_back_unchanged_and_the_first_pipeline_is_the_default(self, server):
        for text, image in zip(IMAGES, server.post("predict", images=IMAGES)["images"], strict=True):
            (row,) = image["predictions"]
            assert row["pipeline"] == "cnn" and row["label"] == str(int(np.argmax(row["probabilities"])))
            assert text == image["input"] == image["corrupted"] == row["denoised"]

    def test_requests_in_one_batch_do_not_change_each_other(self, server):
        """Many clients at once, so that their images share passes."""
        with ThreadPoolExecutor(20) as pool:
            together = list(pool.map(lambda image: server.post("predict", images=[image]), IMAGES))
        for image, response in zip(IMAGES, together, strict=True):
            single = server.post("predict", images=[image])
            assert np.abs(probabilities(response, "cnn") - probabilities(single, "cnn")).max() < 1e-5

    def test_the_most_images_at_once(self, server, run):
        images = (4 * IMAGES)[:64]
        response = server.post("predict", images=images, pipelines=["cnn", "mlp"])
        assert len(response["images"]) == 64
        expected = run.model("mlp").probabilities(floats(PIXELS)).numpy()
        assert np.abs(probabilities(response, "mlp")[:20] - expected).max() < 1e-5
        assert "64" in server.post_error("predict", 422, images=[*images, images[0]])


class TestAbstaining:
    def test_scores_are_those_of_the_model_in_python(self, server):
        server.wait_until_learned()
        pixels = np.concatenate([PIXELS[:5], np.random.default_rng(0).integers(0, 256, PIXELS[:3].shape)])
        pixels = pixels.astype(np.uint8)
        response = server.post("predict", images=[live_server.encode(image) for image in pixels])
        rows = [image["predictions"][0] for image in response["images"]]
        run = Run(toy_run.finished())
        for model in (run.model("cnn"), inklab.load(run.model_dir("cnn"))):
            predictions = model.predict(pixels)
            assert predictions.ood_scores == pytest.approx([row["ood_score"] for row in rows], abs=2e-3)
            assert [row.abstained for row in predictions] == [row["abstained"] for row in rows]
            assert predictions.ood_method.startswith("distance")
        assert {row["abstained"] for row in rows} == {None, "ood"}

    def test_an_empty_image_has_no_class_even_when_corrupted(self, server):
        (row,) = server.post("predict", images=[BLANK])["images"][0]["predictions"]
        assert (row["abstained"], row["label"]) == ("empty", None)
        assert len(row["probabilities"]) == toy_run.CLASSES
        assert abstained(server.post("predict", images=[BLANK], corruption={"strength": 0.5})) == ["empty"]

    def test_test_images_are_classified_and_noise_is_out_of_distribution(self, server):
        response = server.post("predict", images=IMAGES)
        assert abstained(response).count(None) >= 18
        scores = [image["predictions"][0]["ood_score"] for image in response["images"]]
        assert all(isinstance(score, float) for score in scores)
        noise = 255 * np.random.default_rng(0).integers(0, 2, (20, 1, toy_run.SIDE, toy_run.SIDE))
        response = server.post("predict", images=[live_server.encode(image) for image in noise])
        rows = [image["predictions"][0] for image in response["images"]]
        assert abstained(response).count("ood") >= 18
        assert all((row["ood_score"] > 1) == (row["label"] is None) for row in rows)


class TestCorruption:
    @pytest.mark.parametrize("name", sorted(corruptions))
    def test_strength_0_changes_nothing(self, server, name):
        corruption = {"name": name, "strength": 0, "seed": 9}
        (image,) = server.post("predict", images=ONE, corruption=corruption)["images"]
        assert image["corrupted"] == image["input"] == ONE[0]

    def test_salt_and_pepper_is_nested_over_strength(self, server):
        gray = live_server.encode(np.full((1, toy_run.SIDE, toy_run.SIDE), 99))
        before = np.zeros((1, toy_run.SIDE, toy_run.SIDE), bool)
        for strength in (0.1, 0.25, 0.5, 0.75, 1.0):
            body = {"name": "salt_and_pepper", "strength": strength, "seed": 3}
            (image,) = server.post("predict", images=[gray], corruption=body)["images"]
            replaced = live_server.decode(image["corrupted"]) != 99
            assert (replaced | before == replaced).all()
            assert abs(replaced.mean() - strength) < 0.15
            before = replaced

    def test_other_seeds_draw_other_noise(self, server):
        bodies = [{"strength": 0.4, "seed": seed} for seed in range(5)]
        responses = [server.post("predict", images=ONE, corruption=body) for body in bodies]
        assert len({response["images"][0]["corrupted"] for response in responses}) == 5


class TestPictures:
    def picture(self, format="PNG"):
        page = Image.new("L", (90, 70), 250)
        page.paste(20, (30, 20, 60, 50))
        return self.encoded(page, format)

    def encoded(self, page, format):
        file = io.BytesIO()
        page.save(file, format)
        return base64.b64encode(file.getvalue()).decode()

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP"])
    def test_a_picture_is_preprocessed_like_training_images(self, server, format):
        for path, keys in (("predict", {"predictions"}), ("denoise", {"denoised"})):
            response = server.post(path, picture=self.picture(format))
            assert stacked(response, "input").shape == (1, 1, toy_run.SIDE, toy_run.SIDE)
            assert set(response["images"][0]) == {"input", "corrupted"} | keys

    def test_what_is_no_picture_or_huge_is_rejected(self, server):
        text = base64.b64encode(b"hello, this is text").decode()
        assert "PNG" in server.post_error("predict", 422, picture=text)
        huge = self.encoded(Image.new("1", (5000, 5000)), "PNG")  # never decoded
        assert "16,000,000" in server.post_error("predict", 422, picture=huge)


def test_denoising_is_what_the_model_makes(server, run):
    response = server.post("denoise", images=IMAGES[:3], corruption={"strength": 0.4})
    expected = 255 * run.model("denoiser").denoise(floats(stacked(response, "corrupted"))).numpy()
    assert np.abs(stacked(response, "denoised") - expected).max() <= 0.51


class TestInspect:
    def maps(self, encoded):
        array = np.frombuffer(base64.b64decode(encoded["values"]), "<f4")
        return array.reshape(encoded["shape"])

    def test_every_layer_equals_that_of_torch(self, server, run):
        response = server.post("inspect", images=ONE, pipeline="cnn")
        model = run.model("cnn")
        net, pixels = model.net.net, model.net.normalize(floats(PIXELS[:1]))
        with torch.no_grad():
            features = net.features(pixels)
            expected = {
                "features.0": net.features[0](pixels), "features.1": features,
                "hidden.0": net.hidden(net.flatten(features)), "output": net(pixels),
            }  # fmt: skip
        assert [layer["name"] for layer in response["layers"]] == list(expected)
        for layer in response["layers"]:
            maps = self.maps(layer["maps"])
            output = expected[layer["name"]][0][layer["maps"]["units"]].numpy().reshape(maps.shape)
            assert np.abs(maps - output).max() < 1e-4 and np.abs(output).max() > 0.01, layer["name"]
        kernels = net.features[0].weight.detach().numpy()
        assert (self.maps(response["filters"]) == kernels[response["filters"]["units"]]).all()
        assert response["notes"] == [] and response["removed"] is None

    def test_what_a_denoiser_removed_and_what_counts_behind_it(self, server, run):
        corruption = {"strength": 0.3, "seed": 2}
        response = server.post("inspect", images=ONE, pipeline="denoiser+cnn", corruption=corruption)
        corrupted = floats(live_server.decode(response["corrupted"])[None])
        denoised = run.model("denoiser").denoise(corrupted)
        removed = self.maps(response["removed"])
        assert np.abs(removed - (corrupted - denoised).numpy()).max() < 1e-4
        label = [str(k) for k in range(toy_run.CLASSES)].index(response["label"])
        model = run.model("cnn")
        expected = occlusion(model.probabilities, denoised, label, blank_value(model.preprocessing))
        assert np.abs(self.maps(response["occlusion"])[0, 0] - expected).max() < 1e-4

    def test_a_users_network_is_inspected_too(self, tmp_path):
        code = f"{write_own(tmp_path)}:Normed"
        untrained_model(code).save(tmp_path / "model")
        with live_server.serving(tmp_path / "model", trust_code=(code,)) as server:
            response = server.post("inspect", images=ONE)
        layers = {layer["name"]: layer["types"] for layer in response["layers"]}
        assert layers == {
            "first.0": ["Conv2d", "BatchNorm2d", "GELU"],
            "second.0": ["Conv2d", "BatchNorm2d"],
            "last": ["Linear"],
        }
        assert self.maps(response["occlusion"]).shape == (1, 1, toy_run.SIDE, toy_run.SIDE)

    def test_it_takes_one_image(self, server):
        assert "at most 1" in server.post_error("inspect", 422, images=IMAGES[:2])
        assert "cnn" in server.post_error("inspect", 422, images=ONE, pipeline="cn")

    def test_more_than_wait_are_refused(self, server):
        thread, gate = BoundedThread("test", 1, "too much waits"), threading.Event()

        async def two():
            first = asyncio.create_task(thread.run(lambda: gate.wait(10)))
            await asyncio.sleep(0)
            with pytest.raises(HttpError, match="too much waits"):
                await thread.run(lambda: None)
            gate.set()
            assert await first and await thread.run(lambda: 3) == 3

        asyncio.run(two())
        thread.stop()


class TestGenerate:
    def test_a_seed_gives_the_same_images(self, server):
        first, again = (server.post("generate", seed=5, count=7) for _ in range(2))
        other = server.post("generate", seed=6, count=7)
        assert first == again != other
        assert len(first["images"]) == len(first["labels"]) == 7
        assert all(0 <= row["probability"] <= 1 for row in first["labels"])

    @pytest.mark.parametrize("sampler", ["binary", "uniform", "gaussian", "mixture", "perturbed"])
    def test_every_sampler_draws(self, server, sampler):
        assert len(server.post("generate", sampler=sampler, count=100)["images"]) == 100

    def test_positions_between_corners_change_smoothly(self, server):
        response = server.post("generate", positions=[[x / 8, 0.3] for x in range(9)], seed=2)
        images = [live_server.decode(text).astype(int) for text in response["images"]]
        steps = [np.abs(a - b).mean() for a, b in zip(images, images[1:], strict=False)]
        assert max(steps) <= np.abs(images[0] - images[-1]).mean() + 1
        corner = server.post("generate", positions=[[0, 0]], seed=2)["images"][0]
        assert corner == server.post("generate", count=1, seed=2)["images"][0]

    def test_neighbors_without_noise_are_the_reconstruction(self, server, run):
        response = server.post("generate", neighbors_of=IMAGES[3], sigma=0, count=3)
        expected = 255 * run.model("denoiser").denoise(floats(PIXELS[3:4])).numpy()[0]
        assert len(set(response["images"])) == 1
        assert np.abs(live_server.decode(response["images"][0]) - expected).max() <= 0.51
        assert len(set(server.post("generate", neighbors_of=IMAGES[3], count=3)["images"])) == 3

    def test_more_than_a_hundred_positions_are_rejected(self, server):
        assert "100" in server.post_error("generate", 422, positions=[[0, 0]] * 101)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
        b'{"images": ["AAAA"], "corruption": {"strength": NaN}}', b'{"images": ["\\ud800"]}',
        b'{"images": ["AAAA"], "corruption": {"strength": 1e999}}',
        b'{"images": ["AAAA"], "corruption": {"strength": 0.1, "seed": ' + b"9" * 10_000 + b"}}",
        b'{"images": [' + b"1," * 900 + b"1]}", b"{" + b'"a":1,' * 900 + b'"a":1}',
        b'{"images": [' + b"1," * 2_000_000 + b"1]}",
    ],
)  # fmt: skip
def test_bodies_that_are_no_request_get_a_short_error(server, body):
    """The errors of requests with wrong fields are pinned in tests/golden/messages.txt."""
    headers = {"content-type": "application/json"}
    response = server.client.post("/api/predict", content=body, headers=headers)
    assert response.status_code in (400, 422), response.text
    assert "\n" not in response.json()["error"] and len(response.content) < 2000


def test_requests_of_clients_that_have_gone_are_dropped():
    """A network computes nothing for them, and their bytes no longer count as queued."""
    server, gate, batches = live_server.shared(), threading.Event(), []
    batcher = server.state.batcher

    def slow(rows):
        batches.append(len(rows))
        gate.wait(30)
        return rows, rows

    original, batcher.networks["mlp"] = batcher.networks["mlp"], slow
    try:
        body = {"images": ONE, "pipelines": ["mlp"]}
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"http://127.0.0.1:{server.port}/api/predict", json=body, timeout=0.3)
        live_server.wait_until(lambda: len(batches) == 1)
        for _ in range(3):  # the closed connections come first in the server's loop
            assert server.client.get("/health").status_code == 200
        gate.set()
        live_server.wait_until(lambda: batcher.queued_bytes == 0)
    finally:
        gate.set()
        batcher.networks["mlp"] = original
    assert batches == [1]
    assert server.client.get("/health").status_code == 200


def test_a_second_start_converts_nothing():
    live_server.shared()
    before = {path: path.stat().st_mtime_ns for path in cache_dir("onnx").iterdir()}
    with live_server.serving(live_server.toy_run.finished()) as server:
        server.wait_until_learned()
        response = server.post("predict", images=live_server.encoded_examples()[:1])
        assert response["images"][0]["predictions"][0]["ood_score"] is not None
        assert len(server.post("generate", count=3)["images"]) == 3
    after = {path: path.stat().st_mtime_ns for path in cache_dir("onnx").iterdir()}
    assert after == before


def test_the_user_may_say_how_pictures_become_images():
    run = Run(toy_run.finished())
    planned = run.plan.data.preprocessing
    other = Preprocessing.of("mnist", planned.shape)
    with live_server.serving(run.model_dir("mlp"), preprocessing="mnist") as server:
        assert server.networks().preprocessing == other != planned
