"""Which trials are trained in one program: each in one, alike but for what may be a vector."""

from collections import Counter

import pytest
from plan_builder import HOW, MNIST, NET, digits, planned

from inklab.study.grouping import ExecutionConfig, TrainingMode
from inklab.study.load import parse_study
from inklab.study.planner import plan
from inklab.training.recipe import VECTOR_SETTINGS


def program(settings):
    """What members of one population must have in common."""
    recipe = {key: value for key, value in settings["recipe"].items() if key not in VECTOR_SETTINGS}
    return [{**settings, "recipe": recipe}, settings["recipe"]["momentum"] > 0]


class TestGroups:
    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize("members", [1, 2, 8, 100])
    @pytest.mark.parametrize("profile", ["quick", "full"])
    def test_every_trial_is_in_one_group_of_its_kind(self, profile, members, workers):
        made = digits(
            "mlp-64-64.vary.recipe.momentum=[0.0, 0.5]",
            profile=profile,
            how=ExecutionConfig("fp32", 1, workers, members),
        )
        counted = Counter(trial for group in made["groups"] for trial in group["trials"])
        assert counted == dict.fromkeys(made["trials"], 1)
        for group in made["groups"]:
            settings = [made["trials"][trial]["settings"] for trial in group["trials"]]
            assert 1 <= len(settings) <= (members if group["lifted"] else 1)
            assert group["lifted"] == (settings[0]["model"]["name"] != "cnn")
            assert all(program(each) == program(settings[0]) for each in settings)

    def test_a_population_mixes_rates_and_l2(self):
        vary = {"recipe.rate": [0.1, 0.2], "recipe.l2": [0.0, 0.1]}
        made = planned(
            {"net": {**NET, "vary": vary, "replicates": 1}}, how=ExecutionConfig("fp32", workers=1)
        )
        assert [len(group["trials"]) for group in made["groups"]] == [4]

    def test_work_is_spread_over_the_workers_but_nobody_is_left_alone(self):
        for count, sizes in {1: [1], 2: [2], 3: [3], 4: [2, 2], 16: [8, 8], 17: [6, 6, 5]}.items():
            made = planned(
                {"net": {**NET, "replicates": count}}, how=ExecutionConfig("fp32", workers=2, members=8)
            )
            assert [len(group["trials"]) for group in made["groups"]] == sizes

    def test_what_draws_from_the_global_generator_says_so(self):
        spec = parse_study({"name": "s", "chapters": {"net": NET}}, "s")
        made = plan(spec, "plain", MNIST, HOW, lambda _: TrainingMode(False, True))
        assert [(len(g["trials"]), g["lifted"], g["random"]) for g in made["groups"]] == [
            (1, False, True)
        ] * 2
