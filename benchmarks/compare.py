"""Compares inklab with its peers: rounds in which they alternate, and the ratios of neighboring units."""

import time
from collections.abc import Sequence
from statistics import median

from benchmarks.dataset_cache import cache_dataset
from benchmarks.options import WORK, Options
from benchmarks.peer_client import PROJECT_PYTHON, PeerProcess, Program
from benchmarks.peer_protocol import PeerInfo, PrepareRequest
from benchmarks.ratios import median_ratio
from benchmarks.records import Claim, ComparisonResults, ProgramTiming, Round
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.thresholds import INKLAB, INKLAB_FP32, ROUNDS, SPEED_CLAIMS, SpeedClaim, pair_positions
from benchmarks.workloads import WORKLOADS, Workload
from inklab.hardware import cores, preferred_dtype

SETTLE_SECONDS = 0.5  # between measurements: OpenMP's threads spin for up to 0.2 s before they sleep
FP32_DIVISOR = 2  # inklab in fp32 supports no claim, so it trains half of the images

PROGRAMS = {
    program.name: program
    for program in (
        Program(INKLAB, "benchmarks.peers.inklab_peer", PROJECT_PYTHON),
        Program(INKLAB_FP32, "benchmarks.peers.inklab_peer", PROJECT_PYTHON),
        Program("limit", "benchmarks.peers.limit_peer", PROJECT_PYTHON),
        Program("torch", "benchmarks.peers.torch_peer"),
        Program("sklearn", "benchmarks.peers.sklearn_peer"),
        *(
            Program(f"keras-{backend}", "benchmarks.peers.keras_peer", env={"KERAS_BACKEND": backend})
            for backend in ("tensorflow", "jax", "torch")
        ),
    )
}


def compare(name: str, options: Options) -> list[str]:
    """Measure one workload and write its results.

    Returns:
        A line per claim.

    Raises:
        PeerError: a peer failed; nothing is written.
        DataError: MNIST is not available.
    """
    workload = WORKLOADS[name].reduced(options.images, options.members)
    folder = str(cache_dataset())
    peers: dict[str, PeerProcess] = {}
    info: dict[str, PeerInfo] = {}
    try:
        for program in dict.fromkeys(round_order(name)):
            log_progress(f"{name}: {program} prepares")
            peers[program] = PROGRAMS[program].start(WORK / "logs" / name)
            info[program] = peers[program].prepare(make_request(program, workload, folder))
        rounds = tuple(_measure_round(number, round_order(name), peers) for number in range(options.rounds))
    finally:
        for peer in peers.values():
            peer.close()
    claims = evaluate_claims(name, rounds, options.command)
    results = ComparisonResults(
        workload=workload,
        programs=info,
        rounds=rounds,
        speeds=median_speeds(rounds),
        fp32_ratios=fp32_ratios(rounds),
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, name, results, claims)
    return [_format_claim(key, claim, results) for key, claim in claims.items()]


def make_request(program: str, workload: Workload, folder: str) -> PrepareRequest:
    """What a program is asked to prepare; peers know the workload's members and ignore the rest."""
    images = workload.images
    if program == INKLAB_FP32:
        images = max(images // FP32_DIVISOR, workload.batch_size)
    precision = "fp32" if program == INKLAB_FP32 else preferred_dtype()
    return PrepareRequest(workload.name, folder, images, workload.members, cores(), precision)


def round_order(workload: str) -> tuple[str, ...]:
    """The order of a round; without bf16, inklab itself computes in fp32 and is measured once."""
    return tuple(name for name in ROUNDS[workload] if name != INKLAB_FP32 or preferred_dtype() != "fp32")


def _measure_round(number: int, order: Sequence[str], peers: dict[str, PeerProcess]) -> Round:
    """All in turn, every other round backwards, so that a drift of the machine favors none."""
    timings = []
    for name in order if number % 2 == 0 else order[::-1]:
        time.sleep(SETTLE_SECONDS)
        timings.append(ProgramTiming(program=name, timing=peers[name].measure()))
        log_progress(f"  round {number + 1}: {name} {timings[-1].speed:.3f} member-epochs per second")
    return tuple(timings if number % 2 == 0 else timings[::-1])


def paired_ratios(rounds: Sequence[Round], peer: str) -> list[float]:
    """inklab's speed divided by the peer's, one per round, each with the neighboring unit of inklab."""
    order = tuple(unit.program for unit in rounds[0])
    pair, position = pair_positions(order)[peer], order.index(peer)
    return [units[pair].speed / units[position].speed for units in rounds]


def evaluate_claims(workload: str, rounds: Sequence[Round], command: str) -> dict[str, Claim]:
    """The workload's claims as written to summary.json."""
    claims = {}
    for claim in SPEED_CLAIMS:
        if claim.workload != workload:
            continue
        peer = _fastest_peer(claim, rounds)
        ratio = median_ratio(paired_ratios(rounds, peer))
        claims[claim.name] = Claim(
            value=ratio.value,
            unit="ratio",
            low=ratio.low,
            high=ratio.high,
            n=ratio.n,
            target=claim.target,
            stretch=claim.stretch,
            command=command,
            coverage=ratio.coverage,
            peer=peer,
        )
    return claims


def _fastest_peer(claim: SpeedClaim, rounds: Sequence[Round]) -> str:
    """Of the peers that a claim is about, the one with the higher median speed."""
    speeds = median_speeds(rounds)
    return max(claim.peers, key=lambda name: speeds[name])


def median_speeds(rounds: Sequence[Round]) -> dict[str, float]:
    """Median speed of every program, in member-epochs per second."""
    names = dict.fromkeys(unit.program for unit in rounds[0])
    return {
        name: median(unit.speed for units in rounds for unit in units if unit.program == name)
        for name in names
    }


def fp32_ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Ratios of medians: inklab in fp32 divided by every peer."""
    speeds = median_speeds(rounds)
    fp32 = speeds.get(INKLAB_FP32, speeds[INKLAB])
    return {name: fp32 / speed for name, speed in speeds.items() if name not in (INKLAB, INKLAB_FP32)}


def _format_claim(name: str, claim: Claim, results: ComparisonResults) -> str:
    return (
        f"{name}: {claim.value:.2f} ({claim.low:.2f} to {claim.high:.2f}, n = {claim.n}), "
        f"target {claim.target:g}; in fp32 {results.fp32_ratios[claim.peer or '']:.2f}"
    )
