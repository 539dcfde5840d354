"""The checks of a node by itself. A new one is a row here, a function that measures on the node and
a pure one that judges."""

from typing import Any

from raymd.execution.doctor import between, gpu_facts, gpus, room, software
from raymd.execution.doctor.finding import Against, Check, Failed, Finding, attempted, findings_of

CHECKS = (
    Check("versions", software.measure_software, software.judge_versions),
    Check("processor", software.measure_software, software.judge_processor),
    Check("CPUs", room.measure_cpus, room.judge_cpus),
    Check("GPUs", gpu_facts.measure_gpus, gpus.judge_gpus, limit_s=gpu_facts.LIMIT_S),
    Check("memory", room.measure_memory, room.judge_memory),
    Check("shared memory", room.measure_shared_memory, room.judge_shared_memory),
    Check("disk of Ray", room.measure_disk, room.judge_disk),
    Check("open files", room.measure_open_files, room.judge_open_files),
    Check("host name", between.measure_own_name, between.judge_own_name),
    Check("variables", software.measure_variables, software.judge_node_variables),
)


def measure_all(*, slow: bool) -> dict[str, Any]:
    """Facts of this node by check, or Failed: of those checks that may take long, or the others."""
    return {check.name: attempted(check.measure) for check in CHECKS if bool(check.limit_s) == slow}


def limit_s() -> float:
    """The longest that all slow checks may take."""
    return sum(check.limit_s for check in CHECKS)


def judge_all(facts: dict[str, Any], against: Against) -> list[Finding]:
    """Findings of a node, of all checks."""
    missing = Failed("the node did not tell of it: another raymd there?")
    return [
        finding
        for check in CHECKS
        for finding in findings_of(check.name, facts.get(check.name, missing), check.judge, against)
    ]
