"""What is too much is refused with a 4xx or 503, memory stays bounded, and the server goes on."""

import asyncio
import json
import socket
import threading
import time

import live_server
import numpy as np
import pytest
import toy_run

from inklab.serve import server as protocol
from inklab.serve.batcher import MAX_BATCH, Batcher
from inklab.serve.limits import MIB, HttpError, Limits

FEW = Limits(
    body=20_000, bodies=30_000, body_seconds=0.5, head_seconds=0.5, head=4000, seconds=1.0, requests=2,
    connections=6, listeners=2, waiting=20_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """With limits so low that a test reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "LIMITS", FEW)
        with live_server.serving(toy_run.finished(), FEW) as server:
            server.client.get("/api/networks").raise_for_status()
            live_server.wait_until(lambda: server.service._learning.done())
            yield server
            assert server.client.get("/health").status_code == 200


def head(server, length=None, **more):
    given = {"Host": f"localhost:{server.port}", "Content-Type": "application/json", **more}
    given |= {} if length is None else {"Content-Length": length}
    lines = [
        "POST /api/predict HTTP/1.1",
        *(f"{name.replace('_', '-')}: {value}" for name, value in given.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def status(heard):
    return int(heard.split(b" ", 2)[1])


class TestBodies:
    def test_one_that_says_it_is_too_large_is_not_read(self, server):
        assert status(server.raw(head(server, 10**12), timeout=4)) == 413
        assert status(server.raw(head(server, "9" * 400), timeout=4)) in (400, 413)

    def test_one_that_does_not_say_so_is_cut(self, server):
        chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
        assert status(server.raw(head(server, Transfer_Encoding="chunked") + 5 * chunk + b"0\r\n\r\n")) == 413

    def test_the_client_hears_it_though_it_goes_on_sending(self, server):
        """More than a socket's buffers hold: one that just hung up would be heard as a broken connection."""
        answer = server.client.post(
            "/api/predict", content=b" " * (8 * MIB), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413
        assert "20,000" in answer.json()["error"]

    @pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "1, 1", "ten"])
    def test_lengths_that_are_none(self, server, length):
        assert status(server.raw(head(server, length), timeout=4)) in (400, 413)

    def test_a_slow_one_is_given_up(self, server):
        began = time.monotonic()
        assert status(server.raw(head(server, 100) + b"{", timeout=6)) == 408
        assert time.monotonic() - began < 5

    def test_one_that_is_cut_short(self, server):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(head(server, 100) + b"{")
        assert server.client.get("/health").status_code == 200

    def test_all_together_are_bounded(self, server):
        """Two clients that each send half of what all may have, slowly."""
        lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        try:
            for line in lines:
                line.sendall(head(server, 19_000) + b" " * 18_000)
            lines[1].settimeout(5)
            heard = [line.recv(100) for line in lines]
        finally:
            for line in lines:
                line.close()
        assert {status(each) for each in heard} <= {408, 503}
        assert any(status(each) == 503 for each in heard)

    @pytest.mark.parametrize(
        "kind", ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"]
    )
    def test_only_json_is_read(self, server, kind):
        answer = server.client.post("/api/predict", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415

    def test_a_charset_does_no_harm(self, server):
        kind = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert server.client.post("/api/predict", content=b"{}", headers=kind).status_code == 422

    def test_many_values_are_refused_before_they_are_looked_at(self, server):
        answer = server.client.post(
            "/api/predict", content=b"[" + b"1," * 5000 + b"1]", headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422 and "1,000 values" in answer.json()["error"]


class TestHeads:
    def test_a_slow_one_is_given_up(self, server):
        began = time.monotonic()
        assert server.raw(b"GET /health HTTP/1.1\r\nHost: x", timeout=6) == b""
        assert server.raw(b"", timeout=6) == b""
        assert time.monotonic() - began < 5

    def test_so_is_the_second_of_a_connection(self, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=6) as line:
            line.sendall(f"GET /health HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode())
            assert status(line.recv(65536)) == 200
            began = time.monotonic()
            for byte in b"GET /health HTTP/1.1":
                try:
                    line.sendall(bytes([byte]))
                    line.settimeout(0.1)
                    if line.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            assert time.monotonic() - began < 1.9  # not by the last byte, but by the first

    def test_a_long_one_is_given_up(self, server):
        heard = server.raw(b"GET /health HTTP/1.1\r\n" + b"X-Much: " + b"y" * 20_000, timeout=4)
        assert heard == b"" or status(heard) == 431
        heard = server.raw(b"GET /" + b"y" * 20_000, timeout=4)
        assert heard == b"" or status(heard) == 431

    def test_what_is_not_http(self, server):
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"hello\r\n\r\n",
            b"\r\n" * 50,
            b"GET / HTTP/9.9\r\n\r\n",
        ):
            heard = server.raw(sent, timeout=3)
            assert heard == b"" or status(heard) in (400, 431)

    def test_smuggling_is_refused(self, server):
        sent = head(server, 4, Transfer_Encoding="chunked") + b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n"
        assert status(server.raw(sent, timeout=3)) == 400

    def test_connections_are_counted(self, server):
        lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        try:
            live_server.wait_until(lambda: len(server.running.server_state.connections) <= FEW.connections)
        finally:
            for line in lines:
                line.close()
        live_server.wait_until(lambda: len(server.running.server_state.connections) <= 1)


class TestAtOnce:
    def test_too_many_requests_are_told_when_to_come_again(self, server, monkeypatch):
        gate = threading.Event()

        def slow(rows):
            gate.wait(10)
            return rows, rows

        monkeypatch.setitem(server.service.batcher.networks, "mlp", slow)
        body = {"images": [live_server.text(live_server.examples()[0])], "pipelines": ["mlp"]}
        answers = []

        def ask():
            with live_server.httpx.Client(timeout=30) as client:
                answers.append(client.post(f"http://127.0.0.1:{server.port}/api/predict", json=body))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        live_server.wait_until(lambda: len(answers) >= 2)
        assert {each.status_code for each in answers} == {503}
        assert server.client.get("/health").status_code == 200
        for thread in threads:
            thread.join()
        gate.set()
        assert len(answers) == 4
        assert {each.status_code for each in answers} == {
            503
        }  # the other two waited for longer than they may
        assert sum("no answer within 1 s" in each.json()["error"] for each in answers) >= 1
        assert all(int(each.headers["retry-after"]) >= 1 for each in answers)
        live_server.wait_until(lambda: server.service.batcher._waiting == 0)


class TestBatcher:
    def run(self, do, waiting=MIB, **networks):
        async def whole():
            batcher = Batcher(waiting)
            batcher.networks.update(networks)
            batcher.start()
            try:
                return await do(batcher)
            finally:
                batcher.stop()

        return asyncio.run(whole())

    def test_what_waits_goes_together_and_everyone_gets_their_own(self):
        sizes, gate = [], threading.Event()

        def network(rows):
            sizes.append(len(rows))
            gate.wait(5)
            return rows * 2, rows.sum(axis=1)

        async def do(batcher):
            given = [np.full((1 + k % 3, 2), k, np.float32) for k in range(30)]
            asked = [batcher.ask("double", each) for each in given]
            await asyncio.sleep(0.1)
            gate.set()
            return given, await asyncio.gather(*asked)

        given, found = self.run(do, double=network)
        assert max(sizes) <= MAX_BATCH and sum(sizes) == sum(map(len, given)) and len(sizes) < 10
        for each, (doubled, summed) in zip(given, found, strict=True):
            assert (doubled == 2 * each).all() and (summed == each.sum(axis=1)).all()

    def test_a_pass_is_bounded_unless_one_request_has_more(self):
        sizes, gate = [], threading.Event()

        def network(rows):
            gate.wait(5)
            sizes.append(len(rows))
            return (rows,)

        async def do(batcher):
            asked = [batcher.ask("it", np.zeros((count, 1), np.float32)) for count in (1, 9, 9, 100, 5, 3)]
            await asyncio.sleep(0.05)
            gate.set()
            return [len(each[0]) for each in await asyncio.gather(*asked)]

        assert self.run(do, it=network) == [1, 9, 9, 100, 5, 3]
        assert max(size for size in sizes if size != 100) <= MAX_BATCH

    def test_networks_take_turns(self):
        order, gate = [], threading.Event()

        def network(name):
            def run(rows):
                gate.wait(5)
                order.append(name)
                return (rows,)

            return run

        async def do(batcher):
            asked = [batcher.ask(name, np.zeros((1, 1), np.float32)) for name in "aabab"]
            gate.set()
            await asyncio.gather(*asked)

        self.run(do, a=network("a"), b=network("b"))
        assert set(order[:3]) == {"a", "b"}

    def test_bytes_are_divided_once_and_floats_are_left(self):
        async def do(batcher):
            asked = [batcher.ask("it", np.array([[51]], kind)) for kind in (np.uint8, np.float32)]
            return [float(each[0][0, 0]) for each in await asyncio.gather(*asked)]

        assert self.run(do, it=lambda rows: (rows,)) == [float(np.float32(51) / np.float32(255)), 51.0]

    def test_a_network_that_fails_harms_nobody_else(self):
        def broken(rows):
            raise ValueError("on purpose")

        async def do(batcher):
            with pytest.raises(HttpError, match="on purpose"):
                await batcher.ask("broken", np.zeros((1, 1), np.float32))
            return await batcher.ask("sound", np.zeros((1, 1), np.float32))

        assert len(self.run(do, broken=broken, sound=lambda rows: (rows,))) == 1

    def test_too_much_is_refused_and_room_comes_back(self):
        async def do(batcher):
            first = batcher.ask("it", np.zeros((100, 2), np.float32))
            with pytest.raises(HttpError, match="try again"):
                batcher.ask("it", np.zeros((100, 2), np.float32))
            await first
            return await batcher.ask("it", np.zeros((100, 2), np.float32))

        assert len(self.run(do, waiting=1000, it=lambda rows: (rows,))[0]) == 100


def test_refusals_are_one_line_of_json():
    assert json.loads(HttpError(422, 'a "quoted"\nline').body) == {"error": 'a "quoted" line'}
