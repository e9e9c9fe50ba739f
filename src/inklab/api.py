"""Run studies, train networks, load what they left: the functions behind `import inklab` and the commands."""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inklab.data.dataset import Dataset
from inklab.data.sources import datasets
from inklab.errors import ConfigError, DataError, RunError
from inklab.format import format_study
from inklab.io.files import fingerprint
from inklab.networks.network import networks
from inklab.progress import ProgressDisplay, progress_display
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import Plan
from inklab.records.recipe import Recipe
from inklab.runs import Run, find_model_or_run, run_of_model
from inklab.study.executor import ExecutorFactory, ExecutorOptions, executor_factory
from inklab.study.jobs import Event, Planned
from inklab.study.load import (
    ConfiguredStudy,
    PreparedStudy,
    configure,
    parse_override,
    prepare_study,
    set_dotted,
)
from inklab.study.monitor import StatusFile
from inklab.study.resources import Cost, ExecutionOptions
from inklab.study.run_directory import RunDirectory, link_latest, runs_root
from inklab.study.runner import StudyRunner
from inklab.study.spec import SavedStudy
from inklab.study.study import Study
from inklab.training.recipe_files import read_recipe_file
from inklab.usercode import is_live, is_user_code, load_object, reference, source_sha256, unknown_note

if TYPE_CHECKING:
    from inklab.evaluation.robustness import Classifies, RobustnessCurve
    from inklab.model import TrainedModel

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "yes", "no"]
Overrides = Mapping[str, object] | Sequence[str]
"""Dotted keys of a study and their values, or text such as "cnn.recipe.epochs=3"."""

EXPERIMENT_KEYS = ("network", "recipe", "normalize", "grid", "replicates", "title", "metrics")
"""First parts of overrides of `train` that are meant below its only experiment."""


def run(
    study: "str | Path | Study" = "digits",
    *,
    profile: str | None = None,
    data: Any = None,
    overrides: Overrides = (),
    run_dir: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
    compile: Compile = "auto",
    device: str = "auto",
    executor: str | ExecutorFactory = "local",
    ray_address: str | None = None,
    slurm: Mapping[str, object] | None = None,
    checkpoint_every: float | None = None,
    accept_data_problems: bool = False,
    progress: bool | None = None,
) -> Run:
    """Run a study: train and evaluate. Called again, it continues where it stopped.

    Interrupted by Ctrl-C or the stop button of a notebook, it keeps finished work and checkpoints.

    Args:
        study: a built-in name, the path of a TOML file, or a `Study`.
        profile: a profile of the study; its first if left out.
        data: images in place of the study's: a name or path, or whatever `inklab.datasets.as_dataset` takes:
            a `Dataset`, `(X, y)`, `(X, y, X_test, y_test)`, a torch or Hugging Face dataset.
        overrides: changes by dotted key, such as `{"cnn.recipe.epochs": 3}`.
        run_dir: where to; `runs/<name>/<id>` if left out. `INKLAB_RUNS_DIR` moves `runs`.
        workers: worker processes; one for each core if left out.
        threads: of each worker; as measured on this machine if left out.
        precision: of training; "auto" takes bf16 where it is fast.
        compile: whether training steps are compiled; "auto" where that saves time.
        device: what networks are trained on: "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU that CUDA
            lists. It is checked at first use, see docs/devices.md.
        executor: where jobs run: "local", "ray", "slurm", or a factory of your own; see docs/executors.md.
        ray_address: of a Ray cluster, "auto" for the one that runs on this machine; left out, the executor
            "ray" starts one here, which ends with the run.
        slurm: settings of SLURM for each worker, such as `{"partition": "short", "time": "4:00:00"}`; see
            docs/clusters.md.
        checkpoint_every: seconds of training that a crash may lose at most; 30, or more where checkpoints are
            expensive, if left out.
        accept_data_problems: whether to go on if the check of the images finds something that makes training
            pointless, such as a class without training images; see `inklab data check`.
        progress: False shows none; otherwise one display in a notebook, bars in a terminal, lines elsewhere.

    Returns:
        The run, also if some trials failed: see `Run.outcomes`.

    Raises:
        ConfigError: the study is wrong, all mistakes in one message; or this machine lacks the device.
        DataError: the images are not available, or not what they should be.
        RunError: the directory holds another study or is in use, or a network fails before training.
        KeyboardInterrupt: it was interrupted; call it again to continue.

    Example:
        >>> import inklab
        >>> run = inklab.run("digits", profile="quick", data="mnist-5k")  # doctest: +SKIP
        >>> run.compare("mlp-500-300", "mlp-64-64")  # doctest: +SKIP
    """
    options = ExecutionOptions(
        workers, threads, precision, compile, checkpoint_every, accept_data_problems, device,
        executor, ray_address, _slurm_settings(slurm),
    )  # fmt: skip
    prepared = prepare_run(
        study, profile=profile, data=data, overrides=overrides, run_dir=run_dir, options=options
    )
    return prepared.run(progress)


def train(
    network: Any = None,
    data: Any = "default",
    *,
    recipe: "str | Path | Recipe | Mapping[str, object] | None" = None,
    grid: Mapping[str, Sequence[object]] | None = None,
    replicates: int = 1,
    normalize: "str | NormalizeConfig | None" = None,
    metrics: Sequence[object] = (),
    name: str | None = None,
    seed: int = 0,
    overrides: Overrides = (),
    run_dir: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
    compile: Compile = "auto",
    device: str = "auto",
    executor: str | ExecutorFactory = "local",
    ray_address: str | None = None,
    slurm: Mapping[str, object] | None = None,
    checkpoint_every: float | None = None,
    accept_data_problems: bool = False,
    progress: bool | None = None,
) -> Run:
    """Train one network: each setting of a grid, each replicate. Called again, it continues where it stopped.

    Other settings, code or images make another run, so nothing is replaced.

    Args:
        network: a registered name, `file.py:Name`, a class or function that makes an `nn.Module`, also one of
            a notebook's cell, or a table such as `{"name": "mlp", "hidden": [500, 300]}`. It gets `shape`
            and `classes` if it has such arguments. None: the network of the recipe.
        data: images by name or path, or whatever `inklab.datasets.as_dataset` takes, such as `(X, y)`.
            Test and validation images are held out of these unless you pass your own: see the second example.
        recipe: how to train: a name, a TOML file, a `Recipe`, or a table; "sgd" if left out, "denoise" for a
            denoiser. Fields that a `Recipe` does not set are those of that default.
        grid: values to combine: of fields of the recipe (`{"learning_rate": [0.1, 0.01]}`), or of arguments
            of the network (`{"width": [64, 256]}`).
        replicates: trainings of each setting; replicate k has the same random streams in every setting.
        normalize: "none", "dataset" (its mean and standard deviation), or a `NormalizeConfig`.
        metrics: further metrics: registered names, `file.py:name`, or functions.
        name: of the experiment; the network's if left out.
        seed: root of all randomness.
        overrides: further changes by dotted key.
        run_dir: see `run`.
        workers: see `run`.
        threads: see `run`.
        precision: see `run`.
        compile: see `run`.
        device: see `run`.
        executor: see `run`.
        ray_address: see `run`.
        slurm: see `run`.
        checkpoint_every: see `run`.
        accept_data_problems: whether to go on if the check of the images finds something that makes training
            pointless, such as a class without training images; see `inklab data check`.
        progress: see `run`.

    Returns:
        The run, see `run`: `run.model()` is the best trained model, `run.to_pandas("history")` has the
        learning curves.

    Raises:
        InklabError: see `run`.

    Example:
        >>> import inklab
        >>> recipe = inklab.Recipe(optimizer="adam", learning_rate=1e-3)
        >>> run = inklab.train("mlp", "mnist-5k", recipe=recipe, replicates=5)  # doctest: +SKIP
        >>> run.estimates("test_accuracy")  # doctest: +SKIP
        >>> data = inklab.datasets.from_arrays(
        ...     X, y, validation=(X_val, y_val), test=(X_test, y_test)
        ... )  # doctest: +SKIP
        >>> run = inklab.train(Net, data, grid={"width": [64, 256]}, replicates=5)  # doctest: +SKIP
    """
    options = ExecutionOptions(
        workers, threads, precision, compile, checkpoint_every, accept_data_problems, device,
        executor, ray_address, _slurm_settings(slurm),
    )  # fmt: skip
    training = SingleTraining(network, recipe, replicates, grid or {}, normalize, metrics, name, seed)
    prepared = prepare_training(training, data, overrides=overrides, run_dir=run_dir, options=options)
    return prepared.run(progress)


def load(path: str | Path, *, network: Any = None, trust_code: Collection[str] = ()) -> "Run | TrainedModel":
    """A run or a trained model from disk. Nothing is unpickled, and no code is run that you do not name.

    Args:
        path: a run directory, an id below the runs directory, or "latest"; or the directory of a trained
            model or of its trial.
        network: the class or function behind a model of your own, if it is not in a file.
        trust_code: code of your own that may be run, such as "my_net.py:Net".

    Raises:
        DataError: there is neither.
        ConfigError: the model needs code that is not trusted.
        CorruptFileError: something there is damaged.

    Example:
        >>> import inklab
        >>> run = inklab.load("latest")  # doctest: +SKIP
        >>> inklab.load(run.model_dir("cnn")).predict("photo.png")  # doctest: +SKIP
        >>> inklab.load("model", network=Net)  # a class of your own  # doctest: +SKIP
    """
    source = find_model_or_run(str(path))
    if isinstance(source, Run):
        return source
    from inklab.model import TrainedModel  # torch, which a run does not need

    run, _ = run_of_model(source) or (None, "")
    return TrainedModel.load(source, network=network, trust_code=trust_code, run=run)


def robustness_curve(
    model_or_pipeline: "Classifies | Sequence[Any]",
    images: Any,
    labels: Any,
    corruption: str | Callable[..., Any] = "salt_and_pepper",
    *,
    strengths: Sequence[float | int] | None = None,
    seed: int = 0,
) -> "RobustnessCurve":
    """How well images are classified as they get worse.

    Curves with one seed are of the same corrupted pixels, so they can be subtracted.

    Args:
        model_or_pipeline: a trained classifier; a pipeline, such as `run.pipeline("median+cnn")`; or a list
            of its parts, the classifier last. Earlier parts are trained denoisers, or filters: registered
            names, `file.py:name`, or functions from images `(n, c, h, w)` in [0, 1] to such images.
        images: n images of the training format, as `inklab.datasets.from_arrays` takes them.
        labels: n class numbers, or names as in the model's `labels`; every class at least once.
        corruption: a registered name, `file.py:name`, or a function; or an attack, "fgsm" or "pgd".
        strengths: in the corruption's unit; its own if left out.
        seed: of the noise.

    Returns:
        The curve: accuracy, mean recall and calibration error at each strength; `to_pandas` makes a table.

    Raises:
        DataError: images and labels do not fit together, or a class has no images.
        OutOfRangeError: pixels or a strength outside their range.
        UnknownNameError: there is no such corruption or filter.
        ModelMismatchError: the last part is not a classifier, or an earlier one does not denoise.

    Example:
        >>> curve = robustness_curve(run.model("cnn"), X_test, y_test, strengths=[0, 0.2])  # doctest: +SKIP
        >>> curve.accuracy                                                                  # doctest: +SKIP
        array([0.99, 0.91])
    """
    import numpy as np

    from inklab.data.conversion import to_pixels
    from inklab.evaluation.attacks import corruption_or_attack
    from inklab.evaluation.robustness import pipeline_functions
    from inklab.evaluation.robustness import robustness_curve as curve_of
    from inklab.seeding import Seed

    classify, denoise = pipeline_functions(model_or_pipeline)
    classifier = model_or_pipeline[-1] if isinstance(model_or_pipeline, Sequence) else model_or_pipeline
    names: tuple[str, ...] = getattr(classifier, "labels", ())
    numbers = np.asarray(labels)
    if numbers.dtype.kind in "UO":
        unknown = sorted(set(map(str, numbers)) - set(names))
        if unknown:
            raise DataError(f"'{unknown[0]}' is no class of the model; its classes are {', '.join(names)}")
        numbers = np.array([names.index(str(label)) for label in numbers], np.int64)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise DataError("labels must be n class numbers, or names of the model's classes")
    curve = curve_of(
        classify, to_pixels(images, "images"), numbers.astype(np.int64),
        corruption_or_attack(reference(corruption)), strengths=strengths, seed=Seed(seed) / "noise",
        denoise=denoise,
    )  # fmt: skip
    return replace(curve, labels=names if len(names) == curve.recall_per_class.shape[1] else ())


# ---------------------------------------------------------------- what run and train have in common


@dataclass(frozen=True)
class PreparedRun:
    """A study with its images, about to be run.

    Attributes:
        study: with its images.
        adapted: whether the study was adapted to few images.
        path: the run directory.
        runner: runs it.
    """

    study: PreparedStudy
    adapted: bool
    path: Path
    runner: StudyRunner

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before it starts."""
        data, notes = self.study.data, []
        if data.note:
            notes.append(f"NOTE: {data.note}")
        if note := unknown_note(self.study.spec.live_objects):
            notes.append(f"NOTE: {note}")
        if self.adapted:
            notes.append(
                f"{data.train + data.validation:,} training images are few: networks train for more epochs "
                "([small_data] in the study). Validation images are taken from them."
            )
        if not self.runner.has_begun:
            notes.extend(f"NOTE: {note}" for note in self.study.data_report.brief_notes)
        return tuple(notes)

    def dry_run(self) -> tuple[Plan, Cost]:
        """The plan and what it costs; writes nothing."""
        return self.runner.dry_run()

    def run(self, progress: bool | None = None) -> Run:
        """Compute what is missing; see `run`."""
        self.runner.check()  # before anything is shown, or linked as the latest run
        with progress_display(progress) as display:
            self._announce(display)
            record = StatusFile(self.runner.run_directory, display)

            if self.runner.has_begun:  # the latest even if it is interrupted before it is planned again
                with self.runner.run_directory.locked():  # not if another process runs it
                    self._link(display)

            def on_event(event: Event) -> None:
                if isinstance(event, Planned):  # the plan is written, so `status` and `resume` find the run
                    self._link(display)
                record(event)

            self.runner.on_event = on_event
            self.runner.run(checked=True)
        return Run(self.path, self.study.dataset)

    def _link(self, display: ProgressDisplay) -> None:
        if not link_latest(self.path):
            display.note(f"'{runs_root() / 'latest'}' could not be made a link to this run")

    def _announce(self, display: ProgressDisplay) -> None:
        study = self.study
        for note in self.notes:
            display.note(note)
        display.note(
            f"{format_study(study.spec.name, study.profile)}, data {study.data.dataset}: {self.path}"
        )


def prepare_run(
    study: "str | Path | Study",
    *,
    profile: str | None = None,
    data: Any = None,
    overrides: Overrides = (),
    run_dir: str | Path | None = None,
    options: ExecutionOptions | None = None,
) -> PreparedRun:
    """A study with its images, about to be run; arguments as of `run`."""
    texts = override_texts(overrides)
    study = study if isinstance(study, Study) else Study.from_toml(study)
    loaded = study.configure(profile, [*_data_override(data), *texts])
    command = _command_line("run", study.source, ("--profile", profile), ("--data", data), overrides=texts)
    return _prepare(loaded, data, run_dir, options, command, lambda opened: opened.id)


def prepare_training(
    training: "SingleTraining",
    data: Any = "default",
    *,
    overrides: Overrides = (),
    run_dir: str | Path | None = None,
    options: ExecutionOptions | None = None,
) -> PreparedRun:
    """The study with one experiment that `train` runs; arguments as of `train`."""
    name, tables, texts = training.study_name, training.tables(), override_texts(overrides)
    for text in (*_data_override(data), *texts):
        key, value = parse_override(text)
        full_key = f"{name}.{key}" if key.split(".")[0] in EXPERIMENT_KEYS else key
        set_dotted(tables, full_key, value, f"--set {text}")
    loaded = configure(tables, name, profile="plain")
    flags = (("--data", data), ("--recipe", training.recipe), ("--replicates", str(training.replicates)))
    command = _command_line("train", training.network, *flags, overrides=texts)
    return _prepare(loaded, data, run_dir, options, command, _training_id)


def prepare_resume(path: Path, options: ExecutionOptions | None = None) -> PreparedRun:
    """A run that was begun, about to be continued.

    Raises:
        RunError: it is no run, has no study.json, or its images are arrays of a Python session.
        ConfigError: it trains objects of another Python session.
    """
    try:
        saved = SavedStudy.read(path / "study.json")
    except FileNotFoundError:
        raise RunError(f"'{path}' has no study.json; run the command again that began the run") from None
    for name in saved.study.live_objects:
        load_object(name)
    images = saved.study.data.dataset
    if images not in datasets and not Path(images).is_absolute():
        raise RunError(
            f"the images of '{path}', '{images}', came from a Python session; run the script or cell again "
            "that began it, with the same images: it continues where it stopped"
        )
    loaded = ConfiguredStudy(saved.study, saved.profile)
    return _prepare(loaded, None, path, options, RunDirectory(path).plan().command, lambda opened: opened.id)


def _prepare(
    loaded: ConfiguredStudy,
    data: Any,
    run_dir: str | Path | None,
    options: ExecutionOptions | None,
    command: str,
    make_id: Callable[[PreparedStudy], str],
) -> PreparedRun:
    options = options or ExecutionOptions()
    executor = executor_factory(
        options.executor, ExecutorOptions(options.workers, options.ray_address, dict(options.slurm))
    )
    study = prepare_study(loaded, _as_dataset(data, loaded.spec.seed))
    path = Path(run_dir) if run_dir else runs_root() / study.spec.name / make_id(study)
    if command and options.accept_data_problems:
        command += " --accept-data-problems"
    runner = StudyRunner(study, RunDirectory(path), options, command=command, executor=executor)
    return PreparedRun(study, study.spec != loaded.spec, path, runner)


def _slurm_settings(settings: Mapping[str, object] | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(value)) for key, value in (settings or {}).items())


def _training_id(study: PreparedStudy) -> str:
    """Name of the run directory of `train`: other settings or code are another run."""
    names = [experiment.network.name for experiment in study.spec.training.values()]
    sources = [source_sha256(name) for name in names if is_user_code(name)]
    return fingerprint([study.id, study.spec.to_json(), sources])


def _data_override(data: Any) -> list[str]:
    """Images by name or path belong to the study; quoted, since a directory called 2024 is no number."""
    return (
        [f"data.dataset={json.dumps(str(data), ensure_ascii=False)}"] if isinstance(data, str | Path) else []
    )


def _as_dataset(data: Any, seed: int) -> Dataset | None:
    if data is None or isinstance(data, str | Path):
        return None
    from inklab.datasets import as_dataset

    return as_dataset(data, seed=seed)


def override_texts(overrides: Overrides) -> list[str]:
    """Overrides as text.

    Example:
        >>> override_texts({"cnn.recipe.epochs": 3, "title": "Mine"})
        ['cnn.recipe.epochs=3', 'title="Mine"']
    """
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_toml_value(value)}" for key, value in overrides.items()]


def _toml_value(value: object) -> str:
    import tomli_w

    return tomli_w.dumps({"value": value}, multiline_strings=False).partition(" = ")[2].strip()


def _command_line(verb: str, name: object, *flags: tuple[str, object], overrides: Sequence[str]) -> str:
    """What to type to have the same again, wherever the run directory is; "" if it has Python objects."""
    values = [name, *(value for _, value in flags)]
    if not all(value is None or isinstance(value, str | Path) for value in values):
        return ""
    pairs = [*flags, *(("--set", override) for override in overrides)]
    words = [str(word) for flag, value in pairs if value is not None for word in (flag, value)]
    return shlex.join(["inklab", verb, *([str(name)] if name else []), *words])


@dataclass(frozen=True)
class SingleTraining:
    """What `train` is given, as a study with one experiment; attributes are its arguments."""

    network: Any = None
    recipe: "str | Path | Recipe | Mapping[str, object] | None" = None
    replicates: int = 1
    grid: Mapping[str, Sequence[object]] = field(default_factory=dict)
    normalize: "str | NormalizeConfig | None" = None
    metrics: Sequence[object] = ()
    name: str | None = None
    seed: int = 0

    def tables(self) -> dict[str, object]:
        """The study, as tables of a TOML file."""
        normalize = self.normalize
        experiment = {
            "title": self.study_name,
            "network": self._network_table,
            "recipe": self._recipe_table,
            "replicates": self.replicates,
            "grid": {_grid_key(key): _listed(values, f"grid: '{key}'") for key, values in self.grid.items()},
            "normalize": normalize.to_json() if isinstance(normalize, NormalizeConfig) else normalize,
            "metrics": [reference(metric) for metric in _listed(self.metrics, "metrics")],
        }
        table = {key: value for key, value in experiment.items() if value not in (None, {}, [])}
        return {
            "name": self.study_name,
            "title": f"Training {self.study_name}",
            "seed": self.seed,
            "experiments": {self.study_name: table},
        }

    @cached_property
    def study_name(self) -> str:
        """What study and experiment are called: `name`, else after the network, else after the recipe.

        Raises:
            ConfigError: there is no network.
        """
        if self.network is not None:
            name = str(self._network_table["name"]).rpartition(":")[2].partition("@")[0]
            return self.name or re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "net"
        if self._base is None or not read_recipe_file(self._base).network:
            problem = f"recipe '{self._base}' names no network" if self._base else "no network is given"
            raise ConfigError(
                f"{problem}; write inklab train NETWORK (see inklab list networks), or a --recipe with one",
                key="NETWORK",
            )
        return self.name or Path(self._base).stem.lower().replace(".", "-")

    @cached_property
    def _network_table(self) -> dict[str, object]:
        network = self.network
        if network is None:
            return {}
        if isinstance(network, NetworkConfig):
            return network.to_json()
        if isinstance(network, Mapping):
            return {**network, "name": reference(network.get("name", ""))}
        return {"name": reference(network)}

    @property
    def _base(self) -> str | None:
        """The name or path of the recipe, if it is one."""
        return str(self.recipe) if isinstance(self.recipe, str | Path) else None

    @property
    def _recipe_table(self) -> dict[str, object]:
        """What was set, over the recipe that suits the network's task."""
        if isinstance(self.recipe, str | Path):
            return {"base": str(self.recipe)}
        name = str(self._network_table.get("name", ""))
        entry = networks.resolve(name) if is_live(name) or name in networks else None
        is_denoiser = entry is not None and entry.task == "denoising"
        base: dict[str, object] = {"base": "denoise" if is_denoiser else "sgd"}
        if isinstance(self.recipe, Recipe):
            return base | self.recipe.model_dump(mode="json", exclude_unset=True)
        return base | dict(self.recipe or {})


def _grid_key(key: str) -> str:
    """The dotted key of a grid: a bare name is a field of the recipe, or else an argument of the network."""
    if "." in key or key == "normalize":
        return key
    return f"recipe.{key}" if key in Recipe.model_fields else f"network.{key}"


def _listed(values: Any, name: str) -> list[Any]:
    """Several values as a list. Raises ConfigError: it is a single one."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        text = "a function" if callable(values) else repr(values)[:60]
        raise ConfigError(f"{name} is {text}; give a list, also of one", key=name)
    return list(values)
