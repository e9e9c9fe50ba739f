"""The page's two figures, SVG, drawn from the stored numbers alone."""

from pathlib import Path
from typing import Any

from benchmarks.claims import CLAIMS
from benchmarks.storing import Json, raw, summary
from inklab.io.files import fingerprint

FIGURES = {
    "ratios": "How many times faster than each peer, with the bars",
    "growth": "Time and memory against members and images",
}
INK, OURS, BAR, GRID = "#222222", "#2f6fb3", "#c2571a", "#dddddd"
MEBI = 2**20


def numbers(results: Path) -> dict[str, Json]:
    """What each figure is drawn from; figures without numbers are left out."""
    claims = summary(results)
    told = {claim.name: claims[claim.name] for claim in CLAIMS if claim.name in claims}
    growth = raw(results, "growth")
    found = {"ratios": told, "growth": {key: (growth or {}).get(key, []) for key in ("members", "images")}}
    return {name: each for name, each in found.items() if any(each.values())}


def drawn_from(results: Path) -> dict[str, str]:
    """For each figure a name of its numbers, which stands in the SVG."""
    return {name: f"drawn from {fingerprint(each)}" for name, each in numbers(results).items()}


def write_figures(results: Path, folder: Path) -> None:
    """Draw whatever there are numbers for."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    draw = {"ratios": _ratios, "growth": _growth}
    rules: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "inklab",
        "font.family": "sans-serif",
        "font.size": 10,
    }
    with plt.rc_context(rules | {"axes.spines.top": False, "axes.spines.right": False, "text.color": INK}):
        for name, told in numbers(results).items():
            figure = draw[name](plt, told)
            about = {"Date": None, "Description": drawn_from(results)[name], "Title": FIGURES[name]}
            figure.savefig(folder / f"{name}.svg", metadata=about, bbox_inches="tight")
            plt.close(figure)


def _ratios(plt: Any, claims: Json) -> Any:
    """A dot and its range a claim, the bar as a mark; a logarithmic axis, where twice is twice anywhere."""
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(claims) + 1))
    for place, claim in enumerate(reversed(claims.values())):
        axes.plot([claim["low"], claim["high"]], [place, place], color=OURS, lw=2)
        axes.plot(
            claim["value"],
            place,
            "o",
            color=OURS,
            ms=7,
            label="measured: median, range" if not place else None,
        )
        axes.plot(claim["bar"], place, "|", color=BAR, ms=16, mew=2.5, label="bar" if not place else None)
        aside = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(1.02, place, f"{claim['value']:.2f}", color=OURS, **aside)
    axes.axvline(1, color=INK, lw=0.8, ls=":")
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 3, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(claims)), list(reversed(claims)))
    axes.set_xlabel("member-epochs a second, ours by theirs")
    axes.margins(x=0.12)
    axes.grid(axis="x", color=GRID)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _growth(plt: Any, told: Json) -> Any:
    """Time above, memory below; members left, images right."""
    figure, grid = plt.subplots(2, 2, figsize=(8, 5), layout="constrained", sharex="col")
    columns = (
        ("members", "members of a population", "member_epoch_seconds", "s a member-epoch"),
        ("images", "training images (8 members)", "member_seconds", "s a member for them"),
    )
    for column, (key, across, seconds, up) in enumerate(columns):
        places = [point[key] for point in told[key]]
        times, memory = grid[0][column], grid[1][column]
        times.plot(places, [point[seconds] for point in told[key]], "o-", color=OURS)
        memory.plot(places, [point["peak_bytes"] / MEBI for point in told[key]], "o-", color=BAR)
        times.set_ylabel(up)
        memory.set_ylabel("peak memory, MiB")
        memory.set_xlabel(across)
        for axes in (times, memory):
            axes.set_ylim(bottom=0)
            axes.grid(color=GRID)
        if key == "members":
            memory.set_xscale("log", base=2)
            memory.set_xticks(places, [str(place) for place in places])
        else:
            memory.set_xticks(places, [f"{place // 1000}k" for place in places])
    return figure
