"""What to export, chosen in a run or a folder, and where its file goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inklab.errors import ConfigError, DataError, UnknownNameError
from inklab.results.experiment_summary import target_of
from inklab.study.run_directory import RunDirectory

Json = dict[str, Any]
HAS = {"labels": "a classifier", "images": "a denoiser"}


@dataclass(frozen=True)
class ModelRef:
    """One part of what is exported.

    Attributes:
        name: its chapter, or the filter's name.
        folder: of its bundle; None for a filter.
    """

    name: str
    folder: Path | None


@dataclass(frozen=True)
class Selection:
    """What is exported.

    Attributes:
        parts: one, or those of a pipeline, in the order in which an image passes them.
        half: "" for the whole network, "decoder" for that half of it.
        run: where it comes from; None for a bundle that lies by itself.
    """

    parts: tuple[ModelRef, ...]
    half: str = ""
    run: RunDirectory | None = None


def model_at(path: Path) -> Path | None:
    """The bundle in a folder, or in a trial's folder, if there is one."""
    return next((each for each in (path, path / "bundle") if (each / "bundle.json").is_file()), None)


def of_bundle(folder: Path, half: str = "") -> Selection:
    """A bundle's network; of the run in whose folder it lies, if it is one of that run's trials."""
    trial = folder.resolve().parent
    top = trial.parent.parent
    if folder.name == "bundle" and trial.parent.name == "trials" and (top / "plan.json").is_file():
        run = RunDirectory(top)
        chapters = _trained(run.plan())
        names = [name for name, told in chapters.items() if trial.name in _trials(told)]
        if names:
            return Selection((ModelRef(names[0], folder),), half, run)
    return Selection((ModelRef("", folder),), half)


def of_run(run: RunDirectory, chapter: str | None = None, half: str = "") -> Selection:
    """A chapter's network; if none is named, the first classifier, or for a decoder the first autoencoder.

    Of its first setting's replicate 0, which is the one for use.

    Raises:
        UnknownNameError: there is no such chapter.
        DataError: there is nothing of that kind, or no bundle of it yet.
    """
    trained = _trained(run.plan())
    if chapter is not None and chapter not in trained:
        raise UnknownNameError("train chapter", chapter, trained)
    target = "images" if half else "labels"
    fitting = [name for name, told in trained.items() if _target(told) == target]
    if chapter is None and not fitting:
        kind = "autoencoder" if half else "classifier"
        raise DataError(
            f"'{run.path}' trains no {kind}; name one of its chapters with --chapter: "
            f"{', '.join(trained) or 'it has none'}"
        )
    name = chapter or next((each for each in fitting if _is_there(run, trained[each])), fitting[0])
    return Selection((_place(run, name, trained[name]),), half, run)


def of_pipeline(run: RunDirectory, pipeline: str) -> Selection:
    """The parts of a pipeline such as `denoiser+cnn`; what is no chapter must be a filter.

    Raises:
        UnknownNameError: a part is neither a chapter nor a filter.
        ConfigError: it is no pipeline: its last part is no classifier, or an earlier one gives no images.
        DataError: there is no bundle of a part yet.
    """
    trained = _trained(run.plan())
    names = pipeline.split("+")
    _refuse_unknown(names, [*trained, *_filters(run)])
    if len(names) < 2 or names[-1] not in trained:
        raise ConfigError(
            f"pipeline '{pipeline}' must be cleaners and then a classifier, such as denoiser+cnn; a network "
            "by itself is named with --chapter"
        )
    for name, needs in zip(names, ["images"] * (len(names) - 1) + ["labels"], strict=True):
        if name in trained and _target(trained[name]) != needs:
            has = HAS[_target(trained[name])]
            raise ConfigError(f"'{name}' trains {has}, but stands where {HAS[needs]} is needed")
    parts = [_place(run, name, trained[name]) if name in trained else ModelRef(name, None) for name in names]
    return Selection(tuple(parts), run=run)


def _refuse_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    if set(names) <= set(known):
        return
    from inklab.corruptions.filters import filters  # torch's side of the house: asked last

    known = list(dict.fromkeys([*known, *filters]))
    for name in names:
        if name not in known:
            raise UnknownNameError("train chapter or filter", name, known)


def _filters(run: RunDirectory) -> list[str]:
    """Filters that the run's own pipelines name."""
    plan = run.plan()
    planned = [each for told in plan["chapters"] for each in told.get("pipelines", [])]
    return sorted({part for each in planned for part in each.split("+")[:-1]} - set(_trained(plan)))


def _trained(plan: Mapping[str, Any]) -> dict[str, Json]:
    return {told["name"]: told for told in plan["chapters"] if told["kind"] == "train"}


def _trials(chapter: Json) -> list[str]:
    return [trial for setting in chapter["settings"] for trial in setting["trials"]]


def _target(chapter: Json) -> str:
    return target_of(chapter["settings"][0])


def _is_there(run: RunDirectory, chapter: Json) -> bool:
    return (run.bundle(chapter["settings"][0]["trials"][0]) / "bundle.json").is_file()


def _place(run: RunDirectory, name: str, chapter: Json) -> ModelRef:
    if not _is_there(run, chapter):
        raise DataError(
            f"'{run.path}' has no bundle of '{name}' yet; finish it with inklab resume {run.path}"
        )
    return ModelRef(name, run.bundle(chapter["settings"][0]["trials"][0]))


SUFFIX = ".onnx"
MARK = "<!-- a model card of inklab export -->"
"""First line of every card: a file that begins otherwise is somebody else's, and not written over."""


def check_output(file: Path) -> None:
    """Refuse a place where no file can be put, or where a card would take the place of another text.

    Raises:
        ConfigError: it does not end in .onnx, is a folder, or somebody else's text lies where the card goes.
    """
    if file.suffix.lower() != SUFFIX:
        raise ConfigError(
            f"'{file}' does not end in {SUFFIX}; name a file such as {file.stem or 'net'}{SUFFIX}"
        )
    if file.is_dir() or any(each.exists() and not each.is_dir() for each in file.parents):
        raise ConfigError(f"'{file}' can't be a file there; name another with --to")
    card = card_of(file)
    if card.exists() and not _is_card(card):
        raise ConfigError(f"'{card}' is no card of inklab; move it away, or name another file with --to")


def card_of(file: Path) -> Path:
    """Where the card of a file lies.

    Example:
        >>> card_of(Path("cnn.onnx")).name
        'cnn.md'
    """
    return file.with_suffix(".md")


def _is_card(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()
