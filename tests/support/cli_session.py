"""Commands run one after the other in a process of their own: their results, without a start for each."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SCRIPT = """
import contextlib, io, json, sys
from inklab.cli import main
results = []
for words in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    results.append([code, out.getvalue(), err.getvalue(), "torch" in sys.modules])
json.dump(results, sys.stdout)
"""


class CommandResult(NamedTuple):
    """What became of a command: exit code, stdout, stderr, and whether torch was imported by then."""

    code: int
    out: str
    err: str
    torch_imported: bool


def run_commands(
    folder: Path, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> list[CommandResult]:
    """Run commands in a directory, with all variables of `environment` or those of this process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(commands), cwd=folder, capture_output=True,
        text=True, env=environment, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [CommandResult(*result) for result in json.loads(done.stdout)]
