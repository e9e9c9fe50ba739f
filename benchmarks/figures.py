"""The page's two figures, SVG, drawn from the stored numbers alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records import Claim, ScalingPoint, ScalingResults
from benchmarks.results_io import read_results, read_summary
from benchmarks.thresholds import SPEED_CLAIMS
from inklab.io.files import fingerprint

TITLES = {
    "speedups": "How many times faster than each peer, with the targets",
    "scaling": "Time and memory against members and images",
}
TEXT_COLOR, MEASURED_COLOR, TARGET_COLOR, GRID_COLOR = "#222222", "#2f6fb3", "#c2571a", "#dddddd"
MIB = 2**20


def speed_claims(results: Path) -> dict[str, Claim]:
    """The claims about speed that were measured, in the order of the page."""
    summary = read_summary(results)
    return {claim.name: summary[claim.name] for claim in SPEED_CLAIMS if claim.name in summary}


def figure_sources(results: Path) -> dict[str, str]:
    """For each figure with numbers, a fingerprint of them, which is written into the SVG."""
    sources: dict[str, object] = {}
    if claims := speed_claims(results):
        sources["speedups"] = {name: claim.to_json() for name, claim in claims.items()}
    if scaling := read_results(results, "scaling", ScalingResults):
        sources["scaling"] = scaling.model_dump(mode="json", include={"by_members", "by_images"})
    return {name: f"drawn from {fingerprint(numbers)}" for name, numbers in sources.items()}


def write_figures(results: Path, folder: Path) -> None:
    """Draw every figure that has numbers."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {  # its keys are literals in matplotlib's stubs
        "svg.fonttype": "none",
        "svg.hashsalt": "inklab",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": TEXT_COLOR,
    }
    with plt.rc_context(style):
        for name, source in figure_sources(results).items():
            figure = FIGURES[name](results)
            metadata = {"Date": None, "Description": source, "Title": TITLES[name]}
            figure.savefig(folder / f"{name}.svg", metadata=metadata, bbox_inches="tight")
            plt.close(figure)


def _draw_speedups(results: Path) -> Figure:
    """A dot, a range and a target per claim, on a logarithmic axis: a factor has the same length anywhere."""
    import matplotlib.pyplot as plt

    claims = speed_claims(results)
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(claims) + 1))
    for row, claim in enumerate(reversed(claims.values())):
        _draw_claim(axes, row, claim)
    axes.axvline(1, color=TEXT_COLOR, lw=0.8, ls=":")
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 3, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(claims)), list(reversed(claims)))
    axes.set_xlabel("speed of inklab divided by the peer's (member-epochs per second)")
    axes.margins(x=0.12)
    axes.grid(axis="x", color=GRID_COLOR)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _draw_claim(axes: Axes, row: int, claim: Claim) -> None:
    measured, target = ("measured: median, range", "target") if row == 0 else (None, None)
    if claim.low is not None and claim.high is not None:
        axes.plot([claim.low, claim.high], [row, row], color=MEASURED_COLOR, lw=2)
    axes.plot(claim.value, row, "o", color=MEASURED_COLOR, ms=7, label=measured)
    axes.plot(claim.target, row, "|", color=TARGET_COLOR, ms=16, mew=2.5, label=target)
    text = f"{claim.value:.2f}"
    axes.text(1.02, row, text, color=MEASURED_COLOR, transform=axes.get_yaxis_transform(), va="center")


def _draw_scaling(results: Path) -> Figure:
    """Time above, memory below; members on the left, images on the right."""
    import matplotlib.pyplot as plt

    scaling = read_results(results, "scaling", ScalingResults)
    assert scaling is not None
    figure, grid = plt.subplots(2, 2, figsize=(8, 5), layout="constrained", sharex="col")
    members = [point.members for point in scaling.by_members]
    images = [point.images for point in scaling.by_images]
    member_epochs = [point.member_epoch_seconds for point in scaling.by_members]
    member_seconds = [point.member_seconds for point in scaling.by_images]
    _draw_column(grid[:, 0], members, member_epochs, scaling.by_members)
    _draw_column(grid[:, 1], images, member_seconds, scaling.by_images)
    grid[0, 0].set_ylabel("s per member-epoch")
    grid[0, 1].set_ylabel("s per member for these images")
    grid[1, 0].set_xlabel("members of a population")
    grid[1, 0].set_xscale("log", base=2)
    grid[1, 0].set_xticks(members, [str(count) for count in members])
    grid[1, 1].set_xlabel("training images (8 members)")
    grid[1, 1].set_xticks(images, [f"{count // 1000}k" for count in images])
    return figure


def _draw_column(
    column: "list[Axes]", x: list[int], seconds: list[float], points: tuple[ScalingPoint, ...]
) -> None:
    times, memory = column
    times.plot(x, seconds, "o-", color=MEASURED_COLOR)
    memory.plot(x, [point.peak_bytes / MIB for point in points], "o-", color=TARGET_COLOR)
    memory.set_ylabel("peak memory, MiB")
    for axes in (times, memory):
        axes.set_ylim(bottom=0)
        axes.grid(color=GRID_COLOR)


FIGURES: dict[str, Callable[[Path], Figure]] = {"speedups": _draw_speedups, "scaling": _draw_scaling}
