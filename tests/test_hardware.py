"""What a process may use in a container: the smaller of the machine and the limits of the container."""

import pytest

from inklab import hardware

GIB = 1 << 30
V1_CPU = {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"}
V1_MEMORY = {
    "memory.limit_in_bytes": f"{2 * GIB}", "memory.usage_in_bytes": f"{GIB}",
    "memory.stat": f"cache 5\ntotal_inactive_file {GIB // 2}\n",
}  # fmt: skip
V2 = {
    "cpu.max": "100000 100000\n", "memory.max": f"{GIB}\n", "memory.current": f"{GIB // 2}\n",
    "memory.stat": f"anon 7\ninactive_file {GIB // 4}\n",
}  # fmt: skip
NO_LIMIT = {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "5\n"}
V1_LINES = "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/box\n"

CONTAINERS = {
    # lines of /proc/self/cgroup, files -> cores, GiB
    "version 2": ("0::/\n", {".": V2}, 1, 0.75),
    "a limit of a group around it": ("0::/pod/box\n", {"pod": V2, "pod/box": NO_LIMIT}, 1, 0.75),
    "a path of the host": ("0::/not/seen/inside\n", {".": V2}, 1, 0.75),
    "version 1": (V1_LINES, {"cpu,cpuacct/box": V1_CPU, "memory/box": V1_MEMORY}, 1, 1.5),
    "less than a core": ("0::/\n", {".": {"cpu.max": "20000 100000"}}, 1, 8),
    "some cores": ("0::/\n", {".": {"cpu.max": "350000 100000"}}, 3, 8),
    "more than there is": ("0::/\n", {".": {"cpu.max": "9000000 100000", "memory.max": f"{99 * GIB}"}}, 8, 8),
    "no limit": ("0::/box\n", {"box": NO_LIMIT}, 8, 8),
    "version 1, no limit": (V1_LINES, {"cpu,cpuacct/box": {**V1_CPU, "cpu.cfs_quota_us": "-1"}}, 8, 8),
    "more used than allowed": ("0::/\n", {".": {"memory.max": "1", "memory.current": "5"}}, 8, 0),
    "nonsense": ("what\n", {".": {"cpu.max": "?"}}, 8, 8),
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_limits_of_containers_are_seen(container, tmp_path, monkeypatch):
    lines, groups, n_cores, free = CONTAINERS[container]
    (tmp_path / "cgroup").write_text(lines)
    (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    for group, files in groups.items():
        (tmp_path / "root" / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / "root" / group / name).write_text(text)
    monkeypatch.setattr(hardware, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "CGROUP_ROOT", tmp_path / "root")
    monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    assert (hardware.cores(), hardware.free_memory()) == (n_cores, free * GIB)
