"""No file above 700 lines, no function above 60, most far below."""

import ast
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = sorted((ROOT / "src" / "inklab").rglob("*.py"))
FILES = [*SOURCE, *sorted((ROOT / "tests").rglob("*.py"))]
MAX_LINES, MAX_FUNCTION_LINES = 700, 60


def functions(path: Path) -> dict[str, int]:
    """Lines of each function without its docstring: signature and statements."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            found[f"{path.name}:{node.lineno} {node.name}"] = lines
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_too_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: part it"
    assert not {name: lines for name, lines in functions(path).items() if lines > MAX_FUNCTION_LINES}


def test_most_functions_are_short():
    lengths = sorted(length for path in SOURCE for length in functions(path).values())
    assert len(lengths) > 300, "the files were not found"
    assert median(lengths) <= 10
    assert lengths[len(lengths) * 9 // 10] <= 35
