"""The benchmark's clients, and the page's section about the server."""

# ruff: noqa: E402  (the path below comes before the imports that need it)

import asyncio
import sys
from pathlib import Path

import live_server
import toy_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from the checkout, never installed

from benchmarks import report
from benchmarks.records import LoadRound, Measurement, ServerLoad, ServingResults
from benchmarks.results_io import write_results
from benchmarks.serving import TARGETS, first_pipeline, request_bodies, send_requests, summarize_rounds

from inklab.records.outcomes import Environment


def test_the_clients_count_answers_and_errors():
    server = live_server.shared()
    bodies = request_bodies(toy_run.finished())
    assert len(bodies) == 10 * toy_run.CLASSES
    load = asyncio.run(send_requests(server.port, bodies, 4, 0.3))
    assert load.requests >= 4 and load.dropped == 0
    assert 0 < load.p50_ms <= load.p99_ms
    invalid = asyncio.run(send_requests(server.port, ["{}"], 2, 0.1))
    assert invalid.dropped == invalid.requests > 0


def test_requests_ask_the_first_pipeline():
    networks = live_server.shared().client.get("/api/networks").json()
    assert first_pipeline(toy_run.finished()) == networks["pipelines"][0]["id"]


def test_the_page_has_medians_and_marks_missed_targets(tmp_path):
    rounds = tuple(
        LoadRound(requests=10, requests_per_second=rate, p50_ms=p50, p99_ms=9.0, dropped=1)
        for rate, p50 in ((900, 1), (1100, 2), (5000, 7))
    )
    summary = summarize_rounds(rounds)
    assert summary == ServerLoad(requests_per_second=1100, p50_ms=2, p99_ms=9.0, dropped=3)
    environment = Environment.current(threads=1)
    results = ServingResults(
        tool="wrk", seconds=5.0, targets=TARGETS, n=3, pipeline="cnn", clients={"1": rounds, "8": rounds},
        summary={"1": summary, "8": summary},
        measurement=Measurement(environment=environment, date="2026-01-01", command="c"),
    )  # fmt: skip
    write_results(tmp_path, "serving", results)
    page = report.render(tmp_path)
    assert "| 8 | 2.00 | 9.00 | 1,100 | 3 |" in page
    assert "target 3: yes" in page and "target 1,500: **no**" in page
