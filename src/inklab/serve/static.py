"""The page's files by name: read once at start, so nothing that a request says leads to a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inklab import pad

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"


@dataclass(frozen=True)
class File:
    """A file of the page.

    Attributes:
        content: its bytes.
        kind: its Content-Type.
        tag: changes with the content; a browser that has it is not sent it again.
    """

    content: bytes
    kind: str
    tag: str


def page_files() -> dict[str, File]:
    """Every file of the page, and the pad's modules, by name.

    Example:
        >>> "drawing.js" in page_files()
        True
    """
    found = {path.name: path.read_bytes() for path in sorted(PAGE.glob("*")) if path.suffix in KINDS}
    found |= {name: pad.source(name).encode() for name in pad.MODULES}
    return {name: _file(name, content) for name, content in found.items()}


def _file(name: str, content: bytes) -> File:
    tag = hashlib.sha256(content).hexdigest()[:16]
    return File(content, KINDS[Path(name).suffix], f'"{tag}"')
