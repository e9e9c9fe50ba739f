"""Facts about the machine: found out once, kept where they hold, assumed where they can't be had."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run

from inklab import hardware
from inklab.hardware import disable_malloc_trim, free_memory
from inklab.study import resources as facts_module
from inklab.study.resources import (
    WORKER_BYTES,
    ExecutionOptions,
    MachineProfile,
    default_profile,
    load_cached_profile,
    load_or_measure_profile,
    profile_path,
)
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

GIB = 1 << 30


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of one's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def looked(monkeypatch) -> list[int]:
    """How often the machine was looked at; what is found is told at once."""
    times: list[int] = []

    def probed() -> dict[str, float]:
        times.append(1)
        return {"bf16": 1.7, "side_by_side": 1.3, "compile_seconds": 9.5}

    monkeypatch.setattr(facts_module, "_run_benchmark", probed)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return times


DAMAGED = {
    "cut off": '{"bf16": 1.',
    "empty": "",
    "a list": "[1, 2]",
    "null": "null",
    "a field missing": '{"bf16": 1.0}',
    "a field too many": '{"bf16": 1.0, "compile_seconds": 1.0, "side_by_side": 1.0, "colour": 3}',
    "bytes": "\x00\x01",
}


class TestFacts:
    def test_they_are_found_out_once(self, cache, looked):
        noted: list[int] = []
        found = [load_or_measure_profile(lambda: noted.append(1)) for _ in range(3)]
        assert found == [MachineProfile(1.7, 9.5, 1.3, "")] * 3
        assert len(looked) == len(noted) == 1 and cache in profile_path().parents
        assert load_cached_profile() == found[0]

    def test_what_a_busy_machine_shows_is_not_kept(self, cache, looked, monkeypatch):
        monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
        assert load_or_measure_profile().bf16 == 1.7 and load_cached_profile() is None
        monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 99.0, 99.0))
        assert (
            load_or_measure_profile().bf16 == 1.7 and load_cached_profile() is not None and len(looked) == 2
        )

    def test_nothing_is_known_before(self, cache, looked):
        assert load_cached_profile() is None and not looked and not profile_path().exists()

    @pytest.mark.parametrize("damage", DAMAGED)
    def test_a_damaged_file_is_found_out_anew(self, damage, cache, looked):
        profile_path().parent.mkdir(parents=True)
        profile_path().write_text(DAMAGED[damage], encoding="utf-8")
        assert load_cached_profile() is None
        assert (
            load_or_measure_profile().bf16 == 1.7
            and load_or_measure_profile().bf16 == 1.7
            and len(looked) == 1
        )

    def test_another_machine_has_facts_of_its_own(self, cache, looked, monkeypatch):
        load_or_measure_profile()
        for name, other in {"cores": 99, "cpu_name": "Z80", "version": "0.1"}.items():
            with monkeypatch.context() as patch:
                patch.setattr(facts_module, name, lambda *_, other=other: other)
                assert load_cached_profile() is None, name
        assert load_cached_profile() is not None

    def test_no_place_to_keep_them_is_no_error(self, cache, looked):
        (cache / "inklab").write_text("a file where the folder should be", encoding="utf-8")
        assert (
            load_or_measure_profile().bf16 == 1.7
            and load_or_measure_profile().bf16 == 1.7
            and len(looked) == 2
        )

    def test_what_was_not_found_out_is_assumed(self, cache, monkeypatch):
        monkeypatch.setattr(facts_module, "_run_benchmark", lambda: {"side_by_side": 1.6})
        found = load_or_measure_profile()
        assert found == MachineProfile(default_profile().bf16, None, 1.6, "the look at it failed")

    def test_the_driver_asks_them_once_and_tells_that_it_looks(self, cache, looked, tmp_path):
        events = []
        driver = StudyRunner(
            toy_run.study(),
            RunDirectory(tmp_path / "run"),
            ExecutionOptions(workers=1),
            lambda *e: events.append(e),
        )
        assert driver.how(probe=False).compile == "no" and not looked, "a dry run or a check looks at nothing"
        assert driver.how().compile == "auto" and driver.how().precision == "bf16"
        assert len(looked) == 1 and [event.kind for event, _ in events] == ["probing"]


def probe_that(tmp_path: Path, monkeypatch, script: str) -> None:
    """Have another program stand where Python is, which says what a probe may say."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))


SAID = 'print(\'{"bf16": 1.9}\\n{"side_by_side": 1.2}\', flush=True)'


class TestProbed:
    def test_lines_are_put_together(self, tmp_path, monkeypatch):
        probe_that(tmp_path, monkeypatch, f"{SAID}\nprint('{{\"compile_seconds\": 11.5}}')")
        assert facts_module._run_benchmark() == {"bf16": 1.9, "side_by_side": 1.2, "compile_seconds": 11.5}

    def test_what_was_said_stands_if_the_rest_is_cut_off(self, tmp_path, monkeypatch):
        """A compiler that hangs, in the middle of a line."""
        monkeypatch.setattr(facts_module, "BENCHMARK_TIMEOUT", 1)
        probe_that(
            tmp_path, monkeypatch, f"{SAID}\nsys.stdout.write('{{\"comp')\nsys.stdout.flush()\ntime.sleep(60)"
        )
        found = facts_module._run_benchmark()
        assert found.pop("why_not") == "it took more than 1 s"
        assert found == {"bf16": 1.9, "side_by_side": 1.2}

    def test_a_probe_that_is_silent_says_only_that_it_was_slow(self, tmp_path, monkeypatch):
        monkeypatch.setattr(facts_module, "BENCHMARK_TIMEOUT", 0.5)
        probe_that(tmp_path, monkeypatch, "time.sleep(60)")
        assert set(facts_module._run_benchmark()) == {"why_not"}

    @pytest.mark.parametrize(
        "noise", ["print('loading...')", "print(3)", "print('null')", "print('{\"other\": 1}')", "print()"]
    )
    def test_remarks_of_libraries_are_passed_over(self, noise, tmp_path, monkeypatch):
        probe_that(tmp_path, monkeypatch, f"{noise}\n{SAID}\n{noise}")
        assert facts_module._run_benchmark() == {"bf16": 1.9, "side_by_side": 1.2}

    def test_a_probe_that_breaks_leaves_what_it_said(self, tmp_path, monkeypatch):
        probe_that(tmp_path, monkeypatch, f"{SAID}\nraise SystemExit(1)")
        assert facts_module._run_benchmark() == {"bf16": 1.9, "side_by_side": 1.2}


class TestMachine:
    def test_free_memory_is_what_the_system_tells(self, tmp_path, monkeypatch):
        told = tmp_path / "meminfo"
        told.write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    3145728 kB\n", encoding="utf-8")
        monkeypatch.setattr(hardware, "MEMINFO", told)
        assert free_memory() == 3 * GIB

    @pytest.mark.parametrize(
        "text", [None, "", "MemTotal: 9 kB\n", "MemAvailable: much\n", "MemAvailable:\n"]
    )
    def test_free_memory_is_guessed_where_it_is_not_told(self, text, tmp_path, monkeypatch):
        monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
        if text is not None:
            (tmp_path / "meminfo").write_text(text, encoding="utf-8")
        assert free_memory() == 4 * GIB >= WORKER_BYTES

    @pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read where Linux tells it")
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

    def test_elsewhere_nothing_is_asked_of_the_c_library(self, monkeypatch):
        def never(_: object) -> None:
            raise AssertionError("asked")

        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(hardware.ctypes, "CDLL", never)
        disable_malloc_trim()

    def test_another_c_library_is_no_error(self, monkeypatch):
        def none(_: object) -> None:
            raise OSError("no such library")

        for library in (none, lambda _: object()):
            monkeypatch.setattr(hardware.ctypes, "CDLL", library)
            disable_malloc_trim()
