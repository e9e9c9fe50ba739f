"""The profile of the machine: measured once, kept where it holds, assumed where it can't be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inklab import hardware
from inklab.hardware import disable_malloc_trim, free_memory
from inklab.study.resources import (
    WORKER_BYTES,
    MachineProfile,
    default_profile,
    load_cached_profile,
    load_or_measure_profile,
    machine_identity,
    profile_path,
    run_benchmark,
)

GIB = 1 << 30
MEASURED = {"bf16_speedup": 1.7, "parallel_speedup": 1.3, "compile_seconds": 9.5}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))  # where a cache would be kept instead
    return tmp_path


class Benchmark:
    """Measures at once, and counts how often."""

    def __init__(self, **measured):
        self.calls, self.measured = 0, measured or MEASURED

    def __call__(self):
        self.calls += 1
        return self.measured


def measure(benchmark, load=0.0, **options) -> MachineProfile:
    return load_or_measure_profile(
        run_benchmark=benchmark, load_average=lambda: (load, 99.0, 99.0), **options
    )


class TestProfile:
    def test_it_is_measured_once(self, cache):
        assert load_cached_profile() is None and not profile_path().exists()
        benchmark, announced = Benchmark(), []
        profiles = [measure(benchmark, on_measure=lambda: announced.append(1)) for _ in range(3)]
        assert profiles == [MachineProfile(**MEASURED)] * 3
        assert benchmark.calls == len(announced) == 1 and cache in profile_path().parents
        assert load_cached_profile() == profiles[0]

    def test_what_a_busy_machine_gives_is_kept_while_it_is_busy(self, cache):
        benchmark = Benchmark()
        for _ in range(2):
            assert measure(benchmark, load=99.0).bf16_speedup == 1.7 and load_cached_profile() is None
        assert benchmark.calls == 1
        assert measure(benchmark).bf16_speedup == 1.7 and load_cached_profile() is not None
        assert benchmark.calls == 2

    def test_a_benchmark_that_a_busy_machine_cut_off_serves_an_hour(self, cache):
        cut_off = {"bf16_speedup": 1.7, "compile_error": "it took more than 120 s"}
        benchmark = Benchmark(**cut_off)
        assert {measure(benchmark, load=99.0).compile_error for _ in range(3)} == {"it took more than 120 s"}
        assert benchmark.calls == 1 and load_cached_profile() is None
        (kept,) = profile_path().parent.glob("*.busy.json")
        os.utime(kept, (0, 0))
        measure(benchmark, load=99.0)
        assert benchmark.calls == 2

    @pytest.mark.parametrize("error", [{}, {"compile_error": "it took more than 120 s"}], ids=len)
    def test_a_benchmark_that_was_cut_off_is_not_kept(self, cache, error):
        profile = measure(Benchmark(parallel_speedup=1.6, **error))
        assert profile.bf16_speedup == default_profile().bf16_speedup and profile.compile_error
        assert (profile.compile_seconds, profile.parallel_speedup) == (None, 1.6)
        assert load_cached_profile() is None and not profile_path().exists()
        assert measure(Benchmark()).compile_seconds == 9.5 == load_cached_profile().compile_seconds

    def test_that_nothing_can_be_compiled_is_kept(self, cache):
        measure(Benchmark(**{**MEASURED, "compile_seconds": None}, compile_error="g++ was not found"))
        assert load_cached_profile().compile_error == "g++ was not found"

    @pytest.mark.parametrize(
        "damage",
        [
            '{"bf16_speedup": 1.', "", "[1, 2]", "null", '{"bf16_speedup": 1.0}', "\x00\x01",
            '{"bf16_speedup": 1.0, "compile_seconds": 1.0, "parallel_speedup": 1.0, "color": 3}',
        ],
    )  # fmt: skip
    def test_a_damaged_file_is_measured_anew_and_an_unwritable_cache_is_no_error(self, damage, cache):
        profile_path().parent.mkdir(parents=True)
        profile_path().write_text(damage, encoding="utf-8")
        assert load_cached_profile() is None
        benchmark = Benchmark()
        assert [measure(benchmark).bf16_speedup for _ in range(2)] == [1.7, 1.7] and benchmark.calls == 1
        shutil.rmtree(cache / "inklab")
        (cache / "inklab").write_text("a file where the folder should be", encoding="utf-8")
        assert [measure(benchmark).bf16_speedup for _ in range(2)] == [1.7, 1.7] and benchmark.calls == 3

    def test_another_machine_has_a_profile_of_its_own(self, cache):
        identity = machine_identity()
        others = [profile_path((*identity[:i], "other", *identity[i + 1 :])) for i in range(len(identity))]
        assert len({*others, profile_path()}) == len(identity) + 1
        assert profile_path(identity) == profile_path()
        measure(Benchmark())
        assert all(load_cached_profile(path) is None for path in others)


PRINTS = 'print(\'{"bf16_speedup": 1.9}\\n{"parallel_speedup": 1.2}\', flush=True)'
PRINTED = {"bf16_speedup": 1.9, "parallel_speedup": 1.2}


def run(script: str, timeout: float = 60.0) -> dict:
    """What a benchmark gives that is this script."""
    return run_benchmark([sys.executable, "-c", f"import sys, time\n{script}"], timeout)


class TestRunBenchmark:
    def test_lines_are_put_together(self):
        assert run(f"{PRINTS}\nprint('{{\"compile_seconds\": 11.5}}')") == {
            **PRINTED, "compile_seconds": 11.5,
        }  # fmt: skip

    def test_what_was_printed_counts_if_the_rest_is_cut_off(self):
        """A compiler that hangs, in the middle of a line."""
        measured = run(
            f"{PRINTS}\nsys.stdout.write('{{\"comp')\nsys.stdout.flush()\ntime.sleep(60)", timeout=1.0
        )
        assert "1 s" in measured.pop("compile_error") and measured == PRINTED
        assert set(run("time.sleep(60)", timeout=0.5)) == {"compile_error"}, "a silent one only was slow"

    @pytest.mark.parametrize(
        "noise", ["print('loading...')", "print(3)", "print('null')", "print('{\"other\": 1}')", "print()"]
    )
    def test_output_of_libraries_and_a_break_at_the_end_are_ignored(self, noise):
        assert run(f"{noise}\n{PRINTS}\n{noise}\nraise SystemExit(1)") == PRINTED

    def test_the_real_benchmark_prints_fields_of_a_profile(self):
        source = Path(sys.modules["inklab"].__file__).parent / "training" / "throughput.py"
        text = source.read_text(encoding="utf-8")
        assert all(f"{field}=" in text for field in MachineProfile.model_fields)


class TestMachine:
    @pytest.mark.parametrize(
        ("text", "gib"),
        [
            ("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    3145728 kB\n", 3), (None, 4), ("", 4),
            ("MemTotal: 9 kB\n", 4), ("MemAvailable: much\n", 4), ("MemAvailable:\n", 4),
        ],
    )  # fmt: skip
    def test_free_memory_is_what_the_system_says_else_guessed(self, text, gib, tmp_path, monkeypatch):
        monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
        if text is not None:
            (tmp_path / "meminfo").write_text(text, encoding="utf-8")
        assert free_memory() == gib * GIB >= WORKER_BYTES

    @pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read where Linux reports it")
    def test_a_process_that_keeps_freed_memory_needs_no_more_of_it(self):
        """In a process of its own: it can't be undone."""
        code = (
            "from pathlib import Path\nfrom inklab.hardware import disable_malloc_trim\n"
            "disable_malloc_trim(); disable_malloc_trim()\n"
            "for turn in range(40): bytes(bytearray(16_000_000))\n"
            "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
        )
        kilobytes = int(subprocess.check_output([sys.executable, "-c", code], text=True))
        assert kilobytes < 250_000, "40 times 32 MB were not used again"

    def test_elsewhere_the_c_library_is_not_loaded_and_another_one_is_no_error(self, monkeypatch):
        def none(_: object) -> None:
            raise OSError("no such library")

        for library in (none, lambda _: object()):
            monkeypatch.setattr(hardware.ctypes, "CDLL", library)
            disable_malloc_trim()

        def never(_: object) -> None:
            raise AssertionError("it was loaded")

        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(hardware.ctypes, "CDLL", never)
        disable_malloc_trim()
