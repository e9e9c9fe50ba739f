"""Entry point: runs a command and turns every ending into one line and the right exit code."""

import errno
import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

import inklab
from inklab.cli.app import app, info
from inklab.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, InklabError

FROM_OUTSIDE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT,
    errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
}  # fmt: skip
"""What a file system says that is nobody's bug: no permission, no space, a file where a folder should be."""

for part in ("run", "results", "list", "predict", "export", "serve"):
    import_module(f"inklab.cli.{part}_commands")


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"inklab {inklab.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: what was typed; the process's own if left out.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in typed
    typed = [word for word in typed if word != "--debug"]  # allowed anywhere, not only before the command
    if typed in ([], ["data"]):
        typed.append("--help")
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_run(typed, debug))


def _run(typed: list[str], debug: bool) -> int:
    try:
        code = _invoked(typed)
        sys.stdout.flush()  # here, so that a closed pipe is met below and not by the interpreter's exit
        return code
    except InklabError as error:
        return _told(str(error), error.exit_code, debug)
    except TyperException as error:
        return _told(f"{error.format_message()} See inklab --help.", EXIT_USAGE, debug)
    except (KeyboardInterrupt, Abort):
        return _told(
            "interrupted; what is finished is kept, trainings have left checkpoints, and the same command "
            "goes on from there",
            EXIT_INTERRUPTED,
            debug,
        )
    except BrokenPipeError:  # as in `inklab show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        if error.errno not in FROM_OUTSIDE:
            return _internal(error, debug)
        place = f"'{error.filename}': " if error.filename else ""
        return _told(f"{place}{error.strerror}", EXIT_USAGE, debug)
    except Exception as error:
        return _internal(error, debug)


def _invoked(typed: list[str]) -> int:
    """Run a command. Not by typer's own `main`, which ends with 130 on Ctrl-C and 1 on a closed pipe."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("inklab", typed) as context:
            code = command.invoke(context)
    except typer.Exit as ended:
        code = ended.exit_code
    return code if isinstance(code, int) else EXIT_OK


def _internal(error: Exception, debug: bool) -> int:
    return _told(
        f"internal error: {type(error).__name__}: {error}; add --debug for the traceback",
        EXIT_INTERNAL,
        debug,
    )


def _told(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    info(f"inklab: {' '.join(message.split())}")
    return code


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
