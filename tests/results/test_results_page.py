"""docs/python-results.md: its examples run, and its tables name every column and every way of comparing."""

import re
from pathlib import Path

import pytest
import toy_run

import inklab
from inklab.results.frames import FRAMES
from inklab.runs import Run

PAGE = (Path(__file__).parents[2] / "docs" / "python-results.md").read_text(encoding="utf-8")


@pytest.mark.integration
def test_its_examples_run(tmp_path, monkeypatch):
    toy_run.copied(tmp_path / "latest")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path))
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    for block in blocks:
        exec(compile(block, "python-results.md", "exec"), names)
    assert len(blocks) >= 10 and (tmp_path / "elsewhere" / "report.html").is_file()
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")
    assert isinstance(names["run"], inklab.Run)


def test_its_table_names_every_column():
    run = Run(toy_run.finished())
    for kind in FRAMES:
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |"))
        columns = set(run.to_pandas(kind).columns) - {"experiment", "setting", "l2"}
        metrics = (
            {name for name in columns if name.startswith(("test_", "validation_"))}
            if kind == "trials"
            else set()
        )
        metrics |= {name for name in columns if name.startswith(("recall_", "train_bce", "train_psnr"))}
        assert columns - metrics == set(re.findall(r"`(\w+)`", line)) - {kind}, kind
