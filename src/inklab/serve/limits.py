"""What the server takes at most: of one request, and of all together."""

from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """All limits in one place; the usual ones are for a small machine.

    Attributes:
        body: bytes of a request's body. A camera's picture of 12 megapixels has 3 to 5 MB, a third more as
            base64.
        bodies: bytes of all bodies that are held at once.
        values: commas in a body. The largest request that is allowed has some 300; without this bound, eight
            MiB of two million empty entries would each get an error of their own.
        body_seconds: in which a body must have come.
        head_seconds: in which a request's line and headers must have come.
        head: bytes of a request's line and headers together.
        seconds: in which an answer must be there, waiting included.
        requests: that are answered at once.
        connections: that are open at once.
        listeners: that follow the study at once.
        images: of one request.
        draws: new images of one request.
        pixels: of a picture that is to be framed. It takes 18 bytes a pixel meanwhile, one picture at a time.
        pictures: that wait to be framed.
        waiting: bytes of images that wait for networks, as floats.
    """

    body: int = 8 * MIB
    bodies: int = 64 * MIB
    values: int = 1000
    body_seconds: float = 10.0
    head_seconds: float = 10.0
    head: int = 32 * 1024
    seconds: float = 10.0
    requests: int = 256
    connections: int = 512
    listeners: int = 32
    images: int = 64
    draws: int = 100
    pixels: int = 16_000_000
    pictures: int = 16
    waiting: int = 64 * MIB
