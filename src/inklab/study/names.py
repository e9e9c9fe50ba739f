"""Names that a study uses and that only torch's side of the house knows: corruptions, filters, samplers."""

from collections.abc import Mapping

from inklab.corrupt.filters import filters
from inklab.corrupt.find import find_corruption
from inklab.errors import SpecError, UnknownName
from inklab.evaluate.samplers import samplers
from inklab.study.spec import GeneratorChapter, NoiseChapter, StudySpec, TrainChapter
from inklab.train.objective import objectives


def check_names(spec: StudySpec) -> None:
    """Refuse names that mean nothing, and strengths that a corruption does not have, before training.

    Raises:
        UnknownName: with the nearest right name.
        SpecError: a train chapter is called like a filter, or trains what its place in a pipeline can't use.
        OutOfRange: a strength is too large.
    """
    chapters = spec.train_chapters()
    if taken := sorted(set(chapters) & set(filters)):
        raise SpecError(
            f"'{taken[0]}' is a filter in pipelines, so no train chapter may be called so; rename it"
        )
    for chapter in chapters.values():
        objectives[chapter.recipe.objective]
        if chapter.recipe.corruption:
            corruption = find_corruption(chapter.recipe.corruption.name)
            for strength in (chapter.recipe.corruption.strength[1], chapter.recipe.scored_at or 0.0):
                corruption.check_strength(strength)
    for told in spec.chapters.values():
        if isinstance(told, NoiseChapter):
            _check_noise(told, chapters)
        if isinstance(told, GeneratorChapter):
            for name in told.samplers:
                samplers[name]
            _check_target(told.decoder, "images", chapters)
            _check_target(told.judge, "labels", chapters)


def _check_noise(chapter: NoiseChapter, trained: Mapping[str, TrainChapter]) -> None:
    corruption = find_corruption(chapter.corruption)
    for strength in chapter.strengths:
        corruption.check_strength(strength)
    for part in {part for pipeline in chapter.pipelines for part in pipeline.split("+")}:
        if part not in trained and part not in filters:
            raise UnknownName("train chapter or filter", part, [*trained, *filters])
    for pipeline in chapter.pipelines:
        *cleaners, classifier = pipeline.split("+")
        _check_target(classifier, "labels", trained)
        for part in cleaners:
            _check_target(part, "images", trained)


def _check_target(name: str, target: str, trained: Mapping[str, TrainChapter]) -> None:
    """Refuse a denoiser where a classifier is needed, and the other way round. Filters give images."""
    if name in trained and objectives[trained[name].recipe.objective].target != target:
        has, needs = ("a classifier", "a denoiser") if target == "images" else ("a denoiser", "a classifier")
        raise SpecError(f"'{name}' trains {has}, but stands where {needs} is needed")
