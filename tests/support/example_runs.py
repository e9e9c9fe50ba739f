"""The examples with little to train, all in one process: `python example_runs.py COPY_OF_EXAMPLES`.

A process of its own, since the examples register networks and corruptions. It writes `runs/small` in each
example's folder and prints the outputs of `COMMANDS` as JSON.
"""

import contextlib
import io
import json
import os
import runpy
import sys
from pathlib import Path

from inline_executor import InlineExecutor

from inklab.cli.main import main as inklab
from inklab.study.load import prepare_study, read_study
from inklab.study.resources import ExecutionOptions, default_profile, profile_path
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

SHAPES_STUDY = """
name = "shapes"
data = { dataset = "shapes" }

[experiments.cnn]
network = { name = "cnn", channels = [8, 16], hidden = 32 }
recipe = { base = "sgd", epochs = 8, batch_size = 16 }
"""
STUDIES = {
    "own_network": "study.toml plain.replicates=2 residual.replicates=2 plain.recipe.epochs=2"
    " residual.recipe.epochs=2",
    "own_corruption": "study.toml plain.replicates=2 trained-on-streaks.replicates=2 denoiser.replicates=2"
    " denoiser.recipe.epochs=1 robustness.strengths=[0,0.4] robustness.confusion_at=[0]",
    "own_study": "width-and-rate.toml sweep.recipe.epochs=1",
    "own_images": "shapes.toml",
}
"""A study and overrides that make it smaller."""
COMMANDS = {
    "own_network": ["list networks my_net.py:Net", "compare runs/small residual plain"],
    "own_corruption": ["show runs/small"],
    "own_study": [
        "run width-and-rate.toml --dry-run",
        "compare runs/small sweep:hidden=[64],learning_rate=0.3 sweep:hidden=[64],learning_rate=0.03",
    ],
    "own_images": ["data check shapes", "predict runs/small new-shape.png"],
}
"""Those of the examples' pages that train nothing."""


def run_small(study_file: str, *overrides: str) -> None:
    study = prepare_study(read_study(study_file, overrides=overrides))
    options = ExecutionOptions(workers=1, threads=1, precision="fp32", compile="no")
    StudyRunner(study, RunDirectory(Path("runs/small")), options, executor=InlineExecutor).run()


def run_inklab(line: str) -> str:
    """What a command prints on stdout; its exit code must be 0."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            inklab(line.split())
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"inklab {line} ended with exit code {end.code}") from end
    return output.getvalue()


def main(folder: Path) -> None:
    default_profile().write(profile_path())
    outputs = {}
    for name, study in STUDIES.items():
        os.chdir(folder / name)
        if name == "own_images":
            with contextlib.redirect_stdout(sys.stderr):
                runpy.run_path("make_shapes.py", run_name="__main__")
            Path("shapes.toml").write_text(SHAPES_STUDY, encoding="utf-8")
        run_small(*study.split())
        outputs[name] = [run_inklab(line) for line in COMMANDS[name]]
    json.dump(outputs, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
