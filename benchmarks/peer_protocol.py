"""How the driver talks to a peer: a JSON object a line on stdin, an answer a line on stdout.

    {"do": "prepare", "work": "cnn", "data": FOLDER, ...}   load, build, warm up on other work
        -> {"versions": {...}, "does": "..."}
    {"do": "measure"}                                       one timed unit
        -> {"seconds": 5.1, "images": 60000, "loss": 0.3}   images: trained on, summed over members
    {"do": "quit"}

A peer that waits for its next line sleeps, so the others have the machine. An answer `{"error": "..."}` ends
the run. Imports the standard library only: peers run in an environment of their own.
"""

import json
import math
import os
import sys
import traceback
from typing import Any, Protocol

Json = dict[str, Any]


class Peer(Protocol):
    """What a peer has to be able to do."""

    def prepare(self, request: Json) -> Json:
        """Load the data, build, and warm up on work that isn't measured, compilation included."""

    def measure(self) -> Json:
        """Do one unit and say how long it took."""


def serve(peer: Peer) -> None:
    """Answer the driver until it says quit or goes away."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        answers.write(json.dumps(_answer(peer, request)) + "\n")
        answers.flush()


def _answer(peer: Peer, request: Json) -> Json:
    try:
        if request["do"] == "prepare":
            return peer.prepare(request)
        measured = peer.measure()
        if not math.isfinite(measured["loss"]):
            return {"error": f"its loss became {measured['loss']}: it does not do the work"}
        return measured
    except Exception as error:
        traceback.print_exc()  # to stderr, which the driver keeps as a log
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
