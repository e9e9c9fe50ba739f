"""`inklab serve` as typed: wrong usage fails at once, the URL is printed, the server ends when asked to."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import toy_run

from inklab.cli.model_commands import server_url
from inklab.serve.address import BindAddress

PROBE = """
import sys
from inklab.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    heavy = {"torch", "fastapi", "uvicorn", "onnxruntime", "onnx"} & set(sys.modules)
    print(ended.code, sorted(heavy))
"""


def run(*words):
    """The exit code and heavy imports of a command that ends by itself, and its error."""
    command = [sys.executable, "-c", PROBE, "serve", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.stdout.strip(), ended.stderr.strip()


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["no-such-run"], "no-such-run"), (["RUN", "--host", "0.0.0.0"], "--token auto"),
            (["RUN", "--token", "short"], "16 to 200"),
            (["RUN", "--allowed-host", "http://x"], "--allowed-host"), (["RUN", "--port", "70000"], "port"),
            (["RUN", "--host", "203.0.113.9", "--token", "auto", "--port", "0"], "203.0.113.9"),
        ],
    )  # fmt: skip
    def test_one_line_before_anything_heavy_is_imported(self, words, named):
        ended, error = run(*(str(toy_run.finished()) if word == "RUN" else word for word in words))
        assert ended == "2 []"
        assert named in error and error.count("\n") <= 1

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            ended, error = run(str(toy_run.finished()), "--port", port)
        assert ended == "2 []" and port in error and "or 0" in error

    def test_packages_that_are_missing_are_named(self, monkeypatch, cli):
        monkeypatch.setitem(sys.modules, "fastapi", None)  # as if it were not installed
        code, _, error = cli("serve", toy_run.finished())
        assert code == 2 and "fastapi" in error and "inklab[serve]" in error


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.integration
def test_it_prints_its_url_and_ends_without_error(ending):
    command = [sys.executable, "-m", "inklab", "serve", str(toy_run.finished()), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline()
            port = re.search(r"at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C to stop\)$", line)[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
                assert answer.status == 200
            follower = socket.create_connection(("127.0.0.1", int(port)))
            follower.sendall(f"GET /health HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            os.kill(running.pid, ending)
            assert running.wait(10) == 0
            follower.close()
        finally:
            running.kill()
        assert "Traceback" not in running.stderr.read()


def test_the_url_is_one_to_type_into_a_browser():
    assert server_url(BindAddress(), 5) == "http://127.0.0.1:5/"
    assert server_url(BindAddress("::1"), 5) == "http://[::1]:5/"
    for host, allowed, name in (
        ("0.0.0.0", (), "127.0.0.1"),
        ("0.0.0.0", ("lab.example",), "lab.example"),
        ("192.168.0.7", (), "192.168.0.7"),
    ):
        address = BindAddress(host, token="x" * 16, allowed_hosts=allowed)
        assert server_url(address, 5) == f"http://{name}:5/?token={'x' * 16}"
