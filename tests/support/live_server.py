"""A server on the shared toy run, in a thread of the test's own process, asked over real sockets."""

import atexit
import base64
import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import toy_run

from inklab.serve.address import BindAddress, listen
from inklab.serve.app_state import AppState
from inklab.serve.limits import Limits
from inklab.serve.server import UvicornServer, server

READY = 60.0  # seconds; converting the toy's six networks takes some


@dataclass
class Served:
    """A server that answers.

    Attributes:
        client: asks it, by its own name.
        running: its uvicorn server.
        port: where it listens.
    """

    client: httpx.Client
    running: UvicornServer
    port: int

    @property
    def service(self) -> AppState:
        return self.running._service

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """A question that must be answered."""
        answer = self.client.post(f"/api/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, **body: Any) -> str:
        """A question that must be refused; what is said."""
        answer = self.client.post(f"/api/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]

    def raw(self, sent: bytes, timeout: float = 10.0) -> bytes:
        """Everything that the server says to some bytes until it hangs up, or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as line:
            line.sendall(sent)
            heard = b""
            try:
                while part := line.recv(65536):
                    heard += part
            except (TimeoutError, ConnectionResetError):
                pass
            return heard


@contextmanager
def serving(folder: Path, limits: Limits | None = None, **place: Any) -> Iterator[Served]:
    """Serve a folder while something is done."""
    where = BindAddress(port=0, **place)
    listener, ready = listen(where), threading.Event()
    running = server(folder, where, listener, lambda _: ready.set(), limits=limits)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    assert ready.wait(READY)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            yield Served(client, running, port)
        finally:
            running.should_exit = True
            thread.join(10)
            listener.close()
            assert not thread.is_alive()


@functools.cache
def shared() -> Served:
    """The toy run, served for all tests that change nothing."""
    context = serving(toy_run.finished())
    served = context.__enter__()
    atexit.register(context.__exit__, None, None, None)
    served.client.get("/api/networks").raise_for_status()
    wait_until(lambda: served.service._learning.done())
    return served


def wait_until(true: Any, seconds: float = 60.0) -> None:
    """Wait for something that happens in another thread."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        tick.wait(0.02)
    raise AssertionError("it did not happen in time")


def text(pixels: np.ndarray) -> str:
    """An image as requests have it."""
    return base64.b64encode(pixels.astype(np.uint8).tobytes()).decode()


def image(encoded: str, shape: tuple[int, ...] = (1, toy_run.SIDE, toy_run.SIDE)) -> np.ndarray:
    """An image as answers have it."""
    return np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(shape)


@functools.cache
def examples() -> np.ndarray:
    """Twenty test images of the toy, `(20, 1, h, w)` bytes."""
    return toy_run.images(20, 2)[0][:, None]
