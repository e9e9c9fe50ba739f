"""The benchmark's clients, and what the page says of what they found."""

# ruff: noqa: E402  (the path below comes before the imports that need it)

import asyncio
import sys
from pathlib import Path

import live_server
import toy_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from the checkout, never installed

from benchmarks import serving
from benchmarks.report import _serving
from benchmarks.storing import store


def test_the_clients_count_what_is_answered_and_what_is_not():
    server = live_server.shared()
    bodies = serving._bodies(toy_run.finished())
    assert len(bodies) == 10 * toy_run.CLASSES
    found = asyncio.run(serving._clients(server.port, bodies, 4, 0.3))
    assert found["requests"] >= 4 and found["dropped"] == 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    wrong = asyncio.run(serving._clients(server.port, ["{}"], 2, 0.1))
    assert wrong["dropped"] == wrong["requests"] > 0


def test_it_is_the_first_pipeline_that_is_asked():
    told = live_server.shared().client.get("/api/networks").json()
    assert serving._first_pipeline(toy_run.finished()) == told["pipelines"][0]["id"]


def test_the_page_has_medians_and_says_whether_the_bars_are_reached(tmp_path):
    rounds = [
        {"per_second": rate, "p50_ms": p50, "p99_ms": 9.0, "dropped": 1}
        for rate, p50 in ((900, 1), (1100, 2), (5000, 7))
    ]
    found = {"1": rounds, "8": rounds}
    summary = serving._summary(found)
    assert summary["1"] == {"per_second": 1100, "p50_ms": 2, "p99_ms": 9.0, "dropped": 3}
    told = {"name": "serving", "tool": "wrk", "seconds": 5.0, "bars": serving.BARS, "n": 3, "pipeline": "cnn"}
    machine = {
        "machine": {"cores": 2, "cpu": "made up", "platform": "Linux", "python": "3"},
        "date": "d",
        "command": "c",
    }
    store(tmp_path, {**told, "clients": found, "summary": summary, **machine})
    page = _serving(tmp_path)
    assert "| 8 | 2.00 | 9.00 | 1,100 | 3 |" in page
    assert "bar 3: yes" in page and "bar 1,500: **no**" in page
