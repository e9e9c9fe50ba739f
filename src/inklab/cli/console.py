"""The application that commands are registered with, and what they share."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.format import printable

if TYPE_CHECKING:
    pass

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


def echo_table(columns: list[str], rows: list[list[str]], *, right: tuple[int, ...] = ()) -> None:
    """Print a plain table on stdout; columns in `right` are aligned right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
