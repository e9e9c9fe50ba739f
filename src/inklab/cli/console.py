"""The application that commands are registered with, and what they share."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.errors import DataError
from inklab.format import printable

if TYPE_CHECKING:
    from inklab.runs import Run

app = typer.Typer(
    name="inklab",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A laboratory for small-image neural networks: replicates, corruptions, denoising, one report.",
    epilog="Start with: inklab run",
)

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be given several times."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunArg = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, such as runs/latest.")]
ModelArg = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model's or trial's directory, or a run; of a run its first classifier, or --experiment.",
    ),
]
Experiment = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of a run: which experiment, or setting such as l2-sweep:l2=1e-5."),
]
TrustCode = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-code",
        metavar="FILE.py:NAME",
        help="Allow this code of yours to run, if a model needs it; may be given several times.",
    ),
]


def echo(text: str = "") -> None:
    """Print a result on stdout."""
    print(printable(text))


def info(text: str) -> None:
    """Print progress or a note on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def echo_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    echo(json.dumps(value, indent=1, ensure_ascii=False))


def find_model_or_run(name: str) -> "Path | Run":
    """The directory of a trained model, or else a run.

    Raises:
        DataError: the path is neither.
        RunError: there is no such path or run.
    """
    from inklab.records.manifest import find_model_dir
    from inklab.records.record import PLAN_FILE
    from inklab.runs import Run
    from inklab.study.run_directory import find_run

    folder = find_model_dir(Path(name))
    if folder is not None:
        return folder
    if Path(name).exists() and not (Path(name) / PLAN_FILE).is_file():
        raise DataError(f"'{name}' is neither a trained model (model.json) nor a run ({PLAN_FILE})", key=name)
    return Run(find_run(name))


def echo_table(columns: list[str], rows: list[list[str]], *, right: tuple[int, ...] = ()) -> None:
    """Print a plain table on stdout; columns in `right` are aligned right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
