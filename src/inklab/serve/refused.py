"""What is answered to a request that can't be done: one line, and why."""

import json
from collections.abc import Mapping


class Refused(Exception):
    """A request that is not done.

    Args:
        status: the HTTP status, such as 422.
        message: one line: what was given, what is allowed, what to do.
        headers: beside the usual ones, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        r"""The JSON that is sent.

        Example:
            >>> Refused(422, "two lines\nin one").body
            b'{"error": "two lines in one"}'
        """
        return json.dumps({"error": " ".join(str(self).split())}).encode()


def busy(what: str, seconds: int = 1) -> Refused:
    """A request that may be sent again a little later."""
    return Refused(503, f"{what}; try again in {seconds} s", {"Retry-After": str(seconds)})
