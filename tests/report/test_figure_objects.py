"""Figures as objects: files in three formats, drawing onto the user's axes, data, and any MPLBACKEND."""

import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from PIL import Image
from synthetic_report import digits_plan, write_report_run

from inklab.errors import ConfigError, UnknownNameError
from inklab.report.figures import Figure, draw_figures
from inklab.report.figures.drawing import LIGHT, PLACEHOLDER
from inklab.runs import Run

SHORT = ("l2-sweep.recipe.epochs=3", "cnn.recipe.epochs=3")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return write_report_run(tmp_path_factory.mktemp("run"), digits_plan("quick", SHORT))


@pytest.fixture
def sheet() -> Sheet:
    sheet = Sheet()
    FigureCanvasAgg(sheet)
    return sheet


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def test_they_are_those_of_the_report_by_name(run):
    drawn = [figure for row in draw_figures(run).values() for figure in row]
    assert list(run.figures) == [figure.name for figure in drawn]
    assert run.figure("cnn-curves").svg == next(entry.svg for entry in drawn if entry.name == "cnn-curves")
    assert repr(run.figure("cnn-curves")) == "Figure('cnn-curves': Learning curves)"
    with pytest.raises(UnknownNameError, match="Did you mean 'cnn-curves'"):
        run.figure("cnn-curve")


def test_every_figure_is_drawn_without_placeholders(run):
    reserved = {tuple(bytes.fromhex(color[1:])) for color in PLACEHOLDER.values()}
    kinds = {type(figure.drawing).__name__ + figure.title: figure for figure in run.figures.values()}
    for figure in kinds.values():
        picture = Image.open(BytesIO(figure._repr_png_())).convert("RGB")
        colors = {color for _, color in picture.getcolors(2**24)}
        assert not reserved & colors, figure.name
        assert tuple(bytes.fromhex(LIGHT["ground"][1:])) in colors and len(colors) > 20
        assert picture.width == pytest.approx(6.6 * 110, abs=2) and picture.height > 20
    for figure in [*kinds.values()][::4]:  # half a second each
        head, body = figure._repr_svg_().split(">", 1)
        assert body == figure.for_file().split(">", 1)[1] and "max-width: 100%" in head, "it fits a phone"
        assert figure.drawing.render(figure.name, "pdf", 100).startswith(b"%PDF")


def test_every_panel_can_be_drawn_onto_axes(run, sheet):
    for figure in run.figures.values():
        assert figure.panels
        for panel in figure.panels:
            sheet.clear()
            axes = sheet.subplots()
            assert figure.draw(axes, panel) is axes
            sheet.canvas.draw()
            assert axes.has_data() or axes.patches, (figure.name, panel)


def test_axes_of_the_user_get_real_colors_and_data(run, sheet):
    left, right = sheet.subplots(1, 2)
    figure = run.figure("l2-sweep-curves")
    figure.draw(left, "accuracy")
    assert {line.get_color() for line in left.lines} <= set(LIGHT.values())
    assert [text.get_text() for text in left.get_legend().get_texts()][:2] == ["l2 = 1e-6", "l2 = 5e-6"]
    means = figure.to_pandas().query(
        "setting == 'l2 = 1e-6' and split == 'validation' and metric == 'accuracy'"
    )
    np.testing.assert_array_equal(left.lines[0].get_ydata(), means["mean"])
    run.figure("data-samples").draw(right)  # a grid of images is one panel
    assert right.images and not right.axison


def test_several_panels_need_a_name(run, sheet):
    figure, axes = run.figure("cnn-curves"), sheet.subplots()
    with pytest.raises(ConfigError, match=r"has 2 panels.*draw\(ax, 'loss'\); panels: loss, accuracy"):
        figure.draw(axes)
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        figure.draw(axes, "acuracy")
    assert not axes.has_data()


class TestSaving:
    @pytest.mark.parametrize(
        ("name", "start"), [("a.svg", b"<svg"), ("b.PNG", b"\x89PNG"), ("c.pdf", b"%PDF")]
    )
    def test_the_ending_is_the_format(self, run, tmp_path, name, start):
        path = run.figure("robustness-confusion").save(tmp_path / "new" / name)
        assert path == tmp_path / "new" / name and path.read_bytes().startswith(start)

    def test_dots_per_inch(self, run, tmp_path):
        for dpi in (50, 100):
            path = run.figure("cnn-curves").save(str(tmp_path / "x.png"), dpi=dpi)
            assert pixels_of(path.read_bytes()).shape[1] == pytest.approx(6.6 * dpi, abs=1)

    def test_the_same_bytes_every_time(self, run, tmp_path):
        for suffix in ("svg", "png", "pdf"):
            written = [
                run.figure("cnn-curves").save(tmp_path / f"{i}.{suffix}").read_bytes() for i in range(2)
            ]
            assert written[0] == written[1]

    @pytest.mark.parametrize("name", ["x.jpg", "x"])
    def test_other_endings_are_refused(self, run, tmp_path, name):
        with pytest.raises(ConfigError, match=r"\.svg, \.png or \.pdf"):
            run.figure("cnn-curves").save(tmp_path / name)
        assert not list(tmp_path.iterdir())


def test_data_are_rows_and_a_frame(run):
    for figure in run.figures.values():
        assert len(figure.data) == len(figure.csv_rows) and list(figure.data[0]) == list(figure.csv_header)
        pd.testing.assert_frame_equal(figure.to_pandas(), pd.DataFrame(figure.data))
    empty = Figure("x", "X", "x.", "x", run.figure("cnn-curves").drawing, ("a", "b"))
    assert empty.data == [] and list(empty.to_pandas().columns) == ["a", "b"]


def test_drawing_leaves_matplotlib_as_it_was(run, sheet):
    before = dict(rcParams)
    run.figure("cnn-curves").draw(sheet.subplots(), "loss")
    run.figure("cnn-curves")._repr_png_()
    assert dict(rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or before["backend"] == rcParams["backend"]


PROBE = """
import sys
from pathlib import Path
from inklab.runs import Run
figure = Run(Path(sys.argv[1])).figure("cnn-curves")
figure.save(sys.argv[2] + "/x.png"); figure.save(sys.argv[2] + "/x.svg")
import os
print("matplotlib.pyplot" in sys.modules, os.environ["MPLBACKEND"])
"""


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "module://gone.nowhere", "foo"]
)
@pytest.mark.integration
def test_any_backend_of_the_environment(run, tmp_path, backend):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(run.path), str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "MPLBACKEND": backend},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"False {backend}\n", "")
    assert (tmp_path / "x.svg").read_text() == run.figure("cnn-curves").for_file()
