"""The plan: what a study comes to, and what the ids of its trials and evaluations depend on and what not."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from plan_builder import HOW, MNIST, NET, chapter, dense, digits, evaluations, everything, planned, trials

from inklab.errors import ConfigError
from inklab.study.grouping import ExecutionConfig
from inklab.study.load import builtin_studies, check_names, read_study
from inklab.study.planner import distinct_settings, plan, run_id

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").rglob("*.toml"))


class TestDigits:
    """Section 4 of DESIGN.md."""

    FULL = {
        "mlp-64-64": (5, 10), "scaled-twice": (5, 10), "mlp-500-300": (5, 40), "l2-sweep": (150, 10),
        "cnn": (3, 40), "noise-trained-cnn": (3, 40), "denoiser": (3, 20),
    }  # fmt: skip
    QUICK = {
        "mlp-64-64": (3, 5), "scaled-twice": (3, 5), "mlp-500-300": (2, 5), "l2-sweep": (15, 2),
        "cnn": (1, 1), "noise-trained-cnn": (1, 1), "denoiser": (1, 4),
    }  # fmt: skip

    @pytest.mark.parametrize(("profile", "table"), [("full", FULL), ("quick", QUICK)])
    def test_trials_and_epochs(self, profile, table):
        made = digits(profile=profile)
        for name, (count, epochs) in table.items():
            settings = chapter(made, name)["settings"]
            assert len(trials(made, name)) == len(set(trials(made, name))) == count, name
            assert {each["settings"]["recipe"]["epochs"] for each in settings} == {epochs}, name
        assert len(made["trials"]) == sum(count for count, _ in table.values())
        assert {one["name"] for one in made["chapters"] if one["kind"] == "train"} == set(table)

    @pytest.mark.parametrize(
        ("profile", "images", "noise", "drawn"), [("full", 10_000, 12, 18), ("quick", 2_000, 4, 6)]
    )
    def test_evaluations(self, profile, images, noise, drawn):
        made = digits(profile=profile)
        assert chapter(made, "noise")["images"] == images
        assert len(set(evaluations(made, "noise"))) == noise
        assert len(set(evaluations(made, "generator"))) == drawn
        assert chapter(made, "noise")["strengths"] == pytest.approx([i / 20 for i in range(21)])
        assert chapter(made, "generator")["components"] == {"full": 50, "quick": 10}[profile]

    def test_what_is_trained(self):
        made = digits()
        recipe = {name: chapter(made, name)["settings"][0]["settings"]["recipe"] for name in self.FULL}
        assert all(
            recipe[name]["rate"] == 0.1 and recipe[name]["batch"] == 128 for name in ("cnn", "mlp-500-300")
        )
        assert recipe["noise-trained-cnn"]["corruption"] == {
            "name": "salt_and_pepper",
            "strength": [0.0, 0.9],
        }
        assert recipe["denoiser"]["corruption"] == {"name": "salt_and_pepper", "strength": [0.4, 0.4]}
        assert (recipe["denoiser"]["optimiser"], recipe["denoiser"]["rate"]) == ("adam", 1e-3)
        assert recipe["l2-sweep"]["l2_on"] == ["hidden.*.weight"]
        twice = chapter(made, "scaled-twice")["settings"][0]["settings"]["scaling"]
        assert twice == {"mean": 0.0, "spread": 255.0}
        values = [each["values"]["l2"] for each in chapter(made, "l2-sweep")["settings"]]
        assert values == [1e-6, 5e-6, 1e-5, 1e-4, 1e-3]

    def test_a_pipeline_pairs_replicate_k_with_k(self):
        made = digits()
        for told in chapter(made, "noise")["evaluations"]:
            parts = [part for part in told["pipeline"].split("+") if part != "median"]
            assert told["needs"] == [trials(made, part)[told["replicate"]] for part in parts]
        for told in chapter(made, "generator")["evaluations"]:
            k = told["replicate"]
            assert told["needs"] == [trials(made, "denoiser")[k], trials(made, "cnn")[k]]

    def test_ids_stay_what_they_were(self):
        # Run folders hold outcomes under these. If a change may move a number, raise NUMERICS and renew them;
        # if it may not, an id that moves throws away what users have trained.
        made = digits()
        assert [
            trials(made, name)[0] for name in ("mlp-64-64", "l2-sweep", "cnn", "denoiser")
        ] == GOLDEN_TRIALS
        assert [evaluations(made, name)[0] for name in ("noise", "generator")] == GOLDEN_EVALUATIONS
        assert run_id("digits", "full", "f" * 64, 0) == GOLDEN_RUN


GOLDEN_TRIALS = ["c7b025b92ef3", "bd2027c6d9e6", "27e53b3af903", "545218e25f51"]
GOLDEN_EVALUATIONS = ["52d1784629d9", "ad27ee3c8ff1"]
GOLDEN_RUN = "8911f6e16f68"


class TestIds:
    def test_the_same_question_has_the_same_plan(self):
        assert digits() == digits()

    @pytest.mark.parametrize(
        "change",
        [
            "model.hidden=[65, 64]",
            "model.dropout=0.1",
            "recipe.rate=0.2",
            "recipe.epochs=11",
            "recipe.batch=64",
            "recipe.l2=0.1",
            "recipe.momentum=0.5",
            "recipe.schedule='cosine'",
            "recipe.corruption={name='salt_and_pepper', strength=0.1}",
            "scaling.mean=0.1",
            "scaling='standard'",
        ],
    )
    def test_each_setting_changes_a_chapters_trials_and_no_others(self, change):
        before, after = digits(), digits(f"mlp-64-64.{change}")
        assert not set(trials(before, "mlp-64-64")) & set(trials(after, "mlp-64-64"))
        assert trials(before, "cnn") == trials(after, "cnn")
        assert evaluations(before, "noise") == evaluations(after, "noise")

    @pytest.mark.parametrize(
        "other",
        [
            lambda: digits("seed=1"),
            lambda: digits(data=replace(MNIST, sha256="e" * 64)),
            lambda: digits(data=replace(MNIST, counts={**MNIST.counts, "validation": [499] * 10})),
            lambda: digits(how=ExecutionConfig(precision="fp32")),
            lambda: digits("precision=fp32"),
        ],
        ids=["seed", "data", "validation", "machine's precision", "study's precision"],
    )
    def test_everything_that_moves_a_number_changes_every_id(self, other):
        assert not everything(digits()) & everything(other())

    @pytest.mark.parametrize(
        "other",
        [
            lambda: digits(how=ExecutionConfig(precision="bf16", workers=7)),
            lambda: digits(how=ExecutionConfig(precision="bf16", members=2)),
            lambda: digits("title=Another", "about=else", "cnn.title=Another", "noise.question=Why?"),
            lambda: digits("cnn.references=[]", "cnn.answers=[]", "data.source=elsewhere"),
            lambda: digits("noise.confusions=[0]"),
            lambda: digits("precision=bf16"),
            lambda: digits("name=other"),
            lambda: digits(data=replace(MNIST, source="/here", note="look", mean=0.5, spread=0.5)),
        ],
    )  # fmt: skip
    def test_nothing_else_changes_any_id(self, other):
        assert everything(other()) == everything(digits())

    def test_the_order_of_chapters_is_not_part_of_an_id(self):
        parts = {"a": NET, "b": {**NET, "model": {"name": "mlp", "hidden": [8]}}}
        forth, back = planned(parts), planned(dict(reversed(parts.items())))
        assert everything(forth) == everything(back) and len(forth["trials"]) == 4

    def test_standard_scaling_takes_mean_and_spread_of_the_data_into_the_id(self):
        made = planned({"net": {**NET, "scaling": "standard"}})
        settings = chapter(made, "net")["settings"][0]["settings"]
        assert settings["scaling"] == {"mean": 0.13, "spread": 0.31}
        other = planned({"net": {**NET, "scaling": "standard"}}, data=replace(MNIST, mean=0.14))
        assert not everything(made) & everything(other)

    def test_numbers_that_are_equal_have_equal_ids(self):
        assert everything(digits("cnn.recipe.rate=1")) == everything(digits("cnn.recipe.rate=1.0"))

    @pytest.mark.parametrize(
        ("change", "evaluation"),
        [
            ("noise.strengths=[0, 0.5]", "noise"),
            ("noise.images=50", "noise"),
            ("noise.corruption=gaussian", "noise"),
            ("generator.samples=500", "generator"),
            ("generator.components=3", "generator"),
            ("cnn.recipe.epochs=3", "noise"),
            ("denoiser.recipe.epochs=3", "generator"),
        ],
    )
    def test_an_evaluation_changes_with_its_settings_and_its_trials(self, change, evaluation):
        before, after = digits(), digits(change)
        assert set(evaluations(before, evaluation)) - set(evaluations(after, evaluation))
        if change.startswith(evaluation):
            assert not set(evaluations(before, evaluation)) & set(evaluations(after, evaluation))
            assert set(before["trials"]) == set(after["trials"])

    def test_a_run_is_named_by_study_profile_data_and_seed(self):
        given = ("digits", "quick", "f" * 64, 0)
        others = {
            run_id(*given[:i], other, *given[i + 1 :]) for i, other in enumerate(("x", "full", "e" * 64, 1))
        }
        assert len(others | {run_id(*given)}) == 5


class TestUsersCode:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("my_net.py").write_text("Net = 1\n", encoding="utf-8")
        Path("my_noise.py").write_text("speckle = 1\n", encoding="utf-8")

    def made(self):
        noisy = {"recipe": {"base": "sgd", "corruption": {"name": "my_noise.py:speckle", "strength": 0.1}}}
        noise = {
            "kind": "noise",
            "corruption": "my_noise.py:speckle",
            "pipelines": ["plain"],
            "alone": "plain",
        }
        own = {**NET, "model": "my_net.py:Net"}
        return planned({"plain": NET, "own": own, "noisy": {**NET, **noisy}, "noise": noise})

    @pytest.mark.parametrize(("file", "moved"), [("my_net.py", ["own"]), ("my_noise.py", ["noisy", "noise"])])
    def test_a_changed_file_changes_what_was_made_with_it(self, file, moved):
        def ids(made):
            names = {name: trials(made, name) for name in ("plain", "own", "noisy")}
            return {**names, "noise": evaluations(made, "noise")}

        before = ids(self.made())
        os.utime(file)
        assert ids(self.made()) == before, "touching a file is not a change"
        Path(file).write_text("Net = speckle = 2\n", encoding="utf-8")
        after = ids(self.made())
        assert [name for name in before if before[name] != after[name]] == moved

    def test_planning_does_not_run_the_file(self):
        Path("my_net.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
        assert len(self.made()["trials"]) == 6

    def test_users_networks_are_fp32_unless_asked(self):
        told = chapter(self.made(), "own")["settings"][0]["settings"]
        assert told["precision"] == "fp32"
        asked = planned({"own": {**NET, "model": "my_net.py:Net"}}, precision="bf16")
        assert chapter(asked, "own")["settings"][0]["settings"]["precision"] == "bf16"

    def test_a_missing_file_is_told(self):
        with pytest.raises(ConfigError, match=r"chapter 'own': there is no file 'no_net\.py'"):
            planned({"own": {**NET, "model": "no_net.py:Net"}})


class TestExtending:
    def test_more_replicates_add_exactly_those(self):
        before, after = digits(), digits("l2-sweep.replicates=40")
        assert set(before["trials"]) < set(after["trials"])
        settings = (chapter(made, "l2-sweep")["settings"] for made in (before, after))
        for old, new in zip(*settings, strict=True):
            assert new["trials"][:30] == old["trials"] and len(new["trials"]) == 40
        assert len(after["trials"]) - len(before["trials"]) == 50

    def test_another_value_adds_only_its_trials(self):
        before, after = digits(), digits("l2-sweep.vary.recipe.l2=[1e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2]")
        assert set(before["trials"]) < set(after["trials"])
        assert len(after["trials"]) - len(before["trials"]) == 30

    def test_chapters_that_ask_for_the_same_share_it(self):
        made = planned({"a": NET, "b": {**NET, "title": "again", "replicates": 3}})
        assert trials(made, "b")[:2] == trials(made, "a") and len(made["trials"]) == 3
        assert sum(len(group["trials"]) for group in made["groups"]) == 3

    def test_a_value_of_a_grid_shares_with_a_chapter_that_has_it(self):
        made = planned({"a": NET, "b": {**NET, "vary": {"recipe.l2": [0.0, 0.1]}}})
        assert chapter(made, "b")["settings"][0]["trials"] == trials(made, "a")

    def test_several_keys_make_a_grid(self):
        vary = {"model.hidden": [[8], [16]], "recipe.rate": [0.1, 0.2, 0.3]}
        made = chapter(planned({"net": {**NET, "vary": vary}}), "net")
        assert made["vary"] == ["hidden", "rate"]
        points = [(each["values"]["hidden"], each["values"]["rate"]) for each in made["settings"]]
        assert points == [([h], r) for h in (8, 16) for r in (0.1, 0.2, 0.3)]
        for each in made["settings"]:
            assert each["settings"]["model"]["hidden"] == each["values"]["hidden"]
            assert each["settings"]["recipe"]["rate"] == each["values"]["rate"]


def test_each_network_is_rehearsed_once():
    spec = read_study("digits", profile="full")[0]
    found = distinct_settings(spec, MNIST, HOW)
    told = [(each["model"], each["recipe"]["objective"]) for each in found]
    assert len(told) == 4, "mlp 64-64, mlp 500-300, cnn, autoencoder"


@pytest.mark.parametrize(
    "study", [*builtin_studies(), *map(str, EXAMPLES)], ids=lambda study: Path(study).stem
)
def test_every_study_file_can_be_planned(study, monkeypatch):
    monkeypatch.chdir(Path(study).resolve().parent if study.endswith(".toml") else Path.cwd())
    for profile in (None, "plain"):
        spec, name = read_study(study, profile=profile)
        made = plan(spec, name, MNIST, HOW, dense)
        check_names(spec)
        assert made["trials"] and everything(made)


def test_planning_imports_no_torch():
    probe = (
        "import sys\nfrom inklab.study.planner import *\nfrom inklab.study.grouping import TrainingMode\n"
        "from inklab.study.load import read_study\n"
        "counts = {part: [9, 9] for part in ('train', 'validation', 'test')}\n"
        "data = DataIdentity('m', 'f', (1, 28, 28), tuple('01'), counts, 0.1, 0.3, {})\n"
        "made = plan(*read_study('digits'), data, ExecutionConfig('fp32'), "
        "lambda _: TrainingMode(True, False))\n"
        "print(len(made['trials']), 'torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", probe], text=True).split() == ["26", "False"]
