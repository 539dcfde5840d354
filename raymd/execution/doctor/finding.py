"""What a finding is, and how a check that fails becomes one.

measured facts, what to hold them against -> Verdicts -> Findings
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Level = Literal["ok", "note", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "problem")
CLUSTER = "cluster"


class Verdict(NamedTuple):
    """What a check says: ``problem`` stops a run, ``warning`` slows or endangers it, ``note`` is
    worth knowing.

    Attributes:
        found: What there is.
        remedy: What to do about it; empty where nothing has to be done.
    """

    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict, of which check, on which node (or ``cluster``: on none of them alone)."""

    node: str
    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Failed:
    """What stands in the place of facts that could not be measured.

    Attributes:
        reason: In one line.
    """

    reason: str


@dataclass(frozen=True)
class Node:
    """A node as Ray describes it.

    Attributes:
        id, name, address: Its id in Ray, a name for people that no other node has, and its IP.
        cpus, gpus: That Ray counts.
        store_bytes: Of its part of the object store.
    """

    id: str
    name: str
    address: str
    cpus: float = 0
    gpus: float = 0
    store_bytes: int = 0


@dataclass(frozen=True)
class Against:
    """What a node's facts are held against.

    Attributes:
        node: The node, as Ray describes it.
        nodes: How many the cluster has.
        driver: Versions and processor of the driver (software.py).
        needs: The versions that raymd needs: a specifier such as ``>=2.7`` by package.
        device: What the user means to train on: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    node: Node
    nodes: int = 1
    driver: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"


Judge = Callable[[Any, Against], Sequence[Verdict]]


class Check(NamedTuple):
    """Something a node can be asked: ``measure`` runs there, ``judge`` in the driver.

    Attributes:
        limit_s: How long programs that it starts may take, where they may hang. Such checks are
            asked for after the others, which they would else hide.
    """

    name: str
    measure: Callable[[], Any]
    judge: Judge
    limit_s: float = 0.0


def one_line(error: BaseException) -> str:
    """An error as one line: the last one of a remote traceback, which is the error's own."""
    return str(error).strip().rpartition("\n")[2].strip() or type(error).__name__


def attempted(measure: Callable[[], Any]) -> Any:
    """What a function measures, or Failed: one check that breaks does not hide the others."""
    try:
        return measure()
    except Exception as error:
        return Failed(f"{type(error).__name__}: {one_line(error)}")


def findings_of(check: str, facts: Any, judge: Judge, against: Against) -> list[Finding]:
    """Judge what was measured.

    Args:
        check: Its name.
        facts: Measured, or Failed.
        judge: Of such facts.
        against: What to hold them against.

    Returns:
        A finding for each verdict; one that says so where the check itself has failed.
    """
    judged = facts if isinstance(facts, Failed) else attempted(lambda: judge(facts, against))
    if isinstance(judged, Failed):
        found = f"not known, for the check failed ({judged.reason})"
        judged = [Verdict("warning", found, "look at it by hand; the other checks stand")]
    return named(against.node.name, check, judged)


def named(node: str, check: str, verdicts: Iterable[Verdict]) -> list[Finding]:
    """Verdicts as findings of a node."""
    return [Finding(node, check, *verdict) for verdict in verdicts]


def count(findings: Iterable[Finding], level: Level) -> int:
    """How many findings are of a level."""
    return sum(finding.level == level for finding in findings)
