"""The driver: plans a study, has the missing parts computed, publishes them, sums up."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inklab.data.sources import sources
from inklab.errors import RunError
from inklab.io.documents import read_json, write_json
from inklab.results.summarize import write_results
from inklab.run import save_samples
from inklab.study.executor import Event, Executor, LocalExecutor
from inklab.study.grouping import ExecutionConfig, TrainingMode, max_population
from inklab.study.job_context import JobContext, write_split_arrays
from inklab.study.load import LoadedStudy
from inklab.study.planner import NUMERICS, distinct_settings, plan, traits_key
from inklab.study.resources import (
    ExecutionOptions,
    choose_execution,
    cost_of,
    default_profile,
    estimate,
    group_seconds,
    load_cached_profile,
    load_or_measure_profile,
    repays_compiling,
    resolve_against_plan,
)
from inklab.study.run_directory import FINAL, RunDirectory

TraitsByNetwork = dict[str, dict[str, Any]]
"""Rehearsal key to what the rehearsal found out."""

EventCallback = Callable[[Event, dict[str, Any]], None]
"""Told each event and the job that it is about."""


@dataclass
class StudyRunner:
    """Runs a study in a folder.

    Args:
        study: with its data.
        folder: where; what is finished there stays.
        asked: how it is to be carried out; what is left open is decided by what this machine does fast.
        watcher: told about everything that happens.
        command: what to type to have all of this again; stands in plan.json and in the report.
    """

    study: LoadedStudy
    folder: RunDirectory
    asked: ExecutionOptions = ExecutionOptions()
    watcher: EventCallback = lambda event, job: None
    command: str = ""
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def how(self, *, probe: bool = True) -> ExecutionConfig:
        """How this run is carried out: as it was begun, else by what this machine does fast.

        Args:
            probe: find that out if it is not known yet; otherwise assume.

        Raises:
            RunError: something else is asked for than what the run was begun with.
        """
        if (self.folder.path / "plan.json").is_file():
            return resolve_against_plan(ExecutionConfig(**self.folder.plan()["how"]), self.asked)
        if not probe:
            return choose_execution(load_cached_profile() or default_profile(), self.asked)
        return choose_execution(
            load_or_measure_profile(lambda: self.watcher(Event("probing", ""), {})), self.asked
        )

    def dry_run(self) -> tuple[dict[str, Any], dict[str, float | int]]:
        """The plan and what is still to be done of it; rehearses in this process and writes nothing."""
        from inklab.study.load import check_names
        from inklab.training.preflight import preflight

        check_names(self.study.spec)
        how, identity = self.how(), self.study.identity
        facts = {
            traits_key(settings): preflight(settings, identity.shape, len(identity.labels)).to_json()
            for settings in distinct_settings(self.study.spec, identity, how)
        }
        made = self._plan(how, facts)
        return made, estimate(made, self._pending(made), cost_of(facts))

    def check(self) -> None:
        """Tell mistakes before anything is written or started.

        Raises:
            ConfigError: the study can't be planned.
            RunError: the folder holds another study, or can't be a folder.
        """
        how = self.how(probe=False)
        plan(
            self.study.spec,
            self.study.profile,
            self.study.identity,
            how,
            lambda _: TrainingMode(False, False),
        )
        path = self.folder.path
        standing = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not standing.is_dir():
            raise RunError(
                f"'{standing}' is a file, so '{path}' can't be a run folder; name another with --out"
            )
        strange = path.is_dir() and any(path.iterdir()) and not (path / ".lock").exists()
        if strange and not (path / "plan.json").is_file():
            raise RunError(
                f"'{path}' holds other things and is no run; name a new or empty folder with --out"
            )
        self._check_identity()

    def run(self) -> dict[str, Any]:
        """Compute what is missing.

        Returns:
            results.json, which also stands in the folder.

        Raises:
            RunError: another process drives this run.
            ConfigError: the study can't be planned.
            WriteError: the disk refuses; what is finished is kept, and checkpoints of the rest.
            KeyboardInterrupt: likewise.
        """
        self.check()
        with self.folder.locked():
            how, began = self.how(), time.monotonic()
            try:
                self.folder.recover_commits()
                if self._finish_if_nothing_to_do(how):
                    shutil.rmtree(self.folder.work, ignore_errors=True)
                else:
                    self.folder.cleanup()
                    write_split_arrays(self.folder, self.study.split)
                    with LocalExecutor(self._job_context(how), self.folder.work, how.workers) as executor:
                        self._compute(executor, how)
            finally:
                self._write_results(time.monotonic() - began)
                self.folder.cleanup()
        return dict(read_json(self.folder.path / "results.json"))

    def _finish_if_nothing_to_do(self, how: ExecutionConfig) -> bool:
        """Whether nothing is missing; then only the plan is written, whose words may have changed."""
        facts = self._previous("facts", {})
        needed = distinct_settings(self.study.spec, self.study.identity, how)
        if {traits_key(settings) for settings in needed} - set(facts):
            return False
        made = self._plan(how, facts)
        if self._pending(made):
            return False
        self._write_plan(made)
        self.watcher(Event("planned", "", estimate(made, set(), cost_of(facts))), {})
        return True

    def _previous(self, key: str, otherwise: Any) -> Any:
        """What plan.json keeps of earlier sessions: facts of rehearsals, the command that began the run."""
        path = self.folder.path / "plan.json"
        return self.folder.plan().get(key, otherwise) if path.is_file() else otherwise

    def _write_plan(self, made: dict[str, Any]) -> None:
        spec = self.study.spec.model_dump(mode="json")
        spec["data"]["source"] = self._source()
        write_json(self.folder.path / "spec.json", {"profile": self.study.profile, "study": spec})
        write_json(self.folder.path / "plan.json", made)

    def _source(self) -> str:
        """What to load on a resume: what was really loaded, wherever it is resumed from."""
        source = self.study.identity.source
        return str(Path(source).resolve()) if source not in sources and Path(source).exists() else source

    def _compute(self, executor: Executor, how: ExecutionConfig) -> None:
        facts = self._preflight(executor, how)
        made = self._plan(how, facts)
        save_samples(self.folder, self.study.split.train.pixels, self.study.split.train.labels)
        self._write_plan(made)
        waiting = self._pending(made)
        self.watcher(Event("planned", "", estimate(made, waiting, cost_of(facts))), {})
        for job in self._train_jobs(made, waiting, cost_of(facts)):
            self._submit(executor, job)
        self._submit_unblocked(executor, made, waiting)
        for event in executor.events():
            if event.kind in ("done", "failed", "lost"):
                waiting -= self._on_job_end(
                    event
                )  # published before it is told: what was said to be done is kept
                self._submit_unblocked(executor, made, waiting)
            self.watcher(event, self._jobs[event.job])

    def _preflight(self, executor: Executor, how: ExecutionConfig) -> TraitsByNetwork:
        """Have every kind of network rehearsed by a worker, so that this process need not import torch."""
        spec = self.study.spec.model_dump(mode="json")
        self._submit(executor, {"name": "check", "kind": "check", "spec": spec, "label": "names"})
        keys = {}
        for settings in distinct_settings(self.study.spec, self.study.identity, how):
            keys[f"rehearse {traits_key(settings)}"] = traits_key(settings)
            self._submit(executor, {
                "name": f"rehearse {traits_key(settings)}", "kind": "rehearse", "settings": settings,
                "label": f"rehearsal of {settings['model']['name']}",
            })  # fmt: skip
        facts: TraitsByNetwork = {}
        for event in executor.events():
            if event.kind == "done" and event.job in keys:
                facts[keys[event.job]] = event.value[0]
            elif event.kind in ("failed", "lost"):
                raise RunError(f"before training: {event.value}")
        return facts

    def _plan(self, how: ExecutionConfig, facts: TraitsByNetwork) -> dict[str, Any]:
        images, cost = len(self.study.split.train), cost_of(facts)

        def lifting(settings: dict[str, Any]) -> TrainingMode:
            known = facts[traits_key(settings)]
            lasting = how.compile == "yes" or repays_compiling(settings, images, cost)
            return TrainingMode(
                lifted=known["liftable"] and not known["convolutional"],
                random=known["random"],
                members=max_population(known["parameters"], settings["recipe"]["optimiser"]),
                compiled=how.compile != "no" and lasting and not known["random"],
            )

        made = plan(self.study.spec, self.study.profile, self.study.identity, how, lifting)
        made["data"]["note"] = made["data"]["note"] or self._previous("data", {}).get("note")
        return {**made, "command": self.command or self._previous("command", ""), "facts": facts}

    def _pending(self, made: dict[str, Any]) -> set[str]:
        """Ids without a final outcome."""
        trials = {each for each in made["trials"] if _state(self.folder.outcome(each)) not in FINAL}
        return trials | {
            each["id"]
            for each in _evaluations(made)
            if _state(self.folder.evaluation(each["id"])) not in FINAL
        }

    def _train_jobs(self, made: dict[str, Any], waiting: set[str], cost: Any) -> list[dict[str, Any]]:
        """Groups with something missing, the longest first, so that workers end together."""
        images = len(self.study.split.train)
        jobs = []
        for group in made["groups"]:
            left = [trial for trial in group["trials"] if trial in waiting]
            if left:
                trials = [{"id": trial, **made["trials"][trial]} for trial in left]
                seconds = group_seconds(trials[0]["settings"], len(left), images, cost)
                job = {
                    **group,
                    "name": f"train {left[0]}",
                    "kind": "train",
                    "trials": trials,
                    "seconds": seconds,
                }
                jobs.append({**job, "label": _label(made, left)})
        return sorted(jobs, key=lambda job: -job["seconds"])

    def _submit_unblocked(self, executor: Executor, made: dict[str, Any], waiting: set[str]) -> None:
        """Submit the evaluations whose trials have ended; without good trials one can't be computed."""
        for evaluation in _evaluations(made):
            name = f"evaluate {evaluation['id']}"
            if evaluation["id"] not in waiting or name in self._jobs or waiting & set(evaluation["needs"]):
                continue
            states = {trial: _state(self.folder.outcome(trial)) for trial in evaluation["needs"]}
            bad = [f"trial {trial} is {state}" for trial, state in states.items() if state != "done"]
            what = evaluation.get("pipeline") or evaluation.get("sampler")
            label = f"{what}, replicate {evaluation['replicate']}"
            job = {
                "name": name,
                "kind": evaluation["kind"],
                "evaluation": evaluation,
                "label": f"{evaluation['kind']}: {label}",
            }
            if bad:
                self._jobs[name] = job
                self._record_failure(
                    job, "failed", f"it needs trials that ended well, but {' and '.join(bad)}"
                )
                waiting.discard(evaluation["id"])
            else:
                self._submit(executor, job)

    def _submit(self, executor: Executor, job: dict[str, Any]) -> None:
        self._jobs[job["name"]] = job
        executor.submit(job)

    def _on_job_end(self, event: Event) -> set[str]:
        """Publish what a job left; the ids that no longer wait."""
        job = self._jobs[event.job]
        if event.kind == "done":
            drafts, folder = event.value
            self.folder.commit_all(drafts, folder)
        else:
            self._record_failure(job, event.kind, event.value)
        return _ids(job)

    def _record_failure(self, job: dict[str, Any], state: str, reason: str) -> None:
        if "evaluation" in job:
            self.folder.record(
                "evaluations",
                {"format": 1, **job["evaluation"], "state": state, "reason": reason, "seconds": 0.0},
            )
            return
        for trial in job["trials"]:
            self.folder.record("trials", {
                "format": 1, **trial, "seed": self.study.spec.seed,
                "data_sha256": self.study.identity.sha256, "numerics": NUMERICS,
                "state": state, "reason": reason, "history": {}, "scores": None, "verdicts": [], "layers": [],
                "weights_sha256": None, "seconds": 0.0, "ran": {},
            })  # fmt: skip

    def _check_identity(self) -> None:
        """A folder given with --out must not mix studies."""
        path = self.folder.path / "plan.json"
        if not path.is_file():
            return
        old, new = self.folder.plan(), self.study
        if (old["study"], old["profile"], old["data"]["sha256"], old["seed"]) != (
            new.spec.name,
            new.profile,
            new.identity.sha256,
            new.spec.seed,
        ):
            raise RunError(
                f"'{self.folder.path}' holds study '{old['study']}' (profile {old['profile']}, data "
                f"{old['data']['source']}, seed {old['seed']}); "
                "name another folder with --out"
            )

    def _job_context(self, how: ExecutionConfig) -> JobContext:
        identity = self.study.identity
        return JobContext(
            run=str(self.folder.path.resolve()),
            seed=self.study.spec.seed,
            labels=identity.labels,
            framing=json.dumps(identity.framing),
            data_sha256=identity.sha256,
            numerics=NUMERICS,
            threads=how.threads,
            codes=tuple(chapter.model["name"] for chapter in self.study.spec.train_chapters().values()),
            checkpoint_every=self.asked.checkpoint_every,
        )

    def _write_results(self, seconds: float) -> None:
        """Write results.json, also of a run that was interrupted; add to the seconds that somebody waited."""
        if (self.folder.path / "plan.json").is_file():
            clock = self.folder.path / "clock.json"
            spent = read_json(clock)["seconds"] if clock.is_file() else 0.0
            write_json(clock, {"seconds": spent + seconds})
            write_results(self.folder)


def _evaluations(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for chapter in made["chapters"] for each in chapter.get("evaluations", [])]


def _label(made: dict[str, Any], trials: list[str]) -> str:
    """What a person calls a group: its chapters, and how many trials."""
    names = [
        chapter["name"] for chapter in made["chapters"]
        if any(set(trials) & set(setting["trials"]) for setting in chapter.get("settings", []))
    ]  # fmt: skip
    return f"{', '.join(names)}: {len(trials)} trial{'s' if len(trials) > 1 else ''}"


def _state(outcome: dict[str, Any] | None) -> str | None:
    return outcome["state"] if outcome else None


def _ids(job: dict[str, Any]) -> set[str]:
    return (
        {job["evaluation"]["id"]} if "evaluation" in job else {trial["id"] for trial in job.get("trials", [])}
    )
