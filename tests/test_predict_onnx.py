"""predict from an exported file: the same answers as from the bundle, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_samples import bundle, real
from onnx import helper
from PIL import Image

from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE
from inklab.export.graphs import network
from inklab.export.onnx_export import export_model
from inklab.export.onnx_file import read_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle, the files that were exported of it and of a denoiser, and two pictures."""
    folder = tmp_path_factory.mktemp("predict")
    made = bundle("cnn")
    made.save(folder / "bundle")
    (folder / "cnn.onnx").write_bytes(export_model(network(made)).raw)
    (folder / "denoiser.onnx").write_bytes(export_model(network(bundle("autoencoder"))).raw)
    for place, pixels in enumerate(np.random.default_rng(5).integers(0, 256, (2, 40, 30)).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return folder


@pytest.fixture
def cli(cli, monkeypatch, folder):
    """Type a command in that folder: `(exit code, stdout, stderr)`."""
    monkeypatch.chdir(folder)
    return cli


# ---------------------------------------------------------------- the same answers


def test_the_same_answers_as_from_the_bundle(cli):
    told = {}
    for name in ("bundle", "cnn.onnx"):
        code, out, err = cli("predict", name, "0.png", "1.png", "--json")
        assert (code, err) == (EXIT_OK, "")
        told[name] = json.loads(out)
    assert [each["image"] for each in told["cnn.onnx"]] == ["0.png", "1.png"]
    for mine, theirs in zip(told["bundle"], told["cnn.onnx"], strict=True):
        assert mine["label"] == theirs["label"]
        assert theirs["probabilities"] == pytest.approx(mine["probabilities"], abs=1e-5)
    shown = {name: cli("predict", name, "0.png", "--top", 2) for name in ("bundle", "cnn.onnx")}
    assert shown["bundle"] == shown["cnn.onnx"] and "class " in shown["bundle"][1]


def test_what_a_bundle_says_of_bytes_a_file_says_too(folder):
    read = read_onnx(folder / "cnn.onnx")
    assert (read.labels, read.shape) == (bundle("cnn").labels, (1, 12, 12))
    images = real(count=40)
    right = bundle("cnn").probabilities(torch.from_numpy(images).float() / 255)
    np.testing.assert_allclose(read.probabilities(images), right, atol=1e-5)
    assert read.probabilities(images[:0]).shape == (0, 5)


def test_torch_is_not_imported(folder):
    probe = (
        "import sys\nfrom inklab.cli import main\n"
        "try:\n    main(['predict', 'cnn.onnx', '0.png', '--json'])\n"
        "except SystemExit as ended:\n    code = ended.code\n"
        "print(code, sorted({'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("]\n0 []\n") and done.stderr == ""


# ---------------------------------------------------------------- mistakes, told in one line

FOREIGN = helper.make_model(
    helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [1])], [helper.make_tensor_value_info("y", 1, [1])],
    )
).SerializeToString()  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere.onnx", "0.png"], EXIT_DATA, "'nowhere.onnx' can't be read: No such file or directory"),
        (["empty.onnx", "0.png"], EXIT_DATA, "'empty.onnx' is not a sound ONNX file: it is empty"),
        (["text.onnx", "0.png"], EXIT_DATA, "'text.onnx' is not a sound ONNX file"),
        (["cut.onnx", "0.png"], EXIT_DATA, "'cut.onnx' is not a sound ONNX file: it is cut short"),
        (["foreign.onnx", "0.png"], EXIT_DATA,
         "'foreign.onnx' is ONNX, but not of inklab: its metadata lacks format, kind, labels, shape, "
         "framing, parts, data_sha256, inklab, parity; make one with inklab export"),
        (["denoiser.onnx", "0.png"], EXIT_USAGE, "'denoiser.onnx' holds a denoiser; it gives no classes"),
        (["cnn.onnx", "nowhere.png"], EXIT_DATA, "'nowhere.png' can't be read"),
        (["cnn.onnx", "0.png", "--chapter", "cnn"], EXIT_USAGE, "leave --chapter and --code out"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)  # fmt: skip
def test_a_mistake_is_one_line(words, code, says, cli, folder):
    raw = (folder / "cnn.onnx").read_bytes()
    for name, content in (
        ("empty", b""),
        ("text", b"I am no network"),
        ("cut", raw[:-50]),
        ("foreign", FOREIGN),
    ):
        (folder / f"{name}.onnx").write_bytes(content)
    found, out, err = cli("predict", *words)
    assert (found, out) == (code, "") and err.startswith("inklab: ") and err.count("\n") == 1
    assert says in err
