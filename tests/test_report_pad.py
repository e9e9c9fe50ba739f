"""The pad inside the report: which networks it has, and that nothing else runs in the page."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from synthetic_bundles import DENOISER, SMALL, made_up, scripts, tensor, toy_view

from inklab.model import TrainedModel
from inklab.report import build_report
from inklab.report.pad_demo import FAMILIARITY_QUANTILE, MAX_WEIGHT_BYTES, build_pad, read_dense


class TestPage:
    def test_one_script_named_by_its_hash(self, toy_page):
        text = toy_page.read_text(encoding="utf-8")
        assert scripts(text) == ['<script type="application/json" id="pad-data">', '<script type="module">']
        script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        expected = (
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        )
        assert policy == expected
        assert not re.search(r"<(link|iframe|object|embed|form|img)\b|\bsrc=|@import|url\((?!#)", text)
        assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]+)"', text))
        assert text.count('href="#try-it"') == 1 and not re.search(r"<[^>]+\son\w+=", text)

    def test_python_computes_the_same(self, large):
        for i, use in ((0, TrainedModel.probabilities), (1, TrainedModel.cleaned)):
            folder = large.path / "trials" / f"t{i}" / "bundle"
            expected = (
                use(TrainedModel.load(folder), tensor(large.pixels) / 255)
                .numpy()
                .reshape(len(large.pixels), -1)
            )
            assert (
                np.abs(read_dense(folder, largest=MAX_WEIGHT_BYTES).of(large.pixels) - expected).max() < 1e-5
            )

    def test_the_page_grows_by_less_than_2_mb(self, large, monkeypatch):
        with_pad = (large.path / "report.html").read_text(encoding="utf-8")
        monkeypatch.setattr("inklab.report.page.build_pad", lambda run: None)
        without = build_report(large, {})
        assert 1_400_000 < len(with_pad.encode()) - len(without.encode()) < 2_000_000
        assert "try-it" not in without and "<script" not in without

    def test_the_largest_pad_is_below_2_mb(self, tmp_path):
        hidden = MAX_WEIGHT_BYTES // 4 // 796 - 1  # of one layer for 28 x 28 pixels and ten classes
        part = build_pad(made_up(tmp_path, {"name": "mlp", "hidden": [hidden]}))
        assert part and 1_850_000 < len(part.data) + len(part.script) < 1_950_000

    def test_the_same_run_gives_the_same_bytes(self, toy_page):
        assert build_report(toy_view(toy_page.parent), {}).encode() == toy_page.read_bytes()

    def test_names_and_numbers_of_the_networks_are_told(self, large):
        text = (large.path / "report.html").read_text(encoding="utf-8")
        assert "replicate 0, 55,050 parameters" in text.replace("\u2009", ",").replace("\u202f", ",")
        assert '<a href="#c0">Chapter 0</a>' in text and '<a href="#c1">Chapter 1</a>' in text

    def test_what_counts_as_familiar_is_a_quantile_of_the_samples(self, large):
        folder = large.path / "trials" / "t1" / "bundle"
        pixels, _, _ = large.samples()
        cleaned = TrainedModel.load(folder).cleaned(tensor(pixels) / 255).numpy()
        departure = ((cleaned - pixels / 255) ** 2).reshape(len(pixels), -1).sum(axis=1)
        told = json.loads(build_pad(large).data)["familiar"]
        assert told == pytest.approx(np.quantile(departure, FAMILIARITY_QUANTILE), rel=1e-3)


class TestWithout:
    """Runs that have no pad, or only a part of it, and a report all the same."""

    def chosen(self, run) -> list[str | None]:
        part = build_pad(run)
        assert ("pad-data" in build_report(run, {})) == (part is not None)
        return [] if part is None else [part.classifier.anchor, part.denoiser and part.denoiser.anchor]

    def test_without_a_dense_classifier(self, tmp_path):
        assert self.chosen(made_up(tmp_path, DENOISER)) == []

    def test_without_a_denoiser(self, tmp_path):
        assert self.chosen(made_up(tmp_path, SMALL)) == ["c0", None]

    def test_colour_images(self, tmp_path):
        assert self.chosen(made_up(tmp_path, {"name": "mlp", "hidden": [4]}, shape=(3, 8, 8))) == []

    def test_what_is_too_large_is_passed_over(self, tmp_path):
        large = {"name": "mlp", "hidden": [500, 300]}
        wide = {"name": "autoencoder", "hidden": [400], "code": 8}
        assert self.chosen(made_up(tmp_path, large, SMALL, wide)) == ["c1", None]

    def test_a_verdict_disqualifies(self, tmp_path):
        run = made_up(tmp_path, SMALL, SMALL)
        run.outcomes["t0"]["verdicts"] = [{"name": "inputs-scaled-twice", "finding": "", "advice": ""}]
        assert self.chosen(run) == ["c1", None]

    def test_nothing_trained_yet(self, tmp_path):
        run = made_up(tmp_path, SMALL)
        run.outcomes.clear()
        assert self.chosen(run) == []

    def test_the_best_setting_of_a_sweep(self, tmp_path):
        run = made_up(tmp_path, {"name": "mlp", "hidden": [4]}, {"name": "mlp", "hidden": [5]})
        first, second = (chapter["settings"][0] for chapter in run.plan["chapters"])
        first["values"], second["values"] = {"l2": 0.1}, {"l2": 0.2}
        run.plan["chapters"] = [run.plan["chapters"][0] | {"vary": ["l2"], "settings": [first, second]}]
        run.results = {"chapters": {"c0": {"settings": [], "best": 0.2}}}
        bias = json.loads(build_pad(run).data)["classifier"]["layers"][0]["bias"]
        assert len(base64.b64decode(bias)) == 4 * 5

    @pytest.mark.parametrize(
        "harm", ["missing", "no weights", "spoilt", "cut", "no json", "list", "shape", "framing"]
    )
    def test_a_damaged_bundle_costs_the_pad_only(self, tmp_path, harm):
        run = made_up(tmp_path, SMALL)
        bundle = tmp_path / "trials" / "t0" / "bundle"
        manifest, weights = bundle / "bundle.json", bundle / "weights.safetensors"
        told = json.loads(manifest.read_text(encoding="utf-8"))
        raw = bytearray(weights.read_bytes())
        if harm == "missing":
            manifest.unlink()
        elif harm == "no weights":
            weights.unlink()
        elif harm == "spoilt":
            raw[-1] ^= 1
            weights.write_bytes(raw)
        elif harm == "cut":
            told["weights_sha256"] = hashlib.sha256(raw[:-4]).hexdigest()
            weights.write_bytes(raw[:-4])
            manifest.write_text(json.dumps(told), encoding="utf-8")
        else:
            change = {"shape": {"shape": [1, "28", None]}, "framing": {"framing": {"box": 3}}}.get(harm, {})
            text = {"no json": "{", "list": "[]"}.get(harm) or json.dumps(told | change)
            manifest.write_text(text, encoding="utf-8")
        assert self.chosen(run) == []
