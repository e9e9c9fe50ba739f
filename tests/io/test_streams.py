"""Standard streams that are closed, or that nobody reads any more, end no command."""

import os
import subprocess
import sys

import pytest

WRITE = """
import os, sys
from inklab.io.streams import guarded_streams
with guarded_streams():
    {code}
os._exit(7)
"""


def exit_code(code: str, *, closed: tuple[int, ...] = (), stdout: int | None = None) -> int:
    """Run code with guarded streams in a process; 7 if it came to its end. Some descriptors are closed."""

    def prepare() -> None:
        for descriptor in closed:
            os.close(descriptor)

    command = [sys.executable, "-c", WRITE.format(code=code)]
    return subprocess.run(command, preexec_fn=prepare, stdout=stdout, check=False).returncode


MUCH = "print('x' * 100_000, flush=True); print('y' * 100_000, file=sys.stderr, flush=True)"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_take_everything(closed):
    files = "open(os.devnull).fileno() > 2 or os._exit(1)"
    assert exit_code(f"{MUCH}; {files}", closed=closed, stdout=subprocess.DEVNULL) == 7


def test_what_a_gone_reader_leaves_is_discarded_also_that_of_children():
    read, write = os.pipe()
    os.close(read)
    child = "import subprocess; subprocess.run(['echo', 'z'], check=True)"
    assert exit_code(f"{MUCH}; {child}; print('more')", stdout=write) == 7
    os.close(write)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is full is simulated by Linux only")
def test_results_on_a_full_disk_are_an_error_that_names_them():
    with open("/dev/full", "w") as full:
        code = "\n    ".join(
            [
                "try:",
                f"    {MUCH}",
                "except OSError as error:",
                "    os._exit(8 if error.filename == 'stdout' else 1)",
            ]
        )
        assert exit_code(code, stdout=full.fileno()) == 8


def test_afterwards_the_streams_are_those_of_before(capsys):
    from inklab.io.streams import guarded_streams

    before = sys.stdin, sys.stdout, sys.stderr
    with guarded_streams():
        sys.stdout.write("a result\n")
    assert (sys.stdin, sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "a result\n"
