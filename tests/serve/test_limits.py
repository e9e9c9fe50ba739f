"""Whatever is too much is rejected with a 4xx or 503, memory stays bounded, and the server continues."""

import asyncio
import socket
import threading

import live_server
import numpy as np
import pytest
import toy_run

from inklab.serve.batcher import MAX_BATCH, Batcher
from inklab.serve.middleware import MIB, HttpError, Limits, cancel_on_disconnect

SMALL = Limits(
    max_body_bytes=20_000, body_seconds=0.5, response_seconds=1.0, max_connections=6, max_header_bytes=4000,
    max_subscribers=2, max_queued_bytes=20_000,
)  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """With limits so low that a test reaches them."""
    with live_server.serving(toy_run.finished(), SMALL) as server:
        server.networks()
        server.wait_until_learned()
        yield server
        assert server.client.get("/health").status_code == 200


def head(server, length=None, **more):
    headers = {"Host": f"localhost:{server.port}", "Content-Type": "application/json", **more}
    headers |= {} if length is None else {"Content-Length": length}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /api/predict HTTP/1.1", *lines, "", ""]).encode()


def status(received):
    return int(received.split(b" ", 2)[1])


def post(server, content, kind="application/json"):
    return server.client.post("/api/predict", content=content, headers={"Content-Type": kind})


class TestBodies:
    def test_one_that_announces_too_much_is_not_read(self, server):
        assert status(server.raw(head(server, 10**12), timeout=1)) == 413

    def test_one_of_unknown_length_is_cut(self, server):
        chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
        sent = head(server, Transfer_Encoding="chunked") + 5 * chunk + b"0\r\n\r\n"
        assert status(server.raw(sent, timeout=1)) == 413

    def test_a_client_that_continues_to_send_receives_the_error(self, server):
        """More than the buffers of a socket hold: a closed connection would look broken to the client."""
        response = post(server, b" " * (8 * MIB))
        assert response.status_code == 413 and "20,000" in response.json()["error"]

    @pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "1, 2", "ten", "9" * 400])
    def test_lengths_that_are_none(self, server, length):
        assert status(server.raw(head(server, length), timeout=1)) in (400, 413)

    def test_a_slow_one_is_given_up(self, server):
        assert status(server.raw(head(server, 100) + b"{", timeout=6)) == 408

    def test_an_incomplete_one(self, server):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head(server, 100) + b"{")
        assert server.client.get("/health").status_code == 200

    def test_only_json_is_read(self, server):
        for kind in ("text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert post(server, b"{}", kind).status_code == 415, kind
        assert post(server, b"{}", "Application/JSON; charset=utf-8").status_code == 422  # it was read


class TestHeaders:
    @pytest.mark.parametrize(
        "sent",
        [
            b"GET /health HTTP/1.1\r\nX-Much: " + b"y" * 20_000, b"GET /" + b"y" * 20_000,
            b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        ],
        ids=["a long header", "a long path", "TLS", "text", "another version"],
    )  # fmt: skip
    def test_long_ones_and_other_protocols_are_rejected(self, server, sent):
        received = server.raw(sent, timeout=4)
        assert received == b"" or status(received) in (400, 431)

    def test_smuggling_is_rejected(self, server):
        """Two requests for one server may be one for another: only one of them may be answered."""
        sent = head(server, 4, Transfer_Encoding="chunked") + b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n"
        received = server.raw(sent, timeout=1)
        assert received.count(b"HTTP/1.1 ") <= 2 and b" 200 " not in received

    def test_connections_are_counted(self, server):
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        try:
            live_server.wait_until(lambda: len(server.server.server_state.connections) >= 12)
            assert server.client.get("/health").status_code == 503
        finally:
            for connection in connections:
                connection.close()
        live_server.wait_until(lambda: len(server.server.server_state.connections) <= 1)


def test_a_request_that_takes_too_long_is_ended(server):
    gate, original = threading.Event(), server.state.batcher.networks["mlp"]

    def slow(rows):
        gate.wait(10)
        return original(rows)

    server.state.batcher.networks["mlp"] = slow
    try:
        body = {"images": live_server.encoded_examples()[:1], "pipelines": ["mlp"]}
        response = server.client.post("/api/predict", json=body)
        assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
        assert server.client.get("/health").status_code == 200
    finally:
        gate.set()
        server.state.batcher.networks["mlp"] = original
    live_server.wait_until(lambda: server.state.batcher.queued_bytes == 0)
    server.post("predict", **body)


class TestCancelOnDisconnect:
    """`receive` of a client that disconnects when the event is set."""

    def run(self, block, disconnect_after=0.0):
        steps = []

        async def whole():
            async def receive():
                await asyncio.sleep(disconnect_after)
                return {"type": "http.disconnect"}

            async with cancel_on_disconnect(receive):
                steps.append("started")
                await block()
                steps.append("ended")
            steps.append("behind")
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(0)  # the task can wait again

        asyncio.run(asyncio.wait_for(whole(), 5))
        return steps

    def test_the_block_is_cancelled_and_the_task_continues(self):
        assert self.run(lambda: asyncio.sleep(60)) == ["started", "behind"]

    def test_a_block_that_ends_first_is_not(self):
        assert self.run(lambda: asyncio.sleep(0), disconnect_after=60) == ["started", "ended", "behind"]

    def test_errors_of_the_block_and_a_cancellation_from_outside_pass(self):
        async def fail():
            raise ZeroDivisionError

        async def cancelled():
            asyncio.current_task().cancel()
            await asyncio.sleep(60)

        for block, error in ((fail, ZeroDivisionError), (cancelled, asyncio.CancelledError)):
            with pytest.raises(error):
                self.run(block, disconnect_after=60)

    def test_a_time_limit_around_it_passes(self):
        async def whole():
            async def receive():
                await asyncio.Future()

            async with asyncio.timeout(0.01), cancel_on_disconnect(receive):
                await asyncio.sleep(60)

        with pytest.raises(TimeoutError):
            asyncio.run(whole())


def zeros(count, width=1):
    return np.zeros((count, width), np.float32)


class TestBatcher:
    def run(self, block, max_queued_bytes=MIB, **networks):
        async def whole():
            batcher = Batcher(max_queued_bytes)
            batcher.networks.update(networks)
            batcher.start()
            try:
                return await block(batcher)
            finally:
                batcher.stop()

        return asyncio.run(whole())

    @pytest.mark.parametrize("counts", [[1, 2, 3] * 10, [1, 9, 9, 100, 5, 3]])
    def test_what_waits_is_computed_together_up_to_a_bound_and_everyone_gets_their_own(self, counts):
        sizes, gate = [], threading.Event()

        def network(rows):
            sizes.append(len(rows))
            gate.wait(5)
            return rows * 2, rows.sum(axis=1)

        async def block(batcher):
            inputs = [np.full((count, 2), k, np.float32) for k, count in enumerate(counts)]
            outputs = [batcher.run("double", rows) for rows in inputs]
            await asyncio.sleep(0.1)
            gate.set()
            return inputs, await asyncio.gather(*outputs)

        inputs, outputs = self.run(block, double=network)
        assert max(size for size in sizes if size != 100) <= MAX_BATCH and len(sizes) < 10
        assert sum(sizes) == sum(counts)  # one request may have more than a batch
        for rows, (doubled, summed) in zip(inputs, outputs, strict=True):
            assert (doubled == 2 * rows).all() and (summed == rows.sum(axis=1)).all()

    def test_networks_take_turns(self):
        order, gate = [], threading.Event()

        def network(name):
            def run(rows):
                gate.wait(5)
                order.append(name)
                return (rows,)

            return run

        async def block(batcher):
            outputs = [batcher.run(name, zeros(1)) for name in "aabab"]
            gate.set()
            await asyncio.gather(*outputs)

        self.run(block, a=network("a"), b=network("b"))
        assert set(order[:3]) == {"a", "b"}

    def test_bytes_are_divided_once_and_floats_stay(self):
        async def block(batcher):
            outputs = [batcher.run("it", np.array([[51]], kind)) for kind in (np.uint8, np.float32)]
            return [float(rows[0, 0]) for (rows,) in await asyncio.gather(*outputs)]

        assert self.run(block, it=lambda rows: (rows,)) == [float(np.float32(51) / np.float32(255)), 51.0]

    def test_a_network_that_fails_harms_no_other(self):
        def broken(rows):
            raise ValueError("on purpose")

        async def block(batcher):
            with pytest.raises(HttpError) as caught:
                await batcher.run("broken", zeros(1))
            assert "on purpose" in str(caught.value)
            return await batcher.run("working", zeros(1))

        assert len(self.run(block, broken=broken, working=lambda rows: (rows,))) == 1

    def test_too_much_is_rejected_until_there_is_room(self):
        async def block(batcher):
            first = batcher.run("it", zeros(100, 2))
            with pytest.raises(HttpError) as caught:
                batcher.run("it", zeros(100, 2))
            assert caught.value.status_code == 503
            await first
            return await batcher.run("it", zeros(100, 2))

        assert len(self.run(block, max_queued_bytes=1000, it=lambda rows: (rows,))[0]) == 100
