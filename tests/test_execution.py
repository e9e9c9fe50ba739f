"""What decides how a run is carried out: facts about the machine, what was asked, the trials themselves."""

import json
from pathlib import Path

import pytest
import toy_run
from plan_builder import MNIST

from inklab.errors import RunError
from inklab.study.grouping import ExecutionConfig, TrainingMode, max_population
from inklab.study.load import parse_study
from inklab.study.planner import distinct_settings, plan, traits_key
from inklab.study.resources import (
    REQUESTED,
    ExecutionOptions,
    MachineProfile,
    choose_execution,
    describe_execution,
    resolve_against_plan,
)
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

GIB = 1 << 30
FAST = MachineProfile(bf16=2.5, compile_seconds=12.0, side_by_side=1.4)
BARE = MachineProfile(bf16=0.03, compile_seconds=None, side_by_side=1.4, why_not="g++ was not found")
CROWDED = MachineProfile(bf16=2.5, compile_seconds=12.0, side_by_side=0.8)
EVEN = MachineProfile(bf16=2.5, compile_seconds=12.0, side_by_side=0.95)

CHOSEN = {
    # facts, asked, processors, GiB of memory -> precision, threads, workers, compile
    "a fast machine": (FAST, ExecutionOptions(), 4, 16, ("bf16", 1, 4, "auto")),
    "bf16 is emulated, no compiler": (BARE, ExecutionOptions(), 4, 16, ("fp32", 1, 4, "no")),
    "bf16 gains little": (MachineProfile(1.09, 12.0, 1.4), ExecutionOptions(), 2, 16, ("fp32", 1, 2, "auto")),
    "bf16 gains enough": (MachineProfile(1.1, 12.0, 1.4), ExecutionOptions(), 2, 16, ("bf16", 1, 2, "auto")),
    "one core": (CROWDED, ExecutionOptions(), 1, 16, ("bf16", 1, 1, "auto")),
    "processes hardly hinder each other": (EVEN, ExecutionOptions(), 4, 16, ("bf16", 1, 4, "auto")),
    "processes hinder each other": (CROWDED, ExecutionOptions(), 4, 16, ("bf16", 4, 1, "auto")),
    "they neither help nor hinder": (
        MachineProfile(2.5, 12.0, 1.0),
        ExecutionOptions(),
        4,
        16,
        ("bf16", 1, 4, "auto"),
    ),
    "memory for three": (FAST, ExecutionOptions(), 8, 3.5, ("bf16", 1, 3, "auto")),
    "memory for none": (FAST, ExecutionOptions(), 8, 0.1, ("bf16", 1, 1, "auto")),
    "workers asked for": (FAST, ExecutionOptions(workers=3), 8, 16, ("bf16", 1, 3, "auto")),
    "more workers than memory": (FAST, ExecutionOptions(workers=6), 8, 1, ("bf16", 1, 6, "auto")),
    "few workers where they hinder": (CROWDED, ExecutionOptions(workers=2), 8, 16, ("bf16", 4, 2, "auto")),
    "many workers where they hinder": (CROWDED, ExecutionOptions(workers=8), 8, 16, ("bf16", 8, 8, "auto")),
    "threads asked for": (FAST, ExecutionOptions(threads=3), 8, 16, ("bf16", 3, 2, "auto")),
    "more threads than cores": (FAST, ExecutionOptions(threads=4), 2, 16, ("bf16", 4, 1, "auto")),
    "threads on one core": (FAST, ExecutionOptions(threads=2), 1, 16, ("bf16", 2, 1, "auto")),
    "fp32 asked for": (FAST, ExecutionOptions(precision="fp32"), 2, 16, ("fp32", 1, 2, "auto")),
    "bf16 asked for, emulated": (BARE, ExecutionOptions(precision="bf16"), 2, 16, ("bf16", 1, 2, "no")),
    "compiling asked for": (FAST, ExecutionOptions(compile="yes"), 2, 16, ("bf16", 1, 2, "yes")),
    "compiling not wanted": (FAST, ExecutionOptions(compile="no"), 2, 16, ("bf16", 1, 2, "no")),
    "compiling asked for, no compiler": (BARE, ExecutionOptions(compile="yes"), 2, 16, ("fp32", 1, 2, "yes")),
}


def chosen(facts: MachineProfile, asked: ExecutionOptions, processors: int, gib: float) -> ExecutionConfig:
    return choose_execution(facts, asked, processors=processors, memory=round(gib * GIB))


class TestChoose:
    @pytest.mark.parametrize("case", CHOSEN)
    def test_facts_and_wishes_decide(self, case):
        *given, wanted = CHOSEN[case]
        how = chosen(*given)
        assert (how.precision, how.threads, how.workers, how.compile) == wanted

    @pytest.mark.parametrize("case", CHOSEN)
    def test_each_choice_says_what_it_rests_on(self, case):
        facts, asked, *_ = CHOSEN[case]
        how = chosen(*CHOSEN[case][:4])
        assert set(how.why) == {"precision", "threads", "workers", "compile"} and all(how.why.values())
        for key, why in how.why.items():
            assert (why == REQUESTED) == (getattr(asked, key) not in (None, "auto")), key
        if asked.precision == "auto":
            assert f"{facts.bf16:.2g} times" in how.why["precision"]

    def test_why_nothing_is_compiled_is_told(self):
        assert "g++ was not found" in chosen(BARE, ExecutionOptions(), 2, 16).why["compile"]

    def test_little_memory_is_told(self):
        assert "3.5 GiB" in chosen(FAST, ExecutionOptions(), 8, 3.5).why["workers"]
        assert "memory" not in chosen(FAST, ExecutionOptions(), 8, 8).why["workers"]

    def test_it_is_a_function_of_its_arguments(self):
        assert chosen(FAST, ExecutionOptions(), 4, 16) == chosen(FAST, ExecutionOptions(), 4, 16)
        assert choose_execution(FAST, ExecutionOptions()).workers >= 1

    def test_what_a_dry_run_says(self):
        lines = describe_execution(toy_json(chosen(BARE, ExecutionOptions(workers=3), 4, 16)))
        assert [line.split()[:2] for line in lines] == [
            ["precision", "fp32"], ["threads", "1"], ["workers", "3"], ["members", "8"], ["compile", "no"]
        ]  # fmt: skip
        assert "0.03 times" in lines[0] and lines[2] == "workers 3 (asked for)" and "g++" in lines[4]


def toy_json(how: ExecutionConfig) -> dict:
    """As it stands in plan.json, read back."""
    return json.loads(json.dumps({**how.__dict__, "why": dict(how.why)}))


class TestObeyed:
    BEGUN = ExecutionConfig("bf16", 1, 4, compile="auto", why={"precision": "measured"})

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            (ExecutionOptions(precision="fp32"), "precision bf16, and fp32"),
            (ExecutionOptions(threads=2), "threads 1, and 2"),
            (ExecutionOptions(compile="yes"), "compile auto, and yes"),
            (ExecutionOptions(compile="no"), "compile auto, and no"),
        ],
        ids=["precision", "threads", "compile-yes", "compile-no"],
    )
    def test_what_would_give_other_numbers_is_refused_in_one_line(self, asked, told):
        with pytest.raises(RunError) as error:
            resolve_against_plan(self.BEGUN, asked)
        line = str(error.value)
        assert told in line and "--out" in line and "\n" not in line

    @pytest.mark.parametrize(
        "asked",
        [ExecutionOptions(), ExecutionOptions(precision="bf16"), ExecutionOptions(threads=1)],
        ids=["nothing", "precision", "threads"],
    )
    def test_the_same_again_is_taken(self, asked):
        assert resolve_against_plan(self.BEGUN, asked) == self.BEGUN

    def test_other_workers_are_taken_and_nothing_else_changes(self):
        found = resolve_against_plan(self.BEGUN, ExecutionOptions(workers=7))
        assert found.workers == 7
        assert (found.precision, found.threads, found.members, found.compile) == ("bf16", 1, 8, "auto")


class TestMembersThatFit:
    @pytest.mark.parametrize("optimiser", ["sgd", "adam"])
    def test_more_weights_fewer_members_but_never_one(self, optimiser):
        sizes = [max_population(10**power, optimiser) for power in range(1, 9)]
        assert sizes == sorted(sizes, reverse=True) and set(sizes) <= set(range(2, 9))
        assert sizes[0] == 8 and sizes[-1] == 2

    def test_adam_has_twice_as_much_to_remember(self):
        assert max_population(250_000, "sgd") == 6 and max_population(250_000, "adam") == 3


NET = {"model": "mlp", "recipe": {"base": "sgd", "epochs": 2}}
CONV = {"model": "cnn", "recipe": {"base": "sgd", "epochs": 2}}


def planned(chapters: dict, how: ExecutionConfig, way: TrainingMode) -> dict:
    """A plan in which only cnns are trained alone."""

    def lifting(settings: dict) -> TrainingMode:
        return way._replace(lifted=settings["model"]["name"] != "cnn")

    return plan(parse_study({"name": "s", "chapters": chapters}, "s"), "plain", MNIST, how, lifting)


class TestGroups:
    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize("members", [1, 2, 3, 8])
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 17])
    def test_groups_of_one_program_have_the_same_slots(self, count, members, workers):
        """Also the last, smaller one: it then runs what was compiled for the others."""
        how, way = ExecutionConfig("fp32", workers=workers), TrainingMode(True, False, members, compiled=True)
        found = planned({"net": {**NET, "replicates": count}}, how, way)["groups"]
        assert {group["slots"] for group in found} == {max(2, *(len(group["trials"]) for group in found))}
        assert max(len(group["trials"]) for group in found) <= members
        assert all(group["compiled"] and group["lifted"] for group in found)

    def test_what_is_trained_alone_has_one_slot(self):
        made = planned(
            {"net": {**CONV, "replicates": 3}},
            ExecutionConfig("fp32"),
            TrainingMode(True, False, 8, compiled=True),
        )
        assert [(g["slots"], g["lifted"], g["compiled"]) for g in made["groups"]] == [(1, False, True)] * 3

    def test_the_smaller_of_both_bounds_holds(self):
        for asked, fitting in ((8, 3), (3, 8)):
            made = planned(
                {"net": {**NET, "replicates": 12}}, ExecutionConfig("fp32", workers=1, members=asked),
                TrainingMode(True, False, fitting),
            )  # fmt: skip
            assert [len(group["trials"]) for group in made["groups"]] == [3] * 4

    def test_what_is_not_compiled_is_not(self):
        made = planned({"net": {**NET, "replicates": 4}}, ExecutionConfig("fp32"), TrainingMode(True, False))
        assert not any(group["compiled"] for group in made["groups"])


SETS = ["mlp.replicates={0}", "sweep.replicates={0}", "cnn.replicates={0}", "denoiser.replicates={0}"]
ENOUGH = ["cnn.recipe.epochs=5000", "mlp.recipe.epochs=5000"]  # of the toy's 440 images: for minutes


class TestTheDriversPlan:
    """What a rehearsal says is made up here: the driver's own decision is what is looked at."""

    def made(self, tmp_path: Path, replicates: int, how: ExecutionConfig, **changes) -> dict:
        opened = toy_run.study([*(each.format(replicates) for each in SETS), *ENOUGH])
        facts = {
            traits_key(settings): {
                "liftable": True, "convolutional": settings["model"]["name"] == "cnn", "random": False,
                "parameters": 50_000, "multiply_adds": 1_000_000, **changes,
            }
            for settings in distinct_settings(opened.spec, opened.identity, how)
        }  # fmt: skip
        return StudyRunner(opened, RunDirectory(tmp_path / str(replicates)))._plan(how, facts)

    def compiled(self, *given, **changes) -> dict[str, set]:
        """Of each program, known by a trial's settings but for L2, whether it is compiled."""
        made = self.made(*given, **changes)
        found: dict[str, set] = {}
        for group in made["groups"]:
            told = made["trials"][group["trials"][0]]["settings"]
            key = json.dumps([told["model"], told["scaling"], {**told["recipe"], "l2": None}], sort_keys=True)
            found.setdefault(key, set()).add(group["compiled"])
        return found

    def test_it_does_not_depend_on_how_many_replicates_there_are(self, tmp_path):
        """Else a run that is extended would be another than one that was begun larger."""
        how = ExecutionConfig("fp32", compile="auto")
        few, many = (self.compiled(tmp_path, count, how) for count in (3, 30))
        assert few == many and all(len(each) == 1 for each in few.values())
        assert {True} in few.values() and {False} in few.values(), "trials that last, and trials that don't"

    def test_yes_compiles_everything_and_no_nothing(self, tmp_path):
        for word, wanted in (("yes", True), ("no", False)):
            assert set(
                map(frozenset, self.compiled(tmp_path, 2, ExecutionConfig("fp32", compile=word)).values())
            ) == {frozenset({wanted})}

    def test_what_draws_from_the_global_generator_is_never_compiled(self, tmp_path):
        """Its draws would be compiled in, or come from another generator."""
        found = self.compiled(
            tmp_path, 2, ExecutionConfig("fp32", compile="yes"), random=True, liftable=False
        )
        assert all(each == {False} for each in found.values())

    def test_populations_are_as_large_as_their_weights_allow(self, tmp_path):
        for parameters, most in ((1000, 8), (500_000, 3), (5_000_000, 2)):
            groups = self.made(tmp_path, 8, ExecutionConfig("fp32", workers=1), parameters=parameters)[
                "groups"
            ]
            assert max(len(group["trials"]) for group in groups if group["lifted"]) == most
