"""The benchmarks' own machinery: ratios, pairs, the protocol, the page. No measurement is made here."""

# ruff: noqa: E402  (the path below comes before the imports that need it)

import json
import subprocess
import sys
from itertools import pairwise
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks are run from the checkout and never installed

from benchmarks import report
from benchmarks.claims import CLAIMS, ROWS, pairs_of
from benchmarks.compare import beside, claims_of, ratios_of
from benchmarks.driver import RESULTS, PeerDied, PeerProcess, environment
from benchmarks.layouts import laid_out
from benchmarks.peers.limit_peer import flops, products
from benchmarks.peers.torch_peer import build
from benchmarks.ratios import of_pairs
from benchmarks.storing import store, summary
from benchmarks.works import EPOCH, PARITY, WORKS, warm_up_images

WANTED = {
    "l2-sweep/keras-tensorflow", "l2-sweep/keras-jax", "l2-sweep/torch", "l2-sweep/sklearn", "l2-sweep/limit",
    "cnn/keras-tensorflow", "cnn/keras-torch", "cnn/torch", "denoiser/keras",
}  # fmt: skip
RECORDS = {
    "time-to-99.39/keras-tensorflow", "mlp-best/error", "cnn-best/accuracy", "cnn-best/ensemble",
    "denoiser-best/bce",
}  # fmt: skip
"""What recipes reach: not ratios of throughput, and measured when a recipe is."""
KEYS = {"value", "unit", "low", "high", "n", "bar", "command"}


class TestRatios:
    def test_five_pairs_give_median_minimum_and_maximum(self):
        found = of_pairs([3.0, 1.0, 5.0, 2.0, 9.0])
        assert (found.value, found.low, found.high, found.n) == (3.0, 1.0, 9.0, 5)
        assert found.coverage == 1 - 2 / 2**5

    @pytest.mark.parametrize("n", range(6, 30))
    def test_from_six_on_the_interval_is_the_narrowest_that_covers_95_percent(self, n):
        found = of_pairs([float(k) for k in range(1, n + 1)])
        k = int(found.low)
        below = [sum(comb(n, i) for i in range(most)) / 2**n for most in (k, k + 1)]
        assert found.high == n + 1 - k
        assert 1 - 2 * below[0] >= 0.95 > 1 - 2 * below[1]

    def test_the_interval_covers_the_median_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        draws = [of_pairs(rng.lognormal(0.0, 0.5, 9).tolist()) for _ in range(2000)]
        share = np.mean([each.low <= 1.0 <= each.high for each in draws])
        assert abs(share - draws[0].coverage) < 0.015

    @pytest.mark.parametrize("bad", [[], [1.0, 0.0], [1.0, -2.0], [float("nan")], [float("inf")]])
    def test_what_is_no_ratio_is_refused(self, bad):
        with pytest.raises(ValueError, match="positive"):
            of_pairs(bad)


class TestPairs:
    def test_all_claims_are_there(self):
        assert {claim.name for claim in CLAIMS} == WANTED

    @pytest.mark.parametrize("work", ROWS)
    def test_everybody_stands_beside_one_of_ours(self, work):
        row = ROWS[work]
        pairs = pairs_of(row)
        assert set(pairs) == set(row) - {"ours", "ours-fp32"}
        for name, place in pairs.items():
            assert row[place] == "ours" and abs(place - row.index(name)) == 1

    @pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
    def test_every_claim_is_measured(self, claim):
        assert set(claim.against) <= set(ROWS[claim.work])
        assert claim.stretch is None or claim.stretch > claim.bar

    def test_two_of_ours_are_not_neighbours_for_nothing(self):
        assert not [work for work, row in ROWS.items() if ("ours", "ours") in pairwise(row)]


def measured(work: str, speeds: dict[str, float], drift: float = 1.0) -> list[dict]:
    """A round with known speeds; `drift` slows everybody down from one measurement to the next."""
    found = []
    for place, name in enumerate(ROWS[work]):
        seconds = drift**place / speeds[name]
        found.append(
            {"entrant": name, "seconds": seconds, "images": EPOCH, "member_epochs": 1.0, "loss": 0.1}
        )
    return found


class TestComparison:
    SPEEDS = {"ours": 2.0, "ours-fp32": 1.2, "keras-tensorflow": 0.5, "keras-jax": 1.0}

    def test_a_ratio_is_ours_by_theirs(self):
        rounds = [measured("denoiser", self.SPEEDS)] * 5
        assert ratios_of(rounds, "keras-tensorflow") == [4.0] * 5

    def test_drift_costs_a_pair_one_place_at_most(self):
        rounds = [measured("denoiser", self.SPEEDS, drift=1.1)]
        assert ratios_of(rounds, "keras-tensorflow")[0] == pytest.approx(4.0 / 1.1)
        assert ratios_of(rounds, "keras-jax")[0] == pytest.approx(2.0 * 1.1)

    def test_the_denoiser_is_held_against_the_faster_keras(self):
        claim = claims_of("denoiser", [measured("denoiser", self.SPEEDS)] * 5, "a command")["denoiser/keras"]
        assert (claim["against"], claim["value"], claim["n"]) == ("keras-jax", 2.0, 5)
        assert KEYS <= set(claim) and claim["unit"] == "ratio" and claim["command"] == "a command"

    def test_our_fp32_row_stands_beside(self):
        assert beside([measured("denoiser", self.SPEEDS)])["fp32"]["keras-jax"] == pytest.approx(1.2)

    def test_others_claims_stay_in_the_summary(self, tmp_path):
        store(tmp_path, {"name": "cnn"}, {"cnn/torch": {"value": 1.0}, "cnn/keras-torch": {"value": 2.0}})
        store(tmp_path, {"name": "denoiser"}, {"denoiser/keras": {"value": 3.0}})
        store(tmp_path, {"name": "cnn"}, {"cnn/torch": {"value": 4.0}})
        assert {name: claim["value"] for name, claim in summary(tmp_path).items()} == {
            "cnn/torch": 4.0, "cnn/keras-torch": 2.0, "denoiser/keras": 3.0,
        }  # fmt: skip


PEER = """
import sys
from benchmarks.protocol import serve
class Peer:
    def prepare(self, request):
        print("chatter that is no answer")
        return {"versions": {}, "does": request["work"]}
    def measure(self):
        %s
        return {"seconds": 1.0, "images": 10, "loss": 0.5}
serve(Peer())
"""


@pytest.fixture
def peer(tmp_path):
    """Starts a peer whose measurement does what is given."""
    alive = []

    def start(measuring: str = "pass", code: str = PEER) -> PeerProcess:
        script = code % measuring if "%s" in code else code
        log = tmp_path / "peer.log"
        alive.append(PeerProcess("fake", [sys.executable, "-c", script], environment({}), log))
        return alive[-1]

    yield start
    for each in alive:
        each.close()


class TestProtocol:
    def test_a_peer_answers_whatever_its_libraries_print(self, peer):
        it = peer()
        assert it.ask({"do": "prepare", "work": "cnn"}) == {"versions": {}, "does": "cnn"}
        assert it.ask({"do": "measure"}) == {"seconds": 1.0, "images": 10, "loss": 0.5}
        it.close()
        assert it.process.returncode == 0

    @pytest.mark.parametrize(
        ("measuring", "words"),
        [
            (
                "print('out of luck', file=sys.stderr); sys.stderr.flush(); __import__('os')._exit(7)",
                "exit code 7",
            ),
            (
                "print('out of luck', file=sys.stderr); __import__('os').kill(__import__('os').getpid(), 9)",
                "code -9",
            ),
            ("raise ValueError('out of luck')", "failed to measure: ValueError: out of luck"),
            ("return {'seconds': 1.0, 'images': 1, 'loss': float('nan')}", "its loss became nan"),
        ],
    )
    def test_a_peer_that_fails_is_told_of_in_one_line(self, peer, measuring, words):
        it = peer(measuring)
        it.ask({"do": "prepare", "work": "cnn"})
        with pytest.raises(PeerDied) as caught:
            it.ask({"do": "measure"})
        said = str(caught.value)
        assert "peer 'fake'" in said and words in said and "\n" not in said and "peer.log" in said
        assert "luck" in said or "nan" in said

    def test_a_peer_that_is_gone_already(self, peer):
        it = peer(code="import sys; sys.exit('no such thing')")
        it.process.wait(10)
        with pytest.raises(PeerDied, match="exit code 1 when asked to prepare; it last said: no such thing"):
            it.ask({"do": "prepare"})

    def test_a_peer_that_hangs(self, peer):
        it = peer("import time; time.sleep(60)")
        it.ask({"do": "prepare", "work": "cnn"})
        with pytest.raises(PeerDied, match=r"no answer to 'measure' in 0\.2 s"):
            it.ask({"do": "measure"}, limit=0.2)
        it.process.kill()

    def test_a_peer_that_talks_nonsense(self, peer):
        it = peer(code="print('hello', flush=True); input()")
        with pytest.raises(PeerDied, match="not JSON"):
            it.ask({"do": "prepare"})

    def test_without_their_environment(self, tmp_path):
        with pytest.raises(PeerDied, match="make bench-setup"):
            PeerProcess("fake", [str(tmp_path / "python")], {}, tmp_path / "log")

    def test_nothing_binds_a_peers_threads_or_kernels(self, monkeypatch):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        found = environment({"KERAS_BACKEND": "jax"})
        assert not [name for name in found if name.startswith(("OMP_", "OPENBLAS_", "MKL_"))]
        assert found["KERAS_BACKEND"] == "jax"


class TestWork:
    @pytest.mark.parametrize(
        ("network", "parameters"), [("mlp", 545_810), ("cnn", 1_250_926), ("autoencoder", 226_416)]
    )
    def test_the_peers_network_is_the_studys(self, network, parameters):
        assert sum(p.numel() for p in build(network).parameters()) == parameters

    @pytest.mark.parametrize("work", WORKS.values(), ids=lambda work: work.name)
    def test_warming_up_meets_every_batch_shape(self, work):
        def shapes(images: int) -> set[int]:
            return {min(work.batch, images - start) for start in range(0, images, work.batch)}

        assert shapes(warm_up_images(work)) == shapes(work.images)

    def test_the_limit_lists_all_matmuls_of_a_step_but_the_first_layers_input_gradient(self):
        batch, members = 16, 2
        assert len(products(members, batch, "fp32")) == 3 + 3 + 2
        first, second, third = 784 * 500, 500 * 300, 300 * 10
        assert flops(members, batch) == 2 * members * batch * (2 * first + 3 * second + 3 * third)

    def test_every_network_of_the_study_is_held_against_keras(self):
        assert {"mlp-64-64", "mlp-500-300", "l2-sweep", "cnn", "denoiser"} <= set(PARITY)
        assert [name for name, case in PARITY.items() if case.chaotic] == ["cnn-at-0.1"]

    def test_the_engine_trains_each_work_as_the_study_would(self, tmp_path):
        """In a process of its own: the benchmarks' objectives must not be seen by other tests."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8)
        for name, array in {
            "clean": images,
            "noisy": 255 - images,
            "labels": rng.integers(0, 10, 200),
        }.items():
            np.save(tmp_path / f"{name}.npy", array)
        said = subprocess.run(
            [sys.executable, "-c", ENGINE, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        found = json.loads(said.stdout)
        assert found["histories"] == {name: ["epoch", "train_loss"] for name in WORKS}  # nothing is scored
        assert found["classify"] == found["l2-sweep"]


ENGINE = """
import json, sys
from dataclasses import replace
from benchmarks.training import data_of, group_of, train
from benchmarks.works import WORKS, smaller
from inklab.training.trainer import PopulationJob, Trial, train_population
found = {"histories": {}}
for name, work in WORKS.items():
    work = smaller(work, 200, 2 if work.members > 1 else 1)
    data = data_of(work, sys.argv[1], 200)
    group = group_of(work, "fp32", 0, work.members)
    trained = train(group, data)
    found["histories"][name] = sorted(trained[0].history)
    if name == "l2-sweep":
        found[name] = [each.history["train_loss"] for each in trained]
        def plain(trial):
            recipe = {**trial.settings["recipe"], "objective": "classify"}
            return Trial(trial.id, {**trial.settings, "recipe": recipe}, trial.replicate)
        again = train_population(replace(group, trials=[plain(trial) for trial in group.trials]), data)
        found["classify"] = [each.history["train_loss"] for each in again]
print(json.dumps(found))
"""


class TestLayouts:
    def test_a_convolution(self):
        rng = np.random.default_rng(0)
        images, kernel = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4))  # h w c; h w in out
        patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # n h w c kh kw
        theirs = np.einsum("nhwckl,klco->nohw", patches, kernel)
        ours = functional.conv2d(torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(laid_out(kernel)))
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10, atol=1e-12)

    def test_a_dense_layer_behind_a_flattening(self):
        rng = np.random.default_rng(1)
        features, kernel = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(60, 7))  # n h w c
        theirs = features.reshape(2, -1) @ kernel
        ours = features.reshape(2, -1) @ laid_out(kernel).T
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)

    def test_a_bias_stays(self):
        np.testing.assert_array_equal(laid_out(np.arange(3.0)), np.arange(3.0))


@pytest.fixture
def results(tmp_path) -> Path:
    """A measurement of the denoiser with made-up speeds, as the driver stores it."""
    rounds = [measured("denoiser", TestComparison.SPEEDS)] * 5
    told = {"versions": {"keras": "3"}, "does": "something"}
    raw = {
        "name": "denoiser", "work": WORKS["denoiser"].to_json(), "rounds": rounds, "beside": beside(rounds),
        "entrants": {name: told for name in ROWS["denoiser"]}, "date": "2026-01-01", "command": "a command",
        "machine": {"cores": 2, "cpu": "a processor", "platform": "Linux", "python": "3.11"},
    }  # fmt: skip
    store(tmp_path / "results", raw, claims_of("denoiser", rounds, "a command"))
    return tmp_path / "results"


class TestPage:
    def test_it_tells_what_was_measured_and_nothing_else(self, results):
        page = report.render(results)
        assert (
            "| `denoiser/keras` |" in page
            and "| **2.00** | 2.00 to 2.00 | 5 | 1.5 | 3 | yes | 1.20 |" in page
        )
        assert "`keras-jax`, the faster one" in page and "a processor" in page
        assert "cnn/torch" not in page and "How cost grows" not in page

    def test_a_bar_that_was_missed_is_plain_to_see(self, results):
        path = results / "summary.json"
        claims = json.loads(path.read_text())
        claims["denoiser/keras"]["value"] = 1.4
        path.write_text(json.dumps(claims))
        assert "**no**" in report.render(results)

    def test_without_results_it_says_so(self, tmp_path):
        assert "Nothing was measured yet" in report.render(tmp_path)

    def test_it_is_known_to_be_old_once_a_number_changes(self, results, tmp_path):
        from benchmarks.figures import write_figures

        page, pictures = tmp_path / "page.md", tmp_path / "pictures"
        page.write_text(report.render(results), encoding="utf-8")
        assert not report.is_current(results, page, pictures)  # no figures yet
        write_figures(results, pictures)
        assert report.is_current(results, page, pictures)
        claims = json.loads((results / "summary.json").read_text())
        claims["denoiser/keras"]["high"] += 1.0
        (results / "summary.json").write_text(json.dumps(claims))
        page.write_text(report.render(results), encoding="utf-8")
        assert not report.is_current(results, page, pictures)  # its figure shows the old range


@pytest.mark.skipif(
    not (RESULTS / "summary.json").is_file(), reason="no benchmark was run yet: benchmarks/results"
)
class TestStoredResults:
    def test_the_page_is_what_the_results_give(self):
        assert report.is_current(), "run .venv/bin/python -m benchmarks.report"

    def test_every_claim_is_there_and_whole(self):
        claims = summary(RESULTS)
        assert WANTED <= set(claims) <= WANTED | RECORDS
        bars = {claim.name: claim.bar for claim in CLAIMS}
        for name, claim in claims.items():
            assert KEYS <= set(claim), name
            assert name in RECORDS or (claim["unit"] == "ratio" and claim["bar"] == bars[name]), name
            assert 0 < claim["low"] <= claim["value"] <= claim["high"] and claim["n"] >= 2, name
            assert name in RECORDS or claim["n"] >= 5, name
            assert claim["command"].startswith(".venv/bin/python -m benchmarks"), name
