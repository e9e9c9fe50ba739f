"""The driver's side: starts peers, asks them, and says in one line what went wrong if one dies."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inklab.errors import InklabError

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "benchmarks"
WORK = HOME / ".work"
RESULTS = HOME / "results"
PEERS_PYTHON = HOME / ".venv-peers" / "bin" / "python"
PREPARE_LIMIT, MEASURE_LIMIT = 600.0, 600.0  # seconds; far beyond any, so that a hung peer ends the run
SET_BY_US = ("OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "TORCH_NUM", "XLA_FLAGS")
"""Variables that would bind a peer's threads or its kernels; every process gets a machine as it comes."""

Json = dict[str, Any]


class BenchmarkError(InklabError):
    """A measurement could not be made."""


class PeerDied(BenchmarkError):
    """A peer ended, hung or failed."""


@dataclass(frozen=True)
class Entrant:
    """Who is measured: a module that speaks the protocol.

    Attributes:
        name: as in the claims.
        module: what `python -m` runs.
        python: the interpreter, and so the environment.
        env: variables of its own.
        request: what its "prepare" says, besides what all are told.
    """

    name: str
    module: str
    python: Path = PEERS_PYTHON
    env: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """What is started."""
        return [str(self.python), "-m", self.module]


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Variables of a peer's process: nothing that sets threads or kernels, no accelerator, and its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SET_BY_US)}
    plain = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return kept | plain | {"PYTHONUNBUFFERED": "1"} | dict(own)


class PeerProcess:
    """A peer that was started; it sleeps until it is asked.

    Args:
        name: for messages.
        command: what to start.
        env: all of its environment variables.
        log: where what it prints goes.

    Raises:
        PeerDied: it can't be started.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        if not Path(command[0]).exists():
            raise PeerDied(f"peer '{name}' has no interpreter '{command[0]}'; run `make bench-setup` first")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=dict(env), cwd=ROOT, text=True, encoding="utf-8",
            )  # fmt: skip

    def ask(self, request: Json, limit: float = MEASURE_LIMIT) -> Json:
        """Send a request and wait for its answer.

        Raises:
            PeerDied: it ended, gave no answer in `limit` seconds, or answered with an error.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self._death(request["do"]) from None
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            raise PeerDied(
                f"peer '{self.name}' gave no answer to '{request['do']}' in {limit:g} s; its log: {self.log}"
            )
        line = self.process.stdout.readline()
        if not line:
            raise self._death(request["do"])
        return self._read(line, request["do"])

    def _read(self, line: str, asked: str) -> Json:
        try:
            answer: Json = json.loads(line)
        except ValueError:
            raise PeerDied(
                f"peer '{self.name}' answered '{asked}' with {line[:80]!r}, which is not JSON"
            ) from None
        if "error" in answer:
            raise PeerDied(f"peer '{self.name}' failed to {asked}: {answer['error']}; its log: {self.log}")
        return answer

    def _death(self, asked: str) -> PeerDied:
        self.process.wait(10)
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f"; it last said: {lines[-1].strip()[:200]}" if lines else ""
        code = self.process.returncode
        return PeerDied(
            f"peer '{self.name}' ended with exit code {code} when asked to {asked}{last}; its log: {self.log}"
        )

    def close(self) -> None:
        """Tell it to end, and end it if it doesn't."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(OSError, ValueError):  # it is gone, or was told already
            self.process.stdin.write('{"do": "quit"}\n')
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def started(entrant: Entrant, logs: Path) -> PeerProcess:
    """Start one."""
    return PeerProcess(entrant.name, entrant.command, environment(entrant.env), logs / f"{entrant.name}.log")


def project_python() -> Path:
    """The interpreter that runs the driver: the project's environment."""
    return Path(sys.executable)
