"""Which trials are trained in one program: each in one, alike but for what may be a vector."""

from collections import Counter

import pytest
from plan_builder import NET, plan_digits, plan_experiments

from inklab.records.execution import DeviceCheck, DeviceChoice, ExecutionConfig
from inklab.records.recipe import VECTOR_SETTINGS, Recipe
from inklab.study.planner import max_population

CONV = {**NET, "network": "cnn"}
LARGE = {"parameters": 500_000}  # of which three fit into a population


def fp32(**fields):
    return ExecutionConfig(precision="fp32", **fields)


def common(config):
    """What members of one population must have in common."""
    recipe = config.recipe
    parts = (recipe.momentum > 0, recipe.clip_norm is None, recipe.ema_decay is None)
    return config.model_dump(exclude={"recipe": set(VECTOR_SETTINGS)}), parts


def sizes(plan):
    return [len(group.trials) for group in plan.groups]


class TestGroups:
    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize("largest", [1, 2, 8, 100])
    @pytest.mark.parametrize("profile", ["quick", "full"])
    def test_every_trial_is_in_one_group_of_its_kind(self, profile, largest, workers):
        plan = plan_digits(
            "mlp-64-64.grid.recipe.momentum=[0.0, 0.5]",
            profile=profile,
            execution=fp32(workers=workers, max_population=largest),
        )
        assert Counter(trial for group in plan.groups for trial in group.trials) == Counter(list(plan.trials))
        for group in plan.groups:
            configs = [plan.config(trial) for trial in group.trials]
            assert 1 <= len(configs) <= (largest if group.stacked else 1)
            assert group.stacked == (configs[0].network.name != "cnn")
            assert all(common(config) == common(configs[0]) for config in configs)

    def test_a_population_mixes_learning_rates_and_l2(self):
        grid = {"recipe.learning_rate": [0.1, 0.2], "recipe.l2": [0.0, 0.1]}
        plan = plan_experiments({"net": {**NET, "grid": grid, "replicates": 1}}, execution=fp32(workers=1))
        assert sizes(plan) == [4]

    @pytest.mark.parametrize(
        ("grid", "expected"),
        [
            ({"recipe.weight_decay": [0.0, 0.1], "recipe.clip_norm": [0.5, 1.0]}, [4]),
            ({"recipe.ema_decay": [0.9, 0.99]}, [2]),
            ({"recipe.clip_norm": [None, 1.0, 2.0]}, [1, 2]),  # without clipping a step is another program
            ({"recipe.ema_decay": [0.9, None, 0.0]}, [2, 1]),
            ({"recipe.optimizer": ["adam", "adamw"]}, [1, 1]),
        ],
        ids=str,
    )
    def test_what_is_a_number_is_mixed_and_what_changes_the_step_is_not(self, grid, expected):
        net = {"network": "mlp", "recipe": {"optimizer": "adamw"}, "grid": grid, "replicates": 1}
        assert sizes(plan_experiments({"net": net}, execution=fp32(workers=1))) == expected

    @pytest.mark.parametrize(
        ("count", "expected"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (16, [8, 8]), (17, [6, 6, 5])]
    )
    def test_work_is_spread_over_the_workers_but_no_trial_is_trained_without_others(self, count, expected):
        assert sizes(plan_experiments({"net": {**NET, "replicates": count}}, execution=fp32())) == expected

    def test_what_draws_from_the_global_generator_is_trained_one_by_one(self):
        plan = plan_experiments({"net": NET}, traits={"vmappable": False, "uses_global_rng": True})
        assert sizes(plan) == [1, 1]
        assert all(group.reseed_each_step and not group.stacked for group in plan.groups)

    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize("largest", [1, 2, 3, 8])
    @pytest.mark.parametrize("count", [1, 2, 3, 7, 17])
    def test_groups_of_one_program_have_the_same_population_size(self, count, largest, workers):
        """Also the last, smaller one: it then runs what was compiled for the others."""
        plan = plan_experiments(
            {"net": {**NET, "replicates": count}},
            execution=fp32(workers=workers, max_population=largest, compile="yes"),
        )
        assert {group.population_size for group in plan.groups} == {max(2, *sizes(plan))}
        assert max(sizes(plan)) <= largest
        assert all(group.compiled and group.stacked for group in plan.groups)

    def test_what_is_not_stacked_has_room_for_one(self):
        plan = plan_experiments({"net": {**CONV, "replicates": 3}}, execution=fp32(compile="yes"))
        groups = [(group.population_size, group.stacked, group.compiled) for group in plan.groups]
        assert groups == [(1, False, True)] * 3

    @pytest.mark.parametrize(("largest", "traits"), [(8, LARGE), (3, {})])
    def test_the_smaller_of_both_bounds_holds(self, largest, traits):
        plan = plan_experiments(
            {"net": {**NET, "replicates": 12}},
            execution=fp32(workers=1, max_population=largest),
            traits=traits,
        )
        assert sizes(plan) == [3] * 4

    def test_a_group_names_its_preflight_check(self):
        plan = plan_digits(profile="quick")
        assert {group.network for group in plan.groups} == set(plan.networks) and len(plan.networks) == 4


class TestCompiled:
    """Whether a program is compiled depends on a trial, never on how many there are."""

    LONG = {"base": "sgd", "epochs": 5000}

    def compiled(self, replicates, compile, **traits):
        """Of each experiment, whether its groups are compiled."""
        experiments = {
            name: {**net, "recipe": recipe, "replicates": replicates}
            for name, net, recipe in (
                ("short", NET, NET["recipe"]), ("long", NET, self.LONG), ("long-cnn", CONV, self.LONG),
            )
        }  # fmt: skip
        plan = plan_experiments(
            experiments, execution=fp32(compile=compile), traits={"macs": 1_000, **traits}
        )
        return {
            name: {group.compiled for group in plan.groups if set(group.trials) & set(plan.trials_of(name))}
            for name in experiments
        }

    def test_auto_compiles_trials_that_last_however_many_there_are(self):
        """Else a run that is extended would differ from one that was begun larger."""
        few, many = (self.compiled(replicates, "auto") for replicates in (3, 30))
        assert few == many == {"short": {False}, "long": {True}, "long-cnn": {True}}

    @pytest.mark.parametrize(("compile", "expected"), [("yes", True), ("no", False)])
    def test_yes_compiles_everything_and_no_nothing(self, compile, expected):
        assert self.compiled(2, compile) == dict.fromkeys(("short", "long", "long-cnn"), {expected})

    def test_what_draws_from_the_global_generator_is_never_compiled(self):
        """Its draws would be compiled in, or come from another generator."""
        compiled = self.compiled(2, "yes", uses_global_rng=True, vmappable=False)
        assert all(flags == {False} for flags in compiled.values())


class TestMaxPopulation:
    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_more_weights_fewer_members_but_never_one(self, optimizer):
        populations = [max_population(10**power, Recipe(optimizer=optimizer)) for power in range(1, 9)]
        assert populations == sorted(populations, reverse=True) and set(populations) <= set(range(2, 9))
        assert populations[0] == 8 and populations[-1] == 2

    @pytest.mark.parametrize(
        ("optimizer", "momentum", "expected"),
        [("sgd", 0, 6), ("sgd", 0.9, 4), ("muon", 0.9, 4), ("adam", 0, 3), ("adamw", 0, 3)],
    )
    def test_every_tensor_of_the_optimizer_counts(self, optimizer, momentum, expected):
        assert max_population(250_000, Recipe(optimizer=optimizer, momentum=momentum)) == expected

    def test_an_average_of_the_weights_counts_too(self):
        assert max_population(250_000, Recipe(ema_decay=0.9)) == max_population(250_000, Recipe(momentum=0.9))

    @pytest.mark.parametrize(("parameters", "expected"), [(1_000, 8), (500_000, 3), (5_000_000, 2)])
    def test_populations_are_as_large_as_their_weights_allow(self, parameters, expected):
        plan = plan_experiments(
            {"net": {**NET, "replicates": 8}}, execution=fp32(workers=1), traits={"parameters": parameters}
        )
        assert max(sizes(plan)) == expected


class TestDevices:
    GPU = DeviceChoice(name="cuda:0", hardware="Fast GPU", reason="the first GPU that torch sees")
    CHECK = DeviceCheck(device="cuda:0", torch="2.13", steps=12, tolerance=1e-3, loss_error=1e-6, members=32)

    def plan(self, experiment=NET, check=CHECK, **fields):
        experiment = {**experiment, "replicates": 40, "recipe": {"base": "sgd", "epochs": 40}}
        return plan_experiments(
            {"net": experiment}, execution=fp32(workers=1, device=self.GPU, **fields),
            traits={"device_check": check},
        )  # fmt: skip

    def test_what_passed_is_trained_on_the_gpu_in_populations_as_large_as_were_checked(self):
        plan = self.plan()
        assert {group.device for group in plan.groups} == {"cuda:0"} and max(sizes(plan)) <= 32
        assert sizes(plan) == [20, 20] and {group.population_size for group in plan.groups} == {20}
        single = self.plan(CONV, self.CHECK.model_copy(update={"members": None}))
        assert set(sizes(single)) == {1} and {group.device for group in single.groups} == {"cuda:0"}

    def test_what_failed_is_trained_on_the_processor_as_without_a_gpu(self):
        failed = self.plan(check=self.CHECK.model_copy(update={"problem": "its losses differ"}))
        assert {group.device for group in failed.groups} == {"cpu"} and max(sizes(failed)) <= 8

    @pytest.mark.parametrize("compiles", [True, False, None])
    def test_a_step_is_compiled_on_a_gpu_only_if_that_was_checked(self, compiles):
        check = self.CHECK.model_copy(update={"compiles": compiles})
        plan = self.plan(check=check, compile="yes")
        assert {group.compiled for group in plan.groups} == {bool(compiles)}

    def test_without_a_gpu_everything_is_on_the_processor(self):
        plan = plan_experiments({"net": NET}, execution=fp32())
        assert {group.device for group in plan.groups} == {plan.execution.device.name} == {"cpu"}
