"""inklab predict with an exported file: the same answers as from the model, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_samples import SIDE, exported_network, foreign_graph, untrained_model
from PIL import Image

from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, files that were exported from it and from a denoiser, others, and two pictures."""
    folder = tmp_path_factory.mktemp("predict")
    untrained_model("cnn").save(folder / "model")
    raw = exported_network("cnn").raw
    (folder / "cnn.onnx").write_bytes(raw)
    (folder / "denoiser.onnx").write_bytes(exported_network("autoencoder").raw)
    (folder / "cut.onnx").write_bytes(raw[:-50])
    (folder / "foreign.onnx").write_bytes(foreign_graph())
    for index, pixels in enumerate(np.random.default_rng(5).integers(0, 256, (2, 40, 30)).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def cli(cli, monkeypatch, folder):
    monkeypatch.chdir(folder)
    return cli


def test_the_same_answers_as_from_the_model(cli):
    predictions, texts = {}, {}
    for name in ("model", "cnn.onnx"):
        code, out, err = cli("predict", name, "0.png", "1.png", "--json")
        assert (code, err) == (EXIT_OK, "")
        predictions[name] = json.loads(out)
        texts[name] = cli("predict", name, "0.png", "--top", 2)
    assert [prediction["image"] for prediction in predictions["cnn.onnx"]] == ["0.png", "1.png"]
    for model, file in zip(predictions["model"], predictions["cnn.onnx"], strict=True):
        assert model["label"] == file["label"]
        assert file["probabilities"] == pytest.approx(model["probabilities"], abs=1e-5)
    assert texts["model"] == texts["cnn.onnx"] and "class " in texts["model"][1]


def test_a_file_by_others_is_run_at_the_users_own_risk(cli):
    code, out, err = cli("predict", "foreign.onnx", "0.png", "--json")
    assert code == EXIT_OK and err.count("\n") == 1 and "own risk" in err
    assert list(json.loads(out)[0]["probabilities"]) == ["0", "1", "2"]
    assert len(cli("predict", "foreign.onnx", "0.png")[1].splitlines()) == 1 + SIDE


def test_torch_is_not_imported(folder):
    """Neither by the command nor by the process that runs the file."""
    for words in (["inklab", "predict", "cnn.onnx"], ["inklab.export.onnx_file", "cnn.onnx", ""]):
        command = [sys.executable, "-X", "importtime", "-m", *words, "0.png"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert done.stdout and not {"torch", "scipy", "sklearn", "matplotlib"} & imported


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nowhere.onnx", "0.png"], EXIT_DATA, "'nowhere.onnx'"),
        (["cut.onnx", "0.png"], EXIT_DATA, "'cut.onnx'"),
        (["denoiser.onnx", "0.png"], EXIT_USAGE, "denoiser"),
        (["cnn.onnx", "nowhere.png"], EXIT_DATA, "'nowhere.png'"),
        (["cnn.onnx", "0.png", "--experiment", "cnn"], EXIT_USAGE, "--experiment"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_error_is_one_line(words, code, part, cli):
    result, out, err = cli("predict", *words)
    assert (result, out) == (code, "") and err.startswith("error: ") and err.count("\n") == 1
    assert part in err
