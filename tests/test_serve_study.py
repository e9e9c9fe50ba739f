"""Following a study while it runs: one look for all who follow, and networks that appear."""

import json
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import live_server
import pytest
import toy_run

from inklab.io.documents import write_json
from inklab.serve import app_state as service_module
from inklab.serve import progress_stream
from inklab.serve.limits import Limits
from inklab.study.run_directory import RunDirectory


@contextmanager
def listening(server):
    """A connection that follows: reads events as they come."""
    with server.client.stream("GET", "/api/study/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer.iter_text())


class Events:
    def __init__(self, parts):
        self.parts, self.text = parts, ""

    def next(self):
        """The next block up to an empty line; None at the end."""
        while "\n\n" not in self.text:
            part = next(self.parts, None)
            if part is None:
                return None
            self.text += part
        block, _, self.text = self.text.partition("\n\n")
        return block

    def progress(self):
        """What the next event says."""
        block = self.next()
        while block is not None and block.startswith(":"):
            block = self.next()
        if block is None:
            return None
        name, data = block.split("\n")
        assert name == "event: progress"
        return json.loads(data.removeprefix("data: "))


def alive(folder):
    """As a driver at work has it: this very process."""
    now = time.time()
    write_json(
        RunDirectory(folder).live,
        {
            "format": 1, "process": os.getpid(), "host": socket.gethostname(), "since": now, "planned": now,
            "estimate": 10.0, "running": [],
        },
    )  # fmt: skip


@pytest.fixture
def running(tmp_path):
    """A run whose cnn is still trained, and a server that follows it."""
    folder = toy_run.copied(tmp_path / "run")
    plan = RunDirectory(folder).plan()
    trial = next(each for each in plan["chapters"] if each["name"] == "cnn")["settings"][0]["trials"][0]
    (tmp_path / "kept").mkdir()
    shutil.move(folder / "trials" / trial, tmp_path / "kept" / trial)
    (folder / "results.json").unlink()
    alive(folder)
    with live_server.serving(folder, Limits(listeners=3)) as server:
        yield server, folder, tmp_path / "kept" / trial


def test_a_finished_run_is_told_once_and_then_all_is_said():
    server = live_server.shared()
    with listening(server) as events:
        told = events.progress()
        assert (told["state"], told["done"], told["total"]) == (
            "finished",
            toy_run.TRIALS + toy_run.EVALUATIONS,
            toy_run.TRIALS + toy_run.EVALUATIONS,
        )
        assert events.progress() is None
    answer = server.client.get("/api/study").json()
    assert answer["progress"] == told
    assert answer["results"] == json.loads((toy_run.finished() / "results.json").read_text())


def test_news_come_to_all_who_follow_by_one_look(running):
    server, folder, kept = running
    follower = server.service.follower
    with listening(server) as one, listening(server) as other:
        first = one.progress()
        assert other.progress() == first
        assert first["state"] == "running" and first["done"] == first["total"] - 1
        looks, began = follower.looks, time.monotonic()
        shutil.move(kept, folder / "trials" / kept.name)
        (folder / "work" / "live.json").unlink()
        news = [each.progress() for each in (one, other)]
        while news[0]["state"] != "finished":
            news = [each.progress() for each in (one, other)]
        assert news[0] == news[1]
        assert follower.looks - looks <= time.monotonic() - began + 2
        assert one.progress() is None and other.progress() is None
    live_server.wait_until(lambda: follower.listeners == 0)


def test_networks_appear_when_their_trainings_end(running):
    server, folder, kept = running
    before = [each["id"] for each in server.client.get("/api/networks").json()["pipelines"]]
    assert before == ["mlp", "scaled-twice", "sweep"]
    assert "no pipeline" in server.refused(
        "predict", 422, images=[live_server.text(live_server.examples()[0])], pipelines=["cnn"]
    )
    shutil.move(kept, folder / "trials" / kept.name)

    def there():
        return "cnn" in [each["id"] for each in server.client.get("/api/networks").json()["pipelines"]]

    live_server.wait_until(there)
    image = live_server.text(live_server.examples()[0])
    assert server.ask("predict", images=[image], pipelines=["denoiser+cnn"])["images"]
    assert server.client.get("/api/networks").json()["curves"] is None  # no results yet


def test_a_network_that_is_being_converted_is_not_waited_for(running, monkeypatch):
    server, folder, kept = running
    for name in ("LOOK_AGAIN", "LOOK_WAIT"):
        monkeypatch.setattr(service_module, name, 0.0)
    look, may, begun = server.service._look, threading.Event(), threading.Event()

    def slow():
        begun.set()
        may.wait(30)
        return look()

    def names():
        return [each["id"] for each in server.client.get("/api/networks").json()["pipelines"]]

    monkeypatch.setattr(server.service, "_look", slow)
    shutil.move(kept, folder / "trials" / kept.name)
    live_server.wait_until(lambda: names() and begun.is_set())
    assert "cnn" not in names()  # answered while it is still being looked at
    may.set()
    live_server.wait_until(lambda: "cnn" in names())


def test_a_quiet_study_gives_a_sign_of_life(running, monkeypatch):
    server, *_ = running
    monkeypatch.setattr(progress_stream, "HEARTBEAT", 0.2)
    with listening(server) as events:
        assert events.next().startswith("event: progress")
        seen = [events.next() for _ in range(3)]
        assert any(each == ": still here" for each in seen)


def test_too_many_who_follow_are_refused_and_places_come_back(running):
    server, *_ = running
    with listening(server) as a, listening(server) as b, listening(server) as c:
        assert all(each.progress() for each in (a, b, c))
        answer = server.client.get("/api/study/events")
        assert answer.status_code == 503 and answer.headers["retry-after"]
    live_server.wait_until(lambda: server.service.follower.listeners == 0)
    with listening(server) as again:
        assert again.progress()


def test_nobody_is_looked_for_when_nobody_follows(running):
    server, *_ = running
    with listening(server) as events:
        events.progress()
    live_server.wait_until(lambda: server.service.follower._task.done())


def test_the_server_ends_at_once_though_somebody_follows(running):
    server, *_ = running
    with listening(server) as events:
        events.progress()
        began = time.monotonic()
        server.running.should_exit = True
        assert all(
            each is None or each["state"] == "running" for each in (events.progress(), events.progress())
        )
        assert time.monotonic() - began < 5


def test_a_run_without_any_network_is_served(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(toy_run.finished() / "plan.json", folder / "plan.json")
    with live_server.serving(folder) as server:
        told = server.client.get("/api/networks").json()
        assert told["pipelines"] == told["denoisers"] == []
        assert server.client.get("/api/study").json()["progress"]["state"] == "stopped"
        assert "no classifier" in server.refused(
            "predict", 404, images=[live_server.text(live_server.examples()[0])]
        )
        assert "no decoder" in server.refused("generate", 404)


def test_a_lone_bundle_is_served(tmp_path):
    folder = RunDirectory(toy_run.finished())
    chapter = next(each for each in folder.plan()["chapters"] if each["name"] == "cnn")
    bundle = folder.bundle(chapter["settings"][0]["trials"][0])
    with live_server.serving(bundle) as server:
        told = server.client.get("/api/networks").json()
        assert (told["kind"], told["study"], told["curves"]) == ("bundle", None, None)
        assert [each["id"] for each in told["pipelines"]] == ["cnn"]
        assert told["decoders"] == []
        answer = server.ask(
            "predict", images=[live_server.text(live_server.examples()[0])], noise={"strength": 0.1}
        )
        assert answer["images"][0]["judgements"][0]["familiarity"] is not None
        assert server.client.get("/api/study").json() == {"results": None, "progress": None}
        assert server.client.get("/api/study/events").status_code == 404
        assert server.client.get("/health").json()["study"] is None


def test_damaged_bundles_are_left_out_and_told(tmp_path):
    folder = toy_run.copied(tmp_path / "run")
    plan = RunDirectory(folder).plan()
    trial = next(each for each in plan["chapters"] if each["name"] == "scaled-twice")["settings"][0][
        "trials"
    ][0]
    weights = RunDirectory(folder).bundle(trial) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with live_server.serving(folder) as server:
        told = server.client.get("/api/networks").json()
        assert "scaled-twice" not in [each["id"] for each in told["pipelines"]]
        assert "damaged" in server.service.shelf.left_out["scaled-twice"]


def test_moved_away_from_its_data_a_run_makes_do_with_its_samples(tmp_path):
    folder = toy_run.copied(tmp_path / "run")
    plan = json.loads((folder / "plan.json").read_text())
    plan["data"]["source"] = str(tmp_path / "gone.npz")
    write_json(folder / "plan.json", plan)
    with live_server.serving(folder) as server:
        assert server.client.get("/api/networks").json()["decoders"][0]["codes_from"] == "samples"
        live_server.wait_until(lambda: server.service._learning.done())
        assert len(server.ask("generate", count=5)["images"]) == 5
        answer = server.ask("predict", images=[live_server.text(each) for each in live_server.examples()])
        abstains = [each["judgements"][0]["abstains"] for each in answer["images"]]
        assert sum(each is None for each in abstains) >= 15


def test_many_threads_may_ask_while_it_learns(tmp_path):
    """Right after the start, answers come without familiarity rather than late."""
    with live_server.serving(toy_run.finished()) as server:
        answers = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    server.ask("predict", images=[live_server.text(live_server.examples()[0])])
                )
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 8


def test_a_run_that_is_damaged_meanwhile_is_no_fault_of_who_asks(running, monkeypatch):
    server, folder, _ = running
    whole = (folder / "plan.json").read_bytes()
    (folder / "plan.json").write_bytes(whole[:-20])
    monkeypatch.setattr("inklab.serve.app_state.REFRESH_INTERVAL", 0.0)
    live_server.wait_until(lambda: server.service._learning.done())
    for path in ("/api/networks", "/api/study"):
        live_server.wait_until(lambda path=path: server.client.get(path).status_code == 503)
        assert "plan.json" in server.client.get(path).json()["error"]
    assert server.ask("predict", images=[live_server.text(live_server.examples()[0])], pipelines=["mlp"])
    (folder / "plan.json").write_bytes(whole)
    live_server.wait_until(lambda: server.client.get("/api/networks").status_code == 200)
