"""Commands that compute: run, resume, train."""

import json
import shlex
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from inklab.cli.app import AsJson, RunArg, Sets, app, echo, echo_json, find_run, info, runs_root
from inklab.errors import EXIT_FAILED_TRIALS, EXIT_OK, ConfigError, CorruptFileError, RunError, did_you_mean

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=256, help="Processes side by side. [default: one a core]"),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, help="Threads of each process. [default: as measured]"),
]
Precision = Annotated[
    str,
    typer.Option("--precision", metavar="auto|fp32|bf16", help="Of trainings; auto: bf16 where fast."),
]
Compile = Annotated[
    str, typer.Option("--compile", metavar="auto|yes|no", help="Compile programs; auto: those that repay it.")
]
Every = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-every",
        min=0.0,
        metavar="SECONDS",
        help="What a crash may cost of a training. [default: 30, or more to keep below 1 % of the time]",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done and what it costs; write nothing.")
]


@app.command("run")
def run_command(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A built-in study or a TOML file.")
    ] = "digits",
    profile: Annotated[
        str | None,
        typer.Option(help="One of the study's profiles (digits: quick, full). [default: its first]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A source: a registered name or a path. See inklab data list.")
    ] = None,
    sets: Sets = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="The run folder. [default: runs/<study>/<id>]")
    ] = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    every: Every = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Run a study: train, evaluate, and write a report. Typed again, it goes on where it stopped.

    Keys of --set are those of the study file: l2-sweep.replicates=40, cnn.recipe.epochs=3, seed=7.
    """
    from inklab.study.load import load_data, read_study

    # Quoted: a folder called 2024 is a name, not a number.
    changes = [*([f"data.source={json.dumps(data, ensure_ascii=False)}"] if data else []), *(sets or [])]
    asked_for, _ = read_study(study, profile=profile, sets=changes)
    dataset = load_data(asked_for)
    images = len(dataset.train)
    spec, name = read_study(study, profile=profile, sets=changes, train_images=images)
    few = (
        f"{images:,} training images are few: trainings get more epochs ([small] in the study). Those for "
        "validation are held out of them."
    )
    options = [("--profile", profile), ("--data", data), *(("--set", each) for each in sets or [])]
    how = _how(workers, threads, precision, compile_, every)
    asked = RunCommand(folder, how, dry_run, as_json, _command("run", study, options))
    asked = replace(asked, remark=few if spec != asked_for else "")
    return _drive(spec, name, asked, dataset)


@app.command()
def resume(
    run: RunArg = "latest", workers: Workers = None, every: Every = None, as_json: AsJson = False
) -> int:
    """Go on with a run: do only what is missing, unfinished trainings from their last checkpoint."""
    from inklab.io.documents import read_json
    from inklab.study.load import parse_study
    from inklab.study.run_directory import RunDirectory

    path = find_run(run)
    if not (path / "spec.json").is_file():
        raise RunError(f"'{path}' has no spec.json; type the inklab run command that began it")
    told = read_json(path / "spec.json")
    if not (isinstance(told, dict) and isinstance(told.get("study"), dict) and "profile" in told):
        raise CorruptFileError(f"'{path / 'spec.json'}' is damaged; type the command that began the run")
    typed = RunDirectory(path).plan().get("command", "") if (path / "plan.json").is_file() else ""
    asked = RunCommand(path, _how(workers, every=every), as_json=as_json, command=typed)
    return _drive(parse_study(told["study"], str(path)), told["profile"], asked)


@app.command()
def train(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A registered model (inklab models) or my_net.py:Net. [default: the recipe's own]",
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="A source: a registered name or a path.")] = "default",
    replicates: Annotated[int, typer.Option(min=1, help="Trainings with other seeds.")] = 1,
    recipe: Annotated[
        str | None,
        typer.Option(help="A registered recipe or a TOML file. [default: sgd; for a denoiser, denoise]"),
    ] = None,
    sets: Sets = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="The run folder. [default: runs/<model>/<id>]")
    ] = None,
    workers: Workers = None,
    threads: Threads = None,
    precision: Precision = "auto",
    compile_: Compile = "auto",
    every: Every = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Train one network and write its bundle.

    Keys of --set are below the chapter: model.hidden=[500,300], recipe.epochs=20, recipe.rate=0.05.
    """
    from inklab.study.load import parse_study

    raw = _lone_study(model, recipe, data, replicates, sets or [])
    options = [("--data", data), ("--recipe", recipe), ("--replicates", str(replicates))]
    options += [("--set", each) for each in sets or []]
    how = _how(workers, threads, precision, compile_, every)
    asked = RunCommand(folder, how, dry_run, as_json, _command("train", model, options), bundles=True)
    return _drive(parse_study(raw, raw["name"]), "plain", asked)


def _lone_study(
    model: str | None, recipe: str | None, data: str, replicates: int, sets: list[str]
) -> dict[str, Any]:
    """The study of one chapter that `inklab train` asks for."""
    from inklab.networks.network import models
    from inklab.study.load import parse_override, set_dotted
    from inklab.training.recipe import read_recipe

    if model is None and (recipe is None or not read_recipe(recipe).network):
        named = f"recipe '{recipe}' names no network of its own" if recipe else "nothing to train is named"
        raise ConfigError(
            f"{named}; write inklab train MODEL (inklab models), or --recipe with one that does"
        )
    name = (model or Path(str(recipe)).stem).rpartition(":")[2].lower().replace(".", "-")
    images = model is not None and model in models and models[model].target == "images"
    base = recipe or ("denoise" if images else "sgd")
    chapter: dict[str, Any] = {"title": name, "recipe": {"base": base}, "replicates": replicates}
    if model is not None:
        chapter["model"] = {"name": model}
    raw = {"name": name, "title": f"Training {name}", "data": {"source": data}, "chapters": {name: chapter}}
    for change in sets:
        key, value = parse_override(change)
        own = key.split(".")[0] in ("model", "recipe", "scaling", "vary", "replicates")
        set_dotted(raw, f"{name}.{key}" if own else key, value, f"--set {change}")
    return raw


@dataclass(frozen=True)
class RunCommand:
    """What was typed besides the question."""

    folder: Path | None
    how: Any
    dry_run: bool = False
    as_json: bool = False
    command: str = ""
    bundles: bool = False
    remark: str = ""


def _how(
    workers: int | None,
    threads: int | None = None,
    precision: str = "auto",
    compiled: str = "auto",
    every: float | None = None,
) -> Any:
    """What was typed about how to run.

    Raises:
        ConfigError: a word that is not one of the three.
    """
    from inklab.study.resources import ExecutionOptions

    for flag, given, allowed in (
        ("--precision", precision, ("auto", "fp32", "bf16")),
        ("--compile", compiled, ("auto", "yes", "no")),
    ):
        if given not in allowed:
            raise ConfigError(
                f"{flag} is '{given}'.{did_you_mean(given, allowed)} Allowed: {', '.join(allowed)}."
            )
    return ExecutionOptions(workers, threads, precision, compiled, every)  # type: ignore[arg-type]


def _command(verb: str, what: str | None, options: list[tuple[str, str | None]]) -> str:
    """What to type to have the same again, wherever the run folder lies."""
    words = [word for flag, value in options if value is not None for word in (flag, value)]
    return shlex.join(["inklab", verb, *([what] if what else []), *words])


def _drive(spec: Any, profile: str, asked: RunCommand, dataset: Any = None) -> int:
    from inklab.cli.progress_display import progress
    from inklab.study.load import load_study
    from inklab.study.monitor import StatusFile
    from inklab.study.run_directory import RunDirectory
    from inklab.study.runner import StudyRunner

    study = load_study(spec, profile, dataset)
    if study.identity.note:
        info(f"NOTE: {study.identity.note}")
    if asked.remark:
        info(asked.remark)
    path = asked.folder or runs_root() / spec.name / study.id
    driver = StudyRunner(study, RunDirectory(path), asked.how, command=asked.command)
    if asked.dry_run:
        return _show_plan(driver, path, asked.as_json)
    driver.check()
    info(f"study {spec.name}, profile {profile}, data {study.identity.source}: {path}")
    try:
        with progress() as watcher:
            driver.watcher = StatusFile(driver.folder, watcher)
            results = driver.run()
    finally:  # also when interrupted: inklab resume goes on with the latest
        below = runs_root().resolve() in path.resolve().parents
        if below and (path / "plan.json").is_file():
            _point_latest(path)
    page = _report(driver, path)
    _say(results, path, page, asked)
    return EXIT_OK if _all_done(results) else EXIT_FAILED_TRIALS


def _report(driver: Any, path: Path) -> Path:
    from inklab.report.page import write_report
    from inklab.run import StoredRun
    from inklab.study.run_directory import RunDirectory

    return write_report(StoredRun(RunDirectory(path), driver.study.dataset))


def _say(results: dict[str, Any], path: Path, page: Path, asked: RunCommand) -> None:
    if asked.as_json:
        echo_json(results)
        return
    from inklab.cli.results_commands import show_results
    from inklab.study.run_directory import RunDirectory

    show_results(results)
    if asked.bundles:
        plan = RunDirectory(path).plan()
        echo(f"\nbundle: {RunDirectory(path).bundle(plan['chapters'][0]['settings'][0]['trials'][0])}")
    echo(f"\nreport: {page}")


def _point_latest(path: Path) -> None:
    """Let runs/latest point at a run; a file system without links can do without."""
    import os

    link = runs_root() / "latest"
    draft = link.with_name(f".latest-{os.getpid()}")
    try:
        draft.symlink_to(os.path.relpath(path.resolve(), link.parent.resolve()))
        os.replace(draft, link)
    except OSError:
        info(f"'{link}' could not be made to point at this run")


def _all_done(results: dict[str, Any]) -> bool:
    told = [chapter for chapter in results["chapters"].values() if isinstance(chapter, dict)]
    counted = [
        part.get("outcomes", {}) for chapter in told for part in (chapter, *chapter.get("settings", []))
    ]
    return all(set(outcomes) <= {"done"} for outcomes in counted)


def _show_plan(driver: Any, path: Path, as_json: bool) -> int:
    from inklab.cli.app import table
    from inklab.cli.progress_display import duration, to_do
    from inklab.study.resources import describe_execution

    made, left = driver.dry_run()
    if as_json:
        echo_json({"folder": str(path), "plan": made, "left": left})
        return EXIT_OK
    echo(f"study {made['study']}, profile {made['profile']}, seed {made['seed']}: {path}")
    data = made["data"]
    echo(
        f"data {data['source']}: {data['train']:,} training, {data['validation']:,} validation, "
        f"{data['test']:,} test images"
    )
    echo("how:\n" + "\n".join(f"  {line}" for line in describe_execution(made["how"])) + "\n")
    rows = []
    for chapter in made["chapters"]:
        trials = {trial for setting in chapter.get("settings", []) for trial in setting["trials"]}
        groups = [group for group in made["groups"] if trials & set(group["trials"])]
        rows.append(
            [
                chapter["name"],
                chapter["kind"],
                str(len(trials) or ""),
                _groups_told(groups),
                str(len(chapter.get("evaluations", [])) or ""),
            ]
        )
    table(["chapter", "kind", "trials", "groups", "evaluations"], rows, right=(2, 4))
    echo(f"\nstill to do: {to_do(left)}")
    echo(
        f"about {duration(left['seconds'])} (within a factor of two), {left['bytes'] / 1e6:.0f} MB on disk; "
        "nothing was written"
    )
    return EXIT_OK


def _groups_told(groups: list[dict[str, Any]]) -> str:
    """How trials are put together; groups that are alike are said once, with how many there are."""
    told = [
        f"{len(group['trials'])} {'together' if group['lifted'] else 'alone'}"
        + (", compiled" if group["compiled"] else "")
        for group in groups
    ]
    alike = [(each, len(list(same))) for each, same in groupby(told)]
    return "; ".join(f"{times} x {each}" if times > 1 else each for each, times in alike)
