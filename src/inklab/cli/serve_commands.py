"""The command that serves a run or a trained model on this machine: serve."""

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from inklab.cli.console import TrustCode, app, echo, find_model_or_run, info
from inklab.errors import EXIT_OK, InklabError

if TYPE_CHECKING:
    from inklab.serve.address import BindAddress

REQUIRED = ("fastapi", "uvicorn", "onnx", "onnxscript", "onnxruntime")

Served = Annotated[
    str, typer.Argument(metavar="RUN|MODEL", help="A run directory, such as runs/latest, or a model's.")
]
Host = Annotated[
    str, typer.Option(help="Address to listen at; an address other than this machine's own needs a token.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="INKLAB_TOKEN",
        metavar="TEXT",
        help="Access token required from clients; 'auto' generates one.",
    ),
]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A host name by which others reach this server; may be given several times.",
    ),
]
Open = Annotated[
    bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a desktop.")
]


@app.command()
def serve(
    run: Served = "latest",
    host: Host = "127.0.0.1",
    port: Port = 8470,
    token: Token = None,
    allowed_host: AllowedHost = None,
    open_page: Open = True,
    trust_code: TrustCode = None,
) -> int:
    """Serve a page to draw on, classified by the networks of a run, and the progress of its study."""
    from inklab.serve.address import ANY_ADDRESS, BindAddress, listen, parse_token

    _check_packages()
    model_dir, run_dir = find_model_or_run(run)
    path = run_dir or (model_dir.resolve() if model_dir else None)
    assert path is not None
    address = BindAddress(host, port, parse_token(token), tuple(allowed_host or ()))
    address.check()
    if host in ANY_ADDRESS and not address.allowed_hosts:
        info(f"at {host}, others are answered only under names given with --allowed-host")
    listener = listen(address)
    url = server_url(address, listener.getsockname()[1])

    def on_ready(skipped: Mapping[str, str]) -> None:
        for name, reason in skipped.items():
            info(f"without {name}: {reason}")
        echo(f"serving {path} at {url} (Ctrl-C to stop)")
        sys.stdout.flush()
        if open_page and _has_desktop():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    info("loading networks; the first time, each is converted, which takes a second or two")
    try:
        with listener:
            from inklab.serve.server import serve as run_server

            run_server(path, address, listener, on_ready, trust_code or ())
    except KeyboardInterrupt:  # before it listened
        pass
    return EXIT_OK


def _check_packages() -> None:
    from inklab.export.onnx_runtime import missing_packages

    missing = missing_packages(REQUIRED)
    if missing:
        raise InklabError(f"serving needs more packages ({', '.join(missing)}): pip install 'inklab[serve]'")


def server_url(address: "BindAddress", port: int) -> str:
    """What to type into a browser."""
    from inklab.serve.address import ANY_ADDRESS

    host = address.host
    if host in ANY_ADDRESS:
        host = next(iter(address.allowed_hosts), "127.0.0.1")
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{port}/" + (f"?token={address.token}" if address.token else "")


def _has_desktop() -> bool:
    """Whether a browser would open beside the terminal rather than in it."""
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )
