"""Converted networks, kept in the user's cache so that the next start finds them, and checked when read."""

import logging
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from jaxtyping import UInt8

import inklab
from inklab.errors import DataError, WriteError
from inklab.export.graphs import Exportable
from inklab.export.onnx_export import to_onnx
from inklab.export.onnx_runtime import Session
from inklab.export.verify import compare_outputs
from inklab.io.atomic import cache_dir, read_bytes_capped, write_atomic
from inklab.io.documents import fingerprint, sha256_of
from inklab.serve.batcher import Network

FORMAT = 1
DIGEST = 64  # hex digits that stand in front of what is kept
MAX_FILE_BYTES = 1024**3  # bytes

log = logging.getLogger("inklab.serve")


def load_or_convert(wanted: Exportable, real: UInt8[np.ndarray, "n c h w"] | None, threads: int) -> Session:
    """A network as a session: converted once, compared with the original, and kept.

    Args:
        wanted: the network.
        real: images to compare on, if there are any at hand.
        threads: of each pass.

    Raises:
        ModelMismatchError: it can't be converted, or doesn't compute the same then.
        InklabError: a package that it needs is not installed.
    """
    import torch

    versions = [inklab.__version__, str(torch.__version__)]
    name = fingerprint(
        [FORMAT, wanted.kind, wanted.about["parts"], wanted.about["shape"], wanted.gives, versions]
    )

    def make() -> bytes:
        raw = to_onnx(wanted)
        compare_outputs(wanted, Session(raw), real)
        return raw

    return Session(cached(f"{name}.onnx", make), threads=threads)


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """The bytes that `make` makes, from the cache if they are there and whole.

    Args:
        name: of everything that the bytes depend on.
        make: makes them.
    """
    path = cache_dir("onnx") / name
    with suppress(OSError, DataError):  # not there, or not readable: it can be had again
        found = read_bytes_capped(path, MAX_FILE_BYTES)
        if sha256_of(found[DIGEST:]).encode() == found[:DIGEST]:
            return found[DIGEST:]
    made = make()
    try:
        write_atomic(path, sha256_of(made).encode() + made)
    except WriteError as error:  # a full disk is no reason not to serve
        log.warning("%s", error)
    return made


def network(session: Session, *outputs: str) -> Network:
    """A session as a function that gives some of its outputs, in that order."""

    def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        made = session(rows)
        return tuple(made[name] for name in outputs)

    return run
