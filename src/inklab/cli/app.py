"""The application that commands hang on, and what they share."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inklab.errors import RunError

app = typer.Typer(
    name="inklab",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A laboratory for small-image neural networks: replicates, noise, denoising, digits, one report.",
    epilog="Start with: inklab run",
)

Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the study; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunArg = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, such as runs/latest.")]


CONTROLS = dict.fromkeys({*range(32), *range(127, 160), *range(0xD800, 0xE000)} - {9, 10}, "\ufffd")
"""What a terminal would obey instead of showing it, or can't print; names in foreign files may hold it."""


def echo(text: str = "") -> None:
    """Print a result on stdout."""
    print(text.translate(CONTROLS))


def info(text: str) -> None:
    """Print progress or a remark on stderr."""
    print(text.translate(CONTROLS), file=sys.stderr, flush=True)


def echo_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    echo(json.dumps(value, indent=1, ensure_ascii=False))


def runs_root() -> Path:
    """Where runs go: `$INKLAB_RUNS_DIR`, else `runs` in the working directory."""
    return Path(os.environ.get("INKLAB_RUNS_DIR") or "runs")


def find_run(name: str) -> Path:
    """The folder of a run, given as a path, "latest", or an id below the runs folder.

    Raises:
        RunError: nothing fits.
    """
    candidates = [Path(name), runs_root() / name, *sorted(runs_root().glob(f"*/{name}"))]
    for path in candidates:
        if (path / "plan.json").is_file():
            return path.resolve()
    known = [str(path.parent) for path in sorted(runs_root().glob("*/*/plan.json"))]
    there = (
        f"; there are: {', '.join(known[-5:])}"
        if known
        else f"; there is none below '{runs_root()}' yet: start one with inklab run"
    )
    raise RunError(f"'{name}' is not a run (no plan.json in it){there}")


def table(columns: list[str], rows: list[list[str]], *, right: tuple[int, ...] = ()) -> None:
    """Print a plain table on stdout; columns in `right` are set flush right."""
    widths = [max(len(str(row[i])) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
