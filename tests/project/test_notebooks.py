"""The notebooks of examples/ run, with fewer images and epochs; no cell ends in an error."""

import nbformat
import pytest
from nbclient import NotebookClient
from source_tree import ROOT

EPOCHS = {
    "mlp-64-64": 1, "scaled-twice": 2, "mlp-500-300": 1, "l2-sweep": 1, "cnn": 1, "denoiser": 1,
    "noise-trained-cnn": 1,
}  # fmt: skip
QUICKER = {
    **{f"{name}.recipe.epochs": epochs for name, epochs in EPOCHS.items()},
    "l2-sweep.replicates": 2, "robustness.images": 200, "robustness.strengths": [0.0, 0.4],
    "robustness.confusion_at": [0.0, 0.4], "generation.samples": 300, "generation.mixture_components": 3,
}  # fmt: skip
SMALL = {
    "tour": ('"quick", "default", {}', f'"quick", "mnist-5k", {QUICKER!r}'),
    "own_network": ("EPOCHS, REPLICATES = 8, 10", "EPOCHS, REPLICATES = 1, 2"),
}


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
@pytest.mark.parametrize("name", SMALL)
def test_notebooks_run(name, tmp_path, monkeypatch):
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path / "runs"))
    notebook = nbformat.read(ROOT / "examples" / f"{name}.ipynb", 4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    before, after = SMALL[name]
    assert before in parameters.source
    parameters.source = parameters.source.replace(before, after)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with_outputs = [cell for cell in codes if cell.outputs]
    assert len(with_outputs) >= len(codes) - 4, "cells show what they compute"
