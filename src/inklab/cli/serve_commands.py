"""The command that serves a run or a bundle on this machine."""

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.app import app, echo, find_run, info
from inklab.errors import EXIT_OK, InklabError

if TYPE_CHECKING:
    from inklab.serve.address import BindAddress

NEEDED = ("fastapi", "uvicorn", "httptools", "uvloop", "onnx", "onnxscript", "onnxruntime")


Served = Annotated[
    str, typer.Argument(metavar="RUN|BUNDLE", help="A run folder, such as runs/latest, or a bundle's.")
]
Host = Annotated[str, typer.Option(help="Address to listen at; others than this machine's own need a token.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="INKLAB_TOKEN", metavar="TEXT", help="What everybody who asks must know; 'auto' makes one."
    ),
]
Allowed = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A name under which others reach this server; may be repeated."),
]
Open = Annotated[
    bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a desktop.")
]
Code = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE.py:NAME", help="Run this code of your own, if bundles were made with it."),
]


@app.command()
def serve(
    run: Served = "latest",
    host: Host = "127.0.0.1",
    port: Port = 8470,
    token: Token = None,
    allow_host: Allowed = None,
    open_page: Open = True,
    code: Code = None,
) -> int:
    """Serve a page to draw on, with a run's networks behind it, and the study while it runs."""
    from inklab.serve.address import ANY_ADDRESS, AllowedHosts, BindAddress, check_address, listen, token_of

    _check_packages()
    folder = _folder(run)
    place = BindAddress(host, port, token_of(token), tuple(allow_host or ()))
    check_address(host, place.token)
    AllowedHosts.of(host, port, place.allowed)
    if host in ANY_ADDRESS and not place.allowed:
        info(f"at {host}, others are answered under names that are given with --allow-host only")
    listener = listen(place)
    address = _address(place, listener.getsockname()[1])

    def listening(left_out: Mapping[str, str]) -> None:
        for name, reason in left_out.items():
            info(f"without {name}: {reason}")
        echo(f"serving {folder} at {address} ; Ctrl-C ends it")
        sys.stdout.flush()
        if open_page and _has_desktop():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    info("getting networks ready; the first time, they are converted, which takes a second or two each")
    try:
        with listener:
            from inklab.serve.server import serve as serving

            serving(folder, place, listener, listening, trusted=code or ())
    except KeyboardInterrupt:  # before it listened
        pass
    return EXIT_OK


def _check_packages() -> None:
    from inklab.export.onnx_runtime import missing

    lacking = missing(NEEDED)
    if lacking:
        raise InklabError(f"serving needs more packages ({', '.join(lacking)}): pip install 'inklab[serve]'")


def _folder(name: str) -> Path:
    """A bundle's folder, a trial's, or a run's."""
    from inklab.export.select import model_at

    bundle = model_at(Path(name))
    return find_run(name) if bundle is None else bundle.resolve()


def _address(place: "BindAddress", port: int) -> str:
    """What to type into a browser."""
    from inklab.serve.address import ANY_ADDRESS

    host = place.host if place.host not in ANY_ADDRESS else next(iter(place.allowed), "127.0.0.1")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{port}/" + (f"?token={place.token}" if place.token else "")


def _has_desktop() -> bool:
    """Whether a browser would come up beside the terminal rather than in it."""
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )
