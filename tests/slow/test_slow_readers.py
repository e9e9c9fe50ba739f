"""A hundred thousand malicious files: every reader reads or refuses them, in a second and little memory each.

Valid files are corrupted (bytes flipped, cut, spliced; numbers in headers edited; JSON values replaced by
ones of other types), with checksums put right where they would hide the rest. Each run has other cases.
"""

from functools import partial

import pytest
from fuzzed_runs import RunReader, all_readers, write_run
from malicious_files import Tally, corrupt_and_read, limited_memory, peak_bytes

pytestmark = pytest.mark.slow

BATCH = 20  # cases per example, which makes drawing them cheaper
LARGEST = 1 << 30  # bytes that all cases together may take more than the interpreter had before
CASES = {
    "idx": 10_000, "npz": 8_000, "npy in npz": 8_000, "picture": 10_000, "png": 6_000, "json": 6_000,
    "safetensors": 10_000, "safetensors header": 10_000, "study file": 5_000, "study tables": 5_000,
    "model manifest": 5_000, "model weights": 3_000, "plan": 4_000, "trial": 6_000, "evaluation": 4_000,
    "arrays": 4_000, "results": 6_000, "timer": 500,
}  # fmt: skip
DRAWN = {"plan": 12, "trial": 12, "evaluation": 12, "arrays": 12}


@pytest.fixture(scope="module")
def every_reader(tmp_path_factory):
    return all_readers(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def tally():
    return Tally()


@pytest.fixture(scope="module", autouse=True)
def memory(every_reader):
    before = peak_bytes()
    with limited_memory(LARGEST):
        yield
    assert peak_bytes() - before < LARGEST


@pytest.mark.parametrize("name", CASES)
def test_only_our_own_errors_escape(name, every_reader, tally):
    corrupt_and_read(name, every_reader[name], tally, CASES[name] // BATCH, BATCH)
    assert tally.read[name] and tally.refused[name], "both happen, or it is no test"


@pytest.mark.parametrize("kind", DRAWN)
def test_a_report_is_drawn_or_refused(kind, tmp_path):
    """With all its figures, which takes seconds: a few dozen."""
    run_reader = RunReader(write_run(tmp_path / "run"), draw=True)
    corrupt_and_read(kind, partial(run_reader, kind), Tally(max_seconds=60.0), DRAWN[kind], 1)


def test_there_were_a_hundred_thousand(tally, capsys):
    if set(tally.slowest) != set(CASES):
        pytest.skip("only some of the readers were asked for")
    with capsys.disabled():
        print(f"\n{tally.table()}")  # noqa: T201
    assert tally.cases >= 100_000
