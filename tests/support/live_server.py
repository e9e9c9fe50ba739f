"""A server of the shared toy run, in a thread of the test's process, used over real sockets."""

import atexit
import base64
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import toy_run

from inklab.records.components import PreprocessingWord
from inklab.serve.address import BindAddress, listen
from inklab.serve.app_state import AppState
from inklab.serve.middleware import Limits
from inklab.serve.schemas import NetworksResponse
from inklab.serve.server import UvicornServer, create_server

READY_SECONDS = 60.0  # converting the toy's six networks takes some
TICK = 0.02  # seconds


@dataclass
class LiveServer:
    client: httpx.Client
    server: UvicornServer
    port: int

    @property
    def state(self) -> AppState:
        return self.server.app_state

    def networks(self) -> NetworksResponse:
        response = self.client.get("/api/networks")
        assert response.status_code == 200, response.text
        return NetworksResponse.model_validate_json(response.content)

    def post(self, path: str, **body: object):
        response = self.client.post(f"/api/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def post_error(self, path: str, status: int, **body: object) -> str:
        response = self.client.post(f"/api/{path}", json=body)
        assert response.status_code == status, response.text
        assert set(response.json()) == {"error"}
        return response.json()["error"]

    def raw(self, sent: bytes, timeout: float = 10.0) -> bytes:
        """All that the server sends after some bytes, until it closes the connection or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.sendall(sent)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except (TimeoutError, ConnectionResetError):
                pass
            return received

    def wait_until_learned(self) -> None:
        """Responses before and after may differ."""
        wait_until(lambda: not self.state.is_learning)


@contextmanager
def serving(
    path: Path,
    limits: Limits | None = None,
    token: str | None = None,
    trust_code: tuple[str, ...] = (),
    preprocessing: PreprocessingWord | None = None,
) -> Iterator[LiveServer]:
    address, ready = BindAddress(port=0, token=token), threading.Event()
    with listen(address) as listener:
        server = create_server(
            path, address, listener, lambda _: ready.set(), trust_code, limits, preprocessing
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        assert ready.wait(READY_SECONDS)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            try:
                yield LiveServer(client, server, port)
            finally:
                server.should_exit = True
                thread.join(10)
                assert not thread.is_alive()


@functools.cache
def shared() -> LiveServer:
    """The toy run, served for all tests that change nothing."""
    context = serving(toy_run.finished())
    server = context.__enter__()
    atexit.register(context.__exit__, None, None, None)
    server.networks()
    server.wait_until_learned()
    return server


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    tick = threading.Event()
    for _ in range(int(seconds / TICK)):
        if condition():
            return
        tick.wait(TICK)
    raise AssertionError("it did not happen in time")


def encode(pixels: np.ndarray) -> str:
    return base64.b64encode(pixels.astype(np.uint8).tobytes()).decode()


def decode(text: str, shape: tuple[int, ...] = (1, toy_run.SIDE, toy_run.SIDE)) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


@functools.cache
def examples() -> np.ndarray:
    """Twenty test images of the toy, `(20, 1, h, w)` bytes."""
    return toy_run.images(20, 2)[0][:, None]


def encoded_examples() -> list[str]:
    return [encode(image) for image in examples()]
