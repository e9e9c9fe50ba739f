"""Code may import from floors below its own; never from a neighbour, never upwards (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

import inklab

FLOORS = [
    {"errors", "shapes"},
    {"registry", "seeding", "usercode", "statistics", "io", "hardware"},
    {"data", "corruptions", "networks"},  # three neighbours that do not know each other
    {"model"},
    {"evaluation"},
    {"training"},
    {"evaluation.generation"},  # draws and scores with what training shows
    {"study"},  # what is to be done, and the files of it
    {"results"},
    {"run"},
    {"study.monitor", "study.runner"},  # tell of results, and write them
    {"web"},
    {"report.figures"},
    {"report", "export", "testing"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
LATER = {"testing"}  # on a floor already, not built yet
LEVEL = {unit: level for level, units in enumerate(FLOORS) for unit in units}
HOME = Path(inklab.__file__).parent
FILES = [path for path in sorted(HOME.rglob("*.py")) if path != HOME / "__init__.py"]
DOTTED = re.compile(r"inklab(\.\w+)+")


def unit(name: str) -> str:
    """The longest name in LEVEL that a dotted name begins with, without `inklab.`; else its first part."""
    parts = name.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((each for each in names if each in LEVEL), parts[0])


def unit_of(path: Path) -> str:
    return unit(".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__"))


def units_named_in(code: str) -> set[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):  # walk: late imports count too
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            names.append(node.value)  # what a registry or importlib is told to load
    return {unit(name.removeprefix("inklab.")) for name in names if name.startswith("inklab.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_imports_point_down(path):
    for other in units_named_in(path.read_text(encoding="utf-8")) - {unit_of(path), "__version__"}:
        assert other in LEVEL, f"'{other}' stands on no floor"
        assert LEVEL[other] < LEVEL[unit_of(path)], f"{unit_of(path)} may not import {other}"


def test_every_unit_stands_on_a_floor_and_every_floor_has_its_units():
    assert {unit_of(path) for path in FILES} | LATER == set(LEVEL)


def test_the_package_itself_imports_nothing():
    tree = ast.parse((HOME / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize(
    "code",
    [
        "import inklab.study.planner",
        "from inklab import study",
        "from inklab.study import plan",
        "def late():\n    from inklab.study.planner import plan",
        "import_module('inklab.study.planner')",
    ],
)
def test_every_way_of_importing_is_seen(code):
    assert units_named_in(code) == {"study"}
