"""Figures of predictions, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from raymd import metrics


def rows(*values):
    return np.array(values, dtype=np.float32)


THREE = rows([0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2])


def test_top_k_counts_labels_among_the_k_most_probable():
    labels = np.array([1, 2, 2])
    assert metrics.top_k_correct(THREE, labels, k=1).tolist() == [False, True, False]
    assert metrics.top_k_correct(THREE, labels, k=2).tolist() == [True, True, False]
    assert metrics.top_k_correct(THREE, labels, k=3).all()


def test_of_equal_probabilities_the_lower_class_counts_as_higher():
    assert metrics.top_k_correct(THREE[2:], np.array([0]), k=1).all()
    assert not metrics.top_k_correct(THREE[2:], np.array([1]), k=1).any()


def test_nll_is_the_mean_of_minus_ln_p():
    expected = -(math.log(0.2) + math.log(0.6)) / 2
    assert metrics.negative_log_likelihood(THREE[:2], np.array([1, 2])) == pytest.approx(expected)


def test_nll_of_a_label_held_impossible_is_large_and_finite():
    assert 80 < metrics.negative_log_likelihood(rows([1.0, 0.0]), np.array([1])) < 90


def test_ece_weighs_the_gap_of_each_bin_by_its_images():
    # bin (0.5, 0.75]: confidences 0.6 and 0.7, one of two right; bin (0.75, 1]: 0.9, right
    probs = rows([0.6, 0.4], [0.3, 0.7], [0.9, 0.1])
    found = metrics.calibration(probs, np.array([0, 0, 0]), num_bins=4)
    assert found.ece == pytest.approx(2 / 3 * (0.65 - 0.5) + 1 / 3 * (1 - 0.9))
    assert [b.count for b in found.bins] == [0, 0, 2, 1]
    assert (found.bins[2].confidence, found.bins[2].accuracy) == (pytest.approx(0.65), 0.5)
    assert (found.bins[0].confidence, found.bins[0].accuracy) == (None, None)


def test_confidences_of_0_and_1_lie_in_the_outer_bins():
    found = metrics.calibration(rows([1.0, 0.0], [0.0, 0.0]), np.array([0, 0]))
    assert (found.bins[-1].count, found.bins[0].count) == (1, 1)
    assert len(found.bins) == 15


def test_agreement_is_the_part_of_equal_predictions():
    classes = np.array([[0, 1, 2, 0], [0, 1, 1, 1]])
    assert metrics.agreement(classes).tolist() == [[1, 0.5], [0.5, 1]]


def test_a_paired_difference_counts_changed_images_only():
    one = np.array([True] * 8 + [False] * 2)
    other = np.array([True] * 5 + [False] * 3 + [True] + [False])
    found = metrics.paired_difference(one, other)
    assert (found.gained, found.lost, found.points) == (3, 1, pytest.approx(20))
    # Bonett and Price: (4 - 2) / 12 ± 1.96 sqrt((6/12 - (2/12)²) / 12)
    half = 1.96 * math.sqrt((0.5 - (1 / 6) ** 2) / 12)
    assert found.interval_95 == pytest.approx((100 * (1 / 6 - half), 100 * (1 / 6 + half)))


def test_equal_classifiers_have_an_interval_around_no_difference():
    hits = np.array([True, False] * 50)
    low, high = metrics.paired_difference(hits, hits).interval_95
    assert low < 0 < high
    assert low == pytest.approx(-high)


def test_the_gain_over_the_mean_is_paired():
    hits = np.array([True, True, True, False])
    others = np.array([[True, False, True, False], [True, False, False, False]])
    found = metrics.difference_to_mean(hits, others)
    # gains of 0, 1, 0.5 and 0: mean 0.375, variance (n - 1) 0.2291667
    assert found.points == pytest.approx(37.5)
    half = 100 * 1.96 * math.sqrt(0.2291667 / 4)
    assert found.interval_95 == pytest.approx((37.5 - half, 37.5 + half))


def test_a_class_without_images_has_no_accuracy():
    hits, labels = np.array([True, False, True]), np.array([0, 0, 2])
    found = metrics.class_accuracy(hits, labels, num_classes=3)
    assert found.tolist()[::2] == [0.5, 1.0]
    assert math.isnan(found[1])
