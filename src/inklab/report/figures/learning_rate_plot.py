"""The figure of a learning-rate range test: loss by learning rate."""

from functools import partial
from typing import TYPE_CHECKING

from inklab.format import format_value
from inklab.report.figures.drawing import Plot, themed
from inklab.report.figures.figure import Figure
from inklab.training.learning_rate_range import LearningRateRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_rate_figure(result: LearningRateRange) -> Figure:
    """The loss of each step and the smoothed loss by learning rate, with the suggestion."""
    low, high = (format_value(float(f"{rate:.2g}")) for rate in (result.rates[0], result.rates[-1]))
    if result.suggestion is None:
        advice = "The smoothed loss does not fall, so no learning rate is suggested."
    else:
        advice = (
            f"Dashed: the suggestion, {result.suggestion:.2g}, where the smoothed loss falls most steeply "
            "before its minimum (Smith 2017)."
        )
    return Figure(
        name="learning-rate-range",
        title="Learning-rate range test",
        caption=(
            f"Training loss of {len(result.rates):,} steps, one batch each, while the learning rate rises "
            f"from {low} to {high}. {advice}"
        ),
        alt=(
            f"Training loss by learning rate, from {result.smoothed[0]:.3g} at {low}; the smoothed loss is "
            f"least, {result.smoothed.min():.3g}, at {result.rates[result.smoothed.argmin()]:.2g}."
        ),
        drawing=Plot.row({"loss": partial(_draw_losses, result=result)}, 2.8),
        csv_header=tuple(result.columns),
        csv_rows=tuple(zip(*result.columns.values(), strict=True)),
    )


def _draw_losses(axes: "Axes", result: LearningRateRange) -> None:
    axes.plot(result.rates, result.losses, color=themed("muted"), linewidth=0.7, label="each step")
    axes.plot(result.rates, result.smoothed, color=themed("c1"), label="smoothed")
    if result.suggestion is not None:
        label = f"suggestion {result.suggestion:.2g}"
        axes.axvline(result.suggestion, color=themed("c2"), linestyle=(0, (5, 3)), linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: format_value(rate))  # text: math is not parsed in figures
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("Training loss")
    axes.legend()
