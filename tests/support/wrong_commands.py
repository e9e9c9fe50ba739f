"""Commands that must fail, and the damaged files that they read."""

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import toy_run
from PIL import Image

from inklab.study.run_directory import RunDirectory


def png(width: int, height: int) -> bytes:

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def objects() -> bytes:
    """An .npz file with an array that only unpickling could read."""
    raw = io.BytesIO()
    np.savez(raw, images=np.zeros((4, 8, 8), np.uint8), labels=np.array([{}] * 4, object))
    return raw.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_files(folder: Path) -> None:
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
    manifest = json.loads((model / "model.json").read_text(encoding="utf-8"))
    damages: dict[str, bytes | str] = {
        "bad manifest": "{",
        "other manifest": '{"format": 9}',
        "bad preprocessing": json.dumps({**manifest, "preprocessing": {"height": -3}}),
        "bad weights": b"\xff" * 100,
    }
    for name, damage in damages.items():
        shutil.copytree(model, folder / name)
        write(folder / name / ("weights.safetensors" if name == "bad weights" else "model.json"), damage)


TOY = "{toy}"
ERRORS = [
    "rum", "run --profle full", "run --workers 0", "run --precision fp16",
    "run --executor slurn", "run --slurm partition=short", "run --executor slurm",
    "run --executor slurm --workers 4 --slurm partition",
    "run --executor slurm --workers 4 --slurm partitoin=short",
    "run --executor slurm --workers 4 --slurm time=soon", "show --jsn", "compare",
    "predict", "run digit", "run nowhere.toml", "run no.toml", "run bad.toml", "run --profile ful",
    "run --set cnn.recipe.epoch=3", "run --set cnn.recipe.epochs=three", "run --set cnn",
    "run --data mnits", "run --data nowhere/at/all", f"run {TOY} --set data.validation=480",
    f"run {TOY} --set sweep.grid.recipe.rat=[1]", f"run {TOY} --set sweep.grid.recipe.l2=[-1]",
    f"run {TOY} --set cnn.network.chanels=[3]", f"run {TOY} --set robustness.pipelines=['cnn','median']",
    f"run {TOY} --set robustness.pipelines=['cnn','sweep']", f"run {TOY} --run-dir valid.png",
    f"run {TOY} --run-dir valid.png/run", f"run {TOY} --run-dir run --set seed=4",
    "train mlpp --data toy.npz", "train mlp --data toy.npz --recipe sdg", "train --data toy.npz",
    "train --data toy.npz --recipe sgd", "train --data toy.npz --recipe mlp-bst",
    "train mlp --data toy.npz --set network.hiden=[3]", "train mlp --data toy.npz --set recipe.epoch=3",
    "train no_net.py:Net --data toy.npz", "data check short", "data check huge", "data check objects.npz",
    "data check noise.npz", "data check weights.pkl", "data check empty class", "data check one class",
    "data check nothing", "data check bombs", "data fetch mnits", "data fetch mnist",
    "predict run bomb.png", "predict run cut.png", "predict run text.png", "predict run moving.gif",
    "predict run nowhere.png", "predict run nothing", "predict run valid.png --experiment cn",
    "predict nothing valid.png", "predict nowhere valid.png", "predict bad manifest valid.png",
    "predict other manifest valid.png", "predict bad preprocessing valid.png", "show nowhere",
    "show nothing", "status nothing", "report nothing", "resume nothing", "show valid.png", "status",
    "status bad plan", "status old plan", "status bad outcome", "show bad results", "resume bad study",
    "compare run cn mlp", "compare run robustness mlp", "compare run sweep mlp",
    "compare run sweep:l2=3 mlp", "compare run cnn denoiser", "compare run cnn",
    "compare run cnn mlp --over pixels", "compare run cnn mlp --metric test_los",
    "compare run cnn --with nowhere", "compare run denoiser denoiser --over images",
    "list network", "list networks mpl",
    "list networks mlp --set hiden=[3]", "list networks mlp --shape 28", "list networks mlp --classes 1",
]  # fmt: skip
WITH_TORCH = [
    "predict bad weights valid.png", "predict run valid.png --experiment denoiser",
    "list networks mlp --set hidden=x", "list networks cnn --shape 1,3,3", "list networks net.py:Net",
    f"run {TOY} --dry-run --set robustness.corruption=salt",
]  # fmt: skip
"""Exit codes and sentences are in tests/golden/messages.txt."""
NAMES = ["empty class", "one class", "bad plan", "old plan", "bad outcome", "bad results", "bad study"]
NAMES += ["bad manifest", "other manifest", "bad preprocessing", "bad weights"]


def split_words(command: str) -> list[str]:
    """A command as arguments; names with a space are one."""
    for name in NAMES:
        command = command.replace(name, name.replace(" ", "\0"))
    return [word.replace("\0", " ").replace(TOY, toy_run.study_file()) for word in command.split()]
