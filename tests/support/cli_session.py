"""Commands typed one after the other in a process of their own: what becomes of each, without its cost."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TYPIST = """
import contextlib, io, json, sys
from inklab.cli import main
told = []
for words in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    told.append([code, out.getvalue(), err.getvalue(), "torch" in sys.modules])
json.dump(told, sys.stdout)
"""


def typed_in(
    folder: Path, commands: Sequence[Sequence[str]], surroundings: Mapping[str, str] | None = None
) -> list[list[Any]]:
    """Type commands in a folder.

    Args:
        folder: the working directory.
        commands: the words of each.
        surroundings: all environment variables; this process's if left out.

    Returns:
        Of each its exit code, what stood on stdout and stderr, and whether torch had been imported by then.
    """
    done = subprocess.run(
        [sys.executable, "-c", TYPIST], input=json.dumps(commands), cwd=folder, capture_output=True,
        text=True, env=surroundings, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    found: list[list[Any]] = json.loads(done.stdout)
    return found
