"""Malicious files, made from valid ones: bytes flipped, cut, spliced; values of other types."""

import copy
import json
import math
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from inklab.errors import InklabError

Change = tuple[int, int, int]
"""What is done (modulo what can be), where, and with what."""

CHANGES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=3,
)
QUICKLY = settings(
    phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
"""Neither shrunk nor explained: an error carries the changes that led to it."""

Route = tuple[Any, ...]

HEADER = 96  # bytes: half of all changes hit the beginning, where most formats say what follows
SPLICES = (
    b"\0" * 8, b"\xff" * 8, b"[" * 2000, b"{" * 5, b'"', b"\n", b"\0", b"}", b"-1", b"1e999", b"NaN",
    b"\\ud800", b"PK\5\6", b"PK\3\4", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8", b"__metadata__", b"a." * 200,
    b'"""',
)  # fmt: skip
NUMBERS = (
    0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.5, 1.5, 1e99, 1e308, -1e308,
    5e-324, "", "0", "nan", "done", "failed", "../..", "/dev/zero", "a.py:Net", "~nobody/a.py:Net", "\x1b[2J",
    "a\nb", "\0", "$x^{$", "<b>", "é" * 300, "x" * 5000, [], {}, [[]], [None], [0], [0.5, 0.5], [""],
    {"": {}},
    {"a": [1, {"b": 2}]}, list(range(300)), [10**9], [1e308, -1e308], {"name": "mlp"}, {"mean": 0.5, "n": 2},
    json.loads("[" * 50 + "0" + "]" * 50),
)  # fmt: skip


def corrupt(raw: bytes, changes: Sequence[Change]) -> bytes:
    for kind, index, value in changes:
        raw = _BYTES[kind % len(_BYTES)](raw, _at(raw, index, value), value)
    return raw


def _at(raw: bytes, index: int, value: int) -> int:
    return index % max(1, min(len(raw), HEADER) if value % 2 else len(raw))


def _number(raw: bytes, at: int, value: int) -> bytes:
    size, order = (1, 2, 4, 8)[value // 2 % 4], ("big", "little")[value // 8 % 2]
    number = NUMBERS[value // 16 % len(NUMBERS)] % 256**size
    at -= at % size
    return raw[:at] + number.to_bytes(size, order) + raw[at + size :]


def _digits(raw: bytes, at: int, value: int) -> bytes:
    """Another number in text, such as a header in JSON or a NumPy shape has."""
    begin = next((i for i in range(at, len(raw)) if 48 <= raw[i] <= 57), None)
    if begin is None:
        return raw
    end = next((i for i in range(begin, len(raw)) if not 48 <= raw[i] <= 57), len(raw))
    return raw[:begin] + str(NUMBERS[value // 2 % len(NUMBERS)]).encode() + raw[end:]


_BYTES: tuple[Callable[[bytes, int, int], bytes], ...] = (
    # flip a bit, set a byte, cut, drop, double, splice
    lambda raw, at, value: raw[:at] + bytes(b ^ (1 << value % 8) for b in raw[at : at + 1]) + raw[at + 1 :],
    lambda raw, at, value: raw[:at] + bytes([value >> 3 & 255]) + raw[at + 1 :],
    lambda raw, at, value: raw[: len(raw) - at] if value % 3 else raw[at:],
    lambda raw, at, value: raw[:at] + raw[at + 1 + value % 40 :],
    lambda raw, at, value: raw[: at + 1 + value % 40] + raw[at:],
    lambda raw, at, value: raw[:at] + SPLICES[value // 2 % len(SPLICES)] + raw[at:],
    *[_number, _number, _digits, _digits],
    # random bytes, behind the beginning of the valid bytes or instead of them
    lambda raw, at, value: raw[: at if value % 2 else 0] + Random(value).randbytes(value // 2 % 300),
)


class Document:
    """A valid JSON value of which changed copies are made."""

    def __init__(self, value: Any) -> None:
        self._text = json.dumps(value)
        self._paths = list(_paths(value))

    def changed(self, changes: Sequence[Change]) -> Any:
        """A copy after some changes."""
        value = json.loads(self._text)
        for change in changes:
            value = self._changed(value, *change)
        return value

    def _changed(self, whole: Any, kind: int, index: int, number: int) -> Any:
        path = self._paths[index % len(self._paths)]
        if not path:
            return _value(number)
        try:
            parent = _descend(whole, path[:-1])
            change = _VALUES[kind % len(_VALUES)]
            change(parent, path[-1], self._other(number) if change is _graft else None, number)
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            pass
        return whole

    def _other(self, number: int) -> Any:
        return _descend(json.loads(self._text), self._paths[number % len(self._paths)])


def _paths(value: Any, path: Route = ()) -> Iterator[Route]:
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(child, (*path, key))


def _descend(value: Any, path: Route) -> Any:
    for key in path:
        value = value[key]
    return value


def _value(number: int) -> Any:
    return copy.deepcopy(VALUES[number % len(VALUES)])


def _replace(parent: Any, key: Any, other: Any, number: int) -> None:
    parent[key] = _value(number)


def _graft(parent: Any, key: Any, other: Any, number: int) -> None:
    parent[key] = other


def _delete(parent: Any, key: Any, other: Any, number: int) -> None:
    del parent[key]


def _lengthen(parent: Any, key: Any, other: Any, number: int) -> None:
    if isinstance(parent, list):
        parent.insert(key, parent[key])
    else:
        parent[str(VALUES[number % len(VALUES)])[:80]] = parent[key]


def _edit(parent: Any, key: Any, other: Any, number: int) -> None:
    old = parent[key]
    if isinstance(old, bool) or old is None:
        parent[key] = not old
    elif isinstance(old, int | float):
        parent[key] = (old + 1, -old, old * 1e6, old / 3, math.floor(old), -1e-9)[number % 6]
    elif isinstance(old, str):
        at = number % (len(old) + 1)
        parent[key] = old[:at] + ("", "-", ".", "\u202e", "9")[number % 5] + old[at + 1 :]
    elif isinstance(old, list):
        parent[key] = old[::-1] if number % 2 else old[: len(old) // 2]
    else:
        parent[key] = list(old.items()) if number % 2 else {}


_VALUES: tuple[Callable[[Any, Any, Any, int], None], ...] = (
    _replace, _replace, _graft, _delete, _lengthen, _edit, _edit,
)  # fmt: skip


def put(path: Path, raw: bytes) -> Path:
    """A file with that content. A new one: some file systems wait for the disk where an old one is cut."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)
    return path


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


class Tally:
    """Reads corrupted files, counts them, and checks that each takes few seconds of computing."""

    def __init__(self, max_seconds: float = 1.0) -> None:
        self.max_seconds = max_seconds
        self.read: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}

    def case(self, name: str, read: Callable[[Sequence[Change]], object], changes: Sequence[Change]) -> None:
        """One case: it is read, or refused by an error of inklab's in one line; anything else is raised."""
        began = time.process_time()  # not wall-clock time: other processes may be busy
        try:
            read(changes)
            self.read[name] += 1
        except InklabError as error:
            self.refused[name] += 1
            message = str(error)
            assert message and "\n" not in message and len(message) < 4_000, message[:500]
        except BaseException as error:
            error.add_note(f"{name} after {changes}")
            raise
        spent = time.process_time() - began
        self.slowest[name] = max(spent, self.slowest.get(name, 0.0))
        assert spent < self.max_seconds, f"{spent:.2f} s"

    @property
    def cases(self) -> int:
        return self.read.total() + self.refused.total()

    def table(self) -> str:
        """A table: what was read, refused, and how long the slowest took."""
        rows = [
            f"{name:20} {self.read[name]:7,} read {self.refused[name]:7,} refused, slowest {slowest:.3f} s"
            for name, slowest in self.slowest.items()
        ]
        return "\n".join([*rows, f"{self.cases:,} cases"])


def corrupt_and_read(
    name: str, read: Callable[[Sequence[Change]], object], tally: Tally, examples: int, batch: int, **how: Any
) -> None:
    """Let a reader read some batches of corrupted files; `how` are settings of hypothesis."""

    @settings(QUICKLY, max_examples=examples, **how)
    @given(st.lists(CHANGES, min_size=batch, max_size=batch))
    def run(cases: list[list[Change]]) -> None:
        for changes in cases:
            tally.case(name, read, changes)

    run()


@contextmanager
def limited_memory(n_bytes: int) -> Iterator[None]:
    """Let this process allocate at most so many bytes more than it has now."""
    if not STATM.exists():  # elsewhere than on Linux the peak alone is looked at
        yield
        return
    pages = int(STATM.read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


STATM = Path("/proc/self/statm")


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
