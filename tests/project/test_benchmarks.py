"""The benchmarks' own code: ratios, pairs, the protocol, the page. No measurement is made here."""

# ruff: noqa: E402  (the path below comes before the imports that need it)

import json
import subprocess
import sys
import time
from itertools import pairwise
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are run from the checkout and never installed

from benchmarks import report
from benchmarks.api_overhead import check_equal_numbers, time_pair, trial_numbers, write_study
from benchmarks.compare import evaluate_claims, fp32_ratios, make_request, median_speeds, paired_ratios
from benchmarks.figures import write_figures
from benchmarks.keras_weights import convert_keras_weights
from benchmarks.options import RESULTS, BenchmarkError
from benchmarks.peer_client import PeerError, PeerProcess, process_environment
from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming
from benchmarks.peers.limit_peer import step_flops, step_products
from benchmarks.peers.torch_peer import build_network
from benchmarks.prediction import TARGETS, WARM_UP_CALLS, make_model, measure_model, time_calls
from benchmarks.ratios import median_ratio
from benchmarks.records import (
    ApiOverheadPair,
    ApiOverheadResults,
    BenchmarkResults,
    Claim,
    ComparisonResults,
    Measurement,
    PredictionResults,
    ProgramTiming,
    Round,
)
from benchmarks.results_io import read_results, read_summary, write_results
from benchmarks.thresholds import ROUNDS, SPEED_CLAIMS, pair_positions
from benchmarks.workloads import EPOCH_IMAGES, PARITY_CASES, WORKLOADS

from inklab.records.outcomes import Environment, History

SPEED_CLAIM_NAMES = {
    "l2-sweep/keras-tensorflow", "l2-sweep/keras-jax", "l2-sweep/torch", "l2-sweep/sklearn", "l2-sweep/limit",
    "cnn/keras-tensorflow", "cnn/keras-torch", "cnn/torch", "denoiser/keras",
}  # fmt: skip
RECIPE_CLAIM_NAMES = {
    "time-to-99.39/keras-tensorflow", "mlp-best/error", "cnn-best/accuracy", "cnn-best/ensemble",
    "denoiser-best/bce",
}  # fmt: skip
"""What recipes reach: not ratios of throughput, and measured when a recipe is."""
MEASUREMENT = Measurement(
    environment=Environment(
        inklab="1", python="3.11", torch="2", numpy="2", platform="Linux", cpu="a processor", cores=2,
        threads=2,
    ),
    date="2026-01-01",
    command="a command",
)  # fmt: skip


class TestRatios:
    def test_five_pairs_give_median_minimum_and_maximum(self):
        ratio = median_ratio([3.0, 1.0, 5.0, 2.0, 9.0])
        assert (ratio.value, ratio.low, ratio.high, ratio.n) == (3.0, 1.0, 9.0, 5)
        assert ratio.coverage == 1 - 2 / 2**5

    @pytest.mark.parametrize("n", range(6, 30))
    def test_from_six_on_the_interval_is_the_narrowest_that_covers_95_percent(self, n):
        ratio = median_ratio([float(k) for k in range(1, n + 1)])
        k = int(ratio.low)
        below = [sum(comb(n, i) for i in range(rank)) / 2**n for rank in (k, k + 1)]
        assert ratio.high == n + 1 - k
        assert 1 - 2 * below[0] >= 0.95 > 1 - 2 * below[1]

    @pytest.mark.parametrize("bad", [[], [1.0, 0.0], [1.0, -2.0], [float("nan")], [float("inf")]])
    def test_ratios_are_positive_and_finite(self, bad):
        with pytest.raises(ValueError):
            median_ratio(bad)


class TestThresholds:
    @pytest.mark.parametrize("workload", ROUNDS)
    def test_every_peer_is_next_to_a_unit_of_inklab_and_none_is_wasted(self, workload):
        order = ROUNDS[workload]
        pairs = pair_positions(order)
        assert set(pairs) == set(order) - {"inklab", "inklab-fp32"}
        for name, position in pairs.items():
            assert order[position] == "inklab" and abs(position - order.index(name)) == 1
        assert ("inklab", "inklab") not in pairwise(order)

    def test_every_claim_is_measured(self):
        assert {claim.name for claim in SPEED_CLAIMS} == SPEED_CLAIM_NAMES
        for claim in SPEED_CLAIMS:
            assert set(claim.peers) <= set(ROUNDS[claim.workload]), claim.name
            assert claim.stretch is None or claim.stretch > claim.target, claim.name


def make_round(workload: str, speeds: dict[str, float], drift: float = 1.0) -> Round:
    """A round with known speeds; `drift` slows all programs down from one measurement to the next."""
    return tuple(
        ProgramTiming(program=name, timing=UnitTiming(drift**position / speeds[name], EPOCH_IMAGES, 0.1))
        for position, name in enumerate(ROUNDS[workload])
    )


SPEEDS = {"inklab": 2.0, "inklab-fp32": 1.2, "keras-tensorflow": 0.5, "keras-jax": 1.0}


class TestComparison:
    def test_a_ratio_is_the_speed_of_inklab_divided_by_the_peers(self):
        assert paired_ratios([make_round("denoiser", SPEEDS)] * 5, "keras-tensorflow") == [4.0] * 5

    def test_drift_changes_a_pair_by_one_position_at_most(self):
        rounds = [make_round("denoiser", SPEEDS, drift=1.1)]
        assert paired_ratios(rounds, "keras-tensorflow")[0] == pytest.approx(4.0 / 1.1)
        assert paired_ratios(rounds, "keras-jax")[0] == pytest.approx(2.0 * 1.1)

    def test_the_denoiser_is_compared_with_the_faster_keras(self):
        claims = evaluate_claims("denoiser", [make_round("denoiser", SPEEDS)] * 5, "a command")
        claim = claims["denoiser/keras"]
        assert (claim.peer, claim.value, claim.n) == ("keras-jax", 2.0, 5)
        assert (claim.unit, claim.command, claim.target, claim.stretch) == ("ratio", "a command", 1.5, 3.0)

    def test_inklab_in_fp32_is_compared_by_medians_and_trains_half_of_the_images(self):
        assert fp32_ratios([make_round("denoiser", SPEEDS)])["keras-jax"] == pytest.approx(1.2)
        request = make_request("inklab", WORKLOADS["denoiser"], "data")
        assert (request.images, request.members) == (60_000, 6)
        request = make_request("inklab-fp32", WORKLOADS["denoiser"], "data")
        assert (request.images, request.precision) == (30_000, "fp32")

    def test_other_claims_stay_in_the_summary(self, tmp_path):
        def write(name: str, **values: float) -> None:
            claims = {
                f"{name}/{peer}": Claim(value=v, unit="ratio", low=v, high=v, n=5, target=1.0, command="c")
                for peer, v in values.items()
            }
            write_results(tmp_path, name, BenchmarkResults(measurement=MEASUREMENT), claims)

        write("cnn", torch=1.0, keras=2.0)
        write("denoiser", keras=3.0)
        write("cnn", torch=4.0)
        assert {name: claim.value for name, claim in read_summary(tmp_path).items()} == {
            "cnn/torch": 4.0, "cnn/keras": 2.0, "denoiser/keras": 3.0,
        }  # fmt: skip
        assert read_results(tmp_path, "cnn", BenchmarkResults).measurement == MEASUREMENT


PEER = """
import os, sys
from benchmarks.peer_protocol import PeerInfo, UnitTiming, serve
class Peer:
    def prepare(self, request):
        print("chatter that is no answer")
        return PeerInfo({}, request.workload)
    def measure(self):
        %s
        return UnitTiming(1.0, 10, 0.5)
serve(Peer())
"""
REQUEST = PrepareRequest("cnn", "data", 10)


@pytest.fixture
def start_peer(tmp_path):
    peers = []

    def start(statement: str = "pass", code: str = PEER) -> PeerProcess:
        script = code % statement if "%s" in code else code
        log = tmp_path / "peer.log"
        peers.append(PeerProcess("fake", [sys.executable, "-c", script], process_environment(), log))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def error_of(action, *args, **kwargs) -> str:
    with pytest.raises(PeerError) as caught:
        action(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestPeers:
    def test_a_peer_answers_whatever_its_libraries_print(self, start_peer):
        peer = start_peer()
        assert peer.prepare(REQUEST) == PeerInfo({}, "cnn")
        assert peer.measure() == UnitTiming(1.0, 10, 0.5)
        peer.close()
        assert peer.process.returncode == 0

    @pytest.mark.parametrize(
        ("statement", "parts"),
        [
            ("print('luck', file=sys.stderr, flush=True); os._exit(7)", ("luck", "exit code 7")),
            ("print('luck', file=sys.stderr); os.kill(os.getpid(), 9)", ("luck", "code -9")),
            ("raise ValueError('bad luck')", ("ValueError: bad luck",)),
            ("return UnitTiming(1.0, 1, float('nan'))", ("nan",)),
        ],
    )
    def test_a_failure_is_one_line_with_its_reason(self, start_peer, statement, parts):
        peer = start_peer(statement)
        peer.prepare(REQUEST)
        error = error_of(peer.measure)
        assert all(part in error for part in ("'fake'", "peer.log", *parts))

    def test_a_peer_that_has_ended_or_hangs_or_answers_no_json_or_is_not_there(self, start_peer, tmp_path):
        peer = start_peer(code="import sys; sys.exit('no such thing')")
        peer.process.wait(10)
        error = error_of(peer.prepare, REQUEST)
        assert "exit code 1" in error and "no such thing" in error
        assert "JSON" in error_of(start_peer(code="print('a', flush=True); input()").prepare, REQUEST)
        peer = start_peer("import time; time.sleep(60)")
        peer.prepare(REQUEST)
        assert "0.2 s" in error_of(peer.measure, limit=0.2)
        peer.process.kill()
        command = [str(tmp_path / "python")]
        assert "bench-setup" in error_of(PeerProcess, "fake", command, {}, tmp_path / "log")

    def test_no_variable_limits_threads_or_chooses_kernels(self, monkeypatch):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        variables = process_environment({"KERAS_BACKEND": "jax"})
        assert not [name for name in variables if name.startswith(("OMP_", "OPENBLAS_", "MKL_"))]
        assert variables["KERAS_BACKEND"] == "jax"


class TestWorkloads:
    @pytest.mark.parametrize(
        ("network", "parameters"), [("mlp", 545_810), ("cnn", 1_250_926), ("autoencoder", 226_416)]
    )
    def test_the_peers_network_is_the_studys(self, network, parameters):
        assert sum(p.numel() for p in build_network(network).parameters()) == parameters

    @pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)
    def test_warming_up_meets_every_batch_shape(self, workload):
        def shapes(images: int) -> set[int]:
            size = workload.batch_size
            return {min(size, images - start) for start in range(0, images, size)}

        assert shapes(workload.warm_up_images) == shapes(workload.images)

    def test_the_limit_has_all_matmuls_of_a_step_except_the_first_input_gradient(self):
        batch_size, members = 16, 2
        assert len(step_products(members, batch_size, "fp32")) == 3 + 3 + 2
        products = 2 * 784 * 500 + 3 * 500 * 300 + 3 * 300 * 10
        assert step_flops(members, batch_size) == 2 * members * batch_size * products

    def test_every_network_of_the_study_is_compared_with_keras(self):
        assert {"mlp-64-64", "mlp-500-300", "l2-sweep", "cnn", "denoiser"} <= set(PARITY_CASES)
        assert [name for name, case in PARITY_CASES.items() if case.chaotic] == ["cnn-at-0.1"]


ENGINE = """
import json, sys
from dataclasses import replace
from benchmarks.training import make_config, make_population, read_training_data, train
from benchmarks.workloads import WORKLOADS
from inklab.records.plan import Trial

def train_eagerly(job, data):
    return train(replace(job, compiled=False), data)

histories, losses = {}, {}
for name, workload in WORKLOADS.items():
    workload = replace(workload.reduced(40, 2 if workload.members > 1 else 1), batch_size=16)
    data = read_training_data(workload, sys.argv[1], 40)
    job = make_population(workload, "fp32", 0, workload.members)
    results = train_eagerly(job, data)
    history = results[0].history
    histories[name] = [key for key, value in history if value and key != "epoch"]
    if name == "l2-sweep":
        losses["unevaluated"] = [result.history.train_loss for result in results]
        trials = []
        for trial in job.trials:
            config = make_config(workload, "fp32", objective="classify", l2=trial.config.recipe.l2)
            trials.append(Trial(trial.id, config, trial.replicate))
        results = train_eagerly(replace(job, trials=trials), data)
        losses["classify"] = [result.history.train_loss for result in results]
print(json.dumps({"histories": histories, **losses}))
"""


@pytest.mark.integration
def test_the_engine_trains_every_workload_without_evaluating_it(tmp_path):
    """In a process of its own: other tests must not see the benchmarks' objectives.

    Eager and with few images, since compiling is what takes long; compiled steps have their own tests.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    arrays = {"clean": images, "noisy": 255 - images, "labels": rng.integers(0, 10, 40)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    process = subprocess.run(
        [sys.executable, "-c", ENGINE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    trained = json.loads(process.stdout)
    assert trained["histories"] == {name: ["train_loss"] for name in WORKLOADS}
    assert trained["classify"] == trained["unevaluated"]


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)


class TestPrediction:
    @pytest.mark.parametrize("kind", ["mlp", "cnn"])
    def test_every_round_has_a_pair_in_either_order(self, kind):
        times = measure_model(make_model(kind), random_images(3), rounds=2, calls=4, passes=2)
        assert times.network == kind and times.ratio.n == len(times.pairs) == 4
        ratios = [pair.inklab / pair.bare for pair in times.pairs]
        assert min(ratios) <= times.ratio.value <= max(ratios)
        assert times.one_image.n == 4 and 0 < times.one_image.median_ms <= times.one_image.p95_ms

    def test_different_work_is_not_compared(self):
        model = make_model("mlp")
        model.net.normalize.mean += 0.5  # the bare loop does not normalize
        with pytest.raises(
            BenchmarkError, match="'mlp': predict and the bare loop compute different numbers"
        ):
            measure_model(model, random_images(2), rounds=1, calls=1)

    def test_calls_have_one_image_each_and_the_first_ones_do_not_count(self):
        images, calls = random_images(3), []
        times = time_calls(
            lambda image: time.sleep(0.1 if not calls else 0) or calls.append(image), images, 6
        )
        assert times.n == 6 and len(calls) == WARM_UP_CALLS + 6 and times.p95_ms < 100
        np.testing.assert_array_equal(np.concatenate(calls[-6:]), np.tile(images, (2, 1, 1, 1)))


@pytest.mark.integration
@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would be measured")
def test_without_a_gpu_its_benchmark_says_so_in_a_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "gpu", "--output", str(tmp_path)]
    output = subprocess.check_output(command, cwd=ROOT, text=True)
    assert output.startswith("no GPU to measure: ") and output.count("\n") == 1
    assert not list(tmp_path.iterdir())


class TestApiOverhead:
    def test_numbers_that_differ_or_are_missing_are_refused(self):
        history = History(epoch=(1,), train_loss=(0.5,))
        numbers = {name: ("done", {"test_accuracy": 0.9}, history, "00" * 32) for name in "ab"}
        check_equal_numbers(numbers, dict(numbers))
        for part in (
            ("lost", *numbers["b"][1:]),
            ("done", {"test_accuracy": np.nextafter(0.9, 0)}, *numbers["b"][2:]),
            ("done", {"test_accuracy": 0.9}, History(epoch=(1,), train_loss=(0.25,)), "00" * 32),
            ("done", {"test_accuracy": 0.9}, history, "01" * 32),
        ):
            with pytest.raises(BenchmarkError, match="trial 'b' has other numbers from the command line"):
                check_equal_numbers(numbers, {**numbers, "b": part})
        with pytest.raises(BenchmarkError, match="trial 'a'"):
            check_equal_numbers({}, numbers)

    def test_a_failed_run_is_one_line_with_its_reason(self, tmp_path):
        study = write_study(tmp_path, replicates=0)
        with pytest.raises(BenchmarkError, match="ended with code 2: .*narrow.*replicates") as caught:
            time_pair(study, tmp_path / "pair", workers=1)
        assert "\n" not in str(caught.value)

    @pytest.mark.slow
    def test_both_run_the_same_study_into_directories_of_their_own(self, tmp_path):
        study = write_study(tmp_path, replicates=1, epochs=1)
        pair = time_pair(study, tmp_path / "pair", workers=1, reverse=True)
        assert pair.command > 0 and pair.script > 0
        for name in ("command", "script"):
            assert len(trial_numbers(tmp_path / "pair" / name)) == 2
            assert (tmp_path / "pair" / name / "report.html").is_file()


class TestKerasWeights:
    def test_a_convolution(self):
        """The reference is a sum over patches in NumPy, with the axes that Keras has."""
        rng = np.random.default_rng(0)
        images, kernel = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4))  # h w c; h w in out
        patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # n h w c kh kw
        expected = np.einsum("nhwckl,klco->nohw", patches, kernel)
        converted = torch.tensor(convert_keras_weights(kernel))
        outputs = functional.conv2d(torch.tensor(images.transpose(0, 3, 1, 2)), converted)
        np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-10, atol=1e-12)

    def test_a_dense_layer_after_flattening(self):
        rng = np.random.default_rng(1)
        features, kernel = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(60, 7))  # n h w c
        outputs = features.reshape(2, -1) @ convert_keras_weights(kernel).T
        np.testing.assert_allclose(outputs, features.reshape(2, -1) @ kernel, rtol=1e-10)

        np.testing.assert_array_equal(convert_keras_weights(np.arange(3.0)), np.arange(3.0))  # a bias


@pytest.fixture
def results(tmp_path) -> Path:
    rounds = (make_round("denoiser", SPEEDS),) * 5
    comparison = ComparisonResults(
        measurement=MEASUREMENT, workload=WORKLOADS["denoiser"],
        programs={name: PeerInfo({"keras": "3"}, "something") for name in ROUNDS["denoiser"]},
        rounds=rounds, speeds=median_speeds(rounds), fp32_ratios=fp32_ratios(rounds),
    )  # fmt: skip
    claims = evaluate_claims("denoiser", rounds, "a command")
    write_results(tmp_path / "results", "denoiser", comparison, claims)
    return tmp_path / "results"


def change_claim(results: Path, **changes: float) -> None:
    claim = read_summary(results)["denoiser/keras"].model_copy(update=changes)
    write_results(results, "other", BenchmarkResults(measurement=MEASUREMENT), {"denoiser/keras": claim})


class TestPage:
    def test_it_has_what_was_measured_and_nothing_else(self, results):
        page = report.render(results)
        assert "| **2.00** | 2.00 to 2.00 | 5 | 1.5 | 3 | yes | 1.20 |" in page
        assert "`keras-jax`, the faster one" in page and "a processor" in page
        assert "denoiser" in page and "cnn/torch" not in page and "scaling.svg" not in page
        change_claim(results, value=1.4)
        assert "**no**" in report.render(results)

    def test_times_from_python_have_ranges_and_missed_targets(self, tmp_path):
        times = measure_model(make_model("mlp"), random_images(2), rounds=1, calls=2)
        fast = times.model_copy(update={"ratio": median_ratio([1.05, 1.1]), "network": "fast"})
        slow = times.model_copy(update={"ratio": median_ratio([1.2, 1.3]), "network": "slow"})
        predicted = PredictionResults(
            measurement=MEASUREMENT, images=2, batch_size=250, targets=TARGETS, times=(fast, slow)
        )
        write_results(tmp_path, "predict", predicted)
        pairs = [ApiOverheadPair(command=10, script=10.1), ApiOverheadPair(command=10, script=10.5)]
        ratio = median_ratio([pair.script / pair.command for pair in pairs])
        run = ApiOverheadResults(
            measurement=MEASUREMENT,
            target=1.02,
            workers=2,
            threads=1,
            trials=12,
            pairs=tuple(pairs),
            ratio=ratio,
        )
        write_results(tmp_path, "api", run)
        page = report.render(tmp_path)
        assert "| **1.075** | 1.050 to 1.100 | 2 | yes |" in page
        assert "| **1.250** | 1.200 to 1.300 | 2 | **no** |" in page
        assert "| 10.00 | 10.30 | **1.030** | 1.010 to 1.050 | 2 | **no** |" in page

    def test_without_results_it_has_no_tables(self, tmp_path):
        assert report.render(tmp_path) and "|" not in report.render(tmp_path)

    def test_it_is_outdated_once_a_number_changes(self, results, tmp_path):
        page, figures = tmp_path / "page.md", tmp_path / "figures"
        page.write_text(report.render(results), encoding="utf-8")
        assert not report.is_current(results, page, figures)  # no figures yet
        write_figures(results, figures)
        assert report.is_current(results, page, figures)
        change_claim(results, high=3.0)
        page.write_text(report.render(results), encoding="utf-8")
        assert not report.is_current(results, page, figures)  # its figure shows the old range


def test_the_stored_page_follows_from_the_results_and_every_claim_is_complete():
    assert report.is_current(), "run .venv/bin/python -m benchmarks.report"
    claims = read_summary(RESULTS)
    assert set(claims) == SPEED_CLAIM_NAMES | RECIPE_CLAIM_NAMES
    targets = {claim.name: claim.target for claim in SPEED_CLAIMS}
    for name, claim in claims.items():
        assert 0 < claim.low <= claim.value <= claim.high, name
        assert claim.command.startswith(".venv/bin/python -m benchmarks"), name
        assert claim.n >= (2 if name in RECIPE_CLAIM_NAMES else 5), name
        if name in targets:
            assert (claim.unit, claim.target) == ("ratio", targets[name]), name
