"""The first and the last of a report: headline numbers, findings, and how it was made."""

import re
from dataclasses import dataclass
from typing import Any

from inklab.report.figures.drawing import listing
from inklab.report.figures.numerals import count, duration_text, percent, percent1, points, score_text
from inklab.report.figures.result_access import chapter_results, is_number, read_score, slug
from inklab.report.tables import Table
from inklab.run import Json, RunData

MAX_FINDING_LENGTH = 900  # characters of a finding at the top; all of it stands in its chapter


@dataclass(frozen=True)
class KeyFinding:
    """A finding as the top of the page tells it, and the chapter that tells all of it."""

    text: str
    chapter: str = ""
    anchor: str = ""


def key_findings(run: RunData) -> list[KeyFinding]:
    """The findings of `results.json`: each under its chapter's title, in its first sentences."""
    chapters = run.plan.get("chapters") or []
    names = [str(one["name"]) for one in chapters if one.get("kind") == "findings"]
    found: Any = next((told for name in [*names, "findings"] if (told := _told(run, name))), [])
    return [_finding(str(text), chapters) for text in found if isinstance(text, str)]


def _told(run: RunData, name: str) -> Any:
    found = (run.results.get("chapters") or {}).get(name)
    return found if isinstance(found, list) else []


def _finding(text: str, chapters: list[Json]) -> KeyFinding:
    for chapter in chapters:
        name, question = str(chapter["name"]), str(chapter.get("question") or "").strip()
        if text.startswith(f"{name}: "):
            rest = text.removeprefix(f"{name}: ").removeprefix(question).strip()
            return KeyFinding(first_sentences(rest), str(chapter.get("title") or name), slug(name))
    return KeyFinding(text)


def first_sentences(text: str, longest: int = MAX_FINDING_LENGTH) -> str:
    """The first sentences of a text: about `longest` characters, at least a third of that.

    Example:
        >>> first_sentences("One is 1.5. Two follows. Three is too much.", 30)
        'One is 1.5. Two follows.'
    """
    sentences = re.split(r"(?<=[.!?]) (?=\S)", text)
    kept = sentences[:1]
    for sentence in sentences[1:]:
        said = len(" ".join(kept))
        if said >= longest / 3 and said + len(sentence) > longest:
            break
        kept.append(sentence)
    return " ".join(kept)


def headline_text(run: RunData) -> str:
    """The numbers in one paragraph: what recognises how much, what noise does, what can be drawn."""
    chapters = run.plan.get("chapters") or []
    sentences = [_recognized(run, [one for one in chapters if one.get("kind") == "train"])]
    sentences += [_noise(run, one) for one in chapters if one.get("kind") == "noise"]
    sentences += [_drawn(run, one) for one in chapters if one.get("kind") == "generator"]
    said = " ".join(sentence for sentence in sentences if sentence)
    return said or ("" if _anything_done(run) else "No chapter is finished yet.")


def _anything_done(run: RunData) -> bool:
    results = [chapter_results(run, one["name"]) for one in run.plan.get("chapters") or [] if _counts(one)]
    return any((one.get("outcomes") or {}).get("done") for one in results)


def _counts(chapter: Json) -> bool:
    return bool(chapter.get("settings") or chapter.get("evaluations"))


def _recognized(run: RunData, chapters: list[Json]) -> str:
    parts = []
    for chapter in chapters:
        results = chapter_results(run, chapter["name"])
        score = read_score(results.get("test_accuracy"))
        if score and not results.get("verdicts"):
            name = str(chapter["name"]).replace("-", "\u2011")  # a name should not break at its hyphens
            parts.append(f"{name} {score_text(score, percent)}")
    images = (run.plan.get("data") or {}).get("test")
    return f"Accuracy on {count(images)} test images: {'; '.join(parts)}." if parts and images else ""


def _noise(run: RunData, chapter: Json) -> str:
    results = chapter_results(run, chapter["name"])
    noise = str(results.get("corruption") or chapter.get("corruption") or "").replace("_", "-").capitalize()
    if is_number(results.get("helps_from")):
        start = f"{results['helps_from']:g}"
        return f"{noise} noise: cleaning is shown to help from a strength of {start} on{_cost(results)}."
    return (
        f"{noise} noise: no strength is shown at which cleaning first helps."
        if results.get("helps_by")
        else ""
    )


def _cost(results: Json) -> str:
    """What cleaning takes away from images that are clean, if that is shown."""
    gaps = (results.get("helps_by") or {}).get("differences") or [{}]
    clean = gaps[0].get("strength") == 0 and is_number(gaps[0].get("upper")) and gaps[0]["upper"] < 0
    cost = points(-gaps[0]["mean"]).removeprefix("+") if clean else ""
    return f"; on clean images it costs {cost} points of the mean true-positive rate" if clean else ""


def _drawn(run: RunData, chapter: Json) -> str:
    samplers = chapter_results(run, chapter["name"]).get("samplers") or {}
    shares = {name: score for name, one in samplers.items() if (score := read_score(one.get("recognised")))}
    shown = {name: score for name, score in shares.items() if name != "perturbed"}
    if not shown:
        return ""
    best = max(shown, key=lambda name: shown[name].mean)
    worst = min(shown, key=lambda name: shown[name].mean)
    rest = f", of those from {worst} codes {percent1(shown[worst].mean)}" if worst != best else ""
    return f"Of the images drawn from {best} codes {percent1(shown[best].mean)} are recognised{rest}."


def environment_table(run: RunData) -> list[tuple[str, str]]:
    """Everything that one needs to do it again: machine, versions, seed, data."""
    plan, data = run.plan, run.plan.get("data") or {}
    facts: list[tuple[str, Any]] = [
        ("study", plan.get("study")),
        ("profile", plan.get("profile")),
        ("run", run.path.name),
        ("root seed", plan.get("seed")),
        ("data", data.get("source")),
        ("SHA-256 of the data", data.get("sha256")),
    ]
    facts += list((plan.get("how") or {}).items())
    facts += list((run.results.get("environment") or {}).items())
    return [
        (str(key).replace("_", " "), _said(value))
        for key, value in dict(facts).items()
        if value not in (None, "", {}, [])
    ]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    if isinstance(value, list):
        return listing([_said(one) for one in value])
    return "yes" if value is True else "no" if value is False else str(value)


def commands(run: RunData) -> list[tuple[str, str]]:
    """What to type to repeat, redraw and read."""
    plan = run.plan
    parts = [
        ("", plan.get("study")),
        ("--profile ", plan.get("profile")),
        ("--data ", (plan.get("data") or {}).get("source")),
    ]
    typed = " ".join(f"{flag}{value}" for flag, value in parts if value)
    seed = f" --set seed={plan['seed']}" if plan.get("seed") else ""
    repeat = plan.get("command") or f"inklab run {typed}{seed}"
    folder = f"runs/{plan.get('study', 'study')}/{run.path.name}"
    return [
        ("Repeat the study", repeat),
        ("Go on with an unfinished run", f"inklab resume {folder}"),
        ("Redraw the figures and this page", f"inklab report {folder}"),
        ("Read the numbers with a program", f"inklab show {folder} --json"),
    ]


def time_table(run: RunData) -> tuple[Table, list[float]] | None:
    """Seconds of each chapter, and each one's share of the longest (for bars)."""
    seconds = run.results.get("seconds") or {}
    chapters = {
        str(name): float(value) for name, value in (seconds.get("chapters") or {}).items() if is_number(value)
    }
    if not chapters:
        return None
    rows = [[name, duration_text(value)] for name, value in chapters.items()]
    longest = max(chapters.values()) or 1.0
    bars = [value / longest for value in chapters.values()]
    if is_number(seconds.get("total")):
        rows.append(["Waited", duration_text(seconds["total"])])
        bars.append(0.0)
    return (
        Table(
            caption=(
                "Computing time of each chapter, added up over the workers (what two chapters share counts "
                "in both); last, the time that somebody waited."
            ),
            head=("Chapter", "Time"),
            rows=rows,
            strong=frozenset({len(chapters)}),
        ),
        bars,
    )
