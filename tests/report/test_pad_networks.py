"""The drawing pad inside the report: which networks it has, and that nothing else runs in the page."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from pad_runs import DENOISER, MLP, invent_pad_run, pad_run, script_tags, to_tensor, write_pad_run
from synthetic_run import replace

from inklab.model import TrainedModel
from inklab.records.components import NetworkConfig
from inklab.records.outcomes import Diagnosis
from inklab.report import build_report
from inklab.report.pad_demo import MAX_WEIGHT_BYTES, OOD_QUANTILE, build_pad, read_dense
from inklab.runs import Run


def read_report(run: Run) -> str:
    return (run.path / "report.html").read_text(encoding="utf-8")


class TestPage:
    def test_two_scripts_named_by_their_hashes(self, toy_report):
        text = read_report(toy_report)
        assert script_tags(text) == [
            '<script type="application/json" id="pad-data">', *['<script type="module">'] * 2
        ]  # fmt: skip
        digests = [
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            for script in re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
        ]
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        others, _, allowed = policy.partition("; script-src ")
        assert others == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert sorted(allowed.split()) == sorted(f"'sha256-{digest}'" for digest in digests)
        assert not re.search(r"<(link|iframe|object|embed|form)\b|\bsrc=(?!\"data:)|@import|url\((?!#)", text)
        assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]+)"', text))
        assert text.count('href="#try-it"') == 1 and not re.search(r"<[^>]+\son\w+=", text)

    def test_numpy_computes_the_same_as_torch(self, pad_report):
        pixels = pad_report.dataset.test.pixels
        for trial, compute in (("t0", TrainedModel.probabilities), ("t1", TrainedModel.denoise)):
            path = pad_report.path / "trials" / trial / "model"
            expected = compute(TrainedModel.load(path), to_tensor(pixels)).numpy()
            outputs = read_dense(path, max_bytes=MAX_WEIGHT_BYTES).forward(pixels)
            assert np.abs(outputs - expected.reshape(len(pixels), -1)).max() < 1e-5

    def test_it_names_its_networks_and_grows_by_less_than_2_mb(self, pad_report, tmp_path):
        text, without = read_report(pad_report), build_report(pad_report, {}, has_pad=False)
        assert 1_400_000 < len(text.encode()) - len(without.encode()) < 2_000_000
        assert "try-it" not in without and len(script_tags(without)) == 1
        assert "replicate 0, 55,050 parameters, test accuracy 50.00%" in text
        assert '<a href="#e0">Experiment 0</a>' in text and '<a href="#e1">Experiment 1</a>' in text
        width = MAX_WEIGHT_BYTES // 4 // 796 - 1  # of one layer for 28 x 28 pixels and ten classes
        pad = build_pad(pad_run(tmp_path, NetworkConfig.of("mlp", hidden=[width])))
        assert pad and 1_850_000 < len(pad.data) + len(pad.script) < 1_950_000

    def test_the_same_run_gives_the_same_bytes(self, toy_report):
        assert build_report(Run(toy_report.path), {}) == read_report(toy_report)

    def test_the_ood_threshold_is_a_quantile_of_the_samples(self, pad_report):
        pixels = pad_report.images.samples().pixels
        denoised = TrainedModel.load(pad_report.path / "trials/t1/model").denoise(to_tensor(pixels)).numpy()
        errors = ((denoised - pixels / 255) ** 2).reshape(len(pixels), -1).sum(axis=1)
        threshold = json.loads(build_pad(pad_report).data)["ood_threshold"]
        assert threshold == pytest.approx(np.quantile(errors, OOD_QUANTILE), rel=1e-3)


def pad_experiments(run: Run) -> list[str | None]:
    """Anchors of the experiments whose classifier and denoiser a report has; [] without a pad."""
    pad = build_pad(run)
    assert ("pad-data" in build_report(run, {})) == (pad is not None)
    return [] if pad is None else [pad.classifier.anchor, pad.denoiser and pad.denoiser.anchor]


LARGE = NetworkConfig.of("mlp", hidden=[500, 300])
WIDE = NetworkConfig.of("autoencoder", hidden=[400], code=8)


class TestWithout:
    """Runs with no pad, or only a part of it, and a complete report all the same."""

    @pytest.mark.parametrize(
        ("networks", "shape", "experiments"),
        [
            ([DENOISER], (1, 28, 28), []),
            ([MLP], (1, 28, 28), ["e0", None]),
            ([NetworkConfig.of("mlp", hidden=[4])], (3, 8, 8), []),
            ([LARGE, MLP, WIDE], (1, 28, 28), ["e1", None]),
        ],
        ids=["no dense classifier", "no denoiser", "color images", "too large networks"],
    )
    def test_by_network_and_shape(self, tmp_path, networks, shape, experiments):
        assert pad_experiments(pad_run(tmp_path, *networks, shape=shape)) == experiments

    def test_a_denoiser_that_was_trained_on_clean_images(self, tmp_path):
        run = invent_pad_run(MLP, DENOISER)
        config = run.plan.configs["c1"]
        config = replace(config, recipe=replace(config.recipe, corruption=None))
        run.change_plan(configs={**run.plan.configs, "c1": config})
        run.outcomes["t1"] = replace(run.outcomes["t1"], config=config)
        assert pad_experiments(write_pad_run(tmp_path, run)) == ["e0", None]

    def test_a_network_with_a_diagnosis_is_skipped(self, tmp_path):
        run = invent_pad_run(MLP, MLP)
        diagnosis = Diagnosis(name="inputs-scaled-twice", message="", advice="")
        run.outcomes["t0"] = replace(run.outcomes["t0"], diagnoses=(diagnosis,))
        assert pad_experiments(write_pad_run(tmp_path, run)) == ["e1", None]

    def test_nothing_trained_yet(self, tmp_path):
        run = invent_pad_run(MLP)
        run.outcomes.clear()
        assert pad_experiments(write_pad_run(tmp_path, run)) == []

    def test_the_best_setting_of_a_grid(self, tmp_path):
        run = invent_pad_run(NetworkConfig.of("mlp", hidden=[4]), NetworkConfig.of("mlp", hidden=[5]))
        first, second = run.plan.training
        settings = [
            replace(plan.settings[0], values={"hidden": [width]}) for plan, width in ((first, 4), (second, 5))
        ]
        run.change_plan(experiments=[replace(first, grid=("hidden",), settings=settings)])
        for trial, accuracy in (("t0", 0.4), ("t1", 0.6)):
            run.change_metrics(trial, validation_accuracy=accuracy)
        bias = json.loads(build_pad(write_pad_run(tmp_path, run)).data)["classifier"]["layers"][0]["bias"]
        assert len(base64.b64decode(bias)) == 4 * 5

    @pytest.mark.parametrize(
        "damage",
        ["no manifest", "no weights", "flipped bit", "cut", "no json", "list", "shape", "preprocessing"],
    )
    def test_a_damaged_model_costs_the_pad_only(self, tmp_path, damage):
        run = pad_run(tmp_path, MLP)
        model = tmp_path / "trials" / "t0" / "model"
        manifest, weights = model / "model.json", model / "weights.safetensors"
        values, raw = json.loads(manifest.read_text(encoding="utf-8")), bytearray(weights.read_bytes())
        digest = hashlib.sha256(raw[:-4]).hexdigest()
        texts = {
            "no json": "{", "list": "[]", "cut": json.dumps(values | {"weights_sha256": digest}),
            "shape": json.dumps(values | {"shape": [1, "28", None]}),
            "preprocessing": json.dumps(values | {"preprocessing": {"fit_to": 99}}),
        }  # fmt: skip
        if damage.startswith("no ") and damage != "no json":
            {"no manifest": manifest, "no weights": weights}[damage].unlink()
        if damage in texts:
            manifest.write_text(texts[damage], encoding="utf-8")
        if damage in ("flipped bit", "cut"):
            weights.write_bytes(raw[:-4] if damage == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
        assert pad_experiments(run) == []
