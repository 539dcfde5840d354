"""Clocks, network, names and the cluster as a whole, from facts written by hand."""

import pytest

from raymd.execution.compat import UNEXPECTED
from raymd.execution.doctor import between
from raymd.execution.doctor.between import Clock, OwnName, Token, Transfer, clock_of
from raymd.execution.doctor.finding import Failed
from raymd.execution.doctor.storage_trip import StorageTrip, judge_trip
from tests.execution.doctor.facts import AGAINST, NODE, against, levels

MB = 10**6


def test_clock_is_taken_for_read_half_way():
    assert clock_of(100.0, 103.5, 101.0) == Clock(ahead_s=3.0, within_s=0.5)


@pytest.mark.parametrize(
    ("ahead", "within", "expected"),
    [
        (0.9, 0.1, "ok"),
        (-1.05, 0.1, "ok"),
        (1.2, 0.1, "warning"),
        (-1.2, 0.1, "warning"),
        (20.0, 30.0, "ok"),  # a question that took so long tells nothing
        (301.0, 0.1, "problem"),
        (-301.0, 0.1, "problem"),
    ],
)
def test_clocks(ahead, within, expected):
    assert levels(between.judge_clock(Clock(ahead, within), AGAINST)) == [expected]


def test_clock_says_which_way():
    assert between.judge_clock(Clock(-90.0, 0.1), AGAINST)[0].found == "1:30 behind the driver's"


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, "ok"), (1.0, "warning")])
def test_object_store_and_network_have_a_least_rate(seconds, expected):
    moved = Transfer(40 * MB, seconds, "two (10.0.0.2)")
    for judge in (between.judge_store, between.judge_network):
        (verdict,) = judge(moved, AGAINST)
        assert levels([verdict]) == [expected]
    assert "from two (10.0.0.2)" in verdict.found


def test_transfer_as_text():
    assert Transfer(64 * MB, 0.05).text == "64.0 MB in 0.05 s (1.3 GB/s)"


def test_nothing_that_comes_is_a_matter_of_ports():
    (verdict,) = between.judge_network(Failed("nothing came from two: no answer"), AGAINST)
    assert levels([verdict]) == ["problem"]
    assert "--object-manager-port" in verdict.remedy


@pytest.mark.parametrize(
    ("own", "nodes", "expected"),
    [
        (OwnName("one", "10.0.0.1"), 3, "ok"),
        (OwnName("one", "127.0.1.1"), 1, "ok"),
        (OwnName("one", "127.0.1.1"), 3, "warning"),
        (OwnName("one", None), 3, "warning"),
        (OwnName("one", "127.0.1.1", "eth0"), 3, "ok"),
    ],
)
def test_own_name(own, nodes, expected):
    assert levels(between.judge_own_name(own, against(nodes=nodes))) == [expected]


def described(node_id="a" * 56, *, alive=True, name="one", resources=None, **more):
    return {
        "NodeID": node_id,
        "Alive": alive,
        "NodeManagerHostname": name,
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {} if resources is None else resources,
        **more,
    }


def test_nodes_are_told_apart():
    resources = {"CPU": 4.0, "GPU": 2.0, "object_store_memory": 5.0, "node:10.0.0.1": 1.0}
    found = between.nodes_of(
        [
            described("a" * 56, resources=resources),
            described("b" * 56),
            described("c" * 56, name="three"),
            described("d" * 56, alive=False),
        ]
    )
    assert [node.name for node in found] == [
        "one (10.0.0.1) aaaaaa", "one (10.0.0.1) bbbbbb", "three (10.0.0.1)",
    ]  # fmt: skip
    first, second, _ = found
    assert (first.cpus, first.gpus, first.store_bytes) == (4, 2, 5)
    assert (second.cpus, second.gpus, second.store_bytes) == (0, 0, 0)


def test_nodes_that_were_lost_are_worth_knowing_and_those_told_to_go_are_not():
    told = described(alive=False, DeathReason=4)
    lost = described(name="two", alive=False, DeathReason=UNEXPECTED, DeathReasonMessage="no pulse")
    assert levels(between.judge_lost([described(), told], AGAINST)) == ["ok"]
    (verdict,) = between.judge_lost([described(), told, lost], AGAINST)
    assert levels([verdict]) == ["note"]
    assert verdict.found == "1 node lost so far, the last was two (10.0.0.1): no pulse"


def test_cluster_without_gpus_is_a_problem_for_who_wants_them():
    assert levels(between.judge_resources([NODE], AGAINST)) == ["ok"]
    (verdict,) = between.judge_resources([NODE], against(device="cuda"))
    assert levels([verdict]) == ["problem"]
    assert "--device cpu" in verdict.remedy


@pytest.mark.parametrize(
    ("is_asked", "is_own", "expected"),
    [
        (True, False, "ok"), (None, False, "note"), (False, True, "note"), (False, False, "warning")
    ],
)  # fmt: skip
def test_cluster_that_asks_for_no_token(is_asked, is_own, expected):
    assert levels(between.judge_token(Token(is_asked, is_own), AGAINST)) == [expected]


@pytest.mark.parametrize(
    ("trip", "expected"),
    [
        (StorageTrip("", 8 * MB, 0.1, 0.1, 10**11), ["ok"]),
        (StorageTrip("", 8 * MB, 0.1, 0.1), ["ok"]),  # an object store tells of no room
        (StorageTrip("", 8 * MB, 2.0, 0.1), ["warning"]),
        (StorageTrip("", 8 * MB, 0.1, 0.1, 10**9), ["warning"]),
        (StorageTrip("", 8 * MB, 2.0, 0.1, 10**7), ["warning", "problem"]),
        (StorageTrip("it sees another folder there, or none"), ["problem"]),
    ],
)
def test_storage(trip, expected):
    assert levels(judge_trip(trip, against(nodes=3))) == expected


def test_storage_that_is_not_shared_is_mended_otherwise_than_one_that_cannot_be_written():
    trip = StorageTrip("Permission denied")
    assert "s3://" in judge_trip(trip, against(nodes=3))[0].remedy
    assert judge_trip(trip, against(nodes=1))[0].remedy == "choose another: --storage DIR"
