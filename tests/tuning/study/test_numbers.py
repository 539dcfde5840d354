"""The paper's numbers are typed a second time here, as the paper's summary lists them."""

from math import isnan

import pytest

from raymd.models.names import check_name
from tuning.study import numbers as paper
from tuning.study.scales import NETWORKS
from tuning.study.studies import STUDIES

# pair: I(m1), I(m2) -> MD(m1), MD(m2), in the paper's order
TABLE1_CIFAR10 = """93.36, 93.84 -> 94.27, 95.60 | 95.35, 93.84 -> 95.72, 95.48
 | 77.58, 93.36 -> 80.23, 93.81 | 93.84, 93.84 -> 95.72, 95.75 | 95.35, 95.35 -> 95.62, 95.76
 | 93.36, 93.36 -> 94.10, 94.33"""
TABLE1_CIFAR100 = """72.57, 74.02 -> 74.85, 77.75 | 77.57, 74.02 -> 78.57, 79.09
 | 43.85, 72.57 -> 49.79, 74.08 | 74.02, 74.02 -> 77.81, 77.47 | 77.57, 77.57 -> 78.55, 78.85
 | 72.57, 72.57 -> 75.43, 75.45"""
TABLE2 = """69.76, 69.76 -> 70.53, 70.44 | 69.76, 76.15 -> 70.65, 76.38
 | 69.76, 58.10 -> 70.11, 58.98"""
TABLE3 = "77.58 78.60 78.67 79.87 | 43.85 47.32 46.08 50.13 | 93.84 94.81 94.97 95.56 | " + (
    "74.02 76.92 77.38 77.81"
)
TABLE4 = """NaN 79.37 79.30 79.51 79.30 79.43 79.35 79.42 | NaN 79.56 79.21 79.59 79.46 79.68 79.28
 79.48 | NaN NaN 79.97 80.23 80.22 80.44 79.79 80.17
 | NaN NaN 93.72 93.81 93.41 93.46 93.67 93.68"""
TABLE5 = "77.72 78.29 78.90 78.84 79.43 79.41 | 77.96 78.54 78.96 79.04 79.59 79.31"
TABLE6 = "77.58 79.49 79.87 | 43.85 49.96 50.13 | 93.36 93.93 94.33 | 72.57 75.32 75.45"


def rows(text):
    return [[float(word) for word in row.split()] for row in text.split("|")]


def pairs(text):
    return [
        tuple(tuple(float(n) for n in side.split(",")) for side in row.split("->"))
        for row in text.split("|")
    ]


def same(found, typed):
    return all(
        (isnan(a) and isnan(b)) or a == b
        for row, other in zip(found, typed, strict=True)
        for a, b in zip(row, other, strict=True)
    )


@pytest.mark.parametrize(
    ("table", "typed"),
    [
        (paper.TABLE1["cifar10"], TABLE1_CIFAR10),
        (paper.TABLE1["cifar100"], TABLE1_CIFAR100),
        (paper.TABLE2["imagenet"], TABLE2),
    ],
)
def test_pairs_are_the_papers(table, typed):
    assert [(row.alone, row.together) for row in table] == pairs(typed)


@pytest.mark.parametrize(("table", "typed"), [(paper.TABLE3, TABLE3), (paper.TABLE6, TABLE6)])
def test_methods_are_the_papers(table, typed):
    found = [[*numbers.values()] for by_data in table.values() for numbers in by_data.values()]
    assert same(found, rows(typed))


def test_temperatures_and_distillation_epochs_are_the_papers():
    assert same([row for both in paper.TABLE4.values() for row in both], rows(TABLE4))
    assert same(paper.TABLE5, rows(TABLE5))
    assert len(paper.TABLE4_T) == 8
    assert len(paper.TABLE5_TD) == 6


def test_baselines_of_a_network_are_the_same_in_all_tables():
    for data, table in paper.TABLE1.items():
        alone = {}
        for row in table:
            for network, accuracy in zip(row.networks, row.alone, strict=True):
                assert alone.setdefault(network, accuracy) == accuracy
        for other in (paper.TABLE3, paper.TABLE6):
            for network, by_data in other.items():
                assert by_data[data]["independent"] == alone[network]


def test_networks_are_raymds_and_have_a_name():
    named = {name for table in (*paper.TABLE1.values(), *paper.TABLE2.values()) for row in table
             for name in row.networks}  # fmt: skip
    for name in named | {*paper.TABLE3, *paper.TABLE6}:
        check_name(name)
        assert name in NETWORKS
        assert paper.label(name) != name


def test_every_study_has_its_cautions():
    assert paper.CAUTIONS.keys() == STUDIES.keys()
    for name in ("table1", "table3", "table4", "table5", "table6", "figure5"):
        assert any("equal epochs" in text for text in paper.CAUTIONS[name])
        assert any("up to 0.4 points" in text for text in paper.CAUTIONS[name])
    assert any("80.44 at t = 5" in text for text in paper.CAUTIONS["table4"])
    assert any("better of a pair" in text for text in paper.CAUTIONS["table6"])
    assert any("published weights" in text for text in paper.CAUTIONS["table2"])
