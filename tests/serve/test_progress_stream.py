"""The progress of a study while it runs: one poll for all subscribers, and models that appear."""

import json
import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile

import live_server
import pytest
import toy_run

from inklab.records.plan import Plan
from inklab.records.status import LiveStatus
from inklab.runs import Run
from inklab.serve.middleware import Limits
from inklab.study.run_directory import RunDirectory


@contextmanager
def subscribed(server):
    with server.client.stream("GET", "/api/study/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer.iter_lines())


class Events:
    def __init__(self, lines):
        self.lines = iter(lines)

    def next(self):
        """The lines of the next block; none at the end."""
        return list(takewhile(bool, self.lines))

    def progress(self):
        """What the next event says; None at the end."""
        while (block := self.next()) and block[0].startswith(":"):
            pass
        if not block:
            return None
        name, data = block
        assert name == "event: progress"
        return json.loads(data.removeprefix("data: "))


def mark_running(path):
    """As the runner marks it: this very process is running it."""
    now = time.time()
    status = LiveStatus(
        process=os.getpid(), host=socket.gethostname(), started_at=now, planned_at=now, estimated_seconds=10.0
    )
    status.write(RunDirectory(path).status_path)


@pytest.fixture
def running(tmp_path):
    """A run whose cnn is still trained, and a server of it."""
    path = toy_run.copied(tmp_path / "run")
    missing = Run(path).plan.experiment("cnn").trials
    (tmp_path / "kept").mkdir()
    for trial in missing:
        shutil.move(path / "trials" / trial, tmp_path / "kept" / trial)
    (path / "results.json").unlink()
    mark_running(path)
    with live_server.serving(path, Limits(max_subscribers=3)) as server:
        yield server, path, tmp_path / "kept"


def finish(path, kept):
    for trial in kept.iterdir():
        shutil.move(trial, path / "trials" / trial.name)


def pipelines(server):
    return [pipeline.id for pipeline in server.networks().pipelines]


ONE = live_server.encoded_examples()[:1]


def test_a_finished_run_is_one_event():
    server = live_server.shared()
    total = toy_run.TRIALS + toy_run.EVALUATIONS
    with subscribed(server) as events:
        progress = events.progress()
        assert (progress["state"], progress["done"], progress["total"]) == ("finished", total, total)
        assert events.progress() is None
    results = json.loads((toy_run.finished() / "results.json").read_text())
    study = server.client.get("/api/study").json()
    assert (study["progress"], study["results"]) == (progress, results)


def test_all_subscribers_get_changes_by_one_poll(running):
    server, path, kept = running
    stream = server.state.progress_stream
    with subscribed(server) as first_events, subscribed(server) as second_events:
        first = first_events.progress()
        assert second_events.progress() == first
        assert first["state"] == "running" and first["done"] == first["total"] - 2
        polls, started = stream.polls, time.monotonic()
        finish(path, kept)
        RunDirectory(path).status_path.unlink()
        latest = [events.progress() for events in (first_events, second_events)]
        while latest[0]["state"] != "finished":
            latest = [events.progress() for events in (first_events, second_events)]
        assert latest[0] == latest[1]
        assert stream.polls - polls <= time.monotonic() - started + 2
        assert first_events.progress() is None and second_events.progress() is None
    live_server.wait_until(lambda: stream.subscribers == 0)


def test_models_appear_when_their_trainings_end(running):
    server, path, kept = running
    assert pipelines(server) == ["mlp", "scaled-twice", "sweep"]
    assert "'cnn'" in server.post_error("predict", 422, images=ONE, pipelines=["cnn"])
    finish(path, kept)
    live_server.wait_until(lambda: "cnn" in pipelines(server))
    assert server.post("predict", images=ONE, pipelines=["denoiser+cnn"])["images"]
    assert server.networks().robustness_curves is None  # no results yet


def test_a_slow_refresh_is_not_waited_for(running):
    server, path, kept = running
    state, load = server.state, server.state.load_catalog
    state.refresh_seconds = state.max_refresh_wait = 0.0
    may, begun = threading.Event(), threading.Event()

    def slow():
        begun.set()
        may.wait(30)
        return load()

    state.load_catalog = slow
    finish(path, kept)
    live_server.wait_until(lambda: pipelines(server) and begun.is_set())
    assert "cnn" not in pipelines(server)
    may.set()
    live_server.wait_until(lambda: "cnn" in pipelines(server))


def test_subscribers_are_limited_kept_by_heartbeats_and_do_not_stop_the_server_from_ending(running):
    server, *_ = running
    stream = server.state.progress_stream
    with subscribed(server) as a, subscribed(server) as b, subscribed(server) as c:
        assert all(events.progress() for events in (a, b, c))
        response = server.client.get("/api/study/events")
        assert response.status_code == 503 and response.headers["retry-after"]
        assert stream.is_watching
    live_server.wait_until(lambda: stream.subscribers == 0 and not stream.is_watching)
    stream.heartbeat_seconds = 0.2
    with subscribed(server) as events:
        assert events.next()[0] == "event: progress"
        assert [": still here"] in [events.next() for _ in range(3)]
        server.server.should_exit = True
        rest = [events.progress(), events.progress()]
        assert all(progress is None or progress["state"] == "running" for progress in rest)


def test_a_run_without_any_model_is_served(tmp_path):
    shutil.copy(toy_run.finished() / "plan.json", tmp_path / "plan.json")
    with live_server.serving(tmp_path) as server:
        networks = server.networks()
        assert networks.pipelines == networks.denoisers == []
        study = server.client.get("/api/study").json()
        assert study["progress"]["state"] == "stopped" and study["results"] is None
        server.post_error("predict", 404, images=ONE)
        server.post_error("generate", 404)


def test_one_model_is_served():
    with live_server.serving(Run(toy_run.finished()).model_dir("cnn")) as server:
        networks = server.networks()
        assert (networks.kind, networks.study, networks.robustness_curves) == ("model", None, None)
        assert pipelines(server) == ["cnn"] and networks.decoders == []
        (image,) = server.post("predict", images=ONE, corruption={"strength": 0.1})["images"]
        assert image["predictions"][0]["ood_score"] is not None
        assert server.client.get("/api/study").json() == {
            "results": None, "progress": None, "has_report": False,
        }  # fmt: skip
        assert server.client.get("/api/study/events").status_code == 404
        assert server.client.get("/health").json()["study"] is None


def test_damaged_models_are_skipped(tmp_path):
    path = toy_run.copied(tmp_path / "run")
    weights = Run(path).model_dir("scaled-twice") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with live_server.serving(path) as server:
        assert "scaled-twice" not in pipelines(server)
        assert set(server.networks().skipped) == {"scaled-twice"}


def test_a_run_without_its_data_uses_its_samples(tmp_path):
    path = toy_run.copied(tmp_path / "run")
    plan = Plan.read(path / "plan.json")
    data = plan.data.model_copy(update={"dataset": str(tmp_path / "gone.npz")})
    plan.model_copy(update={"data": data}).write(path / "plan.json")
    with live_server.serving(path) as server:
        assert server.networks().decoders[0].latents_from == "samples"
        server.wait_until_learned()
        assert len(server.post("generate", count=5)["images"]) == 5
        response = server.post("predict", images=live_server.encoded_examples())
        abstained = [image["predictions"][0]["abstained"] for image in response["images"]]
        assert sum(reason is None for reason in abstained) >= 15


def test_requests_are_answered_while_it_learns():
    """Right after the start, responses come without an OOD score rather than late."""
    with live_server.serving(toy_run.finished()) as server, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: server.post("predict", images=ONE), range(8)))


def test_a_run_that_gets_damaged_is_no_error_of_the_client(running):
    server, path, _ = running
    whole = (path / "plan.json").read_bytes()
    (path / "plan.json").write_bytes(whole[:-20])
    server.state.refresh_seconds = 0.0
    server.wait_until_learned()
    for target in ("/api/networks", "/api/study"):
        live_server.wait_until(lambda target=target: server.client.get(target).status_code == 503)
        assert "plan.json" in server.client.get(target).json()["error"]
    assert server.post("predict", images=ONE, pipelines=["mlp"])
    (path / "plan.json").write_bytes(whole)
    live_server.wait_until(lambda: server.client.get("/api/networks").status_code == 200)
