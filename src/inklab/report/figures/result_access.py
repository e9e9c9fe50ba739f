"""Reading numbers out of results and outcomes, whatever is missing."""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inklab.results.phrases import format_value
from inklab.run import Json, RunData
from inklab.training.objectives import objectives

MAX_FLOAT = sys.float_info.max


@dataclass(frozen=True)
class ScoreView:
    """A number about trained models with its interval and n, as `results.json` holds it.

    Attributes:
        mean: mean over replicates.
        n: how many replicates.
        sd: standard deviation over replicates; `None` for n = 1.
        ci95: 95 % interval of the mean over replicates (Student's t); `None` for n = 1.
        ci95_images: 95 % interval over test images (Wilson), for rates.
        values: one a replicate.
    """

    mean: float
    n: int = 1
    sd: float | None = None
    ci95: tuple[float, float] | None = None
    ci95_images: tuple[float, float] | None = None
    values: tuple[float, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether several replicates gave the very same: Student's t would claim to know the mean exactly."""
        return self.n > 1 and (self.sd == 0 or len(set(self.values)) == 1)

    @property
    def over(self) -> str:
        """What the interval is over: `replicates`, `images`, or nothing."""
        if self.ci95 and not self.equal:
            return "replicates"
        return "images" if self.ci95_images else ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval over replicates where they differ, else the one over images if there is one."""
        return {"replicates": self.ci95, "images": self.ci95_images, "": None}[self.over]


def read_score(value: Any) -> ScoreView | None:
    """A score from its JSON, from a bare number, or `None` where there is nothing to read.

    Example:
        >>> read_score({"mean": 0.98, "n": 2, "ci95": [0.97, 0.99]}).interval
        (0.97, 0.99)
        >>> read_score(0.5).n, read_score(None), read_score({"mean": None, "n": 0})
        (1, None, None)
    """
    if isinstance(value, dict):
        if not is_number(value.get("mean")):
            return None
        values = tuple(float(v) for v in value.get("values") or () if is_number(v))
        return ScoreView(
            mean=float(value["mean"]),
            n=int(value.get("n") or 1),
            sd=float(value["sd"]) if is_number(value.get("sd")) else None,
            ci95=_pair(value.get("ci95")),
            ci95_images=_pair(value.get("ci95_images")),
            values=values,
        )
    return ScoreView(float(value), values=(float(value),)) if is_number(value) else None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number (a truth value is not)."""
    # Compared rather than asked for isfinite, which a whole number of 400 digits overflows.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_FLOAT


def numbers(values: Any) -> list[float]:
    """A JSON list as floats, with NaN for what is missing.

    Example:
        >>> numbers([1, None])
        [1.0, nan]
    """
    return [float(v) if is_number(v) else math.nan for v in values or []]


def slug(name: str) -> str:
    """A name that is fit for files and anchors.

    Example:
        >>> slug("My chapter/1")
        'my-chapter-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "chapter"


def chapter_results(run: RunData, name: str) -> Json:
    """What `results.json` says about a chapter; empty if nothing."""
    return dict((run.results.get("chapters") or {}).get(name) or {})


def settings_of(chapter: Json) -> list[Json]:
    """The settings of a training chapter as its plan lists them."""
    return list(chapter.get("settings") or [])


def outcomes_of(run: RunData, trials: Sequence[str]) -> list[Json]:
    """Every outcome that there is, in the order of `trials`."""
    return [outcome for trial in trials if (outcome := run.outcome(trial)) is not None]


def done_of(run: RunData, trials: Sequence[str]) -> list[Json]:
    """The outcomes of the trials that are done."""
    return [outcome for outcome in outcomes_of(run, trials) if outcome.get("state") == "done"]


def setting_label(setting: Json) -> str:
    """A setting's name: what it varies and to which value.

    Example:
        >>> setting_label({"values": {"l2": 1e-06, "rate": 0.1}})
        'l2 = 1e-6, rate = 0.1'
    """
    return ", ".join(f"{key} = {format_value(value)}" for key, value in (setting.get("values") or {}).items())


def class_names(run: RunData) -> list[str]:
    """The names of the classes in the order of their labels."""
    return [str(name) for name in (run.plan.get("data") or {}).get("labels") or []]


def is_denoiser(chapter: Json) -> bool:
    """Whether a training chapter's networks give back images rather than classes."""
    name = str(recipe_of(chapter).get("objective"))
    return name in objectives and objectives[name].target == "images"


def recipe_of(chapter: Json) -> Json:
    """The recipe of a training chapter's first setting."""
    settings = settings_of(chapter)
    return (settings[0].get("settings") or {}).get("recipe") or {} if settings else {}


def training_loss_of(chapter: Json) -> str:
    """A sentence on what a chapter's training loss is, where the validation loss is another; or none."""
    recipe = recipe_of(chapter)
    name, corruption = str(recipe.get("objective")), recipe.get("corruption") or {}
    if recipe.get("scored_at") is not None:
        shown = _pair(corruption.get("strength"))
        trained = f"strengths {shown[0]:g} to {shown[1]:g}" if shown else "what it is trained on"
        return f"The training loss is that at {trained}, the validation loss that at {recipe['scored_at']:g}."
    if name in objectives and not objectives[name].is_scored:
        return f"The training loss is {objectives[name].told}; the validation loss is plain cross-entropy."
    return ""


def _pair(value: Any) -> tuple[float, float] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value)):
        return float(value[0]), float(value[1])
    return None
