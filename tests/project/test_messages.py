"""Every sentence that a user may read, in one file: errors, warnings, findings, and what commands print.

A change of wording shows up here and nowhere else. With `INKLAB_UPDATE_GOLDEN=1` the test writes
tests/golden/messages.txt anew; read its difference as a user would.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import live_server
import numpy as np
import pytest
import toy_run
from cli_session import run_commands
from matplotlib.figure import Figure as Sheet
from PIL import Image
from plan_builder import NET, plan_experiments
from synthetic_run import SyntheticRun, synthetic_run
from synthetic_training import trial_config
from torch import nn
from wrong_commands import ERRORS, TOY, WITH_TORCH, split_words, write_files
from wrong_studies import AUTO, FILES, NAMES, OVERRIDES, PLANS, STRENGTHS

from inklab.corruptions.corruption import get_corruption
from inklab.data.dataset import Dataset, ImageSet, split
from inklab.data.quality import check_data
from inklab.data.sources import load_dataset
from inklab.errors import InklabError
from inklab.evaluation.samplers import samplers
from inklab.evaluation.trained_pipeline import TrainedPipeline
from inklab.io.files import parse_json
from inklab.io.tensor_file import read_arrays, write_arrays
from inklab.live_objects import register_live
from inklab.metrics import metric, metric_reference, own_metrics, resolve_metrics
from inklab.networks.network import check_network
from inklab.records.components import NetworkConfig, Preprocessing
from inklab.records.outcomes import (
    GenerationOutcome,
    RobustnessOutcome,
    TrialOutcome,
    TrialState,
    read_evaluation_outcome,
)
from inklab.records.recipe import Recipe
from inklab.records.results import Results
from inklab.registry import Registry
from inklab.report.page import describe_status
from inklab.results.narrative import sentence
from inklab.runs import Run
from inklab.study.load import check_names, parse_study, read_study
from inklab.training.objectives import objectives
from inklab.training.preflight import preflight
from inklab.training.recipe_files import read_recipe_file
from inklab.usercode import load_object, pickle_live, reference, unknown_note

GOLDEN = Path(__file__).parent.parent / "golden" / "messages.txt"
WIDTH = 120
SHAPE = (1, 12, 12)
Lines = Iterator[str]


def message(action: Callable[[], object]) -> str:
    try:
        action()
    except InklabError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was wrong")


def messages(actions: Mapping[str, Callable[[], object]]) -> Lines:
    for name, action in actions.items():
        yield f"{name}\n    {message(action)}"


COMMANDS = (
    "show synthetic", "status synthetic", "compare synthetic cnn mlp-64-64",
    "compare synthetic l2-sweep:l2=1e-3 l2-sweep:l2=1e-5", "compare synthetic mlp-64-64 scaled-twice",
    "compare synthetic cnn --with reseeded", "compare synthetic cnn --with failed",
    "compare run cnn mlp --over images",
    "show failed", "status failed", "show waiting", "status waiting", "list networks", "list corruptions",
    "list datasets", "list recipes", "list samplers", "list studies", "data check toy.npz",
)  # fmt: skip


def commands(folder: Path) -> Lines:
    """What commands print in a process without run-time checks of annotations, as users run them."""
    waiting = synthetic_run()
    waiting.outcomes, waiting.evaluations, waiting.stored = {}, {}, {}
    waiting.write(folder / "waiting", with_results=False)
    synthetic_run().write(folder / "synthetic")
    failed_run().write(folder / "failed")
    reseeded = synthetic_run()
    reseeded.change_plan(seed=1)
    reseeded.write(folder / "reseeded")
    lines = [*ERRORS, *WITH_TORCH, *COMMANDS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    results = run_commands(folder, [split_words(line) for line in lines], environment)
    for line, result in zip(lines, results, strict=True):
        output = textwrap.indent((result.out + result.err).rstrip(), "    ")
        yield f"$ inklab {line.replace(TOY, 'toy.toml')}  (exit {result.code})\n{output}"


def wrong_overrides() -> Lines:
    for override in OVERRIDES:
        overrides = override.split("\0")
        words = " ".join(f"--set {word}" for word in overrides)
        yield f"{words}\n    {message(partial(read_study, 'digits', overrides=overrides))}"


def wrong_studies(folder: Path) -> Lines:
    path = folder / "mine.toml"
    for text, _ in FILES:
        path.write_text(text, encoding="utf-8")
        yield f"{text!r}\n    {message(lambda: read_study(str(path)))}"


def wrong_plans() -> Lines:
    for experiments, *_ in PLANS:
        yield f"{experiments}\n    {message(partial(plan_experiments, {'net': NET, **experiments}))}"
    for experiments in [*(row[0] for row in NAMES), *STRENGTHS]:
        tables = {"name": "s", "experiments": {"net": NET, "auto": AUTO, **experiments}}
        yield f"{experiments}\n    {message(partial(check_names, parse_study(tables, 's')))}"


RECIPES = (
    "epoch = 3", "optimiser = 'sgd'", "networks = 'mlp'", "epochs = ", "epochs = 0", "version = -1",
    "normalize = 'twice'", "network = { hidden = [3] }", "network = 3", "eval_strength = 0.4",
    "nesterov = true", "nesterov = true\noptimizer = 'adam'\nmomentum = 0.9", "weight_decay = 0.1",
    "schedule = 'step'", "step_epochs = 3", "clip_norm = 0", "ema_decay = 1.0",
    "early_stopping = 5", "[early_stopping]\nmetric = 'test_loss'", "label_smoothing = 2",
    "class_weights = 'even'", "class_weights = [1, 0]", "class_weights = 3",
)  # fmt: skip


def wrong_recipes(folder: Path) -> Lines:
    path = folder / "mine.toml"
    for text in RECIPES:
        path.write_text(text, encoding="utf-8")
        yield f"{text.replace(chr(10), ', ')}\n    {message(lambda: read_recipe_file('mine.toml', folder))}"
    yield from messages({
        "recipe sdg": lambda: read_recipe_file("sdg"),
        "recipe gone.toml": lambda: read_recipe_file("gone.toml", folder),
        "Recipe.parse({'epochs': 0})": lambda: Recipe.parse({"epochs": 0}),
    })  # fmt: skip


IMAGES = np.random.default_rng(0).integers(0, 255, (24, 7, 6), dtype=np.uint8)
LABELS = np.arange(24) % 3
ARRAYS: dict[str, dict[str, np.ndarray]] = {
    "floats from -1 to 1": {"images": IMAGES / 127.5 - 1, "labels": LABELS},
    "floats from 0 to 255": {"images": IMAGES.astype(float), "labels": LABELS},
    "64-bit integers": {"images": IMAGES.astype(np.int64), "labels": LABELS},
    "flat images": {"images": IMAGES.reshape(24, 42), "labels": LABELS},
    "five channels": {"images": np.zeros((24, 5, 7, 5), np.uint8), "labels": LABELS},
    "one-hot labels": {"images": IMAGES, "labels": np.eye(24, dtype=int)},
    "a label missing": {"images": IMAGES, "labels": LABELS[:-1]},
    "negative labels": {"images": IMAGES, "labels": LABELS - 1},
    "huge labels": {"images": IMAGES, "labels": LABELS + 10**12},
    "labels of text": {"images": IMAGES, "labels": np.array(["a", "b", "c"] * 8)},
    "no images": {"images": IMAGES[:0], "labels": LABELS[:0]},
    "no rows": {"images": IMAGES[:, :0], "labels": LABELS},
    "one class": {"images": IMAGES, "labels": LABELS * 0},
    "few images": {"images": IMAGES[:3], "labels": LABELS[:3]},
    "test images of another size": {
        "train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:, :5], "test_labels": LABELS,
    },
    "a test class without training images": {
        "train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS + 1,
    },
    "other names": {"pictures": IMAGES},
}  # fmt: skip


def wrong_arrays(folder: Path) -> Lines:
    for name, arrays in ARRAYS.items():
        np.savez(folder / "a.npz", allow_pickle=False, **arrays)
        yield f"{name}\n    {loaded(folder / 'a.npz')}"


def loaded(path: Path) -> str:
    try:
        dataset = load_dataset(str(path))
    except InklabError as error:
        return f"{type(error).__name__}: {error}"
    note = f"; {dataset.note}" if path.is_dir() else ""
    return f"accepted: {len(dataset.train)} + {len(dataset.test)} images{note}"


def wrong_folders(folder: Path) -> Lines:
    blank = Image.new("L", (8, 8), 3)
    empty = Image.new("L", (300, 200), 255)
    digit = Image.fromarray(toy_run.images(10, 2)[0][0])
    cases: dict[str, Mapping[str, Image.Image | bytes]] = {
        "one class": {"a/1.png": blank},
        "a class without test images": {
            "train/a/1.png": blank, "train/b/1.png": blank, "test/a/1.png": blank,
        },
        "a file of another kind": {"a/1.png": blank, "b/notes.txt": b"x"},
        "a moving picture": {"a/1.png": blank, "b/1.gif": blank},
        "a damaged picture": {"a/1.png": blank, "b/1.png": b"no picture"},
        "a picture without a foreground": {"a/1.png": digit, "b/2.png": empty},
        "nested": {"set/a/1.png": blank, "set/b/1.png": blank},
        "CSV": {"train.csv": b"label,pixel0\n3,0\n"},
    }  # fmt: skip
    for name, files in cases.items():
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
        yield f"{name}\n    {loaded(folder / name)}"


DAMAGED_JSON = (
    "[NaN]", "{", "", "[1, 2", '["\\ud800"]', "[" * 300 + "]" * 300, "1" * 5000, '{"a": 1, "a": 2}',
)  # fmt: skip


def idx_bytes(code: int, *shape: int, body: bytes = b"") -> bytes:
    return bytes([0, 0, code, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + body


def wrong_files(folder: Path) -> Lines:
    files = {
        "floats-images-idx3-ubyte": idx_bytes(13, 2, 2, 2, body=bytes(32)),
        "no-labels-images-idx3-ubyte": idx_bytes(8, 2, 2, 2, body=bytes(8)),
        "things-idx": idx_bytes(8, 2, 2, 2, body=bytes(8)), "train.csv": b"label,pixel0\n3,0\n",
        "mnist.parquet": b"PAR1", "mine.py": b"def nothing():\n    return 3\n",
        "syntax.py": b"def broken(:\n",
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
        dataset = f"{folder / name}{':nothing' if name.endswith('.py') else ''}"
        yield f"--data {name}\n    {message(partial(load_dataset, dataset))}"
    tensors = folder / "a.safetensors"
    write_arrays(tensors, {"x": np.zeros(3, np.float32)})
    valid = tensors.read_bytes()
    no_json = valid[:8] + b"x" * len(valid[8:])
    contents = {"cut": valid[:-2], "empty": b"", "long header": b"\xff" * 100, "no JSON": no_json}
    for name, content in contents.items():
        tensors.write_bytes(content)
        yield f"safetensors, {name}\n    {message(lambda: read_arrays(tensors))}"
    for text in DAMAGED_JSON:
        title = text if len(text) < 40 else f"{text[:20]}... ({len(text)} characters)"
        try:
            yield f"JSON {title}\n    {parse_json(text.encode(), 'a.json')}"
        except InklabError as error:
            yield f"JSON {title}\n    {type(error).__name__}: {error}"


def quality_notes() -> Lines:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 80, (220, 1, 8, 8)).astype(np.uint8)
    pixels[:, :, 2:6, 2:6] += 150
    labels = np.repeat(np.arange(3), (180, 30, 10))
    pixels[5], labels[6] = pixels[4], 1
    pixels[6] = pixels[4]
    pixels[20:24] = 7
    pixels[30] = 255 - pixels[30]
    test = ImageSet(pixels[:60:2].copy(), labels[:60:2].copy())
    names = ("zero", "one", "two")
    preprocessing = Preprocessing.resize_only((1, 8, 8))
    dataset = Dataset("untidy", ImageSet(pixels, labels), test, names, preprocessing)
    yield from check_data(dataset).notes
    yield message(lambda: split(dataset, validation=220, seed=0))


NETWORKS = {
    "returns logits for 7 classes": "return self.dense(images.flatten(1))[:, :7]",
    "does not flatten": "return self.dense(images)",
    "is detached": "return self.dense(images.flatten(1)).detach()",
    "is NaN": "return self.dense(images.flatten(1)) * float('nan')",
    "raises": "raise KeyError('no such\\nthing')",
    "has no bf16 operation": "return self.dense(torch.linalg.qr(images[:, 0]).R.flatten(1))",
}
HEAD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(144, 10)

    def forward(self, images):
"""


def wrong_networks(folder: Path) -> Lines:
    for number, (name, forward) in enumerate(NETWORKS.items()):
        path = folder / f"net{number}.py"
        path.write_text(f"{HEAD}        {forward}\n", encoding="utf-8")
        config = trial_config(f"{path}:Net", "bf16" if "bf16" in name else "fp32")
        yield f"a network that {name}\n    {message(partial(preflight, config, SHAPE, 10))}"
    for config in (
        trial_config(objective="reconstruct"),
        trial_config(augmentation={"shift": 12}),
        trial_config(NetworkConfig.of(f"{folder}/net0.py:Net", depth=3)),
        trial_config(f"{folder}/net0.py:Nett"),
        trial_config(f"{folder}/gone.py:Net"),
        trial_config(NetworkConfig.of("mlp", hiden=[3])),
    ):
        yield f"{config.network.name}\n    {message(partial(preflight, config, SHAPE, 10))}"


def wrong_code(folder: Path) -> Lines:
    def own(shape: tuple[int, int, int]) -> object:
        return unnamed

    unnamed = (number for number in range(3))
    unknown = register_live(own)
    files = {
        "ends": "import sys\nsys.exit(2)\n",
        "needs": "import not_there\n",
        "stops": "raise SystemExit\n",
    }
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    other = "live:Net@0123456789abcdef"
    yield from messages({
        **{f"{name}.py": partial(load_object, f"{folder}/{name}.py:Net") for name in files},
        "an object of another session": partial(load_object, other),
        "an object that can't be copied": lambda: pickle_live([unknown]),
        "a number as a network": lambda: reference(3),
        "a module as a network": lambda: check_network(NetworkConfig.of(nn.Flatten())),
        "a class as a corruption": lambda: get_corruption(reference(nn.Flatten)),
        "a class as an objective": lambda: objectives.resolve(reference(nn.Flatten)),
        "a class as a metric": lambda: own_metrics.resolve(reference(nn.Flatten)),
        "a metric of inklab": lambda: metric_reference("macro_f1"),
        "a metric that is nowhere": lambda: metric_reference("sharpnes"),
        "a metric with a split": lambda: metric("test_sharpness")(own),  # type: ignore[type-var]
        "a metric with the name of another": lambda: metric("brier")(own),  # type: ignore[type-var]
        "a metric twice": lambda: resolve_metrics([reference(own)] * 2, "classification"),
        "an object as a sampler": lambda: samplers.resolve(reference(own)),
    })  # fmt: skip
    yield f"an identity that is unknown\n    {unknown_note([unknown])}"


def wrong_choices(folder: Path) -> Lines:
    run = failed_run().write(folder / "choices")
    yield from messages({
        "replicate 0 of cnn, which diverged": lambda: run.trial_for("cnn", 0),
        "replicate 9 of cnn": lambda: run.trial_for("cnn", 9),
        "experiment cn": lambda: run.trial_for("cn"),
        "setting l2-sweep:l2=5": lambda: run.trial_for("l2-sweep:l2=5"),
        "setting l2-sweep:l3=5": lambda: run.trial_for("l2-sweep:l3=5"),
        "model of robustness": lambda: run.trial_for("robustness"),
        "scaled-twice, which is lost": lambda: run.trial_for("scaled-twice"),
        "pipeline denoiser+cn": lambda: run.pipeline_models("denoiser+cn"),
        "pipeline cnn+cnn": lambda: run.pipeline_models("cnn+cnn"),
        "pipeline denoiser": lambda: run.pipeline_models("denoiser"),
        "pipeline cnn+median": lambda: run.pipeline_models("cnn+median"),
        "pipeline denoiser+": lambda: run.pipeline_models("denoiser+"),
        "a run that is none": lambda: Run(folder),
        "outcome of another format": lambda: TrialOutcome.parse({"format": 9}),
        "two filters of one name": twice,
    })  # fmt: skip


def wrong_results() -> Lines:
    """What users of results in Python may meet."""
    run = Run(toy_run.finished())
    figure, axes = run.figure("cnn-curves"), Sheet().subplots()
    yield from messages({
        "rows histroy": lambda: run.rows("histroy"),
        "rows of cn": lambda: run.rows("trials", "cn"),
        "estimates test_los": lambda: run.estimates("test_los"),
        "compare with nothing": lambda: run.compare("cnn"),
        "compare over pixels": lambda: run.compare("cnn", "mlp", over="pixels"),
        "compare test_los": lambda: run.compare("cnn", "mlp", metric="test_los"),
        "compare denoisers over images": lambda: run.compare("denoiser", "denoiser", over="images"),
        "table of se": lambda: run.table(spread="se"),
        "model without a name": run.model,
        "model of no setting": lambda: run.model("sweep", l2=3),
        "figure cnn-curve": lambda: run.figure("cnn-curve"),
        "save as jpg": lambda: figure.save("curves.jpg"),
        "draw two panels": lambda: figure.draw(axes),
        "draw no panel": lambda: figure.draw(axes, "acuracy"),
        "pipeline without a classifier": lambda: TrainedPipeline("it", (run.model("denoiser"),)),
    })  # fmt: skip


def wrong_records(folder: Path) -> Lines:
    run = synthetic_run()
    outcomes = list(run.evaluations.values())
    robustness, other, *_ = (outcome for outcome in outcomes if isinstance(outcome, RobustnessOutcome))
    generation = next(outcome for outcome in outcomes if isinstance(outcome, GenerationOutcome))
    run.outcomes["cnn-0-0"].write(folder / "outcome.json")
    robustness.write(folder / "evaluation.json")
    read = partial(read_evaluation_outcome, folder / "evaluation.json")
    document = json.loads(run.results.model_dump_json())
    yield from messages({
        "another trial's outcome": lambda: TrialOutcome.read_planned(folder / "outcome.json", "cnn-0-1"),
        "another evaluation's outcome": lambda: read(other.evaluation, 4),
        "an outcome of other data": lambda: read(robustness.evaluation, 10),
        "recall at too few strengths": lambda: RobustnessOutcome.parse({**dict(robustness), "recall": [1.0]}),
        "no share": lambda: GenerationOutcome.parse({"evaluation": generation.evaluation, "state": "done"}),
        "a network without a name": lambda: NetworkConfig.parse({"hidden": [1]}),
        "another best setting": lambda: Results.parse(changed(document, "l2-sweep", best_setting={"l2": 3})),
        "another baseline": lambda: Results.parse(changed(document, "robustness", baseline="mlp")),
    })  # fmt: skip


def changed(document: dict[str, Any], experiment: str, **fields: object) -> dict[str, Any]:
    experiments = document["experiments"]
    return {**document, "experiments": {**experiments, experiment: {**experiments[experiment], **fields}}}


def twice() -> None:
    registry: Registry[int] = Registry("filter", "inklab.corruptions")
    registry.add("median", 1)
    registry.add("median", 2)


def failed_run() -> SyntheticRun:
    run = synthetic_run()
    run.fail("cnn-0-0")
    run.fail("scaled-twice-0-0", TrialState.LOST)
    run.fail("l2-sweep-2-0", TrialState.FAILED)
    for id in list(run.evaluations)[:2]:
        reason = {"recall": (), "recall_per_class": (), "accuracy": (), "reason": "a reason"}
        run.change_evaluation(id, state=TrialState.FAILED, **reason)
        run.stored.pop(id, None)
    return run


def sentences() -> Lines:
    for title, run in {"all is done": synthetic_run(), "some is not": failed_run()}.items():
        yield f"-- {title}"
        results = run.results
        for experiment in run.plan.experiments:
            if experiment.kind not in ("data", "findings"):
                yield f"{experiment.name}\n    {sentence(experiment, results)}"
                status = describe_status(results.experiments[experiment.name])
                yield f"    {status}" if status else "    (nothing on its status)"


BODIES: tuple[tuple[str, dict[str, object]], ...] = (
    ("predict", {}), ("predict", {"images": []}), ("predict", {"images": ["AAAA"]}),
    ("predict", {"images": ["not base64!"]}), ("predict", {"images": ["é"]}), ("predict", {"images": [1]}),
    ("predict", {"images": "AAAA"}), ("predict", {"images": ["AAAA"], "picture": "AAAA"}),
    ("predict", {"picture": "AAAA"}), ("predict", {"imges": ["AAAA"]}),
    ("predict", {"images": ["AAAA"], "corruption": {"strength": "much"}}),
    ("predict", {"images": ["AAAA"], "corruption": {"strength": 0.1, "seed": -1}}),
    ("predict", {"images": ["AAAA"], "corruption": {"strength": 0.1, "seed": 1.5}}),
    ("predict", {"images": ["<valid>"], "corruption": {"name": "my_noise.py:speckle", "strength": 0.1}}),
    ("predict", {"images": ["<valid>"], "corruption": {"name": "salt", "strength": 0.1}}),
    ("predict", {"images": ["<valid>"], "corruption": {"strength": 1.5}}),
    ("predict", {"images": ["<valid>"], "pipelines": ["../cnn"]}),
    ("predict", {"images": ["<valid>"], "pipelines": []}),
    ("predict", {"images": ["<valid>"], "pipelines": ["cn"]}),
    ("denoise", {"images": ["<valid>"], "denoiser": "denoisr"}), ("generate", {"count": 100_000}),
    ("generate", {"sampler": "gausian"}), ("generate", {"positions": [[0, 2]]}),
    ("inspect", {"images": ["<valid>", "<valid>"]}), ("inspect", {"images": ["<valid>"], "pipeline": "cn"}),
    ("generate", {"positions": [[0, 0]] * 2, "neighbors_of": "AAAA"}), ("generate", {"decoder": "cnn"}),
)  # fmt: skip


def http_errors() -> Lines:
    server = live_server.shared()
    valid = live_server.encoded_examples()[0]
    for path, body in BODIES:
        sent = {key: [valid] if value == ["<valid>"] else value for key, value in body.items()}
        response = server.client.post(f"/api/{path}", json=sent)
        yield f"POST /api/{path} {body}\n    {response.status_code}  {response.json()['error']}"
    get, post = server.client.get, partial(server.client.post, "/api/predict")
    for name, response in {
        "POST /api/predict {": post(content=b"{", headers={"content-type": "application/json"}),
        "POST /api/predict as text": post(content=b"{}"),
        "GET /api/predict": get("/api/predict"),
        "GET /api/nothing": get("/api/nothing"),
        "GET /../plan.json": get("/%2e%2e/plan.json"),
        "GET / for another host": get("/", headers={"host": "example.org"}),
        "POST from another origin": post(json={}, headers={"origin": "https://example.org"}),
    }.items():
        yield f"{name}\n    {response.status_code}  {response.text.strip()}"


def normalized(text: str, folders: Mapping[str, str]) -> str:
    """Text without what differs between machines and runs."""
    for folder, name in folders.items():
        text = text.replace(folder, name)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)
    text = re.sub(r"0x[0-9a-f]+", "0x...", text)
    text = re.sub(r"localhost:\d+", "localhost:<port>", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "<sha256>", text)
    return re.sub(r"trials/[0-9a-f]{12}\b", "trials/<id>", text)


@pytest.fixture
def catalog(tmp_path, monkeypatch) -> str:
    folder = tmp_path
    write_files(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("INKLAB_OFFLINE", "1")
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(folder / "no runs"))
    monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    scratch = folder / "scratch"
    scratch.mkdir()
    sections: dict[str, Lines] = {
        "Commands": commands(folder), "Mistakes in overrides": wrong_overrides(),
        "Mistakes in study files": wrong_studies(scratch), "Mistakes that planning notices": wrong_plans(),
        "Mistakes in recipes": wrong_recipes(scratch), "Arrays that are no dataset": wrong_arrays(scratch),
        "Folders that are no dataset": wrong_folders(scratch), "Damaged files": wrong_files(scratch),
        "Notes on a dataset": quality_notes(), "Networks that cannot be trained": wrong_networks(scratch),
        "Code of one's own": wrong_code(scratch), "Choices in a run": wrong_choices(scratch),
        "Results in Python": wrong_results(), "Records that do not agree": wrong_records(scratch),
        "Sentences on results": sentences(), "Errors of the API": http_errors(),
    }  # fmt: skip
    text = "\n".join(f"==== {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())
    folders = {str(scratch): "<scratch>", str(folder): "<folder>", str(toy_run.home()): "<toy>"}
    return normalized(text, folders)


def test_messages_are_the_golden_ones(catalog):
    if os.environ.get("INKLAB_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(catalog, encoding="utf-8")
    assert catalog.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()
