"""Whatever is typed wrong or broken on disk: one line on stderr that names it, and the right exit code.

All commands run one after the other in one fresh process, which also says whether torch had to be imported.
"""

import io
import json
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import toy_run
from cli_session import typed_in
from PIL import Image

from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE
from inklab.study.run_directory import RunDirectory


def png(width, height):
    """A small PNG that claims to be large."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
        + chunk(b"IEND", b"")
    )


def idx(shape, content):
    """An IDX file of bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def objects():
    """An .npz file with an array that only unpickling could read."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, array in (
            ("images", np.zeros((4, 8, 8), np.uint8)),
            ("labels", np.array([{}] * 4, object)),
        ):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=True)
            archive.writestr(f"{name}.npy", entry.getvalue())
    return raw.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder full of broken things, and one sound picture and run."""
    folder = tmp_path_factory.mktemp("broken")
    Image.fromarray(toy_run.images(10, 2)[0][0]).save(folder / "sound.png")
    sound = (folder / "sound.png").read_bytes()
    write(folder / "bomb.png", png(50_000, 50_000))
    write(folder / "cut.png", sound[: len(sound) // 2])
    write(folder / "text.png", "I am no picture")
    write(folder / "moving.gif", b"GIF89a")
    write(folder / "short" / "train-images-idx3-ubyte", idx((10, 8, 8), b"\0" * 100))
    write(folder / "short" / "train-labels-idx1-ubyte", idx((10,), bytes(range(10))))
    write(folder / "huge" / "train-images-idx3-ubyte", idx((2**31, 2**15, 2**15), b"\0" * 100))
    write(folder / "huge" / "train-labels-idx1-ubyte", idx((2**31,), b"\0" * 10))
    write(folder / "objects.npz", objects())
    write(folder / "noise.npz", b"PK\x03\x04" + b"\xff" * 200)
    write(folder / "weights.pkl", b"\x80\x04N.")
    for name in ("a/1.png", "a/2.png"):
        write(folder / "empty class" / name, sound)
    (folder / "empty class" / "b").mkdir()
    for name in ("a/1.png", "b/1.png"):
        write(folder / "bombs" / name, png(50_000, 50_000))
    write(folder / "one class" / "a" / "1.png", sound)
    (folder / "nothing").mkdir()
    write(folder / "net.py", "Net = 3\nraise ValueError('in the file')\n")
    write(folder / "bad.toml", "name = 'x'\n[chapters.net]\nmodel = 'mlp'\nrecipe = { epoch = 3 }\n")
    write(folder / "no.toml", "name = \n")
    broken_runs(folder)
    return folder


def broken_runs(folder):
    for name, file, content in (
        ("run", "plan.json", None),
        ("bad plan", "plan.json", "{"),
        ("old plan", "plan.json", '{"format": 9}'),
        ("bad spec", "spec.json", "[]"),
        ("bad results", "results.json", "[]"),
    ):
        run = toy_run.copied(folder / name)
        if content:
            write(run / file, content)
    trial = next(iter(RunDirectory(folder / "run").plan()["trials"]))
    shutil.copytree(folder / "run", folder / "bad outcome")
    write(folder / "bad outcome" / "trials" / trial / "outcome.json", '{"id": "someone else"}')
    bundle = RunDirectory(folder / "run").bundle(trial)
    for name, file, content in (
        ("bad manifest", "bundle.json", "{"),
        ("other manifest", "bundle.json", '{"format": 9}'),
        ("bad framing", "bundle.json", None),
        ("bad weights", "weights.safetensors", b"\xff" * 100),
    ):
        shutil.copytree(bundle, folder / name)
        if name == "bad framing":
            told = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
            content = json.dumps({**told, "framing": {"height": -3}})
        write(folder / name / file, content)


TOY = "{toy}"
MISTAKES = {
    # what is typed: (exit code, what the line must name)
    "rum": (2, "No such command 'rum'", "Did you mean 'run'"),
    "run --profle full": (2, "--profle", "--profile"),
    "run --workers 0": (2, "--workers",),
    "show --jsn": (2, "--jsn", "--json"),
    "compare": (2, "RUN",),
    "predict": (2, "BUNDLE",),
    "run digit": (2, "no study is called 'digit'", "'digits'"),
    "run nowhere.toml": (2, "there is no study file 'nowhere.toml'",),
    "run no.toml": (2, "'no.toml' is not TOML",),
    "run bad.toml": (2, "'net.recipe.epoch' is unknown", "Did you mean 'epochs'?"),
    "run --profile ful": (2, "no profile is called 'ful'", "'full'"),
    "run --set cnn.recipe.epoch=3": (2, "'cnn.recipe.epoch' is unknown", "'epochs'"),
    "run --set cnn.recipe.epochs=three": (2, "'cnn.recipe.epochs' is 'three'", "integer"),
    "run --set cnn": (2, "is not key=value",),
    "run --data mnits": (2, "no source is called 'mnits'", "'mnist'"),
    "run --data nowhere/at/all": (4, "there is no file or folder 'nowhere/at/all'",),
    f"run {TOY} --set data.validation=480": (2, "data.validation = 480", "0 to 479"),
    f"run {TOY} --set sweep.vary.recipe.rat=[1]": (2, "chapter 'sweep': vary names 'recipe.rat'", "'rate'"),
    f"run {TOY} --set sweep.vary.recipe.l2=[-1]": (2, "vary gives (-1,)",),
    f"run {TOY} --set cnn.model.chanels=[3]": (2, "chapter 'cnn': model 'cnn' has no setting 'chanels'"),
    f"run {TOY} --set noise.pipelines=['cnn','median']": (2, "pipeline 'median' must end in a classifier",),
    f"run {TOY} --set noise.pipelines=['cnn','sweep']": (2, "'sweep' has 3 settings",),
    f"run {TOY} --out sound.png": (2, "'sound.png' is a file", "--out"),
    f"run {TOY} --out sound.png/run": (2, "sound.png' is a file", "--out"),
    f"run {TOY} --out run --set seed=4": (2, "'run' holds study 'toy'", "--out"),
    "train mlpp --data toy.npz": (2, "no model is called 'mlpp'", "'mlp'"),
    "train mlp --data toy.npz --recipe sdg": (2, "no recipe is called 'sdg'", "'sgd'"),
    "train --data toy.npz": (2, "nothing to train is named", "inklab train MODEL"),
    "train --data toy.npz --recipe sgd": (2, "recipe 'sgd' names no network of its own", "--recipe with"),
    "train --data toy.npz --recipe mlp-bst": (2, "no recipe is called 'mlp-bst'", "'mlp-best'"),
    "train mlp --data toy.npz --set model.hiden=[3]": (2, "no setting 'hiden'", "'hidden'"),
    "train mlp --data toy.npz --set recipe.epoch=3": (2, "'mlp.recipe.epoch' is unknown", "'epochs'"),
    "train no_net.py:Net --data toy.npz": (2, "there is no file 'no_net.py'",),
    "data check short": (4, "train-images-idx3-ubyte", "promises 656 bytes but has 116"),
    "data check huge": (4, "train-images-idx3-ubyte",),
    "data check objects.npz": (4, "labels.npy holds object",),
    "data check noise.npz": (4, "'noise.npz'",),
    "data check weights.pkl": (4, "'weights.pkl' is not an images file",),
    "data check empty class": (4, "the class 'b' has no pictures",),
    "data check one class": (4, "'one class' has 1 sub-folders",),
    "data check nothing": (4, "'nothing' has 0 sub-folders",),
    "data check bombs": (4, "1.png", "at most 64,000,000 pixels"),
    "data get mnits": (2, "no source is called 'mnits'",),
    "data get mnist": (4, "INKLAB_OFFLINE",),
    "predict run bomb.png": (4, "'bomb.png'", "at most 64,000,000 pixels"),
    "predict run cut.png": (4, "'cut.png'",),
    "predict run text.png": (4, "'text.png'",),
    "predict run moving.gif": (4, "'moving.gif'",),
    "predict run nowhere.png": (4, "'nowhere.png'",),
    "predict run nothing": (4, "'nothing'",),
    "predict run sound.png --chapter cn": (2, "no train chapter is called 'cn'", "'cnn'"),
    "predict nothing sound.png": (4, "'nothing' is neither a bundle",),
    "predict nowhere sound.png": (2, "'nowhere' is not a run",),
    "predict bad manifest sound.png": (4, "bundle.json", "not readable JSON"),
    "predict other manifest sound.png": (4, "bundle.json",),
    "predict bad framing sound.png": (4, "bundle.json", "height"),
    "show nowhere": (2, "'nowhere' is not a run",),
    "show nothing": (2, "'nothing' is not a run",),
    "status nothing": (2, "'nothing' is not a run",),
    "report nothing": (2, "'nothing' is not a run",),
    "resume nothing": (2, "'nothing' is not a run",),
    "show sound.png": (2, "'sound.png' is not a run",),
    "status": (2, "'latest' is not a run", "inklab run"),
    "status bad plan": (4, "plan.json", "not readable JSON"),
    "status old plan": (4, "plan.json", "not a plan of format 1"),
    "status bad outcome": (4, "outcome.json", "delete that folder"),
    "show bad results": (4, "results.json", "inklab report"),
    "resume bad spec": (4, "spec.json",),
    "compare run cn mlp": (2, "no chapter is called 'cn'", "'cnn'"),
    "compare run noise mlp": (2, "'noise' is a chapter of kind noise",),
    "compare run sweep mlp": (2, "'sweep' has 3 settings; name one of: sweep:l2=0, sweep:l2=1e-3",),
    "compare run sweep:l2=3 mlp": (2, "no setting is called 'sweep:l2=3'", "sweep:l2=0.1"),
    "compare run cnn denoiser": (2, "share no score",),
    "models mpl": (2, "no model is called 'mpl'", "'mlp'"),
    "models mlp --set hiden=[3]": (2, "no setting 'hiden'", "'hidden'"),
    "models mlp --shape 28": (2, "--shape is '28'", "1,28,28"),
    "models mlp --classes 1": (2, "--classes",),
}  # fmt: skip
WITH_TORCH = {
    "predict bad weights sound.png": (4, "weights.safetensors", "SHA-256"),
    "predict run sound.png --chapter denoiser": (2, "denoiser",),
    "models mlp --set hidden=x": (2, "'mlp' can't be built",),
    "models cnn --shape 1,3,3": (2, "too small",),
    "models net.py:Net": (2, "can't be imported", "in the file"),
    f"run {TOY} --dry-run --set noise.corruption=salt": (2, "no corruption is called 'salt'",),
}  # fmt: skip
NAMES = ["empty class", "one class", "bad plan", "old plan", "bad outcome", "bad results", "bad spec"]
NAMES += ["bad manifest", "other manifest", "bad framing", "bad weights"]


def words(typed):
    """What is typed as arguments; names with a space are one."""
    for name in NAMES:
        typed = typed.replace(name, name.replace(" ", "\0"))
    return [word.replace("\0", " ").replace(TOY, toy_run.study_file()) for word in typed.split()]


@pytest.fixture(scope="module")
def told(here, tmp_path_factory):
    """Every mistake typed in one process: what became of each."""
    shutil.copy(toy_run.home() / "toy.npz", here / "toy.npz")
    before = {path for path in here.rglob("*") if path.name != ".lock"}
    typed = [*MISTAKES, *WITH_TORCH]
    surroundings = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home")), "INKLAB_OFFLINE": "1",
        "INKLAB_RUNS_DIR": str(here / "no runs"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    found = typed_in(here, [words(each) for each in typed], surroundings)
    written = {path for path in here.rglob("*") if path.name != ".lock"} - before
    return {**dict(zip(typed, found, strict=True)), "written": written}


@pytest.mark.parametrize("typed", [*MISTAKES, *WITH_TORCH])
def test_a_mistake_is_one_line_and_the_right_exit_code(told, typed):
    wanted, *parts = {**MISTAKES, **WITH_TORCH}[typed]
    code, out, err, _ = told[typed]
    assert err.startswith("inklab: ") and err.count("\n") == 1, err
    for part in parts:
        assert part in err
    assert code == wanted in (EXIT_USAGE, EXIT_DATA), err
    assert out == "", "nothing on stdout that a program would take for a result"
    assert "Error" not in err.replace("ValueError: in the file", "") or "can't be built" in err, (
        "a name of Python's"
    )
    assert len(err) < 1_000


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_told_before_torch_is_imported(told, typed):
    assert not told[typed][3]


def test_mistakes_leave_no_traces(told):
    assert told["written"] == set()


def test_sound_things_pass(here):
    # the same files, unbroken: so it was the damage that was refused
    typed = [
        ["predict", "run", "sound.png"],
        ["status", "run"],
        ["show", "run"],
        ["data", "check", "toy.npz"],
    ]
    assert [each[0] for each in typed_in(here, typed)] == [EXIT_OK] * 4


def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    folder = toy_run.copied(tmp_path / "run")
    for path in (folder / "figures", folder / "report.html"):
        shutil.rmtree(path, ignore_errors=True)
    write(folder / "figures", "a file where a folder should be")
    done = subprocess.run(
        [sys.executable, "-m", "inklab", "report", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == EXIT_USAGE and done.stdout == ""
    assert str(Path(folder, "figures")) in done.stderr and done.stderr.count("\n") == 1
