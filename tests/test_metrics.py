"""The table of metrics: one row each, and what is derived from it."""

import pytest

from inklab.metrics import (
    FINDINGS_METRICS,
    METRICS,
    REPORTED_METRIC,
    SELECTION_METRIC,
    SHOW_METRICS,
    TABLE_METRICS,
    TASK_METRICS,
    get_metric,
)

NAMES = [*METRICS, *(f"{split}_{key}" for split in ("train", "validation", "test") for key in METRICS)]


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_found_under_its_own_key(name):
    assert get_metric(name).key == name


def test_no_two_rows_disagree_and_a_split_changes_only_name_and_label():
    assert list(METRICS) == [row.key for row in METRICS.values()]
    assert len({row.label for row in METRICS.values()}) == len(METRICS)
    for key, row in METRICS.items():
        on_test = get_metric(f"test_{key}")
        assert row.is_share == (row.unit == "%") and not (row.is_share and row.is_count)
        assert (row.split, on_test.split) == (None, "test")
        for name in ("unit", "higher_is_better", "is_share", "is_count"):
            assert getattr(row, name) == getattr(on_test, name)
    names = ("test_accuracy", "validation_bce", "train_bce", "test_psnr", "recall")
    labels = ["test accuracy", "validation BCE", "training BCE", "test PSNR", "mean recall"]
    assert [get_metric(name).label for name in names] == labels


def test_metric_lists_are_pinned():
    assert TASK_METRICS == {
        "classification": tuple(
            f"{split}_{key}"
            for split in ("test", "validation")
            for key in ("accuracy", "loss", "balanced_accuracy", "macro_f1", "brier", "ece")
        ),
        "denoising": ("test_bce", "test_psnr", "validation_bce", "validation_psnr"),
    }
    assert TABLE_METRICS == (
        "test_accuracy", "validation_accuracy", "test_loss", "validation_loss", "test_bce", "validation_bce",
        "train_bce", "test_psnr", "validation_psnr", "parameters",
    )  # fmt: skip
    assert FINDINGS_METRICS == ("test_accuracy", "test_loss", "test_bce", "test_psnr")
    others = {"test_balanced_accuracy", "validation_accuracy", "validation_bce"}
    assert set(SHOW_METRICS) == {*FINDINGS_METRICS, *others}
    less_is_better = {key for key, row in METRICS.items() if row.higher_is_better is False}
    assert {"loss", "bce", "brier", "ece"} <= less_is_better
    assert {key for key, row in METRICS.items() if row.counts_images} == {
        "accuracy", "top3_accuracy", "top5_accuracy",
    }  # fmt: skip


def test_choice_and_report_use_different_images():
    for task, names in TASK_METRICS.items():
        assert SELECTION_METRIC[task] in names and REPORTED_METRIC[task] in names
        assert get_metric(SELECTION_METRIC[task]).split == "validation"
        assert get_metric(REPORTED_METRIC[task]).split == "test"


def test_a_better_value_follows_the_direction():
    assert get_metric("test_accuracy").is_better(0.9, 0.8)
    assert not get_metric("test_bce").is_better(0.9, 0.8)
    assert not get_metric("nn_distance").is_better(1.0, 2.0)
    assert not get_metric("nn_distance").is_better(2.0, 1.0)


def test_an_unlisted_name_is_taken_as_it_is():
    own = get_metric("test_top9_accuracy")
    assert (own.label, own.is_share, own.split) == ("test top9 accuracy", True, "test")
    assert get_metric("sharpness").unit == ""
    assert get_metric("test_").key == "test_"
