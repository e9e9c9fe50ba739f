"""What a run has to say of the networks that are exported: scores with intervals, how they were trained."""

from dataclasses import dataclass, field
from typing import Any

from inklab.export.choosing import Chosen
from inklab.study.summing import results_of

Json = dict[str, Any]
CURVE_ROWS = 6  # strengths that a card shows of a curve


@dataclass(frozen=True)
class PartFacts:
    """A run's trained part.

    Attributes:
        name: its chapter.
        replicate: which of its trainings is exported.
        recipe: how it was trained.
        precision: that the training computed in.
        scores: over all replicates, by name, as in results.json.
        own: this replicate's scores.
        verdicts: what the gauges found in this chapter.
    """

    name: str
    replicate: int
    recipe: Json
    precision: str
    scores: dict[str, Json]
    own: dict[str, float]
    verdicts: list[Json]


@dataclass(frozen=True)
class Curve:
    """How often a pipeline is right as images get worse.

    Attributes:
        corruption: its name.
        images: test images behind each number.
        rows: `(strength, score of the pipeline, score of the classifier alone, if that is another)`.
        alone: the classifier's name.
    """

    corruption: str
    images: int
    rows: list[tuple[float, Json, Json | None]]
    alone: str


@dataclass(frozen=True)
class Facts:
    """What a card says beyond the file itself. All of it is empty for a bundle that lies by itself."""

    study: str = ""
    source: str = ""
    counts: Json = field(default_factory=dict)
    seed: int = 0
    parts: list[PartFacts] = field(default_factory=list)
    curve: Curve | None = None


def facts_of(chosen: Chosen) -> Facts:
    """What a run says of what was chosen.

    Raises:
        CorruptFile: one of the run's files is damaged.
    """
    if chosen.run is None:
        return Facts()
    snapshot = chosen.run.snapshot()
    plan, results = snapshot.plan, results_of(chosen.run, snapshot)
    trained = [(part.name, part.folder.parent.name) for part in chosen.parts if part.folder]
    parts = [_part(name, trial, plan, results, snapshot.outcomes) for name, trial in trained]
    data = plan["data"]
    counts = {key: data[key] for key in ("train", "validation", "test")}
    curve = None if chosen.half else _curve("+".join(part.name for part in chosen.parts), plan, results)
    return Facts(plan["study"], data["source"], counts, plan["seed"], parts, curve)


def _part(name: str, trial: str, plan: Json, results: Json, outcomes: Json) -> PartFacts:
    chapter = next(each for each in plan["chapters"] if each["name"] == name)
    place = next(i for i, each in enumerate(chapter["settings"]) if trial in each["trials"])
    setting = chapter["settings"][place]
    told = results["chapters"].get(name, {})
    scores = told["settings"][place] if "settings" in told else told
    kept = {key: each for key, each in scores.items() if key.startswith("test_") and isinstance(each, dict)}
    return PartFacts(
        name, setting["trials"].index(trial), setting["settings"]["recipe"], setting["settings"]["precision"],
        kept, outcomes.get(trial, {}).get("scores") or {}, told.get("verdict_details", []),
    )  # fmt: skip


def _curve(pipeline: str, plan: Json, results: Json) -> Curve | None:
    for chapter in plan["chapters"]:
        told = results["chapters"].get(chapter["name"], {})
        if chapter["kind"] != "noise" or pipeline not in told.get("pipelines", {}):
            continue
        scores, alone = (told["pipelines"][name]["tpr"] for name in (pipeline, chapter["alone"]))
        strengths = chapter["strengths"]
        step = max(1, -(-len(strengths) // CURVE_ROWS))
        rows = [
            (float(strengths[i]), scores[i], None if pipeline == chapter["alone"] else alone[i])
            for i in range(0, len(scores), step)
            if scores[i]["n"]
        ]
        return Curve(chapter["corruption"], chapter["images"], rows, chapter["alone"]) if rows else None
    return None
