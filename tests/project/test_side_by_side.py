"""docs/side-by-side.md counts lines as they are, and its programs for inklab run."""

import re

import pytest
from source_tree import ROOT

PAGE = (ROOT / "docs" / "side-by-side.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|sh)\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| \[[^\]]+\]\(#[^)]+\) \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)


def code_lines(block):
    return [line for line in block.splitlines() if line.strip() and not line.startswith("#")]


def test_lines_are_counted_as_they_are():
    counts = [len(code_lines(block)) for block in BLOCKS]
    assert [int(number) for row in ROWS for number in row] == counts
    assert max(len(line) for block in BLOCKS for line in code_lines(block)) <= 110


@pytest.mark.integration
def test_programs_run(tmp_path, monkeypatch, capsys):
    """With fewer images and epochs; later programs use what earlier ones left."""
    monkeypatch.chdir(tmp_path)
    small = {
        '"mnist"': '"mnist-5k"',
        "replicates=10)": "replicates=2, recipe=inklab.Recipe(epochs=1))",
        "replicates=3)": "replicates=2, recipe=inklab.Recipe(epochs=1))",
        "epochs=10)": "epochs=1)",
        "cv=5": "cv=2",
    }
    names = {}
    for block in BLOCKS:
        if block.startswith("# inklab"):
            for text, replacement in small.items():
                block = block.replace(text, replacement)
            exec(block, names)  # the page is ours
    assert "95% CI" in capsys.readouterr().out and (tmp_path / "model.onnx").stat().st_size > 10_000
