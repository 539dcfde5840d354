"""`raymd doctor` on findings written by hand: what is printed, and the exit code."""

import csv
import io
import json

import pytest

from raymd.cli import main
from raymd.execution.doctor import examine as examine_module
from raymd.execution.doctor.examine import Examination
from raymd.execution.doctor.finding import CLUSTER, Finding

WELL = Finding("one", "clock", "ok", "as the driver's")
SLOW = Finding("one", "network", "warning", "slow", "take a faster one")
BAD = Finding("two", "storage", "problem", "[not] shared", "--storage s3://…")
RAY = Finding(CLUSTER, "Ray", "ok", "the Ray at 10.0.0.1:6379")


@pytest.fixture
def found(monkeypatch):
    """What the examination finds; the arguments that it is called with are kept."""
    findings = [RAY, WELL]

    def examine(storage, **options):
        findings.asked = {"storage": storage, **options}
        options["say"]("asking with s3://KEY:SECRET@bucket")
        nodes = tuple(dict.fromkeys(one.node for one in findings if one.node != CLUSTER))
        return Examination(RAY.found, nodes, tuple(findings))

    findings = type("Findings", (list,), {})(findings)
    monkeypatch.setattr(examine_module, "examine", examine)
    return findings


def test_code_is_1_only_where_there_is_a_problem(found, capsys):
    assert main(["doctor"]) == 0
    found.append(SLOW)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("0 problems, 1 warning\n")
    found.append(BAD)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("1 problem, 1 warning\n")


def test_table_has_a_part_a_node_and_says_what_to_do(found, capsys):
    found += [SLOW, BAD]
    main(["doctor"])
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [line for line in lines if line in (CLUSTER, "one", "two")] == [CLUSTER, "one", "two"]
    assert "storage problem [not] shared" in lines
    assert lines[lines.index("storage problem [not] shared") + 1] == "-> --storage s3://…"
    assert lines.index("one") < lines.index("clock ok as the driver's") < lines.index("two")
    assert err == "asking with s3://***@bucket ...\n"


def test_of_many_nodes_only_what_is_not_well_is_shown(found, capsys):
    found += [Finding(str(number), "clock", "ok", "as the driver's") for number in range(4)]
    found += [SLOW]
    main(["doctor"])
    out = capsys.readouterr().out
    assert "as the driver's" not in out
    assert out.count("1 other check") == 6
    assert "take a faster one" in out


def test_json_and_csv_hold_every_finding(found, capsys, tmp_path):
    found += [SLOW, BAD]
    assert main(["doctor", "--json", "--storage", str(tmp_path)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["problems"], said["warnings"], said["nodes"]) == (1, 1, ["one", "two"])
    assert (said["where"], said["storage"]) == (RAY.found, str(tmp_path))
    assert said["findings"][-1] == {
        "node": "two", "check": "storage", "level": "problem", "found": "[not] shared",
        "remedy": "--storage s3://…",
    }  # fmt: skip
    assert main(["doctor", "--format", "csv", "--output", str(tmp_path / "f.csv")]) == 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text(encoding="utf-8"))))
    assert [row["check"] for row in rows] == ["Ray", "clock", "network", "storage"]


def test_flags_reach_the_examination(found, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    main(["doctor"])
    assert (found.asked["address"], found.asked["device"]) == (None, "auto")
    main(
        ["doctor", "--address", "h:1", "--device", "cuda", "--storage", "s3://b/runs", "--verbose"]
    )
    assert found.asked["storage"] == "s3://b/runs"
    assert [found.asked[key] for key in ("address", "device", "verbose")] == ["h:1", "cuda", True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adress", "h:1"], "did you mean --address"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--output", "/nowhere/at/all"], "no folder /nowhere/at"),
    ],
)
def test_mistakes_end_with_2(words, said, capsys):
    assert main(["doctor", *words]) == 2
    assert said in capsys.readouterr().err


def test_address_where_nobody_listens_ends_with_2(capsys):
    assert main(["doctor", "--address", "127.0.0.1:1"]) == 2
    assert "no Ray cluster to join at '127.0.0.1:1'" in capsys.readouterr().err
