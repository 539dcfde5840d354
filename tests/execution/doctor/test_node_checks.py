"""Software and room of a node: every level of every check, from facts written by hand."""

from types import SimpleNamespace

import pytest

from raymd.execution.doctor import examine, gpu_facts, room, software
from raymd.execution.doctor.checks import CHECKS, judge_all, measure_all
from raymd.execution.doctor.finding import Against, Failed, attempted, findings_of
from raymd.execution.doctor.room import Room
from tests.execution.doctor.facts import AGAINST, NODE, SOFTWARE, against, levels

GB = 10**9


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "ok", "python 3.11.7, raymd 0.1.0"),
        ({"python": "3.11.9"}, "note", "python 3.11.9, and the driver's is 3.11.7"),
        ({"python": "3.12.1"}, "problem", "python 3.12.1"),
        ({"raymd": "0.2.0"}, "problem", "raymd 0.2.0, and the driver has 0.1.0"),
        ({"code": "beef"}, "warning", "raymd's code there is not the driver's"),
        ({"raymd": "0.2.0", "code": "beef"}, "problem", "raymd 0.2.0"),
        ({"ray": "2.61.0"}, "problem", "ray 2.61.0"),
        ({"torch": None}, "problem", "no torch"),
        ({"torch": "2.6.0"}, "problem", "torch 2.6.0, and raymd needs >=2.7"),
        ({"torch": "2.9.0"}, "warning", "torch 2.9.0, and the driver has 2.8.0"),
        ({"torch": "2.8.0+cu128"}, "warning", "torch 2.8.0+cu128"),
        ({"numpy": "2.2.0"}, "warning", "numpy 2.2.0"),
    ],
)
def test_versions_are_held_against_the_drivers_and_raymds_needs(changes, level, said):
    (verdict,) = software.judge_versions({**SOFTWARE, **changes}, AGAINST)
    assert levels([verdict]) == [level]
    assert verdict.found.startswith(said)


def test_each_package_that_differs_is_told():
    found = {**SOFTWARE, "torch": "2.9.0", "pyarrow": None, "python": "3.11.9"}
    assert levels(software.judge_versions(found, AGAINST)) == ["note", "warning", "problem"]


def test_package_that_neither_has_is_no_finding():
    neither = Against(AGAINST.node, driver={**SOFTWARE, "raymd": None})
    assert levels(software.judge_versions({**SOFTWARE, "raymd": None}, neither)) == ["ok"]


def test_needs_are_those_of_raymds_own_metadata_without_extras():
    needs = software.needs()
    assert needs["torch"].startswith(">=")
    assert "ray" in needs
    assert "optuna" not in needs


def test_another_processor_is_worth_knowing():
    assert levels(software.judge_processor({"cpu": "EPYC"}, AGAINST)) == ["ok"]
    (verdict,) = software.judge_processor({"cpu": "Xeon"}, AGAINST)
    assert (verdict.level, verdict.found) == ("note", "Xeon, and the driver's is EPYC")


@pytest.mark.parametrize(
    ("value", "of_driver", "of_node"), [("1", "ok", "ok"), ("0", "problem", "note")]
)
def test_variables_count_where_ray_reads_them(monkeypatch, value, of_driver, of_node):
    for name in (*software.OF_DRIVER, *software.OF_NODE):
        monkeypatch.setenv(name, value)
    found = software.measure_variables()
    assert levels(software.judge_driver_variables(found, AGAINST)) == [of_driver]
    assert levels(software.judge_node_variables(found, AGAINST)) == [of_node]
    assert levels(software.judge_node_variables({}, AGAINST)) == ["ok"]


def test_little_memory_is_a_warning():
    assert levels(room.judge_memory(Room("memory", 8 * GB, 3 * GB), AGAINST)) == ["ok"]
    assert levels(room.judge_memory(Room("memory", 8 * GB, 1 * GB), AGAINST)) == ["warning"]


def test_shared_memory_below_the_object_store_names_dockers_flag():
    assert levels(room.judge_shared_memory(None, AGAINST)) == ["ok"]
    large = Room("/dev/shm", 4 * GB, 1 * GB)  # what is taken of it is the store itself
    assert levels(room.judge_shared_memory(large, AGAINST)) == ["ok"]
    (verdict,) = room.judge_shared_memory(Room("/dev/shm", 64 * 2**20, 0), AGAINST)
    assert levels([verdict]) == ["warning"]
    assert "--shm-size=2g" in verdict.found


@pytest.mark.parametrize(
    ("free", "expected"), [(50, "ok"), (9, "warning"), (5, "problem"), (0, "problem")]
)
def test_disk_that_ray_would_spill_nothing_to(free, expected):
    disk = Room("/tmp/ray", 100 * GB, free * GB)
    assert levels(room.judge_disk(disk, AGAINST)) == [expected]


def test_disk_below_the_store_and_one_not_known_are_worth_knowing():
    assert levels(room.judge_disk(Room("/tmp/ray", 3 * GB, 1 * GB), AGAINST)) == ["note"]
    assert levels(room.judge_disk(None, AGAINST)) == ["note"]


def test_more_cpus_than_the_container_has():
    assert levels(room.judge_cpus(4.0, against(cpus=4))) == ["ok"]
    (verdict,) = room.judge_cpus(2.5, against(cpus=16))
    assert levels([verdict]) == ["warning"]
    assert "--num-cpus 2" in verdict.remedy


@pytest.mark.parametrize(
    ("soft", "nodes", "expected"),
    [
        (65_536, 3, "ok"), (1024, 3, "warning"), (1024, 1, "note"), (20_000, 1, "ok"), (-1, 3, "ok")
    ],
)  # fmt: skip
def test_open_files(soft, nodes, expected):
    assert levels(room.judge_open_files((soft, -1), against(nodes=nodes))) == [expected]


def test_quota_of_a_container_counts(tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(room, "CPU_QUOTA", quota)
    all_cores = room.measure_cpus()
    quota.write_text("max 100000\n")
    assert room.measure_cpus() == all_cores
    quota.write_text("50000 100000\n")
    assert room.measure_cpus() == 0.5


def test_this_machine_can_be_measured_and_judged():
    facts = {**measure_all(slow=False), **measure_all(slow=True)}
    assert {name: one for name, one in facts.items() if isinstance(one, Failed)} == {}
    driver = facts["versions"]
    found = judge_all(facts, Against(AGAINST.node, driver=driver, needs=software.needs()))
    assert {finding.check for finding in found} == {check.name for check in CHECKS}
    assert [one for one in found if "check failed" in one.found] == []
    assert [one.level for one in found if one.check in ("versions", "processor")] == ["ok", "ok"]


def test_check_that_fails_is_a_finding_with_its_error_and_the_others_stand():
    def breaks():
        raise OSError("first line\nno such device")

    facts = {**measure_all(slow=False), "GPUs": attempted(breaks), "memory": "nonsense"}
    found = {one.check: one for one in judge_all(facts, Against(AGAINST.node, driver=SOFTWARE))}
    for check, said in (("GPUs", "OSError: no such device"), ("memory", "AttributeError")):
        assert found[check].level == "warning"
        assert said in found[check].found
    assert found["CPUs"].level in ("ok", "warning")


def test_check_that_a_node_does_not_know_is_a_finding():
    found = judge_all({}, AGAINST)
    assert {one.level for one in found} == {"warning"}
    assert len(found) == len(CHECKS)


def test_finding_has_its_nodes_name():
    (finding,) = findings_of("memory", Room("memory", GB, GB), room.judge_memory, AGAINST)
    assert (finding.node, finding.check, finding.level) == ("one (10.0.0.1)", "memory", "warning")


def test_gpus_that_hang_hide_nothing_else(monkeypatch):
    others = measure_all(slow=False)
    assert set(others) == {check.name for check in CHECKS} - {"GPUs"}
    said = {False: {"n1": dict(others)}, True: {"n1": Failed("no answer within 115 s")}}
    limits = {}

    def ask(actors, call, *, timeout_s):
        slow = call("n1", actors["n1"])
        limits[slow] = timeout_s
        return said[slow]

    actor = SimpleNamespace(measure=SimpleNamespace(remote=lambda *, slow: slow))
    monkeypatch.setattr(examine, "ask", ask)
    monkeypatch.setattr(examine, "_links", lambda *args: [])
    found = list(examine._of_nodes([NODE], {"n1": actor}, "runs", "auto", lambda line: None))
    assert limits[True] > 2 * gpu_facts.SMI_S + gpu_facts.TORCH_S
    (late,) = [one for one in found if "check failed" in one.found]
    assert (late.check, "within 115 s" in late.found) == ("GPUs", True)
    assert {one.check for one in found} == {check.name for check in CHECKS}
