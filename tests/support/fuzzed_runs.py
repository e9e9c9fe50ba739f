"""A run directory whose files are corrupted one at a time, and everything that reads it."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

from fuzzed_files import Changes, Reader, readers
from malicious_files import Document, corrupt, put
from synthetic_run import synthetic_run

from inklab.cli.show_commands import print_results
from inklab.errors import ConfigError, UnknownNameError
from inklab.records.outcomes import Snapshot
from inklab.records.results import Results
from inklab.report import build_report, write_report
from inklab.results.arrays import StoredArrays
from inklab.results.comparison import compare
from inklab.results.summarize import compute_results
from inklab.runs import Run
from inklab.study.run_directory import RunDirectory


def write_run(path: Path) -> Path:
    synthetic_run(replicates=2, images=200).write(path)
    (path / "timer.json").write_text('{"seconds": 12.5}', encoding="utf-8")
    return path


class RunReader:
    """Reads a run as `status`, `show`, `compare` and `report` do, after one of its files was corrupted.

    Args:
        path: a finished run; each file is restored after each reading.
        draw: whether the figures are drawn too, which takes seconds.
    """

    def __init__(self, path: Path, *, draw: bool = False) -> None:
        self.path, self.draw = path, draw
        self.directory = RunDirectory(path)
        self.valid = self.directory.snapshot()
        self.files = {kind: sorted(path.glob(pattern)) for kind, pattern in PATTERNS.items()}
        self.documents: dict[Path, Document] = {}

    def __call__(self, kind: str, changes: Changes) -> None:
        """Corrupt one file of a kind and read what depends on it.

        Raises:
            InklabError: it is refused.
        """
        path = self.files[kind][changes[0][1] % len(self.files[kind])]
        valid = path.read_bytes()
        put(path, self._corrupted(path, valid, changes))
        try:
            getattr(self, f"_{kind}")(path)
        finally:
            put(path, valid)

    def _corrupted(self, path: Path, valid: bytes, changes: Changes) -> bytes:
        if path.suffix != ".json" or changes[0][2] % 5 == 0:
            return corrupt(valid, changes)
        if path not in self.documents:
            self.documents[path] = Document(json.loads(valid))
        return json.dumps(self.documents[path].changed(changes)).encode()

    def _plan(self, path: Path) -> None:
        self._read_all(self.directory.snapshot())

    def _trial(self, path: Path) -> None:
        id = path.parent.name
        outcomes = {**self.valid.outcomes, id: self.directory.outcome(id)}
        self._read_all(Snapshot(self.valid.plan, outcomes, self.valid.evaluations))

    def _evaluation(self, path: Path) -> None:
        id = path.parent.name
        plan = self.valid.plan
        outcome = self.directory.evaluation(plan.evaluations[id], plan.data.n_classes)
        evaluations = {**self.valid.evaluations, id: outcome}
        self._read_all(Snapshot(self.valid.plan, self.valid.outcomes, evaluations))

    def _arrays(self, path: Path) -> None:
        arrays = StoredArrays(self.path, self.valid.plan)
        arrays.samples()
        if "trials" in path.parts:
            arrays(path.parent.name)
        elif "evaluations" in path.parts:
            arrays.finished(path.parent.name)
            self._read_all(self.valid)

    def _results(self, path: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            print_results(Results.read(path))

    def _timer(self, path: Path) -> None:
        compute_results(self.path, self.valid)

    def _read_all(self, snapshot: Snapshot) -> None:
        """Summarize, compare, and write the report."""
        results = compute_results(self.path, snapshot)
        with contextlib.redirect_stdout(io.StringIO()):
            print_results(results)
        with contextlib.suppress(UnknownNameError, ConfigError):  # the plan may have other experiments now
            compare(snapshot.plan, snapshot.outcomes, "mlp", "cnn")
        run = Run(self.path, snapshot=snapshot)
        run.__dict__["results"] = results  # as if it had been written and read again
        if self.draw:
            write_report(run)
        else:
            build_report(run, {})


PATTERNS = {
    "plan": "plan.json", "trial": "trials/*/outcome.json", "evaluation": "evaluations/*/outcome.json",
    "arrays": "**/*.safetensors", "results": "results.json", "timer": "timer.json",
}  # fmt: skip
"""The kinds of files of a run, and where they are."""


def all_readers(folder: Path) -> dict[str, Reader]:
    """Every reader of single files and of the files of a run, by name."""
    run_reader = RunReader(write_run(folder / "run"))
    (folder / "files").mkdir()
    return readers(folder / "files") | {kind: partial(run_reader, kind) for kind in PATTERNS}
