"""A run folder whose files are spoilt one at a time, and everything that reads it."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from malicious_files import Change, Document, put, spoilt
from safetensors.numpy import save
from synthetic_report import digits_plan, made_up_run

from inklab.cli.results_commands import show_results
from inklab.errors import ConfigError, UnknownNameError
from inklab.io.documents import read_json, write_json
from inklab.report import build_report, write_report
from inklab.results.comparison import compare_settings
from inklab.results.summarize import results_of, write_results
from inklab.run import StoredRun
from inklab.study.forms.arrays import StoredArrays
from inklab.study.forms.results import check_results
from inklab.study.run_directory import RunDirectory, Snapshot

Changes = Sequence[Change]
SETS = (
    "noise.strengths=[0, 0.25]", "noise.images=100", "noise.pipelines=['cnn', 'denoiser+cnn']",
    "generator.samplers=['binary', 'mixture']", "l2-sweep.replicates=2", "cnn.replicates=2",
    "denoiser.replicates=2",
)  # fmt: skip


def write_run(folder: Path) -> Path:
    """A finished run of a short form of the built-in study, with made-up numbers and pictures."""
    run = made_up_run(folder, digits_plan(sets=SETS, test=400))
    write_json(folder / "plan.json", {**run.plan, "command": "inklab run", "facts": {"abc": FACT}})
    for kind, outcomes in (("trials", run.outcomes), ("evaluations", run.evaluations)):
        for name, outcome in outcomes.items():
            place, ran = folder / kind / name, {"torch": "2", "threads": 1}
            write_json(place / "outcome.json", {**outcome, "ran": ran})
            stored = {key: np.ascontiguousarray(array) for key, array in run.stored[name].items()}
            (place / f"{_file_of(kind, stored)}.safetensors").write_bytes(save(stored))
    pixels, labels, _ = run.samples()
    (folder / "samples.safetensors").write_bytes(save({"pixels": pixels, "labels": labels}))
    write_json(folder / "clock.json", {"seconds": 12.5})
    write_results(RunDirectory(folder))
    return folder


FACT = {"liftable": True, "convolutional": False, "random": False, "parameters": 3, "multiply_adds": 2}


def _file_of(kind: str, stored: dict[str, np.ndarray]) -> str:
    if kind == "evaluations":
        return "arrays"
    return "predictions" if "predicted" in stored else "examples"


class Reading:
    """Reads a run as `status`, `show`, `compare_settings` and `report` do, after one of its files was spoilt.

    Args:
        folder: a finished run; each file is mended again after each reading.
        draw: whether the figures are drawn too, which takes seconds.
    """

    def __init__(self, folder: Path, *, draw: bool = False) -> None:
        self.folder, self.draw = folder, draw
        self.run = RunDirectory(folder)
        self.sound = self.run.snapshot()
        self.files = {kind: sorted(folder.glob(pattern)) for kind, pattern in PATTERNS.items()}
        self.documents: dict[Path, Document] = {}

    def __call__(self, kind: str, changes: Changes) -> None:
        """Spoil one file of a kind and read what depends on it.

        Raises:
            InklabError: it is refused.
        """
        path = self.files[kind][changes[0][1] % len(self.files[kind])]
        sound = path.read_bytes()
        put(path, self._spoilt(path, sound, changes))
        try:
            getattr(self, f"_{kind}")(path)
        finally:
            put(path, sound)

    def _spoilt(self, path: Path, sound: bytes, changes: Changes) -> bytes:
        if path.suffix != ".json" or changes[0][2] % 5 == 0:
            return spoilt(sound, changes)
        if path not in self.documents:
            self.documents[path] = Document(json.loads(sound))
        return json.dumps(self.documents[path].changed(changes)).encode()

    def _plan(self, path: Path) -> None:
        plan = self.run.plan()
        self.run.states(plan)
        self._told(Snapshot(plan, self.sound.outcomes, self.run.evaluations(plan)))

    def _trial(self, path: Path) -> None:
        name = path.parent.name
        outcome = self.run.outcome(name)
        self._told(Snapshot(self.sound.plan, {**self.sound.outcomes, name: outcome}, self.sound.evaluations))

    def _evaluation(self, path: Path) -> None:
        name = path.parent.name
        self.run.evaluation(name)
        found = self.run.evaluations(self.sound.plan)
        self._told(Snapshot(self.sound.plan, self.sound.outcomes, found))

    def _arrays(self, path: Path) -> None:
        stored = StoredArrays(self.folder, self.sound.plan)
        stored.samples()
        if "trials" in path.parts:
            stored(path.parent.name)
        elif "evaluations" in path.parts:
            stored.finished(path.parent.name)
            self._told(self.sound)

    def _results(self, path: Path) -> None:
        told = check_results(read_json(path), path)
        json.dumps(told, allow_nan=False, indent=1, ensure_ascii=False).encode()
        with contextlib.redirect_stdout(io.StringIO()):
            show_results(told)

    def _clock(self, path: Path) -> None:
        results_of(self.run, self.sound)

    def _told(self, read: Snapshot) -> None:
        """Sum up, compare, and write the report in the words that it would have."""
        results = results_of(self.run, read)
        json.dumps(results, allow_nan=False, ensure_ascii=False).encode()
        with contextlib.redirect_stdout(io.StringIO()):
            show_results(results)
        with contextlib.suppress(UnknownNameError, ConfigError):  # where the plan has other chapters now
            compare_settings(read.plan, read.outcomes, "mlp-64-64", "cnn")
        view = StoredRun(self.run, snapshot=read)
        view.__dict__["results"] = results  # as if it had been written and read again
        if self.draw:
            write_json(self.folder / "results.json", results)
            write_report(view)
        else:
            build_report(view, {})


PATTERNS = {
    "plan": "plan.json",
    "trial": "trials/*/outcome.json",
    "evaluation": "evaluations/*/outcome.json",
    "arrays": "**/*.safetensors",
    "results": "results.json",
    "clock": "clock.json",
}
"""The kinds of files of a run, and where they lie."""
