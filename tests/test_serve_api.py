"""The server's answers about images: the same numbers as the bundles', in whatever company."""

import asyncio
import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import live_server
import numpy as np
import pytest
import torch
import toy_run
from PIL import Image

from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.model import TrainedModel
from inklab.study.run_directory import RunDirectory

PIPELINES = ["cnn", "denoiser+cnn", "median+cnn", "mlp", "scaled-twice", "sweep"]


@pytest.fixture(scope="module")
def server():
    return live_server.shared()


def bundle(name, setting=0):
    folder = RunDirectory(toy_run.finished())
    chapter = next(each for each in folder.plan()["chapters"] if each["name"] == name)
    return TrainedModel.load(folder.bundle(chapter["settings"][setting]["trials"][0]))


def floats(pixels):
    return torch.from_numpy(np.array(pixels)).float() / 255


def probabilities(answer, pipeline):
    return np.array([
        next(told["probabilities"] for told in each["judgements"] if told["pipeline"] == pipeline)
        for each in answer["images"]
    ])  # fmt: skip


class TestNetworks:
    def test_everything_of_the_run_is_there_by_id(self, server):
        told = server.client.get("/api/networks").json()
        assert [each["id"] for each in told["pipelines"]] == PIPELINES
        assert told["pipelines"][1]["parts"] == ["denoiser", "cnn"]
        assert told["image"] == {"channels": 1, "height": toy_run.SIDE, "width": toy_run.SIDE}
        assert (told["kind"], told["study"], told["title"]) == ("run", "toy", "A toy")
        assert told["labels"] == [str(k) for k in range(toy_run.CLASSES)]
        assert told["denoisers"] == ["denoiser"]
        assert told["framing"] == RunDirectory(toy_run.finished()).plan()["data"]["framing"]

    def test_the_studys_own_corruption_comes_first_and_every_registered_one_is_there(self, server):
        told = server.client.get("/api/networks").json()
        assert told["corruptions"][0]["id"] == "salt_and_pepper"
        assert {each["id"] for each in told["corruptions"]} == set(corruptions)
        assert told["strengths"] == [0, 0.3, 0.6]

    def test_accuracies_and_curves_are_those_of_the_results(self, server):
        told = server.client.get("/api/networks").json()
        results = json.loads((toy_run.finished() / "results.json").read_text())["chapters"]
        by_id = {each["id"]: each["accuracy"] for each in told["pipelines"]}
        assert by_id["cnn"]["mean"] == results["cnn"]["test_accuracy"]["mean"]
        assert by_id["cnn"]["n"] == 2
        assert (
            by_id["denoiser+cnn"]["mean"]
            == results["noise"]["pipelines"]["denoiser+cnn"]["accuracy"][0]["mean"]
        )
        best = next(each for each in results["sweep"]["settings"] if each["l2"] == results["sweep"]["best"])
        assert by_id["sweep"]["mean"] == best["test_accuracy"]["mean"]
        curve = told["curves"]["pipelines"]["cnn"]
        assert curve["tpr"] == [each["mean"] for each in results["noise"]["pipelines"]["cnn"]["tpr"]]
        assert all(
            low <= tpr <= high
            for low, tpr, high in zip(curve["low"], curve["tpr"], curve["high"], strict=True)
        )

    def test_decoders_say_where_their_codes_come_from(self, server):
        (told,) = server.client.get("/api/networks").json()["decoders"]
        assert (told["id"], told["code"], told["codes_from"]) == ("denoiser", 8, "training images")
        assert [each["id"] for each in told["samplers"]][:2] == ["binary", "mixture"]

    def test_health(self, server):
        assert server.client.get("/health").json()["study"] == "toy"


class TestPredict:
    @pytest.mark.parametrize(("name", "setting"), [("cnn", 0), ("mlp", 0), ("scaled-twice", 0)])
    def test_a_classifier_alone_says_what_its_bundle_says(self, server, name, setting):
        answer = server.ask(
            "predict", images=[live_server.text(each) for each in live_server.examples()], pipelines=[name]
        )
        right = bundle(name, setting).probabilities(floats(live_server.examples())).numpy()
        assert np.abs(probabilities(answer, name) - right).max() < 1e-5

    def test_a_sweep_is_its_best_setting(self, server):
        results = json.loads((toy_run.finished() / "results.json").read_text())["chapters"]["sweep"]
        place = [each["l2"] for each in results["settings"]].index(results["best"])
        answer = server.ask(
            "predict", images=[live_server.text(live_server.examples()[0])], pipelines=["sweep"]
        )
        right = bundle("sweep", place).probabilities(floats(live_server.examples()[:1])).numpy()
        assert np.abs(probabilities(answer, "sweep") - right).max() < 1e-5

    def test_pipelines_clean_first_and_show_what_reached_the_classifier(self, server):
        pixels = live_server.examples()[:5]
        noise = {"strength": 0.3, "seed": 4}
        answer = server.ask(
            "predict",
            images=[live_server.text(each) for each in pixels],
            pipelines=PIPELINES[:3],
            noise=noise,
        )
        again = server.ask("predict", images=[live_server.text(each) for each in pixels], noise=noise)
        assert [each["shown"] for each in again["images"]] == [each["shown"] for each in answer["images"]]
        shown = floats(np.stack([live_server.image(each["shown"]) for each in answer["images"]]))
        cleaners = {
            "cnn": lambda x: x,
            "denoiser+cnn": bundle("denoiser").cleaned,
            "median+cnn": filters["median"],
        }
        for place, (pipeline, clean) in enumerate(cleaners.items()):
            seen = clean(shown)
            right = bundle("cnn").probabilities(seen).numpy()
            assert np.abs(probabilities(answer, pipeline) - right).max() < 1e-5
            told = np.stack(
                [live_server.image(each["judgements"][place]["seen"]) for each in answer["images"]]
            )
            assert np.abs(told - 255 * seen.numpy()).max() <= 0.51

    def test_the_first_pipeline_is_the_usual_one(self, server):
        answer = server.ask("predict", images=[live_server.text(live_server.examples()[0])])
        assert [each["pipeline"] for each in answer["images"][0]["judgements"]] == ["cnn"]

    def test_images_come_back_as_they_were_sent(self, server):
        pixels = live_server.examples()[:3]
        answer = server.ask("predict", images=[live_server.text(each) for each in pixels])
        for sent, told in zip(pixels, answer["images"], strict=True):
            assert (live_server.image(told["image"]) == sent).all()
            assert told["image"] == told["shown"] == told["judgements"][0]["seen"]

    def test_the_label_is_the_most_probable_class(self, server):
        answer = server.ask("predict", images=[live_server.text(each) for each in live_server.examples()])
        for each in answer["images"]:
            (told,) = each["judgements"]
            assert told["label"] == str(int(np.argmax(told["probabilities"])))
            assert abs(sum(told["probabilities"]) - 1) < 1e-4

    def test_in_company_is_as_alone(self, server):
        """Many clients at once, so that their images share passes."""
        pixels = live_server.examples()
        with ThreadPoolExecutor(20) as pool:
            together = list(
                pool.map(lambda each: server.ask("predict", images=[live_server.text(each)]), pixels)
            )
        for each, answer in zip(pixels, together, strict=True):
            alone = server.ask("predict", images=[live_server.text(each)])
            assert np.abs(probabilities(answer, "cnn") - probabilities(alone, "cnn")).max() < 1e-5

    def test_the_most_images_at_once(self, server):
        many = [live_server.text(each) for each in np.concatenate([live_server.examples()] * 4)][:64]
        answer = server.ask("predict", images=many, pipelines=["cnn", "mlp"])
        assert len(answer["images"]) == 64
        right = bundle("mlp").probabilities(floats(live_server.examples())).numpy()
        assert np.abs(probabilities(answer, "mlp")[:20] - right).max() < 1e-5
        assert "64" in server.refused("predict", 422, images=[*many, many[0]])


class TestAbstaining:
    def test_an_empty_image_is_no_class(self, server):
        (told,) = server.ask("predict", images=[live_server.text(np.zeros(toy_run.SIDE**2))])["images"][0][
            "judgements"
        ]
        assert (told["abstains"], told["label"]) == ("empty", None)
        assert len(told["probabilities"]) == toy_run.CLASSES

    def test_familiar_images_are_judged_and_noise_is_not(self, server):
        answer = server.ask("predict", images=[live_server.text(each) for each in live_server.examples()])
        told = [each["judgements"][0] for each in answer["images"]]
        assert sum(each["abstains"] is None for each in told) >= 18
        assert all(isinstance(each["familiarity"], float) for each in told)
        random = 255 * np.random.default_rng(0).integers(0, 2, (20, 1, toy_run.SIDE, toy_run.SIDE))
        foreign = server.ask("predict", images=[live_server.text(each) for each in random])["images"]
        assert sum(each["judgements"][0]["abstains"] == "unfamiliar" for each in foreign) >= 18
        assert all(
            (each["judgements"][0]["familiarity"] < 0) == (each["judgements"][0]["label"] is None)
            for each in foreign
        )

    def test_noise_on_an_empty_image_leaves_it_empty(self, server):
        noise = {"strength": 0.5}
        answer = server.ask("predict", images=[live_server.text(np.zeros(toy_run.SIDE**2))], noise=noise)
        assert answer["images"][0]["judgements"][0]["abstains"] == "empty"


class TestNoise:
    def test_without_strength_it_changes_nothing(self, server):
        for name in corruptions:
            noise = {"corruption": name, "strength": 0, "seed": 9}
            (told,) = server.ask(
                "predict", images=[live_server.text(live_server.examples()[0])], noise=noise
            )["images"]
            assert told["shown"] == told["image"], name

    def test_salt_and_pepper_is_nested_over_strength(self, server):
        grey = np.full((1, toy_run.SIDE, toy_run.SIDE), 99)
        before = np.zeros(grey.shape, bool)
        for strength in (0.1, 0.25, 0.5, 0.75, 1.0):
            noise = {"corruption": "salt_and_pepper", "strength": strength, "seed": 3}
            (told,) = server.ask("predict", images=[live_server.text(grey)], noise=noise)["images"]
            replaced = live_server.image(told["shown"]) != 99
            assert (replaced | before == replaced).all()
            assert abs(replaced.mean() - strength) < 0.15
            before = replaced

    def test_other_seeds_draw_other_noise(self, server):
        shown = {
            server.ask(
                "predict",
                images=[live_server.text(live_server.examples()[0])],
                noise={"strength": 0.4, "seed": seed},
            )["images"][0]["shown"]
            for seed in range(5)
        }
        assert len(shown) == 5

    def test_wrong_noise_is_told(self, server):
        one = [live_server.text(live_server.examples()[0])]
        wrong = {"corruption": "salt_and_peper", "strength": 0.1}
        assert "Did you mean 'salt_and_pepper'" in server.refused("predict", 422, images=one, noise=wrong)
        assert "0 to 1" in server.refused("predict", 422, images=one, noise={"strength": 1.5})
        named = {"corruption": "my_noise.py:speckle", "strength": 0.1}
        assert "my_noise" in server.refused("predict", 422, images=one, noise=named)


class TestPictures:
    def picture(self, ink=20, ground=250, kind="PNG"):
        page = Image.new("L", (90, 70), ground)
        page.paste(ink, (30, 20, 60, 50))
        file = io.BytesIO()
        page.save(file, kind)
        return base64.b64encode(file.getvalue()).decode()

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
    def test_a_picture_is_framed_as_training_images_were(self, server, kind):
        answer = server.ask("predict", picture=self.picture(kind=kind))
        assert live_server.image(answer["images"][0]["image"]).shape == (1, toy_run.SIDE, toy_run.SIDE)

    def test_a_picture_may_be_denoised(self, server):
        assert set(server.ask("denoise", picture=self.picture())["images"][0]) == {
            "image",
            "shown",
            "cleaned",
        }

    def test_a_file_that_is_no_picture_is_told(self, server):
        text = base64.b64encode(b"hello, this is text").decode()
        assert "PNG" in server.refused("predict", 422, picture=text)

    def test_a_huge_picture_is_refused_before_it_is_decoded(self, server):
        file = io.BytesIO()
        Image.new("1", (5000, 5000)).save(file, "PNG")
        text = base64.b64encode(file.getvalue()).decode()
        assert "16,000,000" in server.refused("predict", 422, picture=text)


class TestDenoise:
    def test_it_is_what_the_bundle_makes(self, server):
        answer = server.ask(
            "denoise",
            images=[live_server.text(each) for each in live_server.examples()[:3]],
            noise={"strength": 0.4},
        )
        shown = floats(np.stack([live_server.image(each["shown"]) for each in answer["images"]]))
        right = 255 * bundle("denoiser").cleaned(shown).numpy()
        found = np.stack([live_server.image(each["cleaned"]) for each in answer["images"]])
        assert np.abs(found - right).max() <= 0.51

    def test_other_names_are_told(self, server):
        told = server.refused(
            "denoise", 422, images=[live_server.text(live_server.examples()[0])], denoiser="denoisr"
        )
        assert "Did you mean 'denoiser'" in told


class TestGenerate:
    def test_a_seed_gives_the_same_images(self, server):
        first, again = (server.ask("generate", seed=5, count=7) for _ in range(2))
        other = server.ask("generate", seed=6, count=7)
        assert first == again != other
        assert len(first["images"]) == len(first["recognised"]) == 7
        assert all(0 <= each["probability"] <= 1 for each in first["recognised"])

    @pytest.mark.parametrize("sampler", ["binary", "uniform", "gaussian", "mixture", "perturbed"])
    def test_every_sampler_draws(self, server, sampler):
        assert len(server.ask("generate", sampler=sampler, count=100)["images"]) == 100

    def test_a_walk_has_its_corners_and_is_smooth(self, server):
        places = [[x / 8, 0.3] for x in range(9)]
        walk = [
            live_server.image(each).astype(int)
            for each in server.ask("generate", at=places, seed=2)["images"]
        ]
        steps = [np.abs(a - b).mean() for a, b in zip(walk, walk[1:], strict=False)]
        assert max(steps) <= np.abs(walk[0] - walk[-1]).mean() + 1
        corner = server.ask("generate", at=[[0, 0]], seed=2)["images"][0]
        assert corner == server.ask("generate", count=1, seed=2)["images"][0]

    def test_near_an_image_without_spread_is_its_reconstruction(self, server):
        pixels = live_server.examples()[3]
        answer = server.ask("generate", near=live_server.text(pixels), spread=0, count=3)
        right = 255 * bundle("denoiser").cleaned(floats(pixels[None])).numpy()[0]
        assert len(set(answer["images"])) == 1
        assert np.abs(live_server.image(answer["images"][0]) - right).max() <= 0.51
        assert len(set(server.ask("generate", near=live_server.text(pixels), count=3)["images"])) == 3

    def test_more_than_a_hundred_are_refused(self, server):
        assert "100" in server.refused("generate", 422, count=100_000)
        assert "100" in server.refused("generate", 422, at=[[0, 0]] * 101)
        assert "not both" in server.refused(
            "generate", 422, at=[[0, 0]], near=live_server.text(live_server.examples()[0])
        )


class TestMistakes:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({}, "either images or a picture"),
            ({"images": []}, "at least 1"),
            ({"images": ["AAAA"]}, "3 bytes"),
            ({"images": ["not base64!"]}, "not base64"),
            ({"images": ["é"]}, "not base64"),
            ({"images": [1]}, "string"),
            ({"images": "AAAA"}, "array"),
            ({"images": ["AAAA"], "picture": "AAAA"}, "either images or a picture"),
            ({"imges": ["AAAA"]}, "imges"),
            ({"images": ["AAAA"], "noise": {"strength": "much"}}, "number"),
            ({"images": ["AAAA"], "noise": {"strength": 0.1, "seed": -1}}, "greater"),
            ({"images": ["AAAA"], "noise": {"strength": 0.1, "seed": 1.5}}, "integer"),
            ({"images": ["AAAA"], "pipelines": ["../cnn"]}, "no pipeline"),
            ({"images": ["AAAA"], "pipelines": []}, "at least 1"),
        ],
    )
    def test_one_line_says_what_is_wrong(self, server, body, said):
        told = server.refused("predict", 422, **body)
        assert said in told and "\n" not in told

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
            b'{"images": ["AAAA"], "noise": {"strength": NaN}}', b'{"images": ["\\ud800"]}',
            b'{"images": ["AAAA"], "noise": {"strength": 1e999}}',
            b'{"images": ["AAAA"], "noise": {"strength": 0.1, "seed": ' + b"9" * 10_000 + b"}}",
            b'{"images": [' + b"1," * 900 + b"1]}", b"{" + b'"a":1,' * 900 + b'"a":1}',
            b'{"images": [' + b"1," * 2_000_000 + b"1]}",
        ],
    )  # fmt: skip
    def test_bodies_that_are_no_request(self, server, body):
        answer = server.client.post(
            "/api/predict", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
        assert "\n" not in answer.json()["error"]
        assert len(answer.content) < 2000


def test_a_client_that_has_gone_is_not_waited_for(monkeypatch):
    """What it asked for is left out, and room is made."""
    server = live_server.shared()
    batcher, gate = server.service.batcher, asyncio.Event()
    calls = []

    def slow(rows):
        calls.append(len(rows))
        live_server.wait_until(gate.is_set)
        return rows, rows

    monkeypatch.setitem(batcher.networks, "mlp", slow)
    body = {"images": [live_server.text(live_server.examples()[0])], "pipelines": ["mlp"]}
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"http://127.0.0.1:{server.port}/api/predict", json=body, timeout=0.3)
    live_server.wait_until(lambda: len(calls) == 1)
    threadsafe = server.service.batcher._loop.call_soon_threadsafe
    threadsafe(gate.set)
    live_server.wait_until(lambda: batcher._waiting == 0)
    assert calls == [1]
    assert server.client.get("/health").status_code == 200
