"""Generates docs/benchmarks.md and its figures from benchmarks/results/; `--check` says if they are current.

.venv/bin/python -m benchmarks.report [--check]
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.claims import CLAIMS, Claim
from benchmarks.driver import RESULTS, ROOT
from benchmarks.figures import FIGURES, drawn_from, write_figures
from benchmarks.storing import Json, raw, summary

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "benchmarks"
HEAD = """# Side by side with what one would take instead

Made by `python -m benchmarks.report` from `benchmarks/results/`; do not edit. What each benchmark does, and
by which rules: [benchmarks/README.md](../benchmarks/README.md). A ratio above 1 means that inklab is faster:
member-epochs a second (a network over 60,000 images), ours by theirs, of neighbours in time. Peers compute
in fp32 as they come and use all cores; ours is what the study does, in bf16 where the processor has it. The
column *in fp32* is ours in fp32 (ratio of medians).
"""
WORKS = {
    "l2-sweep": "784-500-300-10, L2 on the hidden kernels, SGD 0.1, batch 128",
    "cnn": "conv 32 - conv 64 - max-pool 3 - dropout 0.5 - dense 300 - dense 10, SGD 0.1, batch 128",
    "denoiser": "784-128-96-128-784, Adam 0.001, cross-entropy a pixel, batch 64, one noisy copy for all",
}


def render(results: Path) -> str:
    """The page, of whatever was measured; works without results are left out."""
    found = [part for part in (section(results) for section in SECTIONS) if part]
    return "\n".join([HEAD, *(found or ["Nothing was measured yet.\n"])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _claims(results: Path) -> str:
    claims = summary(results)
    told = [(claim, claims[claim.name]) for claim in CLAIMS if claim.name in claims]
    if not told:
        return ""
    rows = [_claim(claim, found, results) for claim, found in told]
    head = ("claim", "against", "ratio", "range", "n", "bar", "stretch", "reached", "in fp32")
    notes = [_interval({(found["n"], found["coverage"]) for _, found in told}), *_fastest(told)]
    return "\n".join(["## Claims", "", table(head, rows), " ".join(notes), "", _picture("ratios")])


def _claim(claim: Claim, found: Json, results: Path) -> tuple[str, ...]:
    measured = raw(results, claim.work) or {}
    fp32 = measured.get("beside", {}).get("fp32", {}).get(found["against"])
    stretch = claim.stretch is not None and found["value"] >= claim.stretch
    reached = "stretch" if stretch else "yes" if found["value"] >= found["bar"] else "**no**"
    return (
        f"`{claim.name}`", claim.about, f"**{found['value']:.2f}**",
        f"{found['low']:.2f} to {found['high']:.2f}", str(found["n"]), f"{found['bar']:g}",
        "" if claim.stretch is None else f"{claim.stretch:g}", reached, "" if fp32 is None else f"{fp32:.2f}",
    )  # fmt: skip


def _interval(kinds: set[tuple[int, float]]) -> str:
    """What `range` is."""
    said = "; ".join(f"n = {n}: {coverage:.2%}" for n, coverage in sorted(kinds))
    return (
        "The ratio is the median of n pairs. The range goes from one order statistic to another, as far "
        "inside as 95 % allow, otherwise from the smallest ratio to the largest; it covers the true median "
        f"with the probability {said}."
    )


def _fastest(told: list[tuple[Claim, Json]]) -> list[str]:
    return [
        f"`{claim.name}` is held against `{found['against']}`, the faster one."
        for claim, found in told
        if len(claim.against) > 1
    ]


def _comparison(name: str) -> Callable[[Path], str]:
    def section(results: Path) -> str:
        found = raw(results, name)
        if found is None:
            return ""
        rows = [_entrant(who, found) for who in found["entrants"]]
        head = ("who", "how", "member-epochs a second", "seconds of a unit", "a unit", "versions")
        return "\n".join([f"## {name}", "", f"{WORKS[name]}.", "", table(head, rows), _made(found), ""])

    return section


def _entrant(who: str, found: Json) -> tuple[str, ...]:
    measured = [each for row in found["rounds"] for each in row if each["entrant"] == who]
    told = found["entrants"][who]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return (
        who, told["does"], f"{found['beside']['speeds'][who]:.3f}",
        f"{median(each['seconds'] for each in measured):.2f} (n = {len(measured)})",
        f"{measured[0]['images']:,} images", versions,
    )  # fmt: skip


def _made(found: Json) -> str:
    machine = found["machine"]
    return (
        f"Measured {found['date']} on {machine['cores']} cores of {machine['cpu']}, {machine['platform']}, "
        f"Python {machine['python']}, with `{found['command']}`."
    )


def _parity(results: Path) -> str:
    found = raw(results, "parity")
    if found is None:
        return ""
    backends = list(next(iter(found["networks"].values()))["apart"])
    versions = next(iter(found["networks"].values()))["versions"]
    rows = [
        (
            f"`{name}`", f"{told['rate']:g}", *(f"{told['apart'][backend]:.1e}" for backend in backends),
            f"{told['keras_apart']:.1e}",
            "chaotic" if told["chaotic"] else "yes" if told["equal"] else "**no**",
        )
        for name, told in found["networks"].items()
    ]  # fmt: skip
    head = ("network", "rate", *(f"from {versions[each]}" for each in backends), "Keras from Keras", "equal")
    text = (
        "From Keras's initial weights and with the same batches, without dropout, in fp32: the largest "
        f"relative difference of the first 50 losses; equal means at most {found['tolerance']:g}. At the "
        "cnn's own rate, 0.1, its first losses leap about: what differs in the seventh digit soon differs "
        "in the first, between two backends of Keras too; so it is held against them at a tenth of that."
    )
    return "\n".join(["## The same numbers as Keras", "", text, "", table(head, rows), _made(found), ""])


def _growth(results: Path) -> str:
    found = raw(results, "growth")
    if found is None:
        return ""
    rows = [
        (
            str(point["members"]), f"{point['images']:,}", f"{point['member_epoch_seconds']:.2f}",
            f"{point['member_seconds']:.2f}", f"{point['peak_bytes'] / 2**20:,.0f}",
        )
        for point in found["members"] + found["images"]
    ]  # fmt: skip
    head = (
        "members",
        "images",
        "s a member for 60,000 more images",
        "s a member for these images",
        "peak MiB",
    )
    text = (
        "One process, one thread, the l2-sweep's network; the last column is the whole process's peak memory."
    )
    parts = ["## How cost grows", "", text, "", table(head, rows), _picture("growth"), _made(found), ""]
    return "\n".join(parts)


def _bf16(results: Path) -> str:
    found = raw(results, "bf16")
    if found is None:
        return ""
    rows = []
    for name, gap in found["differences"].items():
        low, high = gap["ci95"]
        means = [
            f"{sum(values) / len(values):.5f}"
            for values in (found["scores"][p][name] for p in ("fp32", "bf16"))
        ]
        rows.append((name, *means, f"{gap['mean']:+.5f}", f"{low:+.5f} to {high:+.5f}", str(gap["n"])))
    head = ("score", "fp32", "bf16", "bf16 less fp32", "95 % CI", "pairs")
    text = (
        f"The l2-sweep's network with L2 1e-5, {found['epochs']} epochs over {found['images']:,} images; a "
        "replicate has the same initial weights and batches in both precisions. Student's t over the paired "
        "differences."
    )
    return "\n".join(["## Does bf16 do harm?", "", text, "", table(head, rows), _made(found), ""])


def _outcomes(results: Path) -> str:
    found = raw(results, "outcomes")
    if found is None:
        return ""
    counts = found["outcomes"]
    rows = [
        (
            f"`inklab {name}`", f"{told['few']['median']:.2f}", f"{told['many']['median']:.2f}",
            f"{told['added']:+.2f}", _held(name, told["added"], found),
        )
        for name, told in found["commands"].items()
    ]  # fmt: skip
    head = (
        "command",
        f"{counts['few']:,} outcomes, s",
        f"{counts['many']:,} outcomes, s",
        "added, s",
        "reached",
    )
    text = (
        f"Medians of {found['n']} runs of each command; at most {found['bar']:g} s may be added to "
        "status and report."
    )
    return "\n".join(["## Many stored outcomes", "", text, "", table(head, rows), ""])


def _checkpoints(results: Path) -> str:
    found = raw(results, "checkpoints")
    if found is None:
        return ""
    rows = [
        (
            name, f"{told['bytes'] / 1e6:.1f}", f"{median(told['write_seconds']) * 1e3:.0f}",
            f"{told['slower']:+.2%}", str(len(told["pairs"])), f"{told['share']:+.3%}",
            "yes" if told["share"] <= found["bar"] else "**no**",
        )
        for name, told in found["works"].items()
    ]  # fmt: skip
    head = ("work", "MB", "ms to write", "slower with one a second", "n", "slower by default", "reached")
    text = (
        "The same training with a checkpoint a second and with none, in turns; the default is one in "
        f"{found['default']:.0f} s, and costs so much less. At most {found['bar']:.0%} is the bar. Writing "
        "alone: the median of twenty, fsync included."
    )
    return "\n".join(["## What checkpoints cost", "", text, "", table(head, rows), _made(found), ""])


def _study(results: Path) -> str:
    found = raw(results, "study")
    if found is None:
        return ""
    bars, rows = found["bars"], []
    for profile, runs in found["runs"].items():
        seconds, peak = [run["seconds"] for run in runs], max(run["peak_bytes"] for run in runs)
        rows.append(_waited(f"`inklab run --profile {profile}`", seconds, bars[profile]))
        rows[-1] += (f"{peak / 2**20:,.0f}",)
    for name, seconds in found["commands"].items():
        rows.append((*_waited(f"`inklab --{name}`", seconds, bars[name]), ""))
    head = ("command", "median, s", "least to most", "n", "bar, s", "reached", "peak MiB")
    text = (
        "Whole runs on MNIST from the first letter to the report, with programs compiled before (the first "
        "run on a machine takes up to a minute longer); memory of the driver and all workers together."
    )
    return "\n".join(["## What one waits for", "", text, "", table(head, rows), "", _made(found), ""])


def _serving(results: Path) -> str:
    found = raw(results, "serving")
    if found is None:
        return ""
    rows = [
        (
            clients, f"{told['p50_ms']:.2f}", f"{told['p99_ms']:.2f}", f"{told['per_second']:,.0f}",
            str(told["dropped"]),
        )
        for clients, told in found["summary"].items()
    ]  # fmt: skip
    alone = found["summary"]["1"]["p50_ms"]
    most = max(told["per_second"] for told in found["summary"].values())
    bars = found["bars"]
    held = [
        f"{alone:.2f} ms at one client (bar {bars['p50_ms_at_1']:g}: {_yes(alone <= bars['p50_ms_at_1'])})",
        f"{most:,.0f} requests a second at best "
        f"(bar {bars['requests_per_second']:,.0f}: {_yes(most >= bars['requests_per_second'])})",
    ]
    head = ("clients", "median, ms", "p99, ms", "requests a second", "dropped")
    text = (
        f"`/api/predict` of `inklab serve`, one image a request, pipeline `{found['pipeline']}`, over "
        f"connections that stay open; {found['tool']} asks from the same cores. Medians of {found['n']} "
        f"times {found['seconds']:g} s, in turns. {'; '.join(held)}."
    )
    return "\n".join(["## What the server answers", "", text, "", table(head, rows), _made(found), ""])


def _time_to_accuracy(results: Path) -> str:
    found = raw(results, "time-to-accuracy")
    if found is None:
        return ""
    rows = [_level(level) for level in found["levels"]]
    head = (
        "mean accuracy asked", "s, mean", "SD", "test accuracy, mean", "SD", "95 % CI", "n", "reached",
        "recipe", "epochs", "parameters", "TFLOP", "first, s",
    )  # fmt: skip
    claim = summary(results)["time-to-99.39/keras-tensorflow"]
    images, keras = found["levels"][0]["train_images"], found["keras"]
    text = (
        f"Seconds of training alone, on all cores, over {images:,} images, the other 5,000 of MNIST's 60,000 "
        "being held out; all replicates are trained to the end, scored once, and count. Before them one "
        "training on noise instead of images, which compiles and loads the program: *first*. TFLOP are of "
        "one training, two a multiply-add, a step being three forward passes. Keras on TensorFlow takes "
        f"{min(keras['epoch_seconds']):.0f} to {max(keras['epoch_seconds']):.0f} s for an epoch of the "
        f"source's network, between these trainings; its forty epochs, extrapolated, take "
        f"**{claim['value']:.0f}** times as long as ours to 99.39 % "
        f"({claim['low']:.0f} to {claim['high']:.0f}, {len(keras['epoch_seconds'])} epochs; "
        f"bar {claim['bar']:g}, stretch {claim['stretch']:g})."
    )
    return "\n".join(["## Time to accuracy", "", text, "", table(head, rows), _made(found), ""])


def _level(level: Json) -> tuple[str, ...]:
    test, seconds = level["test"], level["time"]
    low, high = test["ci95"]
    return (
        f"{level['level']:.2%}", f"**{seconds['mean']:.1f}**", f"{seconds['sd']:.1f}", f"{test['mean']:.3%}",
        f"{test['sd']:.3%}", f"{low:.3%} to {high:.3%}", str(test["n"]), _yes(level["reached"]),
        f"`{level['recipe']}` {level['version']}", str(level["settings"]["recipe"]["epochs"]),
        f"{level['parameters']:,}", f"{level['flops'] / 1e12:.2f}", f"{level['warm_up_seconds']:.0f}",
    )  # fmt: skip


def _yes(held: bool) -> str:
    return "yes" if held else "**no**"


def _waited(name: str, seconds: Sequence[float], bar: float) -> tuple[str, ...]:
    middle, digits = median(seconds), 2 if bar < 10 else 0
    between = f"{min(seconds):.{digits}f} to {max(seconds):.{digits}f}"
    reached = "yes" if middle <= bar else "**no**"
    return name, f"{middle:.{digits}f}", between, str(len(seconds)), f"{bar:g}", reached


def _held(name: str, added: float, found: Json) -> str:
    if name not in found["held_to_it"]:
        return ""
    return "yes" if added <= found["bar"] else "**no**"


def _picture(name: str) -> str:
    return f"![{FIGURES[name]}](benchmarks/{name}.svg)\n"


SECTIONS = (
    _claims, _time_to_accuracy, *(_comparison(name) for name in WORKS), _growth, _bf16, _parity,
    _checkpoints, _outcomes, _study, _serving,
)  # fmt: skip


def is_current(results: Path = RESULTS, page: Path = PAGE, pictures: Path = PICTURES) -> bool:
    """Whether page and figures are what the results give.

    Figures are compared by the numbers they say they were drawn from: their bytes depend on fonts.
    """
    if not page.is_file() or page.read_text(encoding="utf-8") != render(results):
        return False
    wanted = drawn_from(results)
    drawn = [(pictures / f"{name}.svg") for name in wanted]
    return all(path.is_file() and wanted[path.stem] in path.read_text(encoding="utf-8") for path in drawn)


def main(arguments: Sequence[str]) -> int:
    """Write the page and its figures, or check them."""
    if "--check" in arguments:
        fine = is_current()
        print(
            "docs/benchmarks.md is current"
            if fine
            else "docs/benchmarks.md is not current: run python -m benchmarks.report"
        )
        return 0 if fine else 1
    PAGE.write_text(render(RESULTS), encoding="utf-8")
    write_figures(RESULTS, PICTURES)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
