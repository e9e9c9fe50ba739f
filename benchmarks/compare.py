"""Side by side: rounds in which peers and inklab take turns, and the ratios of neighbours."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.claims import CLAIMS, ROWS, Claim, pairs_of
from benchmarks.driver import PREPARE_LIMIT, WORK, Entrant, PeerProcess, project_python, started
from benchmarks.images import lay_out
from benchmarks.ratios import of_pairs
from benchmarks.storing import Json, machine, note, store
from benchmarks.works import EPOCH, WORKS, Work, smaller
from inklab.hardware import cores, preferred_dtype

SETTLE = 0.5  # seconds between measurements: OpenMP's threads spin for up to 0.2 s before they sleep
FP32_SHARE = 2  # our fp32 row is printed beside and claims nothing, so it trains half the images


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        rounds: interleaved pairs for each claim.
        out: folder of the results.
        images, members: less than the work's, to try things out; None for all.
        command: what was typed.
    """

    rounds: int
    out: Path
    images: int | None
    members: int | None
    command: str


def entrants(work: Work) -> dict[str, Entrant]:
    """Everybody who is measured in some work, by name."""
    precision, python = preferred_dtype(), project_python()
    ours = {"workers": cores(), "members": work.members, "precision": precision}
    slow = {**ours, "precision": "fp32", "images": max(work.images // FP32_SHARE, work.batch)}
    known = [
        Entrant("ours", "benchmarks.peers.ours_peer", python, request=ours),
        Entrant("ours-fp32", "benchmarks.peers.ours_peer", python, request=slow),
        Entrant("limit", "benchmarks.peers.limit_peer", python, request=ours),
        Entrant("torch", "benchmarks.peers.torch_peer"),
        Entrant("sklearn", "benchmarks.peers.sklearn_peer"),
    ]
    for backend in ("tensorflow", "jax", "torch"):
        env = {"KERAS_BACKEND": backend}
        known.append(Entrant(f"keras-{backend}", "benchmarks.peers.keras_peer", env=env))
    return {entrant.name: entrant for entrant in known if entrant.name in row_of(work.name)}


def row_of(work: str) -> tuple[str, ...]:
    """Who is measured in a round, in which order; without bf16 our row *is* fp32, and stands once."""
    return tuple(name for name in ROWS[work] if name != "ours-fp32" or preferred_dtype() != "fp32")


def compare(name: str, asked: Asked) -> list[str]:
    """Measure one work, store it, and say what came out.

    Returns:
        A line a claim.

    Raises:
        PeerDied: a peer failed; nothing is stored.
        DataError: MNIST can't be had.
    """
    work = smaller(WORKS[name], asked.images, asked.members)
    folder = lay_out(WORK / "data")
    peers: dict[str, PeerProcess] = {}
    told: dict[str, Json] = {}
    try:
        for entrant in entrants(work).values():
            note(f"{name}: {entrant.name} prepares")
            request = {"do": "prepare", "work": name, "data": str(folder), "images": work.images}
            peers[entrant.name] = started(entrant, WORK / "logs" / name)
            told[entrant.name] = peers[entrant.name].ask(request | dict(entrant.request), PREPARE_LIMIT)
        rounds = [_round(number, row_of(name), peers) for number in range(asked.rounds)]
    finally:
        for peer in peers.values():
            peer.close()
    raw = {"name": name, "work": work.to_json(), "entrants": told, "rounds": rounds}
    claims = claims_of(name, rounds, asked.command)
    store(asked.out, raw | {"beside": beside(rounds)} | machine(asked.command), claims)
    return lines(raw, claims, beside(rounds))


def _round(number: int, row: Sequence[str], peers: dict[str, PeerProcess]) -> list[Json]:
    """Everybody in turn, every other round backwards, so that a drift of the machine favours nobody."""
    found = []
    for name in row if number % 2 == 0 else row[::-1]:
        time.sleep(SETTLE)
        measured = peers[name].ask({"do": "measure"})
        found.append({"entrant": name, **measured, "member_epochs": measured["images"] / EPOCH})
        note(f"  round {number + 1}: {name} {speed(found[-1]):.3f} member-epochs a second")
    return found if number % 2 == 0 else found[::-1]


def speed(measured: Json) -> float:
    """Member-epochs a second."""
    return float(measured["member_epochs"] / measured["seconds"])


def ratios_of(rounds: Sequence[Sequence[Json]], name: str) -> list[float]:
    """Ours by theirs, a number a round, each with the measurement of ours next to theirs."""
    pairs = pairs_of(tuple(each["entrant"] for each in rounds[0]))
    places = [place for place, each in enumerate(rounds[0]) if each["entrant"] == name]
    return [speed(row[pairs[name]]) / speed(row[places[0]]) for row in rounds]


def claims_of(work: str, rounds: Sequence[Sequence[Json]], command: str) -> dict[str, Json]:
    """The work's claims as they stand in summary.json."""
    claims = {}
    for claim in (claim for claim in CLAIMS if claim.work == work):
        against = _fastest(claim, rounds)
        ratio = of_pairs(ratios_of(rounds, against))
        claims[claim.name] = {
            "value": ratio.value, "unit": "ratio", "low": ratio.low, "high": ratio.high, "n": ratio.n,
            "bar": claim.bar, "command": command, "stretch": claim.stretch, "coverage": ratio.coverage,
            "against": against,
        }  # fmt: skip
    return claims


def _fastest(claim: Claim, rounds: Sequence[Sequence[Json]]) -> str:
    """Of the peers that a claim is about, the one with the higher median speed."""
    speeds = medians(rounds)
    return max(claim.against, key=lambda name: speeds[name])


def medians(rounds: Sequence[Sequence[Json]]) -> dict[str, float]:
    """Median speed of everybody, in member-epochs a second."""
    names = dict.fromkeys(each["entrant"] for each in rounds[0])
    return {
        name: median(speed(each) for row in rounds for each in row if each["entrant"] == name)
        for name in names
    }


def beside(rounds: Sequence[Sequence[Json]]) -> dict[str, Any]:
    """What claims nothing: median speeds, and ratios of medians of our fp32 row against every peer."""
    speeds = medians(rounds)
    slow = speeds.get("ours-fp32", speeds["ours"])
    fp32 = {name: slow / value for name, value in speeds.items() if not name.startswith("ours")}
    return {"speeds": speeds, "fp32": fp32}


def lines(raw: Json, claims: dict[str, Json], aside: dict[str, Any]) -> list[str]:
    """What is printed."""
    found = []
    for name, claim in claims.items():
        fp32 = aside["fp32"][claim["against"]]
        found.append(
            f"{name}: {claim['value']:.2f} ({claim['low']:.2f} to {claim['high']:.2f}, n = {claim['n']}), "
            f"bar {claim['bar']:g}; in fp32 {fp32:.2f}"
        )
    return found
