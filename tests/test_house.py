"""House rules that no linter holds: what may print, what may seed, and what importing costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import inklab

HOME = Path(inklab.__file__).parent
FILES = sorted(HOME.rglob("*.py"))
PLACES = {path: str(path.relative_to(HOME)) for path in FILES}
HEAVY = "torch matplotlib scipy sklearn mlxtend pandas rich jinja2 PIL onnx onnxruntime fastapi uvicorn"
TORCH_FREE = [
    "inklab.cli",
    "inklab.data.sources",
    "inklab.data.quality",
    "inklab.data.mnist",
    "inklab.data.image_folder",
    "inklab.export.select",
    "inklab.export.onnx_runtime",
    "inklab.export.onnx_policy",
    "inklab.export.onnx_file",
    "inklab.networks.network",
    "inklab.statistics",
    "inklab.results.comparison",
    "inklab.study.runner",
    "inklab.study.executor",
    "inklab.study.planner",
    "inklab.results.summarize",
    "inklab.study.spec",
    "inklab.run",
    "inklab.report.page",
    "inklab.training.recipe",
]


def called(path: Path) -> list[str]:
    """The last name of everything that a file calls: `manual_seed` of `torch.manual_seed(0)`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            target = node.func
            found.append(getattr(target, "attr", getattr(target, "id", "")))
    return found


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV_")}
    return subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip()


@pytest.mark.parametrize("path", FILES, ids=PLACES.get)
class TestEveryFile:
    def test_only_the_command_line_prints(self, path):
        assert PLACES[path].startswith("cli/") or not {"print", "pprint"} & set(called(path))

    def test_only_seeding_seeds_a_global_generator(self, path):
        seeds = {"manual_seed", "manual_seed_all", "seed_all", "fork_rng", "set_rng_state"}
        assert PLACES[path] == "seeding.py" or not seeds & set(called(path))

    def test_imports_are_absolute(self, path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]

    def test_annotations_are_not_postponed(self, path):
        # jaxtyping checks shapes at run time only where annotations are evaluated
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")

    def test_nothing_is_unpickled(self, path):
        code = path.read_text(encoding="utf-8")
        assert "import pickle" not in code and "allow_pickle=True" not in code and "torch.load(" not in code
        assert "yaml" not in code and not {"eval", "exec"} & {
            node.func.id
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }


def test_the_files_were_found():
    assert len(FILES) > 80


def test_importing_is_quiet_and_light():
    probe = (
        "import sys, logging, warnings; before = (list(warnings.filters), sys.stdout)\n"
        f"import inklab\nheavy = set('{HEAVY} numpy pydantic typer'.split()) & set(sys.modules)\n"
        "print(sorted(heavy), logging.root.handlers, before == (list(warnings.filters), sys.stdout))"
    )
    assert python(probe) == "[] [] True"


def test_errors_come_before_torch():
    probe = (
        f"import sys, importlib\nfor name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        "    found = {'torch', 'scipy', 'sklearn', 'matplotlib', 'mlxtend'} & set(sys.modules)\n"
        "    assert not found, (name, found)\n"
        "print('light')"
    )
    assert python(probe) == "light"


def test_the_command_line_itself_is_light():
    probe = f"import sys, inklab.cli; print(sorted(set('{HEAVY} numpy pydantic'.split()) & set(sys.modules)))"
    assert python(probe) == "[]"
