"""How a run is carried out, on which device, and what checks of networks and device measured before."""

from typing import Annotated, Literal

from pydantic import Field

from inklab.format import pluralize
from inklab.records.recipe import Precision
from inklab.records.record import Count, Few, NonNegative, PositiveCount, Record

DeviceName = Annotated[str, Field(pattern=r"^(cpu|mps|cuda:\d{1,3})$")]
"""The processor, Apple's GPU, or one of the GPUs that CUDA (or ROCm) numbers from 0."""

CPU = "cpu"


class DeviceChoice(Record):
    """The device that a run trains on: chosen once, from facts, and frozen in its plan.

    Attributes:
        name: "cpu", "cuda:0", "mps".
        hardware: name, compute capability and memory of the GPU; "" for the processor.
        reason: why this one.
    """

    name: DeviceName = CPU
    hardware: str = ""
    reason: str = ""

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor, which needs no check."""
        return self.name == CPU

    @property
    def description(self) -> str:
        """Name, hardware and reason in a line.

        Example:
            >>> DeviceChoice(name="cuda:0", hardware="NVIDIA T4", reason="requested").description
            'cuda:0, NVIDIA T4 (requested)'
        """
        named = ", ".join(filter(None, (self.name, self.hardware)))
        return f"{named} ({self.reason})" if self.reason else named


class DeviceCheck(Record):
    """A short training of one kind of network on a device, compared with the same one on the processor.

    Errors are the largest relative differences of any loss: `abs(a - b) / max(abs(a), abs(b))`. A field is
    None if the check ended before it was measured.

    Attributes:
        device: that was checked.
        hardware: its GPU.
        torch: version.
        problem: why networks of this kind are trained on the processor instead; "" if the device is used.
        steps: of each training.
        tolerance: largest error that is accepted, of losses and members; a repetition must have none.
        loss_error: of the losses on the device against those on the processor.
        member_error: of members of a population against the same trial trained alone; None also for a network
            that can't be stacked.
        members: trained together in that comparison.
        repeat_error: of a second training on the device against the first.
        compiles: whether the compiled step ran and passed; None if compiling was not tried.
        compile_problem: why it did not.
    """

    device: DeviceName
    hardware: str = ""
    torch: str
    problem: str = ""
    steps: PositiveCount
    tolerance: NonNegative
    loss_error: NonNegative | None = None
    member_error: NonNegative | None = None
    members: PositiveCount | None = None
    repeat_error: NonNegative | None = None
    compiles: bool | None = None
    compile_problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the device is used for networks of this kind."""
        return not self.problem

    @property
    def description(self) -> str:
        """What was measured, in a line."""
        if self.problem:
            return f"trained on the CPU, because {self.problem}"
        parts = [f"losses of {pluralize(self.steps, 'step')} within {self.loss_error or 0:.1g} of the CPU's"]
        if self.member_error is not None and self.members:
            within = f"within {self.member_error:.1g} of" if self.member_error else "equal to"
            parts.append(f"{self.members} members {within} the same trained alone")
        parts.append("a repetition is equal to the bit")
        if self.compiles is not None:
            parts.append("compiled" if self.compiles else f"not compiled: {self.compile_problem}")
        return "; ".join(parts)


class ExecutionConfig(Record):
    """How a run is carried out; decided once, frozen in the plan, used by every resume.

    Attributes:
        precision: of networks whose study says "auto".
        threads: for each trial; convolutions differ in their last bits between one thread and two.
        workers: processes side by side. Numbers do not depend on it.
        max_population: most trials in one population. Numbers do not depend on it.
        compile: "no", "yes", or "auto": steps of trials that last long enough for it to pay off.
        device: that networks are trained on, if a check of their kind passes there.
        reasons: what each choice rests on, by the name of the field.
    """

    precision: Precision
    threads: PositiveCount = 1
    workers: PositiveCount = 2
    max_population: PositiveCount = 8
    compile: Literal["auto", "yes", "no"] = "no"
    device: DeviceChoice = DeviceChoice()
    reasons: Annotated[dict[str, str], Few] = {}


class NetworkTraits(Record):
    """What the preflight check found out about a kind of network.

    Attributes:
        vmappable: a step runs over stacked members, and a member's bits don't depend on the others.
        has_convolutions: they do not gain from being stacked on a CPU.
        uses_global_rng: it draws from torch's global generator: it is trained alone and reseeded each step.
        parameters: how many numbers are trained.
        macs: multiply-accumulates of one image forward.
        device_check: of the run's device; None if that is the processor.
    """

    vmappable: bool
    has_convolutions: bool
    uses_global_rng: bool
    parameters: Count
    macs: Count
    device_check: DeviceCheck | None = None
