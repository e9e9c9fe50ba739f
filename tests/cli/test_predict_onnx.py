"""inklab predict with an exported file: the same answers as from the model, without torch."""

import csv
import json
import re
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
    Image.new("L", (20, 20), 255).save(folder / "blank.png")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:-300])
    return folder


@pytest.fixture
def cli(cli, monkeypatch, folder):
    monkeypatch.chdir(folder)
    return cli


def test_the_same_answers_as_from_the_model(cli):
    predictions, texts = {}, {}
    for name in ("model", "cnn.onnx"):
        code, out, err = cli("predict", name, ".", "1.png", "--json")
        assert code == EXIT_DATA and err.startswith("NOT READ: 'cut.png' is a damaged picture")
        predictions[name] = json.loads(out)
        texts[name] = cli("predict", name, "0.png", "blank.png", "--top", 2)
    names = ["0.png", "1.png", "blank.png", "cut.png", "1.png"]
    assert [prediction["image"] for prediction in predictions["cnn.onnx"]] == names
    for model, file in zip(predictions["model"], predictions["cnn.onnx"], strict=True):
        assert file["probabilities"] == pytest.approx(model["probabilities"], abs=1e-5)
        assert file["ood_score"] == pytest.approx(model["ood_score"], abs=1e-4)
        assert all(file[key] == model[key] for key in ("label", "abstained", "error"))
    assert [entry["abstained"] for entry in predictions["model"]][2] == "empty"
    assert texts["model"] == texts["cnn.onnx"] and "class " in texts["model"][1]
    assert re.search(r"OOD score \d+\.\d\d: an empty image", texts["model"][1])


def test_as_csv(cli):
    code, out, _ = cli("predict", "cnn.onnx", "0.png", "cut.png", "--csv")
    good, bad = csv.DictReader(out.splitlines())
    assert code == EXIT_DATA and (good["source"], bad["label"], bad["ood_score"]) == ("0.png", "", "")
    assert float(good["probability"]) == max(float(good[key]) for key in good if key.startswith("p("))
    assert cli("predict", "cnn.onnx", "0.png", "--csv", "--json")[0] == EXIT_USAGE


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
