"""Commands that must fail, and the damaged files that they read."""

import io
import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import toy_run
from PIL import Image

from inklab.study.run_directory import RunDirectory


def png(width: int, height: int) -> bytes:
    """A small PNG that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
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


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    """An IDX file of bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def objects() -> bytes:
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


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_files(folder: Path) -> None:
    """Damaged files, a valid picture, a valid dataset and a valid run."""
    Image.fromarray(toy_run.images(10, 2)[0][0]).save(folder / "valid.png")
    valid = (folder / "valid.png").read_bytes()
    write(folder / "bomb.png", png(50_000, 50_000))
    write(folder / "cut.png", valid[: len(valid) // 2])
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
        write(folder / "empty class" / name, valid)
    (folder / "empty class" / "b").mkdir()
    for name in ("a/1.png", "b/1.png"):
        write(folder / "bombs" / name, png(50_000, 50_000))
    write(folder / "one class" / "a" / "1.png", valid)
    (folder / "nothing").mkdir()
    write(folder / "net.py", "Net = 3\nraise ValueError('in the file')\n")
    write(folder / "bad.toml", "name = 'x'\n[experiments.net]\nnetwork = 'mlp'\nrecipe = { epoch = 3 }\n")
    write(folder / "no.toml", "name = \n")
    write_damaged_runs(folder)
    shutil.copy(toy_run.home() / "toy.npz", folder / "toy.npz")


def write_damaged_runs(folder: Path) -> None:
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
    damages: list[tuple[str, str, bytes | str]] = [
        ("bad manifest", "model.json", "{"),
        ("other manifest", "model.json", '{"format": 9}'),
        ("bad preprocessing", "model.json", ""),
        ("bad weights", "weights.safetensors", b"\xff" * 100),
    ]
    for name, file, damage in damages:
        shutil.copytree(model, folder / name)
        if name == "bad preprocessing":
            manifest = json.loads((model / "model.json").read_text(encoding="utf-8"))
            damage = json.dumps({**manifest, "preprocessing": {"height": -3}})
        write(folder / name / file, damage)


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
    f"run {TOY} --run-dir valid.png": (2, "'valid.png'", "--run-dir"),
    f"run {TOY} --run-dir valid.png/run": (2, "valid.png'", "--run-dir"),
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
    "data check objects.npz": (4, "'objects.npz'", "Python objects"),
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
    "predict run valid.png --experiment cn": (2, "'cn'", "'cnn'"),
    "predict nothing valid.png": (4, "'nothing'", "model.json", "plan.json"),
    "predict nowhere valid.png": (2, "'nowhere'",),
    "predict bad manifest valid.png": (4, "model.json",),
    "predict other manifest valid.png": (4, "model.json", "'format'"),
    "predict bad preprocessing valid.png": (4, "model.json", "height"),
    "show nowhere": (2, "'nowhere'",),
    "show nothing": (2, "'nothing'",),
    "status nothing": (2, "'nothing'",),
    "report nothing": (2, "'nothing'",),
    "resume nothing": (2, "'nothing'",),
    "show valid.png": (2, "'valid.png'",),
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
    "predict bad weights valid.png": (4, "weights.safetensors", "SHA-256"),
    "predict run valid.png --experiment denoiser": (2, "denoising",),
    "list networks mlp --set hidden=x": (2, "'mlp'",),
    "list networks cnn --shape 1,3,3": (2, "3x3",),
    "list networks net.py:Net": (2, "net.py", "in the file"),
    f"run {TOY} --dry-run --set robustness.corruption=salt": (2, "'salt'", "salt_and_pepper"),
}  # fmt: skip
NAMES = ["empty class", "one class", "bad plan", "old plan", "bad outcome", "bad results", "bad study"]
NAMES += ["bad manifest", "other manifest", "bad preprocessing", "bad weights"]


def split_words(command: str) -> list[str]:
    """A command as arguments; names with a space are one."""
    for name in NAMES:
        command = command.replace(name, name.replace(" ", "\0"))
    return [word.replace("\0", " ").replace(TOY, toy_run.study_file()) for word in command.split()]
