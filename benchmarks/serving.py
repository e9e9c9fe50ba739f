"""Latency and throughput of `inklab serve`: /api/predict at 1, 8 and 64 clients.

The server is started as a user starts it, on a run. A request has one image and asks its first pipeline, over
persistent connections. Clients run in a process of their own: `wrk` if it is installed, else a small one in
Python, which takes more of the cores that it shares with the server; the results name it.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.options import ROOT, BenchmarkError, Options
from benchmarks.peer_client import process_environment
from benchmarks.records import LoadRound, ServerLoad, ServingResults, ServingTargets
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.errors import InklabError
from inklab.io.tensor_file import read_arrays
from inklab.records.plan import Plan, RobustnessPlan

CLIENTS = (1, 8, 64)
MEASURE_SECONDS, WARM_UP_SECONDS = 5.0, 2.0
TARGETS = ServingTargets(p50_ms_at_1=3.0, requests_per_second=1500.0)
MAX_IDLE_WAIT_SECONDS = 120.0  # for what the server computes in the background after starting
IDLE_CPU_SECONDS = 0.05
WRK = """
local bodies = {BODIES}
local index = 0
request = function()
  index = index % #bodies + 1
  return wrk.format("POST", "/api/predict", {["Content-Type"] = "application/json"}, bodies[index])
end
done = function(summary, latency)
  local e = summary.errors
  print("LOAD " .. summary.requests .. " " .. summary.duration .. " " .. latency:percentile(50) .. " "
    .. latency:percentile(99) .. " " .. (e.connect + e.read + e.write + e.status + e.timeout))
end
"""

SendRequests = Callable[[int, float], LoadRound]
"""`(clients, seconds) -> what the server answered`."""


def measure_serving(options: Options) -> list[str]:
    """Measure a server of the run `options.run`.

    Returns:
        A line per number of clients.

    Raises:
        BenchmarkError: no run is named, the server doesn't start, or it does not answer.
    """
    if options.run is None:
        raise BenchmarkError("name a finished run with samples: --run runs/latest")
    with _start_server(options.run) as port, TemporaryDirectory() as folder:
        bodies = request_bodies(options.run)
        tool = "wrk" if shutil.which("wrk") else "python"
        make_client = _wrk_client if tool == "wrk" else _python_client
        clients = _measure_rounds(make_client(port, bodies, Path(folder)), options.rounds)
    results = ServingResults(
        tool=tool,
        seconds=MEASURE_SECONDS,
        targets=TARGETS,
        n=options.rounds,
        pipeline=first_pipeline(options.run),
        clients=clients,
        summary={count: summarize_rounds(rounds) for count, rounds in clients.items()},
        measurement=describe_measurement(options.command.replace(str(options.run), "RUN")),
    )
    write_results(options.output, "serving", results)
    return _format_summary(results.summary)


def _measure_rounds(send: SendRequests, rounds: int) -> dict[str, tuple[LoadRound, ...]]:
    """Every number of clients in turn, every other round backwards."""
    for clients in CLIENTS:
        send(clients, WARM_UP_SECONDS)
    loads: dict[int, list[LoadRound]] = {clients: [] for clients in CLIENTS}
    for number in range(rounds):
        for clients in CLIENTS if number % 2 == 0 else reversed(CLIENTS):
            loads[clients].append(send(clients, MEASURE_SECONDS))
            log_progress(f"{clients} clients: {loads[clients][-1]}")
    return {str(clients): tuple(measured) for clients, measured in loads.items()}


@contextmanager
def _start_server(run: Path) -> Iterator[int]:
    """A server that has finished its work in the background; its port."""
    words = [sys.executable, "-m", "inklab", "serve", str(run), "--port", "0", "--no-open"]
    with subprocess.Popen(
        words, cwd=ROOT, env=process_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            address = re.search(r":(\d+)/", line)
            if not address:
                raise BenchmarkError(f"the server did not start: {line.strip() or 'it printed nothing'}")
            _wait_until_idle(process.pid)
            yield int(address[1])
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_idle(process: int) -> None:
    """Wait until the server has computed next to nothing for two seconds."""
    end, before = time.monotonic() + MAX_IDLE_WAIT_SECONDS, -1.0
    while time.monotonic() < end:
        now = _cpu_seconds(process)
        if now - before < IDLE_CPU_SECONDS:
            return
        before = now
        time.sleep(2)
    raise BenchmarkError(f"the server still computes after {MAX_IDLE_WAIT_SECONDS:.0f} s")


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def request_bodies(run: Path) -> list[str]:
    """A request for each of the run's samples.

    Raises:
        BenchmarkError: it has none.
    """
    try:
        pixels = read_arrays(run / "samples.safetensors")["pixels"]
    except (OSError, KeyError, InklabError) as error:
        raise BenchmarkError(f"'{run}' has no samples to send: {error}") from error
    encoded = (b64encode(np.ascontiguousarray(image).tobytes()).decode() for image in pixels)
    return [json.dumps({"images": [image]}) for image in encoded]


def first_pipeline(run: Path) -> str:
    """The pipeline that answers by default: the first of a robustness experiment, or the first network."""
    plan = Plan.read(run / "plan.json")
    robustness = next((entry for entry in plan.experiments if isinstance(entry, RobustnessPlan)), None)
    return robustness.pipelines[0] if robustness else plan.training[0].name


def _wrk_client(port: int, bodies: Sequence[str], folder: Path) -> SendRequests:
    script = folder / "requests.lua"
    script.write_text(WRK.replace("BODIES", ",".join(f"'{body}'" for body in bodies)), encoding="utf-8")

    def send(clients: int, seconds: float) -> LoadRound:
        words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
        process = subprocess.run([*words, f"http://127.0.0.1:{port}"], capture_output=True, text=True)
        match = re.search(r"^LOAD (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)$", process.stdout, re.MULTILINE)
        if not match:
            raise BenchmarkError(f"wrk failed: {(process.stderr or process.stdout).strip()[-200:]}")
        requests, microseconds, p50, p99, errors = map(float, match.groups())
        return _load_round(int(requests), microseconds / 1e6, p50 / 1e3, p99 / 1e3, int(errors))

    return send


def _load_round(requests: int, seconds: float, p50_ms: float, p99_ms: float, dropped: int) -> LoadRound:
    return LoadRound(
        requests=requests,
        requests_per_second=round(requests / seconds, 1),
        p50_ms=round(p50_ms, 3),
        p99_ms=round(p99_ms, 3),
        dropped=dropped,
    )


def _python_client(port: int, bodies: Sequence[str], folder: Path) -> SendRequests:
    file = folder / "bodies.json"
    file.write_text(json.dumps(bodies), encoding="utf-8")

    def send(clients: int, seconds: float) -> LoadRound:
        words = [sys.executable, "-m", "benchmarks.serving", str(port), str(file), str(clients), str(seconds)]
        process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if process.returncode:
            raise BenchmarkError(f"the clients failed: {process.stderr.strip()[-200:]}")
        return LoadRound.parse_json(process.stdout.encode(), "what the clients measured")

    return send


async def send_requests(port: int, bodies: Sequence[str], clients: int, seconds: float) -> LoadRound:
    """Send requests over as many connections as clients, each waiting for one answer after the other."""
    latencies: list[float] = []
    dropped, start = 0, time.perf_counter()

    async def send_all(first: int) -> None:
        nonlocal dropped
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        index = first
        while time.perf_counter() - start < seconds:
            body, index = bodies[index % len(bodies)], index + 1
            sent = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer)
            assert length
            await reader.readexactly(int(length[1]))
            latencies.append(time.perf_counter() - sent)
            dropped += not answer.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(send_all(client * 7) for client in range(clients)))
    p50, p99 = (1e3 * float(np.quantile(latencies, share)) for share in (0.5, 0.99))
    return _load_round(len(latencies), time.perf_counter() - start, p50, p99, dropped)


def summarize_rounds(rounds: Sequence[LoadRound]) -> ServerLoad:
    """Medians over rounds; `dropped` is the sum."""
    return ServerLoad(
        requests_per_second=median(load.requests_per_second for load in rounds),
        p50_ms=median(load.p50_ms for load in rounds),
        p99_ms=median(load.p99_ms for load in rounds),
        dropped=sum(load.dropped for load in rounds),
    )


def _format_summary(summary: Mapping[str, ServerLoad]) -> list[str]:
    return [
        f"{clients:>3} clients: {load.requests_per_second:8.0f} requests per second, median "
        f"{load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, {load.dropped} dropped"
        for clients, load in summary.items()
    ]


def main(port: str, file: str, clients: str, seconds: str) -> None:
    """The clients, in a process of their own."""
    bodies = json.loads(Path(file).read_text(encoding="utf-8"))
    load = asyncio.run(send_requests(int(port), bodies, int(clients), float(seconds)))
    print(load.model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
