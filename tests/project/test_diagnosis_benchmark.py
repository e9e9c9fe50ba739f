"""The benchmark of diagnoses goes on where it was cut off, and judges by data no threshold was chosen on."""

# ruff: noqa: E402  (the path below comes before the imports that need it)

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are never installed

from benchmarks.diagnosis import CHOSEN_ON, JOURNAL, DiagnosisJournal, Plan, measure_diagnosis
from benchmarks.diagnosis_kinds import KINDS
from benchmarks.options import Options

from inklab.errors import ConfigError
from inklab.training.diagnostics import diagnosis_rules


def test_kinds_expect_diagnoses_that_exist():
    expected = {name for kind in KINDS.values() for name in kind.expected}
    assert expected <= set(diagnosis_rules)


def test_a_run_that_is_cut_off_has_tried_every_kind_and_judges_by_enough_healthy_trainings():
    keys = list(Plan.of(Options("", replicates=3)).keys())
    assert len(set(keys)) == len(keys)
    third = keys[: len(keys) // 3]
    assert {key.kind for key in third} == set(KINDS) and {key.replicate for key in third} == {0}
    judging = Counter(
        not KINDS[key.kind].expected for key in keys if (key.network, key.data) not in CHOSEN_ON
    )
    assert judging[True] >= 300
    with pytest.raises(ConfigError, match="there is no kind 'nothing'"):
        Plan.of(Options("", kinds=("nothing",)))


def test_trainings_that_are_done_are_not_repeated(tmp_path):
    options = Options(
        "", tmp_path, replicates=1, images=100, networks=("mlp",), data=("mnist-5k",),
        kinds=("healthy-1-epoch", "rate-far-too-high"),
    )  # fmt: skip
    lines = measure_diagnosis(options)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    assert len(whole.splitlines()) == 2 and len(lines) == 3
    assert measure_diagnosis(options) == lines
    assert journal.read_bytes() == whole
    journal.write_bytes(whole[:-20])  # cut off in the middle of the last line
    assert len(DiagnosisJournal(journal).trials) == 1
    assert measure_diagnosis(options) == lines
    assert journal.read_bytes() == whole
