"""What decides how a run is carried out: the machine's profile and what the user requests."""

import pytest
from plan_builder import NET, plan_digits, plan_experiments

from inklab.errors import RunError
from inklab.records.execution import ExecutionConfig
from inklab.study.devices import REQUESTED, Accelerators
from inklab.study.resources import (
    START_SECONDS,
    ExecutionOptions,
    MachineProfile,
    choose_execution,
    describe_execution,
    estimate_cost,
    group_seconds,
    resolve_against_plan,
)

GIB = 1 << 30


def machine(**fields):
    measured = {"bf16_speedup": 2.5, "compile_seconds": 12.0, "parallel_speedup": 1.4}
    return MachineProfile(**(measured | fields))


FAST = machine()
BARE = machine(bf16_speedup=0.03, compile_seconds=None, compile_error="g++ was not found")
CROWDED = machine(parallel_speedup=0.8)
DEFAULTS = ExecutionOptions()

CHOICES = {
    # profile, options, cores, GiB of memory -> precision, threads, workers, compile
    "a fast machine": (FAST, DEFAULTS, 4, 16, ("bf16", 1, 4, "auto")),
    "bf16 is emulated, no compiler": (BARE, DEFAULTS, 4, 16, ("fp32", 1, 4, "no")),
    "bf16 gains little": (machine(bf16_speedup=1.09), DEFAULTS, 2, 16, ("fp32", 1, 2, "auto")),
    "bf16 gains enough": (machine(bf16_speedup=1.1), DEFAULTS, 2, 16, ("bf16", 1, 2, "auto")),
    "one core": (CROWDED, DEFAULTS, 1, 16, ("bf16", 1, 1, "auto")),
    "processes hardly slow each other": (
        machine(parallel_speedup=0.95), DEFAULTS, 4, 16, ("bf16", 1, 4, "auto"),
    ),
    "processes slow each other": (CROWDED, DEFAULTS, 4, 16, ("bf16", 4, 1, "auto")),
    "they do neither": (machine(parallel_speedup=1.0), DEFAULTS, 4, 16, ("bf16", 1, 4, "auto")),
    "memory for three": (FAST, DEFAULTS, 8, 3.5, ("bf16", 1, 3, "auto")),
    "memory for none": (FAST, DEFAULTS, 8, 0.1, ("bf16", 1, 1, "auto")),
    "workers requested": (FAST, ExecutionOptions(workers=3), 8, 16, ("bf16", 1, 3, "auto")),
    "more workers than memory": (FAST, ExecutionOptions(workers=6), 8, 1, ("bf16", 1, 6, "auto")),
    "few workers where they slow": (CROWDED, ExecutionOptions(workers=2), 8, 16, ("bf16", 4, 2, "auto")),
    "many workers where they slow": (CROWDED, ExecutionOptions(workers=8), 8, 16, ("bf16", 8, 8, "auto")),
    "threads requested": (FAST, ExecutionOptions(threads=3), 8, 16, ("bf16", 3, 2, "auto")),
    "more threads than cores": (FAST, ExecutionOptions(threads=4), 2, 16, ("bf16", 4, 1, "auto")),
    "threads on one core": (FAST, ExecutionOptions(threads=2), 1, 16, ("bf16", 2, 1, "auto")),
    "fp32 requested": (FAST, ExecutionOptions(precision="fp32"), 2, 16, ("fp32", 1, 2, "auto")),
    "bf16 requested, emulated": (BARE, ExecutionOptions(precision="bf16"), 2, 16, ("bf16", 1, 2, "no")),
    "compiling requested": (FAST, ExecutionOptions(compile="yes"), 2, 16, ("bf16", 1, 2, "yes")),
    "compiling refused": (FAST, ExecutionOptions(compile="no"), 2, 16, ("bf16", 1, 2, "no")),
    "compiling requested, no compiler": (BARE, ExecutionOptions(compile="yes"), 2, 16, ("fp32", 1, 2, "yes")),
}  # fmt: skip


NO_GPU = Accelerators(torch="2.13.0")
ONE_GPU = NO_GPU.model_copy(update={"gpus": ("Fast GPU, compute capability 9.0, 79 GiB",)})


def choose(
    profile: MachineProfile,
    options: ExecutionOptions,
    n_cores: int,
    gib: float,
    accelerators: Accelerators = NO_GPU,
) -> ExecutionConfig:
    return choose_execution(
        profile, options, n_cores=n_cores, memory=round(gib * GIB), accelerators=accelerators
    )


class TestChooseExecution:
    @pytest.mark.parametrize("case", CHOICES)
    def test_profile_and_options_decide_with_a_reason(self, case):
        *arguments, expected = CHOICES[case]
        execution, (profile, options, *_) = choose(*arguments), arguments
        assert (execution.precision, execution.threads, execution.workers, execution.compile) == expected
        assert choose(*arguments) == execution
        reasons = execution.reasons
        assert set(reasons) == {"precision", "threads", "workers", "compile"} and all(reasons.values())
        for key, reason in reasons.items():
            assert (reason == REQUESTED) == (getattr(options, key) not in (None, "auto")), key
        if options.precision == "auto":
            assert f"{profile.bf16_speedup:.2g}" in reasons["precision"]
        if options.compile == "auto" and profile.compile_error:
            assert profile.compile_error in reasons["compile"]

    def test_a_gpu_has_one_worker_with_all_cores_and_fp32(self):
        execution = choose(FAST, DEFAULTS, 8, 16, ONE_GPU)
        assert (execution.precision, execution.threads, execution.workers) == ("fp32", 8, 1)
        assert execution.device.name == "cuda:0" and "Fast GPU" in describe_execution(execution)[0]
        requested = choose(FAST, ExecutionOptions(workers=2, precision="bf16"), 8, 16, ONE_GPU)
        assert (requested.precision, requested.threads, requested.workers) == ("bf16", 4, 2)
        on_cpu = choose(FAST, ExecutionOptions(device="cpu"), 8, 16, ONE_GPU)
        assert on_cpu.model_copy(update={"device": choose(FAST, DEFAULTS, 8, 16).device}) == choose(
            FAST, DEFAULTS, 8, 16
        )

    def test_little_memory_is_among_the_reasons(self):
        little, enough = (choose(FAST, DEFAULTS, 8, gib).reasons["workers"] for gib in (3.5, 8))
        assert "3.5 GiB" in little and "GiB" not in enough

    def test_a_description_has_a_line_a_decision(self):
        execution = choose(BARE, ExecutionOptions(workers=3), 4, 16)
        stored = ExecutionConfig.parse_json(execution.model_dump_json().encode(), "execution")
        lines = describe_execution(stored)
        assert [line.split()[:2] for line in lines] == [
            ["device", "cpu"], ["precision", "fp32"], ["threads", "1"], ["workers", "3"],
            ["max_population", "8"], ["compile", "no"],
        ]  # fmt: skip
        assert lines[3] == f"workers 3 ({REQUESTED})"
        assert all(reason in "\n".join(lines) for reason in execution.reasons.values())


class TestResolveAgainstPlan:
    PLANNED = ExecutionConfig(precision="bf16", workers=4, compile="auto", reasons={"precision": "measured"})

    @pytest.mark.parametrize(
        ("key", "planned", "requested"),
        [
            ("precision", "bf16", "fp32"),
            ("threads", 1, 2),
            ("compile", "auto", "yes"),
            ("compile", "auto", "no"),
        ],
    )
    def test_what_would_give_other_numbers_is_refused_in_one_line(self, key, planned, requested):
        with pytest.raises(RunError) as error:
            resolve_against_plan(self.PLANNED, ExecutionOptions(**{key: requested}))
        message = str(error.value)
        assert all(str(word) in message for word in (key, planned, requested, "--run-dir"))
        assert "\n" not in message

    @pytest.mark.parametrize("same", [{}, {"precision": "bf16"}, {"threads": 1}], ids=str)
    def test_the_same_again_and_other_workers_are_accepted(self, same):
        assert resolve_against_plan(self.PLANNED, ExecutionOptions(**same)) == self.PLANNED
        resolved = resolve_against_plan(self.PLANNED, ExecutionOptions(**same, workers=7))
        assert resolved == self.PLANNED.model_copy(update={"workers": 7})


class TestEstimateCost:
    def test_everything_and_nothing(self):
        plan = plan_digits(profile="quick")
        whole, nothing = estimate_cost(plan, plan.ids), estimate_cost(plan, ())
        assert (whole.trials, whole.evaluations) == (26, 10) and whole.populations == len(plan.groups)
        assert whole.seconds > START_SECONDS and whole.bytes > 0
        assert set(nothing.to_json().values()) == {0}

    def test_half_of_the_trials_cost_half_and_workers_share(self):
        def seconds(workers, replicates):
            execution = ExecutionConfig(precision="fp32", workers=workers)
            plan = plan_experiments({"net": {**NET, "replicates": replicates}}, execution=execution)
            return estimate_cost(plan, plan.ids).seconds - START_SECONDS

        assert seconds(1, 8) == pytest.approx(2 * seconds(1, 4)) == pytest.approx(4 * seconds(4, 8))

    def test_the_formula(self):
        """55,000 images, 2 epochs, 430 steps of 0.5 ms each, 3 passes of 1e6 macs at 30e9 a second."""
        plan = plan_experiments({"net": NET}, execution=ExecutionConfig(precision="fp32"))
        expected = 2 * (55_000 * 1e6 * 3 / 30e9 + 430 * 0.5e-3)
        assert group_seconds(plan, plan.groups[0], 1) == pytest.approx(expected)
        assert group_seconds(plan, plan.groups[0], 2) == pytest.approx(2 * expected)
