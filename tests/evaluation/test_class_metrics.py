"""Metrics of classifiers, against scikit-learn and against sums done another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from inklab.evaluation.class_metrics import (
    CALIBRATION_BINS,
    brier_score,
    calibration,
    class_metrics,
    macro_f1,
    top_k_accuracy,
)

NAMES = ("ant", "bee", "cat", "dog", "eel", "fly", "gnu")


def answers(seed: int, n: int = 200, k: int = 7, present: int = 7):
    """Probabilities that are right more often than not, and labels of the first `present` classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(2, 7))
def test_all_are_those_of_scikit_learn(seed, n, present):
    probabilities, labels = answers(seed, n, present=present)
    measured = class_metrics(probabilities, labels, NAMES)
    predicted, classes = probabilities.argmax(axis=1), np.arange(7)
    recalls = oracle.recall_score(labels, predicted, labels=classes, average=None, zero_division=0)
    expected = {
        "balanced_accuracy": recalls[np.unique(labels)].mean(),
        "macro_f1": oracle.f1_score(labels, predicted, average="macro", zero_division=0),
        "top3_accuracy": oracle.top_k_accuracy_score(labels, probabilities, k=3, labels=classes),
        "top5_accuracy": oracle.top_k_accuracy_score(labels, probabilities, k=5, labels=classes),
        "brier": oracle.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False),
    } | {f"recall_{NAMES[label]}": recalls[label] for label in np.unique(labels)}
    assert measured.pop("ece") == pytest.approx(plain_ece(probabilities, labels))
    assert measured == pytest.approx(expected)


def plain_ece(probabilities, labels):
    """Image by image, as in Guo et al. 2017."""
    total = 0.0
    for low in np.arange(CALIBRATION_BINS):
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
            if low < max(row) * CALIBRATION_BINS <= low + 1
        ]
        if inside:
            confidence, hits = np.array(inside, dtype=float).T
            total += len(inside) / len(labels) * abs(hits.mean() - confidence.mean())
    return total


def test_a_majority_of_99_percent_is_no_skill():
    labels = np.array([0] * 99 + [1])
    probabilities = np.tile([0.99, 0.01], (100, 1))
    measured = class_metrics(probabilities, labels, ("common", "rare"))
    assert (measured["balanced_accuracy"], measured["recall_rare"]) == (0.5, 0.0)
    assert measured["ece"] == pytest.approx(0) and measured["macro_f1"] < 0.5
    assert "top3_accuracy" not in measured


@pytest.mark.parametrize(
    ("k", "names"), [(3, set()), (4, {"top3_accuracy"}), (6, {"top3_accuracy", "top5_accuracy"})]
)
def test_top_k_is_measured_where_there_are_more_classes(k, names):
    probabilities, labels = answers(0, k=k, present=k)
    assert {name for name in class_metrics(probabilities, labels, NAMES[:k]) if "top" in name} == names


def test_classes_without_images_have_no_recall_and_many_classes_none():
    probabilities, labels = answers(1, present=3)
    recalls = [name for name in class_metrics(probabilities, labels, NAMES) if name.startswith("recall_")]
    assert recalls == ["recall_ant", "recall_bee", "recall_cat"]
    probabilities, labels = answers(1, k=101, present=101)
    many = class_metrics(probabilities, labels, [str(k) for k in range(101)])
    assert not any(name.startswith("recall_") for name in many) and "macro_f1" in many


def test_the_first_of_equal_probabilities_counts():
    equal = np.full((4, 4), 0.25)
    labels = np.array([0, 1, 2, 3])
    assert [top_k_accuracy(equal, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


def test_extremes():
    labels = np.array([0, 1, 1])
    certain = np.eye(2)[labels]
    assert (brier_score(certain, labels), brier_score(1 - certain, labels)) == (0.0, 2.0)
    assert macro_f1(labels, labels) == 1.0 and macro_f1(1 - labels, labels) == 0.0
    assert calibration(np.ones(3), np.zeros(3, dtype=bool)).expected_error == 1.0


def test_bins_end_at_their_upper_edge_and_add_up():
    edges = np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1), 1.0])
    bins = calibration(edges, np.array([True, False, True, True]))
    assert bins.images.tolist() == [2, 1, *[0] * 12, 1]
    is_right = np.array([True, False, True, True])
    both = calibration(edges[:2], is_right[:2]) + calibration(edges[2:], is_right[2:])
    assert (both.images == bins.images).all() and (both.hits == bins.hits).all()
    assert both.expected_error == pytest.approx(bins.expected_error)
