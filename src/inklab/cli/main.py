"""Entry point: runs a command and turns every ending into one line and the right exit code."""

import errno
import signal
import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

import inklab
from inklab.cli.console import app, info
from inklab.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, InklabError, format_error
from inklab.io.streams import guarded_streams

USER_ERRNOS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT,
    errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip
"""Errors of the file system that are no bug: no permission, no space, a file in place of a directory."""

INTERRUPTED = (
    "interrupted; what is finished is kept. Run the same command again to continue from the checkpoints"
)

for part in ("run", "show", "model"):
    import_module(f"inklab.cli.{part}_commands")


def _print_version(is_requested: bool) -> bool:
    if is_requested:
        typer.echo(f"inklab {inklab.__version__}")
        raise typer.Exit
    return is_requested


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback after an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; the arguments are those of the process if left out."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # allowed anywhere, not only before the command
    if words in ([], ["data"], ["list"]):
        words.append("--help")
    signal.signal(signal.SIGTERM, _interrupt)
    with guarded_streams():
        code = _run(words, debug)
    sys.exit(code)


def _run(words: list[str], debug: bool) -> int:
    try:
        code = _invoke(words)
        sys.stdout.flush()  # here, so that a full disk is handled below and not by the interpreter's exit
        return code
    except InklabError as error:
        return _fail(str(error), error.exit_code, debug)
    except TyperException as error:
        return _fail(f"{_usage_message(error)} See inklab --help.", EXIT_USAGE, debug)
    except (KeyboardInterrupt, Abort):
        return _fail(INTERRUPTED, EXIT_INTERRUPTED, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in USER_ERRNOS:
            path = f"'{error.filename}': " if error.filename else ""
            return _fail(f"{path}{error.strerror}", EXIT_USAGE, debug)
        problem = f"internal error: {format_error(error)}"
        advice = "add --debug for the traceback, and please report it"
        return _fail(f"{problem}; {advice}", EXIT_INTERNAL, debug)


def _invoke(words: list[str]) -> int:
    """Run a command. Not by typer's own `main`, which ends with 130 on Ctrl-C and 1 on a closed pipe."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("inklab", words) as context:
            code = command.invoke(context)
    except typer.Exit as end:
        code = end.exit_code
    return code if isinstance(code, int) else EXIT_OK


def _usage_message(error: TyperException) -> str:
    """What typer reports, as a sentence in inklab's words rather than pydantic's."""
    message = error.format_message().replace("Value error, ", "").replace(": Input should", ": should")
    return message if message.endswith((".", "?")) else f"{message}."


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    info(f"error: {' '.join(message.split())}")
    return code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
