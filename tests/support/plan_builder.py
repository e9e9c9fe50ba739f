"""Plans without data: MNIST's identity, a guess at what a rehearsal would say, and ways to look at a plan."""

from inklab.study.grouping import ExecutionConfig, TrainingMode
from inklab.study.load import parse_study, read_study
from inklab.study.planner import DataIdentity, plan

MNIST = DataIdentity(
    source="mnist",
    sha256="f" * 64,
    shape=(1, 28, 28),
    labels=tuple("0123456789"),
    counts={"train": [5500] * 10, "validation": [500] * 10, "test": [1000] * 10},
    mean=0.13,
    spread=0.31,
    framing={},
)
HOW = ExecutionConfig(precision="bf16")


def dense(settings):
    """What a rehearsal says of the built-in models: everything but the cnn is lifted, nothing is random."""
    return TrainingMode(settings["model"]["name"] != "cnn", random=False)


def digits(*sets, profile="full", data=MNIST, how=HOW):
    return plan(*read_study("digits", profile=profile, sets=sets), data, how, dense)


def planned(chapters, data=MNIST, how=HOW, **study):
    return plan(parse_study({"name": "s", "chapters": chapters, **study}, "s"), "plain", data, how, dense)


def chapter(made, name):
    return next(each for each in made["chapters"] if each["name"] == name)


def trials(made, name):
    return [trial for setting in chapter(made, name)["settings"] for trial in setting["trials"]]


def evaluations(made, name):
    return [each["id"] for each in chapter(made, name)["evaluations"]]


def everything(made):
    """Ids of all trials and evaluations."""
    told = [each["id"] for one in made["chapters"] for each in one.get("evaluations", [])]
    return {*made["trials"], *told}


NET = {"model": "mlp", "recipe": {"base": "sgd", "epochs": 2}, "replicates": 2}
