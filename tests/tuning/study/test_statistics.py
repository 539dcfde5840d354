"""Means, deviations, intervals and paired differences against numbers worked out by hand."""

import pytest

from tuning.study.statistics import differences, paired, summary, t_quantile


def test_summary_of_three_seeds():
    found = summary([1.0, 2.0, 6.0])
    assert found.n == 3
    assert found.mean == 3.0
    assert found.sd == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    half = 4.302653 * 7**0.5 / 3**0.5
    assert found.interval == pytest.approx((3 - half, 3 + half), abs=1e-5)


def test_students_t_is_the_tables():
    assert [t_quantile(n) for n in (1, 4, 30)] == pytest.approx([12.7062, 2.7764, 2.0423], abs=1e-4)


def test_one_seed_has_no_deviation_and_none_has_nothing():
    one = summary([2.5])
    assert (one.n, one.mean, one.sd, one.interval) == (1, 2.5, None, None)
    assert summary([]) is None


def test_differences_are_taken_seed_by_seed():
    md, alone = {0: 71.0, 1: 75.0, 3: 90.0}, {0: 70.0, 1: 72.0, 2: 10.0}
    assert differences(md, alone) == {0: 1.0, 1: 3.0}
    found = paired(md, alone)
    assert (found.n, found.mean) == (2, 2.0)
    assert found.sd == pytest.approx(2**0.5)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_pairing_removes_what_seeds_have_in_common():
    alone = {seed: 10.0 * seed for seed in range(5)}
    md = {seed: number + 1 for seed, number in alone.items()}
    assert paired(md, alone).sd == pytest.approx(0.0)
    assert summary(list(md.values())).sd > 15
