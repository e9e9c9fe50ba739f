"""inklab export: what it writes and prints, the model card, and its errors."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import export_samples
import numpy as np
import pytest
import toy_run
from cli_session import CommandResult, run_commands
from export_samples import untrained_model

from inklab.cli import main
from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE
from inklab.export.card import describe_preprocessing
from inklab.export.onnx_file import Session
from inklab.export.select import CARD_MARK
from inklab.io.files import sha256_of
from inklab.records.components import Preprocessing
from inklab.records.manifest import ModelManifest
from inklab.runs import Run


@pytest.fixture(scope="module")
def base() -> Path:
    return toy_run.finished()


@pytest.fixture
def cli(cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return cli


KINDS = {
    "mlp": ("classifier", ""), "cnn": ("classifier", "--experiment cnn"), "decoder": ("decoder", "--decoder"),
    "denoiser": ("denoiser", "--experiment denoiser"), "pipeline": ("pipeline", "--pipeline denoiser+cnn"),
    "sweep": ("classifier", "--experiment sweep:l2=0.1"),
}  # fmt: skip
"""Name of a file: what is in it, and the options that choose it."""


@pytest.fixture(scope="module")
def written(base, tmp_path_factory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """What the command wrote of the shared run: the file and the JSON that it printed."""
    folder = tmp_path_factory.mktemp("written")
    written = {}
    for name, (_, options) in KINDS.items():
        out, file = io.StringIO(), folder / f"{name}.onnx"
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
            main(["export", str(base), "--output", str(file), "--json", *options.split()])
        assert end.value.code == EXIT_OK
        written[name] = (file, json.loads(out.getvalue()))
    return written


def card(written, name: str) -> str:
    return written[name][0].with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.integration
@pytest.mark.parametrize("name", KINDS)
def test_the_json_describes_what_was_written(name, written):
    file, summary = written[name]
    raw = file.read_bytes()
    assert (summary["file"], summary["card"]) == (str(file), str(file.with_suffix(".md")))
    assert (summary["bytes"], summary["sha256"]) == (len(raw), sha256_of(raw))
    assert summary["kind"] == KINDS[name][0]
    assert summary["parity"]["real_images"] == 40
    assert max(summary["parity"]["max_relative"].values()) < summary["parity"]["tolerance"]
    session = Session(raw)
    assert {session.input_name: summary["inputs"][session.input_name]} == summary["inputs"]
    outputs = session(np.zeros((3, *summary["inputs"][session.input_name][1:]), np.float32))
    shapes = {key: ["batch", *values.shape[1:]] for key, values in outputs.items()}
    assert shapes == summary["outputs"]
    assert {path.suffix for path in file.parent.iterdir()} == {".onnx", ".md"}, "nothing else is left there"


@pytest.mark.integration
def test_the_model_that_stands_for_an_experiment_is_exported(base, written):
    run = Run(base)
    for name, experiment in (("mlp", "mlp"), ("cnn", "cnn"), ("sweep", "sweep:l2=0.1")):
        digest = ModelManifest.read_from(run.model_dir(experiment)).weights_sha256
        assert f"weights SHA-256 `{digest}`" in card(written, name)


@pytest.mark.integration
def test_a_model_a_trial_and_a_run_give_the_same_file(base, written, cli, tmp_path):
    model_dir = Run(base).model_dir("mlp")
    for path in (model_dir, model_dir.parent):  # the second replaces the file of the first
        code, out, err = cli("export", path, "-o", "one.onnx")
        assert (code, err) == (EXIT_OK, "")
        assert (tmp_path / "one.onnx").read_bytes() == written["mlp"][0].read_bytes()
    assert "one.md" in out and "images (batch, 1, 12, 12) -> logits (batch, 10), probabilities" in out


@pytest.mark.integration
def test_a_model_outside_a_run_is_compared_on_a_given_dataset(cli, tmp_path):
    untrained_model("mlp", n_classes=10).save(tmp_path / "single")
    toy = toy_run.home() / "toy.npz"
    code, out, _ = cli("export", "single", "--output", "a.onnx", "--data", toy, "--json")
    assert code == EXIT_OK and json.loads(out)["parity"]["real_images"] == 40
    code, out, _ = cli("export", "single", "--output", "a.onnx", "--json")
    assert code == EXIT_OK and json.loads(out)["parity"]["real_images"] == 0
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert "| `mlp` | test accuracy | 50.00% (n = 1) |" in text


@pytest.mark.integration
def test_a_users_network_is_exported_when_it_is_trusted(cli, tmp_path):
    own = f"{export_samples.write_own(tmp_path)}:Normed"
    untrained_model(own).save(tmp_path / "own")
    code, _, err = cli("export", "own", "--output", "own.onnx")
    assert code == EXIT_USAGE and "--trust-code" in err and not (tmp_path / "own.onnx").exists()
    assert cli("export", "own", "--output", "own.onnx", "--trust-code", own)[::2] == (EXIT_OK, "")


@pytest.mark.integration
def test_a_card_has_metrics_with_intervals_of_the_setting_that_was_exported(base, written):
    text, training = card(written, "mlp"), Run(base).results.training
    accuracy = training["mlp"].settings[0].metrics["test_accuracy"]
    assert text.startswith(f"{CARD_MARK}\n# mlp: an image classifier\n")
    assert f"| {accuracy.format('test_accuracy')} |" in text and "n = 2)" in text
    assert f"| {100 * accuracy.values[0]:.2f}% (n = 1; 95% CI over 200 test images " in text
    assert "root seed 3" in text and "4 epochs of sgd at learning rate 0.1" in text
    accuracy = training["sweep"].setting({"l2": 0.1}).metrics["test_accuracy"]
    assert f"| {accuracy.format('test_accuracy')} |" in card(written, "sweep")
    assert "L2 0.1" in card(written, "sweep")


@pytest.mark.integration
def test_a_card_shows_how_a_pipeline_fares_as_images_get_worse(written):
    text = card(written, "pipeline")
    assert "| strength | `denoiser+cnn` | `cnn` |" in text
    assert len(re.findall(r"^\| 0(?:\.\d)? \| [\d.]+% \(.*\) \| [\d.]+% \(.*\) \|$", text, re.M)) == 3
    assert "`salt_and_pepper`" in text and "| strength | `cnn` |" in card(written, "cnn")
    assert "As images get worse" not in card(written, "decoder")


@pytest.mark.integration
@pytest.mark.parametrize("name", KINDS)
def test_a_card_is_complete(name, written):
    text = card(written, name)
    headings = re.findall("^## (.*)$", text, re.M)
    curve = [] if name in ("mlp", "denoiser", "decoder", "sweep") else ["As images get worse"]
    assert headings == [
        "What it is", "Inputs and outputs", "How it was trained", "How good it is", *curve,
        "Same as the original", "What it should not be used for", "License", "How to run it",
    ]  # fmt: skip
    assert sha256_of(written[name][0].read_bytes()) in text
    assert "None" not in text and "nan" not in text.replace("names", "")


@pytest.mark.integration
@pytest.mark.parametrize("name", ["cnn", "decoder", "denoiser", "pipeline"])
def test_the_program_on_a_card_works(name, written):
    (code,) = re.findall(r"^```python\n(.*?)^```", card(written, name), re.M | re.S)
    assert len([line for line in code.splitlines() if line]) <= 7
    command = [sys.executable, "-c", code]
    output = subprocess.check_output(command, cwd=written[name][0].parent, text=True)
    assert output.strip() in [*"0123456789", "(1, 1, 12, 12)"]


def test_preprocessing_is_described_in_words():
    mnist = describe_preprocessing(Preprocessing())
    assert "20 pixels" in mnist and "light strokes on a dark ground" in mnist and "center of mass" in mnist
    other = describe_preprocessing(Preprocessing(center="box", light_on_dark=False))
    assert "the middle of their bounding box" in other and "dark strokes on a light ground" in other


# What is typed: exit code, and what the line must contain besides the class of error: values and names.
ERRORS = {
    "export": (EXIT_USAGE, "MODEL"),
    "export run": (EXIT_USAGE, "--output"),
    "export run -o a.txt": (EXIT_USAGE, "'a.txt'", ".onnx"),
    "export run -o folder.onnx": (EXIT_USAGE, "'folder.onnx'"),
    "export run -o file/a.onnx": (EXIT_USAGE, "'file/a.onnx'"),
    "export run -o README.onnx": (EXIT_USAGE, "'README.md'"),
    "export nowhere -o a.onnx": (EXIT_USAGE, "'nowhere'"),
    "export empty -o a.onnx": (EXIT_DATA, "'empty'", "model.json", "plan.json"),
    "export run -o a.onnx --experiment cn": (EXIT_USAGE, "'cn'", "Did you mean 'cnn'"),
    "export run -o a.onnx --experiment robustness": (EXIT_USAGE, "'robustness'"),
    "export run -o a.onnx --experiment sweep:l2=3": (EXIT_USAGE, "'sweep:l2=3'", "sweep:l2=0.1"),
    "export model -o a.onnx --experiment cnn": (EXIT_USAGE, "'model'", "--experiment"),
    "export model -o a.onnx --pipeline denoiser+cnn": (EXIT_USAGE, "'model'", "--pipeline"),
    "export run -o a.onnx --pipeline denoiser+cnn --decoder": (EXIT_USAGE, "--pipeline", "--decoder"),
    "export run -o a.onnx --pipeline cnn": (EXIT_USAGE, "'cnn'", "--experiment"),
    "export unfinished -o a.onnx": (EXIT_USAGE, "'mlp'", "inklab resume"),
}  # fmt: skip
WITH_TORCH = {
    "export run -o a.onnx --pipeline cnn+median": (EXIT_USAGE, "'cnn'"),
    "export run -o a.onnx --pipeline mlp+cnn": (EXIT_USAGE, "'mlp'"),
    "export run -o a.onnx --pipeline cnn+denoiser": (EXIT_USAGE, "'cnn'"),
    "export run -o a.onnx --pipeline denoisr+cnn": (EXIT_USAGE, "'denoisr'", "Did you mean 'denoiser'"),
    "export run -o a.onnx --experiment cnn --decoder": (EXIT_USAGE, "'cnn'", "encoder"),
    "export model -o a.onnx --data small.npz": (EXIT_DATA, "'small.npz'", "(1, 4, 4)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def results(base, tmp_path_factory) -> dict[str, CommandResult]:
    folder = tmp_path_factory.mktemp("errors")
    toy_run.copied(folder / "run")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "plan.json").write_bytes((base / "plan.json").read_bytes())
    for name in ("folder.onnx", "empty"):
        (folder / name).mkdir()
    (folder / "file").write_text("x", encoding="utf-8")
    (folder / "README.md").write_text("# mine\n", encoding="utf-8")
    untrained_model("mlp").save(folder / "model")
    images, labels = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2
    images[:, 0, 0] = np.arange(12)
    np.savez(folder / "small.npz", images=images, labels=labels)
    commands = [*ERRORS, *WITH_TORCH]
    results = run_commands(folder, [command.split() for command in commands])
    assert not list(folder.glob("a.*"))
    assert (folder / "README.md").read_text(encoding="utf-8") == "# mine\n"
    return dict(zip(commands, results, strict=True))


@pytest.mark.parametrize("command", [*ERRORS, *WITH_TORCH])
def test_an_error_is_one_line(command, results):
    expected, *parts = {**ERRORS, **WITH_TORCH}[command]
    code, out, err, torch_imported = results[command]
    assert err.startswith("error: ") and err.count("\n") == 1 and out == "", err
    assert code == expected and [part for part in parts if part not in err] == [], err
    assert command in WITH_TORCH or not torch_imported


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("onnx", "onnxscript", "onnxruntime"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from inklab.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["export", "model", "-o", "a.onnx"], ("onnx", "onnxscript", "onnxruntime")),
        (["predict", "a.onnx", "0.png"], ("onnx", "onnxruntime")),
    ],
    ids=["export", "predict"],
)
def test_without_the_extra_the_error_names_what_to_install(words, needed, tmp_path):
    untrained_model("mlp").save(tmp_path / "model")
    (tmp_path / "a.onnx").write_bytes(b"any")
    command = [sys.executable, "-c", BLOCKED, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (EXIT_USAGE, "", 1)
    assert all(re.search(rf"\b{name}\b", done.stderr) for name in needed) and "inklab[onnx]" in done.stderr


@pytest.mark.integration
def test_without_the_extra_the_rest_works(base):
    for words in (["show", base], ["status", base], ["list", "networks"]):
        done = subprocess.run([sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (EXIT_OK, "") and done.stdout
