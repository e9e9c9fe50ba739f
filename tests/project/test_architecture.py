"""The structure of the package: layers, unique names, sizes, and what importing it costs."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from source_tree import PACKAGE, ROOT, SOURCE, classes, functions, relative, run_python

LAYERS = [
    {"errors", "counters"},
    {"imported_files", "seeding", "io", "hardware", "notebook"},
    {"object_identity"},
    {"live_objects"},
    {"usercode"},
    {"registry"},
    {"metrics"},
    {"format"},
    {"records"},
    {"stats"},
    {"data", "corruptions", "networks"},  # these three do not import each other
    {"datasets", "ood"},
    {"predictions", "model_summary"},
    {"model"},
    {"evaluation"},
    {"training"},
    {"results"},
    {"study"},
    {"runs", "progress", "testing"},
    {"web"},
    {"report", "export"},
    {"serve"},
    {"api", "sklearn"},
    {"cli"},
    {"__main__"},
]
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
DOORS = {("runs", "report"), ("model", "export"), ("training", "report")}
"""Methods that open a door upwards, such as `run.report()`: a unit imports another inside functions."""
DOTTED_NAME = re.compile(r"inklab(\.\w+)+")

MAX_MODULE_LINES, MIN_MODULE_LINES, MAX_FUNCTION_LINES = 700, 60, 60
REGISTERS = re.compile(r"^@(corruption|image_filter|network|objective|sampler|dataset)\(", re.M)
MAX_UNTYPED_RECORDS = 60

HEAVY = "torch matplotlib scipy sklearn pandas rich jinja2 PIL onnx onnxruntime fastapi uvicorn pooch"
TORCH_FREE = [
    "inklab.cli.main", "inklab.data.mnist", "inklab.data.quality", "inklab.data.sources",
    "inklab.datasets",
    "inklab.export.select", "inklab.networks.network", "inklab.records.plan", "inklab.report.page",
    "inklab.results.comparison", "inklab.results.summarize", "inklab.runs", "inklab.stats",
    "inklab.study.executor", "inklab.study.planner", "inklab.study.runner", "inklab.study.spec",
    "inklab.training.recipe_files",
]  # fmt: skip
"""Modules that report a user's mistake before the seconds that importing torch takes."""


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_units(code: str) -> set[str]:
    """Units of inklab that code imports anywhere, also inside functions and by dotted name in a string."""
    names: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += [node.value] if DOTTED_NAME.fullmatch(node.value) else []
    return {name.split(".")[1] for name in names if name.startswith("inklab.")}


def imports_at_top(path: Path, unit: str) -> bool:
    """Whether a module imports a unit when it is imported itself; `if TYPE_CHECKING` does not."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    return any(
        unit in imported_units(ast.unparse(node))
        for node in statements
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


MODULES = [path for path in SOURCE if path != PACKAGE / "__init__.py"]


class TestLayers:
    def test_imports_point_down(self):
        assert {unit_of(path) for path in MODULES} == set(LEVEL)
        for path in MODULES:
            unit = unit_of(path)
            for other in imported_units(path.read_text(encoding="utf-8")) - {unit, "__version__"}:
                is_door = (unit, other) in DOORS and not imports_at_top(path, other)
                assert LEVEL[other] < LEVEL[unit] or is_door, f"{unit} may not import {other}"

    @pytest.mark.parametrize(
        "code",
        [
            "import inklab.study.planner", "from inklab import study", "from inklab.study import planner",
            "def late():\n    from inklab.study.planner import plan_study",
            "import_module('inklab.study.planner')",
        ],
    )  # fmt: skip
    def test_every_form_of_import_is_detected(self, code):
        assert imported_units(code) == {"study"}


class TestNames:
    def test_those_of_modules_and_of_classes_are_unique(self):
        modules = Counter(path.stem for path in MODULES if path.stem != "__init__")
        names = Counter(name.lstrip("_") for path in SOURCE for name in classes(path))
        assert [name for name, count in [*modules.items(), *names.items()] if count > 1] == []

    def test_folders_of_tests_are_those_of_the_package(self):
        packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
        folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.iterdir())}
        assert folders - {"__pycache__"} <= packages | {"support", "project", "slow", "golden"}


class TestSizes:
    def test_modules(self):
        for path in SOURCE:
            code = path.read_text(encoding="utf-8")
            lines = len(code.splitlines())
            assert lines <= MAX_MODULE_LINES, path
            is_small_by_nature = path.stem in ("__init__", "__main__") or REGISTERS.search(code)
            assert lines >= MIN_MODULE_LINES or is_small_by_nature, f"{path}: {lines} lines: merge it"

    def test_functions(self):
        lengths = {name: length for path in SOURCE for name, length in functions(path).items()}
        assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
        assert median(lengths.values()) <= 10 and sorted(lengths.values())[len(lengths) * 9 // 10] <= 35

    def test_records_are_typed(self):
        pattern = re.compile(r"dict\[str, Any\]|\bJson\b")
        lines = [line for path in SOURCE for line in path.read_text(encoding="utf-8").splitlines()]
        assert sum(bool(pattern.search(line)) for line in lines) <= MAX_UNTYPED_RECORDS


def calls(path: Path) -> Iterator[str]:
    """The last name of everything that a file calls: `manual_seed` of `torch.manual_seed(0)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", ""))


RESTORED = {
    # What comes from a worker's own parent, through its pipe.
    "live_objects.py": [("loads", "_pickles[name]")],
    "study/executors/local_worker.py": [("loads", "content")],
    "study/executors/local_executor.py": [],
    # Of a directory that the session itself made, for its user only, under a random name.
    "study/executors/shared_queue.py": [
        ("loads", "claimed.read_bytes("),
        ("loads", "path.read_bytes("),
        ("loads", "path.read_bytes("),
    ],
}
"""Modules that use pickle, and what they restore."""


class TestEveryModule:
    def test_only_the_command_line_prints(self):
        printing = [relative(path) for path in SOURCE if {"print", "pprint"} & set(calls(path))]
        assert [path for path in printing if not path.startswith("cli/") and path != "progress.py"] == []

    def test_shapes_in_annotations_are_checked_by_the_suite(self, pytestconfig):
        # jaxtyping does so where annotations are evaluated, in the packages that pyproject.toml lists.
        packages = pytestconfig.getoption("--jaxtyping-packages").split(",")
        for path in SOURCE:
            code = path.read_text(encoding="utf-8")
            assert "from __future__ import annotations" not in code, path
            module = f"inklab.{relative(path)[:-3].replace('/', '.')}"
            takes_anything = module.startswith("inklab.sklearn.")  # until `fit`
            if "from jaxtyping import" in code and not takes_anything:
                assert any(f"{module}.".startswith(f"{package}.") for package in packages), path

    def test_nothing_is_unpickled(self):
        for path in SOURCE:
            code, name = path.read_text(encoding="utf-8"), relative(path)
            if name in RESTORED:
                assert re.findall(r"pickle\.(load\w*)\((.*?)\)", code) == RESTORED[name]
                continue
            assert not re.search(r"import pickle\b|allow_pickle=True|torch\.load\(|yaml", code), name
            called = (node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
            assert not {"eval", "exec"} & {node.id for node in called if isinstance(node, ast.Name)}, name

    def test_no_library_pickles_or_unpickles(self):
        """Also no torch.load or torch.save; every reader of NumPy's files says that it takes no pickles."""
        everywhere = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        exempt = dict.fromkeys(RESTORED, {"pickle"})
        exempt |= {"live_objects.py": {"pickle", "cloudpickle"}, "sklearn/estimators.py": {"joblib"}}
        for path in SOURCE:
            banned = everywhere - exempt.get(relative(path), set())
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    assert not banned & {alias.name.partition(".")[0] for alias in node.names}, path
                if isinstance(node, ast.ImportFrom):
                    assert (node.module or "").partition(".")[0] not in banned, path
                if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    assert ast.unparse(node.value) == "False", path
                if isinstance(node, ast.Attribute):
                    assert ast.unparse(node) not in ("torch.load", "torch.save"), path
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                    assert any(keyword.arg == "allow_pickle" for keyword in node.keywords), path


class TestImportCost:
    def test_the_package_is_quiet_and_light(self):
        probe = (
            "import sys, logging, warnings; before = (list(warnings.filters), sys.stdout)\n"
            f"import inklab\nheavy = set('{HEAVY} numpy pydantic typer'.split()) & set(sys.modules)\n"
            "print(sorted(heavy), logging.root.handlers, before == (list(warnings.filters), sys.stdout))"
        )
        assert run_python(probe) == "[] [] True"

    def test_mistakes_are_reported_before_torch_is_imported(self):
        probe = (
            f"import sys, importlib\nfor name in {TORCH_FREE!r}:\n"
            "    importlib.import_module(name)\n"
            "    heavy = {'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
            "    assert not heavy, (name, heavy)\n"
            "print('light')"
        )
        assert run_python(probe) == "light"

    def test_the_command_line_itself_is_light(self):
        modules = f"'{HEAVY} numpy pydantic'.split()"
        probe = f"import sys, inklab.cli; print(sorted(set({modules}) & set(sys.modules)))"
        assert run_python(probe) == "[]"
