"""`inklab serve` as typed: mistakes are told at once, it says where it listens, and ends when told to."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import toy_run

from inklab.cli import main
from inklab.cli.serve_commands import _address
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


def typed(*words):
    """The code and the heavy imports of a command that ends by itself, and what it said."""
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, "serve", *words], capture_output=True, text=True, timeout=60
    )
    return ran.stdout.strip(), ran.stderr.strip()


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["no-such-run"], "is not a run"),
            (["RUN", "--host", "0.0.0.0"], "--token auto"),
            (["RUN", "--token", "short"], "16 to 200"),
            (["RUN", "--allow-host", "http://x"], "no name of a machine"),
            (["RUN", "--port", "70000"], "port"),
            (["RUN", "--host", "203.0.113.9", "--token", "auto", "--port", "0"], "can't listen"),
        ],
    )
    def test_one_line_before_anything_heavy_is_imported(self, words, said):
        found, told = typed(*(str(toy_run.finished()) if word == "RUN" else word for word in words))
        assert found == "2 []"
        assert said in told and told.count("\n") <= 1

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            found, told = typed(str(toy_run.finished()), "--port", port)
        assert found == "2 []"
        assert port in told and "or 0" in told

    def test_packages_that_are_missing_are_named(self, monkeypatch, capsys):
        monkeypatch.setattr(
            "inklab.export.onnx_runtime.find_spec", lambda name: None if name == "fastapi" else name
        )
        with pytest.raises(SystemExit) as ended:
            main(["serve", str(toy_run.finished())])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert "(fastapi)" in told and "pip install 'inklab[serve]'" in told


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_ends_well(ending):
    command = [sys.executable, "-m", "inklab", "serve", str(toy_run.finished()), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline()
            port = re.search(r"at http://127\.0\.0\.1:(\d+)/ ; Ctrl-C ends it$", line)[1]
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


@pytest.mark.parametrize(
    ("place", "address"),
    [
        (BindAddress(), "http://127.0.0.1:5/"),
        (BindAddress("::1"), "http://[::1]:5/"),
        (BindAddress("0.0.0.0", token="x" * 16), f"http://127.0.0.1:5/?token={'x' * 16}"),
        (
            BindAddress("0.0.0.0", token="x" * 16, allowed=("lab.example",)),
            f"http://lab.example:5/?token={'x' * 16}",
        ),
        (BindAddress("192.168.0.7", token="x" * 16), f"http://192.168.0.7:5/?token={'x' * 16}"),
    ],
)
def test_the_address_is_one_to_type_into_a_browser(place, address):
    assert _address(place, 5) == address
