"""The files behind a user's own file: itself and the modules beside it that it imports. Runs nothing."""

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

NEVER_BESIDE = frozenset({*sys.stdlib_module_names, "inklab", "torch", "numpy"})
"""Modules that are always the installed ones, whatever lies beside a user's file."""


def files_behind(path: Path) -> tuple[Path, ...]:
    """A file, and the modules below its folder that it imports, or that these import; by path.

    Imports are read from the text, so nothing is run: `import blocks` in any function counts,
    `importlib.import_module("blocks")` does not.
    """
    folder, files, queue = path.parent, {path}, [path]
    while queue:
        file = queue.pop()
        for level, name in _imports(file.read_bytes()):
            if level == 0 and name.partition(".")[0] in NEVER_BESIDE:
                continue
            base = folder if level == 0 else file.parents[min(level, len(file.parents)) - 1]
            if base.is_relative_to(folder):
                new = {module for module in _candidates(base, name) if module.is_file()} - files
                files |= new
                queue += new
    return tuple(sorted(files))


def modules_beside(path: Path) -> frozenset[str]:
    """The top-level names of the modules beside a file that it imports."""
    parts = {file.relative_to(path.parent).parts[0] for file in files_behind(path) if file != path}
    return frozenset(part.removesuffix(".py") for part in parts)


def sha256_behind(path: Path) -> str:
    """The SHA-256 of a file, and of the modules beside it that it imports, if any, with their names.

    The same files have the same in every folder.
    """
    digests = {
        file.relative_to(path.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files_behind(path)
    }
    own = digests.pop(path.name)
    if not digests:
        return own
    return hashlib.sha256(json.dumps([own, digests], sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=256)
def _imports(code: bytes) -> frozenset[tuple[int, str]]:
    """What a file imports: how many dots, and the dotted name. Nothing if it is not Python."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):  # importing it says so
        return frozenset()
    return frozenset(name for node in ast.walk(tree) for name in _names(node))


def _names(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):  # what is imported from a package may be a module
        prefix = f"{node.module}." if node.module else ""
        yield from ((node.level, prefix + alias.name) for alias in node.names)


def _candidates(base: Path, name: str) -> Iterator[Path]:
    """Where a module and the packages that it is in may lie."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        stem = base.joinpath(*parts[:end])
        yield stem.parent / f"{stem.name}.py"
        yield stem / "__init__.py"
