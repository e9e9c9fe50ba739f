"""The project's source files, and what is defined in them."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import inklab

ROOT = Path(__file__).parents[2]
PACKAGE = Path(inklab.__file__).parent
SOURCE = sorted(PACKAGE.rglob("*.py"))
OTHER = ("tests", "benchmarks", "scripts", "examples")
PYTHON = sorted([*SOURCE, *(path for folder in OTHER for path in (ROOT / folder).rglob("*.py"))])


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT))


def classes(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.name for node in nodes if isinstance(node, ast.ClassDef)]


def functions(path: Path) -> dict[str, int]:
    """Lines of each function of a file without its docstring: signature and statements."""
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            lengths[f"{path.name}:{node.lineno} {node.name}"] = lines
    return lengths


def identifiers(code: str) -> dict[str, int]:
    """Every identifier that Python code defines, with the first line where it does."""
    names: dict[str, int] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        else:
            continue
        names.setdefault(name, node.lineno)
    return names


def run_python(code: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV_")}
    return subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip()


def load_script(name: str) -> ModuleType:
    """A program in scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
