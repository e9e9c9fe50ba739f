"""The bytes of an ONNX file, walked before a library parses them.

Protobuf makes an object of every two bytes that say so, at fifty times their size. So everything but the bare
numbers of weights is counted first, and capped.
"""

from collections.abc import Iterator

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto (onnx.proto)
LENGTH_DELIMITED = 2
FIXED = {1: 8, 5: 4}  # wire types with a fixed number of bytes

Span = tuple[int, int]


def bytes_besides_weights(raw: bytes, most: int) -> int:
    """How many bytes of a model are not the bare numbers of its weights.

    Args:
        raw: the whole file.
        most: where counting may end.

    Raises:
        ValueError: the bytes are no protobuf, or there are more than `most` of these.

    Example:
        >>> weights = bytes([RAW_DATA << 3 | 2, 100]) + bytes(100)
        >>> graph = bytes([INITIALIZER << 3 | 2, len(weights)]) + weights
        >>> bytes_besides_weights(bytes([GRAPH << 3 | 2, len(graph)]) + graph, 1000)
        6
    """
    count = len(raw) - sum(end - start for start, end in _weights(raw, most))
    if count > most:
        raise ValueError(f"it has more than {most:,} bytes besides its weights")
    return count


def _weights(raw: bytes, most: int) -> Iterator[Span]:
    whole = (0, len(raw))
    fields = _Budget(most)
    for graph in _inside(raw, whole, GRAPH, fields):
        for tensor in _inside(raw, graph, INITIALIZER, fields):
            yield from _inside(raw, tensor, RAW_DATA, fields)


class _Budget:
    """Fields that may be walked: there are no more than bytes besides the weights."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it has too many parts")


def _inside(raw: bytes, span: Span, field: int, fields: _Budget) -> Iterator[Span]:
    """Where the values of one field lie in a message."""
    at, end = span
    while at < end:
        fields.spend()
        key, at = _varint(raw, at, end)
        wire = key & 7
        if wire == LENGTH_DELIMITED:
            length, at = _varint(raw, at, end)
            if at + length > end:
                raise ValueError("it is cut short")
            if key >> 3 == field:
                yield at, at + length
            at += length
        elif wire == 0:
            _, at = _varint(raw, at, end)
        elif wire in FIXED:
            at += FIXED[wire]
        else:
            raise ValueError("it is no ONNX")
    if at != end:
        raise ValueError("it is cut short")


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of up to ten bytes, and what follows it."""
    value = 0
    for place in range(10):
        if at + place >= end:
            raise ValueError("it is cut short")
        byte = raw[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it is no ONNX")
