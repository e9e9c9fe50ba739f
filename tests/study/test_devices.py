"""Which device a run trains on: chosen from facts, with a reason, and the same again on a resume."""

import sys

import pytest
from plan_builder import NET, plan_experiments

from inklab.errors import ConfigError, InklabError, RunError, UnknownNameError
from inklab.hardware import gpu_of_system, torch_gpu_build
from inklab.records.execution import DeviceCheck, DeviceChoice, ExecutionConfig
from inklab.study.devices import (
    INSTALL_HINT,
    REQUESTED,
    Accelerators,
    check_same_device,
    choose_device,
    find_accelerators,
    parse_device,
)
from inklab.study.runner import keep_device_checks

NONE = Accelerators(torch="2.13.0")
CPU_BUILD = Accelerators(torch="2.13.0+cpu", system_gpu="NVIDIA A100")
BLIND = Accelerators(torch="2.13.0", gpu_build="CUDA 12.8", system_gpu="NVIDIA A100")
TWO = BLIND.model_copy(update={"gpus": ("NVIDIA A100, 80 GiB", "NVIDIA T4, 16 GiB")})
MAC = Accelerators(torch="2.13.0", mps=True)

CHOICES = {
    "no GPU": (NONE, "auto", "cpu", "", "no GPU"),
    "a CPU build of torch beside a GPU": (CPU_BUILD, "auto", "cpu", "", INSTALL_HINT),
    "a GPU that torch does not see": (BLIND, "auto", "cpu", "", "CUDA 12.8"),
    "two GPUs": (TWO, "auto", "cuda:0", "A100", "first"),
    "the first by name": (TWO, "cuda", "cuda:0", "A100", REQUESTED),
    "the second": (TWO, "cuda:1", "cuda:1", "T4", REQUESTED),
    "the processor beside GPUs": (TWO, "cpu", "cpu", "", REQUESTED),
    "a Mac": (MAC, "auto", "cpu", "", "only if it is named"),
    "a Mac's GPU by name": (MAC, "mps", "mps", "Apple", REQUESTED),
}
REFUSALS = {
    "gpu": (TWO, UnknownNameError, ("no device is called 'gpu'", "Did you mean 'cuda'?")),
    "tpu": (TWO, UnknownNameError, ("no device is called 'tpu'", "auto, cpu, cuda, cuda:0, mps")),
    "cuda:-1": (TWO, UnknownNameError, ("'cuda:-1'",)),
    "cuda:2": (TWO, ConfigError, ("no device 'cuda:2' here", "auto, cpu, cuda:0, cuda:1")),
    "cuda": (NONE, ConfigError, ("no GPU that torch can use", "available: auto, cpu")),
    "cuda:0": (CPU_BUILD, ConfigError, ("NVIDIA A100", "2.13.0+cpu is a CPU build", INSTALL_HINT)),
    "mps": (TWO, ConfigError, ("no device 'mps' here", "cuda:1")),
}


class TestChooseDevice:
    @pytest.mark.parametrize("case", CHOICES)
    def test_facts_and_request_decide_with_a_reason(self, case):
        facts, request, name, hardware, reason = CHOICES[case]
        choice = choose_device(request, facts)
        assert choice.name == name and choice.is_cpu == (name == "cpu")
        assert hardware in choice.hardware and reason in choice.reason
        assert all(part in choice.description for part in (name, choice.hardware, choice.reason))

    @pytest.mark.parametrize("request_", REFUSALS)
    def test_what_is_not_here_fails_in_one_line_with_what_is(self, request_):
        facts, error_type, parts = REFUSALS[request_]
        with pytest.raises(error_type) as caught:
            choose_device(request_, facts)
        message = str(caught.value)
        assert all(part in message for part in parts) and "\n" not in message and caught.value.exit_code == 2

    def test_names_are_read_as_people_write_them(self):
        assert [parse_device(text) for text in ("AUTO", " cpu", "CUDA", "cuda:01")] == [
            "auto", "cpu", "cuda:0", "cuda:1",
        ]  # fmt: skip


class TestCheckSameDevice:
    GPU = DeviceChoice(name="cuda:0", hardware="NVIDIA A100", reason="x")

    @pytest.mark.parametrize(
        ("planned", "request_", "facts"),
        [("cpu", "auto", TWO), ("cpu", "cpu", TWO), ("cuda:0", "auto", TWO), ("cuda:0", "cuda", TWO)],
    )
    def test_the_same_again_is_accepted(self, planned, request_, facts):
        choice = self.GPU if planned == "cuda:0" else DeviceChoice()
        check_same_device(choice, request_, lambda _: facts)

    @pytest.mark.parametrize(
        ("planned", "request_", "facts", "parts"),
        [
            ("cpu", "cuda", TWO, ("begun on device cpu", "cuda:0 would give other numbers")),
            ("cuda:0", "cpu", TWO, ("begun on device cuda:0", "cpu would give other numbers")),
            ("cuda:0", "cuda:1", TWO, ("cuda:1 would give",)),
            ("cuda:0", "auto", NONE, ("NVIDIA A100", "which is not here", "available: cpu")),
        ],
    )
    def test_another_device_or_machine_is_refused_in_one_line(self, planned, request_, facts, parts):
        choice = self.GPU if planned == "cuda:0" else DeviceChoice()
        with pytest.raises(RunError) as caught:
            check_same_device(choice, request_, lambda _: facts)
        message = str(caught.value)
        assert all(part in message for part in (*parts, "--run-dir")) and "\n" not in message

    def test_a_run_on_the_processor_looks_for_no_gpu(self):
        def fail(_: str) -> Accelerators:
            raise AssertionError("torch was asked")

        check_same_device(DeviceChoice(), "auto", fail)


class TestKeepDeviceChecks:
    """A check that ends otherwise on a resume moves no network to another device."""

    def test_that_of_an_earlier_session_stays(self):
        check = DeviceCheck(device="cuda:0", torch="2.13", steps=12, tolerance=1e-3)
        gpu = ExecutionConfig(precision="fp32", device=TestCheckSameDevice.GPU)
        earlier = plan_experiments({"net": NET}, execution=gpu, traits={"device_check": check})
        (key,) = earlier.networks
        failed = check.model_copy(update={"problem": "it fails on cuda:0: out of memory"})
        now = {
            name: earlier.networks[key].model_copy(update={"device_check": failed}) for name in (key, "new")
        }
        kept = keep_device_checks(now, earlier)
        assert kept[key].device_check == check and kept["new"].device_check == failed
        assert keep_device_checks(now, None) == now


def find(script: str, request: str = "auto", system: str = "NVIDIA", build: str = "CUDA 12.8", **options):
    return find_accelerators(
        request, command=[sys.executable, "-c", script], system_gpu=lambda: system, gpu_build=lambda: build,
        platform="linux", **options,
    )  # fmt: skip


PRINT = 'print(\'warming up\'); print(\'{"gpus": ["A", "B"], "mps": false}\'); print(\'bye\')'


class TestFindAccelerators:
    def test_torch_is_asked_and_may_print_more(self):
        assert find(PRINT).gpus == ("A", "B") and find(PRINT).available == ("cpu", "cuda:0", "cuda:1")

    @pytest.mark.parametrize(
        "options", [{"request": "cpu"}, {"system": ""}, {"build": ""}], ids=lambda options: str(options)
    )
    def test_torch_is_not_asked_where_it_can_see_nothing(self, options):
        assert find(PRINT, **options).gpus == ()

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("raise OSError('libcuda is broken')", "libcuda is broken"), ("", "exit code 0"),
            ("print('{\"gpus\": 3}')", "exit code 0"), ("raise SystemExit(7)", "exit code 7"),
            ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
        ],
    )  # fmt: skip
    def test_a_driver_that_fails_is_a_reason_for_the_processor(self, script, reason):
        facts = find(script)
        assert reason in facts.problem and choose_device("auto", facts).is_cpu
        with pytest.raises(InklabError, match="could not list its GPUs"):
            choose_device("cuda", facts)

    def test_so_is_one_that_hangs(self):
        facts = find("import time; time.sleep(60)", timeout=0.3)
        assert "0.3 s" in facts.problem and facts.problem in choose_device("auto", facts).reason


class TestSystem:
    def test_the_driver_lists_its_gpus(self, tmp_path):
        folder = tmp_path / "gpus" / "0000:01:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 42\n")
        assert gpu_of_system(tmp_path) == "NVIDIA H100 80GB HBM3"
        (folder / "information").write_text("nonsense")
        assert gpu_of_system(tmp_path) == "NVIDIA"

    @pytest.mark.parametrize(
        ("text", "build"),
        [
            ("__version__ = '2.13'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "CUDA 12.8"),
            ("cuda = None\nhip: Optional[str] = '6.4.1'\n", "ROCm 6.4.1"),
            ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", ""), ("", ""),
        ],
    )  # fmt: skip
    def test_the_build_of_torch_is_read_from_its_files(self, text, build, tmp_path):
        (tmp_path / "version.py").write_text(text)
        assert torch_gpu_build(tmp_path) == build
        assert torch_gpu_build(tmp_path / "missing") == ""

    def test_it_is_that_of_the_torch_that_is_imported(self):
        import torch

        version = torch.version.cuda or torch.version.hip
        assert torch_gpu_build().partition(" ")[2] == (version or "")
