"""Wrong commands and damaged files: one line on stderr that names the problem, and the right exit code.

All commands run one after the other in one fresh process, which also tells whether torch was imported.
"""

import io
import json
import os
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
from cli_session import run_commands
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
    """A directory of damaged files, a valid picture and a valid run."""
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
    write(folder / "bad.toml", "name = 'x'\n[experiments.net]\nnetwork = 'mlp'\nrecipe = { epoch = 3 }\n")
    write(folder / "no.toml", "name = \n")
    broken_runs(folder)
    return folder


def broken_runs(folder):
    for name, file, content in (
        ("run", "plan.json", None),
        ("bad plan", "plan.json", "{"),
        ("old plan", "plan.json", '{"format": 9}'),
        ("bad study", "study.json", "[]"),
        ("bad results", "results.json", "[]"),
    ):
        run = toy_run.copied(folder / name)
        if content:
            write(run / file, content)
    trial = next(iter(RunDirectory(folder / "run").plan().trials))
    shutil.copytree(folder / "run", folder / "bad outcome")
    write(folder / "bad outcome" / "trials" / trial / "outcome.json", '{"id": "someone else"}')
    model = RunDirectory(folder / "run").model_dir(trial)
    for name, file, content in (
        ("bad manifest", "model.json", "{"),
        ("other manifest", "model.json", '{"format": 9}'),
        ("bad preprocessing", "model.json", None),
        ("bad weights", "weights.safetensors", b"\xff" * 100),
    ):
        shutil.copytree(model, folder / name)
        if name == "bad preprocessing":
            manifest = json.loads((model / "model.json").read_text(encoding="utf-8"))
            content = json.dumps({**manifest, "preprocessing": {"height": -3}})
        write(folder / name / file, content)


TOY = "{toy}"
ERRORS = {
    # command: exit code, and the values and names that the line must contain
    "rum": (2, "'rum'", "'run'"),
    "run --profle full": (2, "--profle", "--profile"),
    "run --workers 0": (2, "--workers",),
    "run --precision fp16": (2, "--precision", "'fp16'", "bf16"),
    "show --jsn": (2, "--jsn", "--json"),
    "compare": (2, "RUN",),
    "predict": (2, "MODEL",),
    "run digit": (2, "'digit'", "'digits'"),
    "run nowhere.toml": (2, "'nowhere.toml'",),
    "run no.toml": (2, "'no.toml'",),
    "run bad.toml": (2, "'net.recipe.epoch'", "'epochs'"),
    "run --profile ful": (2, "'ful'", "'full'"),
    "run --set cnn.recipe.epoch=3": (2, "'cnn.recipe.epoch'", "'epochs'"),
    "run --set cnn.recipe.epochs=three": (2, "'cnn.recipe.epochs'", "'three'"),
    "run --set cnn": (2, "'cnn'", "key=value"),
    "run --data mnits": (2, "'mnits'", "'mnist'"),
    "run --data nowhere/at/all": (4, "'nowhere/at/all'",),
    f"run {TOY} --set data.validation=480": (2, "480", "479"),
    f"run {TOY} --set sweep.grid.recipe.rat=[1]": (2, "'sweep", "recipe.rat'"),
    f"run {TOY} --set sweep.grid.recipe.l2=[-1]": (2, "sweep", "-1"),
    f"run {TOY} --set cnn.network.chanels=[3]": (2, "cnn", "'chanels'", "'channels'"),
    f"run {TOY} --set robustness.pipelines=['cnn','median']": (2, "'median'",),
    f"run {TOY} --set robustness.pipelines=['cnn','sweep']": (2, "'sweep'",),
    f"run {TOY} --run-dir sound.png": (2, "'sound.png'", "--run-dir"),
    f"run {TOY} --run-dir sound.png/run": (2, "sound.png'", "--run-dir"),
    f"run {TOY} --run-dir run --set seed=4": (2, "'run'", "'toy'", "--run-dir"),
    "train mlpp --data toy.npz": (2, "'mlpp'", "'mlp'"),
    "train mlp --data toy.npz --recipe sdg": (2, "'sdg'", "'sgd'"),
    "train --data toy.npz": (2, "NETWORK",),
    "train --data toy.npz --recipe sgd": (2, "'sgd'", "NETWORK"),
    "train --data toy.npz --recipe mlp-bst": (2, "'mlp-bst'", "'mlp-best'"),
    "train mlp --data toy.npz --set network.hiden=[3]": (2, "'hiden'", "'hidden'"),
    "train mlp --data toy.npz --set recipe.epoch=3": (2, "'mlp.recipe.epoch'", "'epochs'"),
    "train no_net.py:Net --data toy.npz": (2, "'no_net.py'",),
    "data check short": (4, "train-images-idx3-ubyte", "656", "116"),
    "data check huge": (4, "train-images-idx3-ubyte",),
    "data check objects.npz": (4, "'objects.npz'", "allow_pickle"),
    "data check noise.npz": (4, "'noise.npz'",),
    "data check weights.pkl": (4, "'weights.pkl'",),
    "data check empty class": (4, "'b'",),
    "data check one class": (4, "'one class'",),
    "data check nothing": (4, "'nothing'",),
    "data check bombs": (4, "1.png", "64,000,000"),
    "data fetch mnits": (2, "'mnits'", "'mnist'"),
    "data fetch mnist": (4, "INKLAB_OFFLINE",),
    "predict run bomb.png": (4, "'bomb.png'", "64,000,000"),
    "predict run cut.png": (4, "'cut.png'",),
    "predict run text.png": (4, "'text.png'",),
    "predict run moving.gif": (4, "'moving.gif'",),
    "predict run nowhere.png": (4, "'nowhere.png'",),
    "predict run nothing": (4, "'nothing'",),
    "predict run sound.png --experiment cn": (2, "'cn'", "'cnn'"),
    "predict nothing sound.png": (4, "'nothing'", "model.json", "plan.json"),
    "predict nowhere sound.png": (2, "'nowhere'",),
    "predict bad manifest sound.png": (4, "model.json",),
    "predict other manifest sound.png": (4, "model.json", "'format'"),
    "predict bad preprocessing sound.png": (4, "model.json", "height"),
    "show nowhere": (2, "'nowhere'",),
    "show nothing": (2, "'nothing'",),
    "status nothing": (2, "'nothing'",),
    "report nothing": (2, "'nothing'",),
    "resume nothing": (2, "'nothing'",),
    "show sound.png": (2, "'sound.png'",),
    "status": (2, "'latest'", "inklab run"),
    "status bad plan": (4, "plan.json",),
    "status old plan": (4, "plan.json", "'format'"),
    "status bad outcome": (4, "outcome.json",),
    "show bad results": (4, "results.json", "inklab report"),
    "resume bad study": (4, "study.json",),
    "compare run cn mlp": (2, "'cn'", "'cnn'"),
    "compare run robustness mlp": (2, "'robustness'",),
    "compare run sweep mlp": (2, "'sweep'", "sweep:l2=0", "sweep:l2=1e-3"),
    "compare run sweep:l2=3 mlp": (2, "'sweep:l2=3'", "sweep:l2=0.1"),
    "compare run cnn denoiser": (2, "cnn", "denoiser"),
    "list network": (2, "'network'", "networks"),
    "list networks mpl": (2, "'mpl'", "'mlp'"),
    "list networks mlp --set hiden=[3]": (2, "'hiden'", "'hidden'"),
    "list networks mlp --shape 28": (2, "--shape", "'28'", "1,28,28"),
    "list networks mlp --classes 1": (2, "--classes",),
}  # fmt: skip
WITH_TORCH = {
    "predict bad weights sound.png": (4, "weights.safetensors", "SHA-256"),
    "predict run sound.png --experiment denoiser": (2, "denoising",),
    "list networks mlp --set hidden=x": (2, "'mlp'",),
    "list networks cnn --shape 1,3,3": (2, "3x3",),
    "list networks net.py:Net": (2, "net.py", "in the file"),
    f"run {TOY} --dry-run --set robustness.corruption=salt": (2, "'salt'", "salt_and_pepper"),
}  # fmt: skip
NAMES = ["empty class", "one class", "bad plan", "old plan", "bad outcome", "bad results", "bad study"]
NAMES += ["bad manifest", "other manifest", "bad preprocessing", "bad weights"]


def split_words(command):
    """A command as arguments; names with a space are one."""
    for name in NAMES:
        command = command.replace(name, name.replace(" ", "\0"))
    return [word.replace("\0", " ").replace(TOY, toy_run.study_file()) for word in command.split()]


@pytest.fixture(scope="module")
def session(here, tmp_path_factory):
    """Every wrong command, run in one process: the results by command, and the files that appeared."""
    shutil.copy(toy_run.home() / "toy.npz", here / "toy.npz")
    before = {path for path in here.rglob("*") if path.name != ".lock"}
    commands = [*ERRORS, *WITH_TORCH]
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home")), "INKLAB_OFFLINE": "1",
        "INKLAB_RUNS_DIR": str(here / "no runs"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    results = run_commands(here, [split_words(command) for command in commands], environment)
    written = {path for path in here.rglob("*") if path.name != ".lock"} - before
    return dict(zip(commands, results, strict=True)), written


@pytest.mark.parametrize("command", [*ERRORS, *WITH_TORCH])
def test_an_error_is_one_line_with_the_right_exit_code(session, command):
    code, *parts = {**ERRORS, **WITH_TORCH}[command]
    result = session[0][command]
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    assert [part for part in parts if part not in result.err] == [], result.err
    assert result.code == code in (EXIT_USAGE, EXIT_DATA), result.err
    assert result.out == "", "nothing on stdout that a program would take for a result"
    assert (
        "Error" not in result.err.replace("ValueError: in the file", "") or "can't be built" in result.err
    ), "the name of a Python class"
    assert len(result.err) < 1_000


@pytest.mark.parametrize("command", ERRORS)
def test_an_error_is_reported_before_torch_is_imported(session, command):
    assert not session[0][command].torch_imported


def test_errors_leave_no_files(session):
    assert session[1] == set()


def test_valid_files_are_accepted(here):
    """The same files, undamaged: so it was the damage that was refused."""
    commands = [
        ["predict", "run", "sound.png"],
        ["status", "run"],
        ["show", "run"],
        ["data", "check", "toy.npz"],
    ]
    assert [result.code for result in run_commands(here, commands)] == [EXIT_OK] * 4


def test_a_directory_that_can_not_be_written_is_named(tmp_path):
    folder = toy_run.copied(tmp_path / "run")
    for path in (folder / "figures", folder / "report.html"):
        shutil.rmtree(path, ignore_errors=True)
    write(folder / "figures", "a file where a folder should be")
    done = subprocess.run(
        [sys.executable, "-m", "inklab", "report", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == EXIT_USAGE and done.stdout == ""
    assert str(Path(folder, "figures")) in done.stderr and done.stderr.count("\n") == 1
