"""inklab export: what it writes and says, the model card, and every mistake in one line."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import export_samples
import numpy as np
import pytest
import toy_run
from cli_session import typed_in
from export_samples import bundle

from inklab.cli import main
from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE
from inklab.export.card import describe_preprocessing
from inklab.export.onnx_runtime import Session
from inklab.export.select import MARK
from inklab.io.documents import read_json, sha256_of
from inklab.study.run_directory import RunDirectory


@pytest.fixture(scope="module")
def base() -> Path:
    return toy_run.finished()


@pytest.fixture
def cli(cli, monkeypatch, tmp_path):
    """Type a command in an empty folder: `(exit code, stdout, stderr)`."""
    monkeypatch.chdir(tmp_path)
    return cli


@pytest.fixture(scope="module")
def written(base, tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """What the command wrote of the shared run: `(file, what --json told)` by what was asked for."""
    folder = tmp_path_factory.mktemp("written")
    asked = {
        "mlp": [], "cnn": ["--chapter", "cnn"],
        "pipeline": ["--pipeline", "denoiser+cnn"], "median": ["--pipeline", "median+cnn"],
        "denoiser": ["--chapter", "denoiser"], "decoder": ["--decoder"],
    }  # fmt: skip
    told = {}
    for name, words in asked.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
            main(["export", str(base), "--to", str(folder / f"{name}.onnx"), "--json", *words])
        assert ended.value.code == EXIT_OK
        told[name] = (folder / f"{name}.onnx", json.loads(out.getvalue()))
    return told


KINDS = {
    "mlp": "classifier", "cnn": "classifier", "pipeline": "pipeline",
    "median": "pipeline", "denoiser": "denoiser", "decoder": "decoder",
}  # fmt: skip


def card(written, name: str) -> str:
    return written[name][0].with_suffix(".md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("name", KINDS)
def test_what_is_told_is_what_was_written(name, written):
    file, told = written[name]
    raw = file.read_bytes()
    assert (told["file"], told["card"]) == (str(file), str(file.with_suffix(".md")))
    assert (told["bytes"], told["sha256"], told["kind"]) == (len(raw), sha256_of(raw), KINDS[name])
    assert told["parity"]["real"] == 40 and told["remark"] is None
    assert max(told["parity"]["relative"].values()) < told["parity"]["tolerance"]
    session = Session(raw)
    assert {session.given: told["inputs"][session.given]} == told["inputs"]
    made = session(np.zeros((3, *told["inputs"][session.given][1:]), np.float32))
    assert {key: ["batch", *each.shape[1:]] for key, each in made.items()} == told["outputs"]
    assert {path.suffix for path in file.parent.iterdir()} == {".onnx", ".md"}, "nothing else is left there"


def test_replicate_0_of_the_first_setting_is_exported(base, written):
    folder = RunDirectory(base)
    chapters = {each["name"]: each for each in folder.plan()["chapters"]}
    for name in ("mlp", "cnn", "denoiser"):
        trial = chapters[name]["settings"][0]["trials"][0]
        digest = read_json(folder.bundle(trial) / "bundle.json")["weights_sha256"]
        assert f"weights SHA-256 `{digest}`" in card(written, name)


def test_a_bundle_a_trial_and_a_run_give_the_same_file(base, written, cli, tmp_path):
    folder = RunDirectory(base)
    chapter = next(each for each in folder.plan()["chapters"] if each["name"] == "mlp")
    trial = folder.bundle(chapter["settings"][0]["trials"][0]).parent
    code, out, err = cli("export", trial, "--to", "one.onnx")
    assert (code, err) == (EXIT_OK, "")
    assert (tmp_path / "one.onnx").read_bytes() == written["mlp"][0].read_bytes()
    lines = out.splitlines()
    assert re.fullmatch(r"one\.onnx: mlp, classifier, [\d,]+ bytes", lines[0])
    assert lines[1:3] == [
        "one.md: its model card",
        "images (batch, 1, 12, 12) -> logits (batch, 10), probabilities (batch, 10)",
    ]
    assert re.fullmatch(
        r"the same as the original on \d+ inputs \(40 of them real\) in .* 1, 2 and 7", lines[3]
    )
    assert re.match(r"largest differences: logits \S+, probabilities \S+; allowed 5e-05", lines[4])


def test_a_bundle_by_itself_is_compared_on_a_named_source(cli, tmp_path):
    bundle("mlp", classes=10).save(tmp_path / "alone")
    code, out, _ = cli("export", "alone", "--to", "a.onnx", "--data", toy_run.home() / "toy.npz", "--json")
    assert code == EXIT_OK and json.loads(out)["parity"]["real"] == 40
    code, out, _ = cli("export", "alone", "--to", "a.onnx")
    assert "(none of them real, there were none at hand)" in out
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert "| `mlp` | test accuracy | 0.5 |" in text and "Its run was not at hand" in text


def test_ones_own_network_is_exported_when_it_is_named(cli, tmp_path):
    own = f"{export_samples.write_own(tmp_path)}:Normed"
    bundle(own).save(tmp_path / "own")
    code, _, err = cli("export", "own", "--to", "own.onnx")
    assert code == EXIT_USAGE and "--code" in err and not (tmp_path / "own.onnx").exists()
    assert cli("export", "own", "--to", "own.onnx", "--code", own)[::2] == (EXIT_OK, "")


# ---------------------------------------------------------------- the card


def test_a_card_tells_scores_with_intervals_and_n(base, written):
    text = card(written, "mlp")
    score = read_json(base / "results.json")["chapters"]["mlp"]["test_accuracy"]
    assert text.startswith(f"{MARK}\n# mlp: an image classifier\n")
    assert f"{100 * score['mean']:.2f} % (95 % CI " in text and "over 2 replicates)" in text
    assert f"| {100 * score['values'][0]:.2f} % (95 % CI over images " in text
    assert "on 200 test images" in text and "root seed 3" in text and "4 epochs of sgd at rate 0.1" in text


def test_a_card_tells_how_a_pipeline_fares_as_images_get_worse(written):
    text = card(written, "pipeline")
    assert "| strength | `denoiser+cnn` | `cnn` alone |" in text
    assert len(re.findall(r"^\| 0(?:\.\d)? \| .* % \(.*\) \| .* % \(.*\) \|$", text, re.M)) == 3
    assert "`salt_and_pepper`" in text and "| strength | `cnn` |" in card(written, "cnn")
    assert "As images get worse" not in card(written, "decoder")


def test_a_card_tells_what_it_is_not_for_and_whose_it_is(written):
    for name in KINDS:
        text = card(written, name)
        for heading in ("What it is", "What goes in", "How it was trained", "How good it is", "The same as",
                        "What it should not be used for", "Licence", "To run it"):  # fmt: skip
            assert f"\n## {heading}" in text, (name, heading)
        assert "No licence is claimed or granted" in text and sha256_of(written[name][0].read_bytes()) in text
        assert "None" not in text and "nan" not in text.replace("names", "")
    assert "always names one of its classes" in card(written, "median")
    assert "a filter: the median of the 3x3 pixels" in card(written, "median")


@pytest.mark.parametrize("name", ["cnn", "decoder", "denoiser", "pipeline"])
def test_what_a_card_tells_to_type_works(name, written):
    (code,) = re.findall(r"^```python\n(.*?)^```", card(written, name), re.M | re.S)
    assert len([line for line in code.splitlines() if line]) <= 7
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=written[name][0].parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in [*"0123456789", "(1, 1, 12, 12)"]


def test_a_framing_is_told_in_words():
    told = {"channels": 1, "height": 28, "width": 28, "light_on_dark": True, "box": 20, "centre": "mass"}
    assert "fitted into 20 pixels" in describe_preprocessing(
        told
    ) and "light ink on a dark" in describe_preprocessing(told)
    assert "centre of mass" in describe_preprocessing(told)
    other = {**told, "centre": "box", "light_on_dark": False}
    assert "the middle of its bounding box" in describe_preprocessing(
        other
    ) and "dark ink" in describe_preprocessing(other)
    assert describe_preprocessing({}) == "How a picture is brought into this form is not known."


def test_what_is_written_again_takes_the_old_ones_place(written, base, cli):
    file, _ = written["denoiser"]
    before = file.read_bytes()
    assert cli("export", base, "--chapter", "denoiser", "--to", file)[0] == EXIT_OK
    assert file.read_bytes() == before


# ---------------------------------------------------------------- mistakes

MISTAKES = {
    "export": (EXIT_USAGE, "BUNDLE"),
    "export run": (EXIT_USAGE, "--to"),
    "export run --to a.txt": (EXIT_USAGE, "'a.txt' does not end in .onnx; name a file such as a.onnx"),
    "export run --to folder.onnx": (EXIT_USAGE, "'folder.onnx' can't be a file there"),
    "export run --to file/a.onnx": (EXIT_USAGE, "can't be a file there"),
    "export run --to README.onnx": (EXIT_USAGE, "'README.md' is no card of inklab; move it away"),
    "export nowhere --to a.onnx": (EXIT_USAGE, "'nowhere' is not a run"),
    "export empty --to a.onnx": (EXIT_DATA, "'empty' is neither a bundle (bundle.json) nor a run"),
    "export run --to a.onnx --chapter cn": (EXIT_USAGE, "no train chapter is called 'cn'. Did you mean"),
    "export run --to a.onnx --chapter noise": (EXIT_USAGE, "no train chapter is called 'noise'"),
    "export bundle --to a.onnx --chapter cnn": (EXIT_USAGE, "'bundle' is one bundle; --chapter"),
    "export bundle --to a.onnx --pipeline denoiser+cnn": (EXIT_USAGE, "'bundle' is one bundle"),
    "export run --to a.onnx --pipeline denoiser+cnn --decoder": (EXIT_USAGE, "names all its parts"),
    "export run --to a.onnx --pipeline cnn": (EXIT_USAGE, "must be cleaners and then a classifier"),
    "export run --to a.onnx --pipeline cnn+median": (EXIT_USAGE, "must be cleaners"),
    "export run --to a.onnx --pipeline mlp+cnn": (EXIT_USAGE, "'mlp' trains a classifier, but"),
    "export run --to a.onnx --pipeline cnn+denoiser": (EXIT_USAGE, "'cnn' trains a classifier, but stands"),
    "export unfinished --to a.onnx": (EXIT_DATA, "has no bundle of 'mlp' yet; finish it with inklab resume"),
}  # fmt: skip
WITH_TORCH = {
    "export run --to a.onnx --pipeline denoisr+cnn": (EXIT_USAGE, "filter is called 'denoisr'. Did"),
    "export run --to a.onnx --chapter cnn --decoder": (EXIT_USAGE, "'cnn' has no encoder module"),
    "export bundle --to a.onnx --data small.npz": (EXIT_DATA, "'small.npz' has images of (1, 4, 4)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(base, tmp_path_factory) -> dict:
    """Every mistake typed in one process: what became of each."""
    here = tmp_path_factory.mktemp("mistakes")
    toy_run.copied(here / "run")
    (here / "unfinished").mkdir()
    (here / "unfinished" / "plan.json").write_bytes((base / "plan.json").read_bytes())
    for name in ("folder.onnx", "empty"):
        (here / name).mkdir()
    (here / "file").write_text("x", encoding="utf-8")
    (here / "README.md").write_text("# mine\n", encoding="utf-8")
    bundle("mlp").save(here / "bundle")
    images, labels = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2
    images[:, 0, 0] = np.arange(12)
    np.savez(here / "small.npz", images=images, labels=labels)
    typed = [*MISTAKES, *WITH_TORCH]
    found = typed_in(here, [each.split() for each in typed])
    assert not list(here.glob("a.*"))
    assert (here / "README.md").read_text(encoding="utf-8") == "# mine\n"
    return dict(zip(typed, found, strict=True))


@pytest.mark.parametrize("typed", [*MISTAKES, *WITH_TORCH])
def test_a_mistake_is_one_line(typed, told):
    wanted, says = {**MISTAKES, **WITH_TORCH}[typed]
    code, out, err, torch_was_there = told[typed]
    assert err.startswith("inklab: ") and err.count("\n") == 1 and out == "", err
    assert says in err
    assert code == wanted, err
    assert typed in WITH_TORCH or not torch_was_there


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
    ("words", "needs"),
    [
        (["export", "bundle", "--to", "a.onnx"], "onnx, onnxscript and onnxruntime"),
        (["predict", "a.onnx", "0.png"], "onnx and onnxruntime"),
    ],
    ids=["export", "predict"],
)
def test_without_the_extra_the_line_says_what_to_install(words, needs, tmp_path):
    bundle("mlp").save(tmp_path / "bundle")
    (tmp_path / "a.onnx").write_bytes(b"any")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr == f"inklab: this needs {needs}, which aren't installed: pip install 'inklab[onnx]'\n"


def test_without_the_extra_the_rest_works(base):
    for words in (["show", base], ["status", base], ["models"]):
        done = subprocess.run([sys.executable, "-c", BLOCKED, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (EXIT_OK, "") and done.stdout
