"""Converted networks, cached so that the next start finds them, and checked when they are read."""

import logging
from collections.abc import Callable
from contextlib import suppress

import torch

import inklab
from inklab.errors import DataError, WriteError
from inklab.export.graphs import Exportable
from inklab.export.onnx_export import to_onnx
from inklab.export.onnx_runtime import Session
from inklab.export.verify import compare_outputs
from inklab.io.files import cache_dir, fingerprint, read_bytes_capped, sha256_of, write_atomic
from inklab.shapes import Pixels

DIGEST_LENGTH = 64  # hex digits in front of the content
MAX_FILE_BYTES = 1024**3

log = logging.getLogger("inklab.serve")


def load_or_convert(graph: Exportable, samples: Pixels | None, threads: int) -> Session:
    """A network as a session: converted once, compared with the original, and cached.

    Args:
        graph: the network.
        samples: images to compare on, if any are at hand.
        threads: of each pass.

    Raises:
        ModelMismatchError: it can't be converted, or computes something else then.
        InklabError: a package that it needs is not installed.
    """

    def make() -> bytes:
        raw = to_onnx(graph)
        compare_outputs(graph, Session(raw), samples)
        return raw

    name = fingerprint([graph.metadata.to_json(), inklab.__version__, str(torch.__version__)])
    return Session(cached(f"{name}.onnx", make), threads=threads)


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """The bytes that `make` returns, from the cache if they are there and whole.

    Args:
        name: of everything that the bytes depend on.
        make: computes them.
    """
    path = cache_dir("onnx") / name
    with suppress(OSError, DataError):  # not there, or not readable: they are made again
        raw = read_bytes_capped(path, MAX_FILE_BYTES)
        digest, content = raw[:DIGEST_LENGTH], raw[DIGEST_LENGTH:]
        if sha256_of(content).encode() == digest:
            return content
    content = make()
    try:
        write_atomic(path, sha256_of(content).encode() + content)
    except WriteError as error:  # a full disk is no reason not to serve
        log.warning("%s", error)
    return content
