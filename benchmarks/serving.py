"""What `inklab serve` answers: latency and throughput of /api/predict at 1, 8 and 64 clients.

The server is started as a user starts it, on a run, and asked for one image a request, of its first pipeline,
over connections that stay open. Clients live in a process of their own: `wrk` if it is there, else a small
one in Python, which takes more of the cores that it shares with the server; the results say which.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.driver import ROOT, BenchmarkError, environment
from benchmarks.storing import Json, machine, note, store
from inklab.errors import InklabError
from inklab.io.tensor_file import read_arrays
from inklab.records.plan import Plan, RobustnessPlan

CLIENTS = (1, 8, 64)
SECONDS, WARM = 5.0, 2.0  # of a measurement; of what comes before it and is not counted
BARS = {"p50_ms_at_1": 3.0, "requests_per_second": 1500.0}
"""Median milliseconds at one client; the best median throughput over all numbers of clients."""
PATIENCE = 300.0  # seconds for the server to start: the first time, it converts networks
LEARNING = 120.0  # seconds for what it learns in the background after that
WRK = """
local bodies = {BODIES}
local at = 0
request = function()
  at = at % #bodies + 1
  return wrk.format("POST", "/api/predict", {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local e = summary.errors
  print("FOUND " .. summary.requests .. " " .. summary.duration .. " " .. latency:percentile(50) .. " "
    .. latency:percentile(99) .. " " .. (e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def serving(out: Path, command: str, rounds: int, run: Path | None) -> list[str]:
    """Measure a server.

    Args:
        out: folder of the results.
        command: what was typed.
        rounds: how often each number of clients is measured, in turns.
        run: the run that is served.

    Raises:
        BenchmarkError: no run is named, the server doesn't start, or no answer comes.
    """
    if run is None:
        raise BenchmarkError("name a finished run with samples: --run runs/latest")
    command = command.replace(str(run), "RUN")
    with _server(run) as port, TemporaryDirectory() as folder:
        bodies = _bodies(run)
        tool = "wrk" if shutil.which("wrk") else "python"
        ask = _wrk(port, bodies, Path(folder)) if tool == "wrk" else _python(port, bodies, Path(folder))
        for clients in CLIENTS:
            ask(clients, WARM)
        found: dict[str, list[Json]] = {str(clients): [] for clients in CLIENTS}
        for turn in range(rounds):
            for clients in CLIENTS if turn % 2 == 0 else reversed(CLIENTS):
                found[str(clients)].append(ask(clients, SECONDS))
                note(f"{clients} clients: {found[str(clients)][-1]}")
    told = {
        "name": "serving", "tool": tool, "seconds": SECONDS, "bars": BARS, "n": rounds,
        "pipeline": _first_pipeline(run), "clients": found, "summary": _summary(found),
    }  # fmt: skip
    store(out, told | machine(command))
    return _lines(told["summary"])


@contextmanager
def _server(run: Path) -> Iterator[int]:
    """A server that has learnt all it learns; its port."""
    words = [sys.executable, "-m", "inklab", "serve", str(run), "--port", "0", "--no-open"]
    with subprocess.Popen(words, cwd=ROOT, env=environment({}), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            place = re.search(r":(\d+)/", line)
            if not place:
                raise BenchmarkError(f"the server did not start: {line.strip() or 'it said nothing'}")
            port = int(place[1])
            _wait_until_idle(process.pid)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_idle(process: int) -> None:
    """Wait until the server has computed next to nothing for two seconds."""
    end, before = time.monotonic() + LEARNING, -1.0
    while time.monotonic() < end:
        now = _cpu_seconds(process)
        if now - before < 0.05:
            return
        before = now
        time.sleep(2)
    raise BenchmarkError(f"the server still computes after {LEARNING:.0f} s")


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _bodies(run: Path) -> list[str]:
    """A request for each of the run's samples."""
    try:
        pixels = read_arrays(run / "samples.safetensors")["pixels"]
    except (OSError, KeyError, InklabError) as error:
        raise BenchmarkError(f"'{run}' has no samples to ask about: {error}") from error
    return [
        json.dumps({"images": [b64encode(np.ascontiguousarray(each).tobytes()).decode()]}) for each in pixels
    ]


def _first_pipeline(run: Path) -> str:
    plan = Plan.read(run / "plan.json")
    robustness = next((entry for entry in plan.experiments if isinstance(entry, RobustnessPlan)), None)
    return robustness.pipelines[0] if robustness else plan.training[0].name


def _wrk(port: int, bodies: list[str], folder: Path) -> Any:
    script = folder / "ask.lua"
    script.write_text(WRK.replace("BODIES", ",".join(f"'{each}'" for each in bodies)), encoding="utf-8")

    def ask(clients: int, seconds: float) -> Json:
        words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
        ran = subprocess.run([*words, f"http://127.0.0.1:{port}"], capture_output=True, text=True)
        told = re.search(r"^FOUND (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)$", ran.stdout, re.MULTILINE)
        if not told:
            raise BenchmarkError(f"wrk failed: {(ran.stderr or ran.stdout).strip()[-200:]}")
        requests, took, p50, p99, errors = map(float, told.groups())
        return _found(requests, took / 1e6, p50 / 1e3, p99 / 1e3, errors)

    return ask


def _found(requests: float, seconds: float, p50: float, p99: float, errors: float) -> Json:
    return {
        "requests": int(requests), "per_second": round(requests / seconds, 1), "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3), "dropped": int(errors),
    }  # fmt: skip


def _python(port: int, bodies: list[str], folder: Path) -> Any:
    file = folder / "bodies.json"
    file.write_text(json.dumps(bodies), encoding="utf-8")

    def ask(clients: int, seconds: float) -> Json:
        words = [sys.executable, "-m", "benchmarks.serving", str(port), str(file), str(clients), str(seconds)]
        ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if ran.returncode:
            raise BenchmarkError(f"the clients failed: {ran.stderr.strip()[-200:]}")
        found: Json = json.loads(ran.stdout)
        return found

    return ask


async def _clients(port: int, bodies: list[str], clients: int, seconds: float) -> Json:
    """Ask over so many connections, each for one answer after the other."""
    times: list[float] = []
    dropped, began = 0, time.perf_counter()

    async def client(first: int) -> None:
        nonlocal dropped
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        place = first
        while time.perf_counter() - began < seconds:
            body, place = bodies[place % len(bodies)], place + 1
            asked = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer)
            assert length
            await reader.readexactly(int(length[1]))
            times.append(time.perf_counter() - asked)
            dropped += not answer.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(client(k * 7) for k in range(clients)))
    p50, p99 = (1e3 * float(np.quantile(times, share)) for share in (0.5, 0.99))
    return _found(len(times), time.perf_counter() - began, p50, p99, dropped)


def _summary(found: dict[str, list[Json]]) -> Json:
    """Medians over rounds; what was dropped, in all."""
    told: Json = {}
    for clients, measured in found.items():
        told[clients] = {
            key: median(each[key] for each in measured) for key in ("per_second", "p50_ms", "p99_ms")
        }
        told[clients]["dropped"] = sum(each["dropped"] for each in measured)
    return told


def _lines(summary: Json) -> list[str]:
    return [
        f"{clients:>3} clients: {told['per_second']:8.0f} requests a second, median {told['p50_ms']:.2f} ms, "
        f"p99 {told['p99_ms']:.2f} ms, {told['dropped']} dropped"
        for clients, told in summary.items()
    ]


def main(arguments: list[str]) -> int:
    """The clients, in a process of their own."""
    port, file, clients, seconds = arguments
    bodies = json.loads(Path(file).read_text(encoding="utf-8"))
    print(json.dumps(asyncio.run(_clients(int(port), bodies, int(clients), float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
