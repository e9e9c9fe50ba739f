"""Which device a run trains on: decided once, from facts about the machine. Imports no torch."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version

from inklab.errors import ConfigError, CorruptFileError, RunError, UnknownNameError
from inklab.hardware import gpu_of_system, torch_gpu_build
from inklab.records.execution import CPU, DeviceChoice
from inklab.records.record import Names, Record

PROBE_COMMAND = (sys.executable, "-m", "inklab.training.accelerators")
PROBE_SECONDS = 60.0  # torch is imported in 2 s; a driver that hangs must not hang a run
AUTO = "auto"
DEVICE_NAMES = (AUTO, CPU, "cuda", "cuda:0", "mps")
INSTALL_HINT = "install a build of torch for this GPU: https://pytorch.org/get-started/locally"
REQUESTED = "requested"


class Accelerators(Record):
    """The facts that decide about a device.

    Attributes:
        gpus: what CUDA or ROCm lists, in their order: name, compute capability, memory.
        mps: whether torch can use Apple's GPU.
        torch: version.
        gpu_build: what the installed torch was built for, as "CUDA 12.8"; "" of a CPU build.
        system_gpu: a GPU whose driver is installed; "" if there is none.
        problem: why torch could not be asked for its GPUs.
    """

    gpus: Names = ()
    mps: bool = False
    torch: str
    gpu_build: str = ""
    system_gpu: str = ""
    problem: str = ""

    @property
    def available(self) -> tuple[str, ...]:
        """The names that can be requested here."""
        return (CPU, *(f"cuda:{index}" for index in range(len(self.gpus))), *(["mps"] if self.mps else []))

    @property
    def explanation(self) -> str:
        """Why there is no GPU for torch, in a clause."""
        if self.problem:
            return self.problem
        if self.system_gpu and not self.gpu_build:
            return (
                f"this machine has a GPU ({self.system_gpu}), but torch {self.torch} is a CPU build; "
                f"{INSTALL_HINT}"
            )
        if self.system_gpu:
            return f"torch, built for {self.gpu_build}, sees no GPU, but the system does ({self.system_gpu})"
        return "this machine has no GPU that torch can use"


@functools.cache
def accelerators_of_machine(request: str) -> Accelerators:
    """`find_accelerators`, once a process: a run needs them several times."""
    return find_accelerators(request)


def find_accelerators(
    request: str = AUTO,
    *,
    command: Sequence[str] = PROBE_COMMAND,
    timeout: float = PROBE_SECONDS,
    system_gpu: Callable[[], str] = gpu_of_system,
    gpu_build: Callable[[], str] = torch_gpu_build,
    platform: str = sys.platform,
) -> Accelerators:
    """The facts, as far as they matter for what was requested.

    torch is asked, in a process of its own, only where it may see something: it has been built for GPUs and a
    driver is installed, or this is a Mac. The processor, and machines without a GPU, cost no time.
    """
    facts = Accelerators(torch=version("torch"), gpu_build=gpu_build(), system_gpu=system_gpu())
    has_cuda = bool(facts.gpu_build) and (bool(facts.system_gpu) or platform == "win32")
    if request == CPU or not (has_cuda or platform == "darwin"):
        return facts
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        return facts.model_copy(update={"problem": f"torch did not list its GPUs within {timeout:g} s"})
    for line in reversed(process.stdout.splitlines()):  # a library may print to stdout, too
        with suppress(ValueError, TypeError, CorruptFileError):
            return Accelerators.parse_json(json.dumps(facts.to_json() | json.loads(line)).encode(), "probe")
    reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return facts.model_copy(update={"problem": f"torch could not list its GPUs: {reason[:200]}"})


def parse_device(request: str) -> str:
    """A device as a user writes it, as "cpu", "cuda:0" or "mps"; "auto" stays.

    Raises:
        UnknownNameError: nothing is called so.

    Example:
        >>> parse_device("cuda"), parse_device("cuda:1")
        ('cuda:0', 'cuda:1')
    """
    name = str(request).strip().lower()
    if name == "cuda":
        return "cuda:0"
    if name in DEVICE_NAMES or re.fullmatch(r"cuda:\d{1,3}", name):
        return name if not name.startswith("cuda:") else f"cuda:{int(name[5:])}"
    raise UnknownNameError("device", str(request), DEVICE_NAMES)


def choose_device(request: str, accelerators: Accelerators) -> DeviceChoice:
    """The device of a run, and why.

    "auto" is the first GPU that CUDA lists, else the processor. Apple's GPU is used only if it is named:
    torch is on record for training silently wrong there (pytorch issues 92615, 109457).

    Raises:
        UnknownNameError: no device is called so.
        ConfigError: this machine does not have it.
    """
    name, gpus = parse_device(request), accelerators.gpus
    if name == AUTO:
        if gpus:
            return DeviceChoice(name="cuda:0", hardware=gpus[0], reason="the first GPU that torch sees")
        reason = accelerators.explanation
        if accelerators.mps:
            reason = "Apple's GPU is used only if it is named: --device mps"
        return DeviceChoice(name=CPU, reason=reason)
    if name not in accelerators.available:
        listed = ", ".join(accelerators.available)
        wrong = "" if gpus and name.startswith("cuda") else f": {accelerators.explanation}"
        raise ConfigError(
            f"there is no device '{request}' here{wrong}; available: auto, {listed}", key="device",
            suggestion="cuda:0" if gpus else CPU,
        )  # fmt: skip
    hardware = gpus[int(name[5:])] if name.startswith("cuda:") else "Apple GPU" * (name == "mps")
    return DeviceChoice(name=name, hardware=hardware, reason=REQUESTED)


def check_same_device(
    planned: DeviceChoice,
    request: str,
    find: Callable[[str], Accelerators] = accelerators_of_machine,
) -> None:
    """Refuse to continue a run on another device than it was begun on.

    Raises:
        RunError: another one is requested, or this machine does not have that one.
        UnknownNameError: no device is called so.
    """
    name = parse_device(request)
    advice = "name another run directory with --run-dir"
    if name not in (AUTO, planned.name):
        raise RunError(
            f"this run was begun on device {planned.name}, and {name} would give other numbers; leave the "
            f"option out, or {advice}"
        )
    if planned.is_cpu:
        return
    accelerators = find(planned.name)
    if planned.name not in accelerators.available:
        raise RunError(
            f"this run was begun on {planned.name} ({planned.hardware}), which is not here "
            f"(available: {', '.join(accelerators.available)}); continue it on that machine, or {advice}"
        )
