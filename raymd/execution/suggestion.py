"""How many workers each student should have, so that none holds up the others. Pure."""

from collections.abc import Mapping, Sequence

from raymd.execution.plan import (
    Plan,
    largest_share,
    num_fitting,
)
from raymd.view.preview import (
    Suggestion,
)

WORTH_SUGGESTING = 0.9
MOST_WORKERS = 64


def suggest_workers(
    epoch_s: Mapping[str, float],
    plan: Plan,
    *,
    nodes: Sequence[Mapping[str, float]],
    batch_sizes: Mapping[str, int],
    cpus_asked: bool,
) -> Suggestion | None:
    """Workers with which the slowest student takes a tenth less time, or None.

    Args:
        epoch_s: Seconds of an epoch of each student with the plan's workers.
        plan: The plan.
        nodes: As in make_plan.
        batch_sizes: By student; no worker may be left without images.
        cpus_asked: Whether CPUs for each worker were asked for; if not, more workers have fewer.
    """
    together = len(plan.workers) < len(plan.students)  # then no student has workers of its own
    if together or plan.device == "mps" or 0 < plan.gpus_per_worker < 1:
        return None
    # seconds that one worker would need, if workers add up
    alone_s = {student: epoch_s[student] * plan.workers[student] for student in plan.students}
    before_s = max(epoch_s.values())
    best_s, best = WORTH_SUGGESTING * before_s, None
    for total in range(len(plan.students), MOST_WORKERS + 1):
        speed = _speed(total, plan, nodes, cpus_asked=cpus_asked)
        if speed is None:
            break
        workers = share_out(alone_s, total, limits=batch_sizes)
        slowest_s = max(alone_s[student] / workers[student] for student in workers) / speed
        if slowest_s < best_s * (1 - 1e-6):
            best_s, best = slowest_s, workers
    if best is None:
        return None
    return Suggestion(best, _flags(best, plan.workers), before_s, best_s)


def _speed(
    total: int, plan: Plan, nodes: Sequence[Mapping[str, float]], *, cpus_asked: bool
) -> float | None:
    """How quick each of so many workers would be, the plan's being 1; None if they do not fit."""
    if cpus_asked:
        return 1.0 if num_fitting(plan.worker_resources, nodes) >= total else None
    others = {"GPU": plan.gpus_per_worker} if plan.gpus_per_worker else {}
    cpus = largest_share("CPU", total, nodes, others=others)
    if cpus is None or cpus < min(1.0, plan.cpus_per_worker):
        return None
    return 1.0 if plan.device == "cuda" else max(1, int(cpus)) / plan.threads


def share_out(
    alone_s: Mapping[str, float], total: int, *, limits: Mapping[str, int]
) -> dict[str, int]:
    """So many workers over the students, each next one to whoever is slowest then.

    Args:
        alone_s: Seconds that a student needs with one worker.
        total: Workers at most, no fewer than students.
        limits: The most workers of each.
    """
    workers = dict.fromkeys(alone_s, 1)
    for _ in range(total - len(workers)):
        slowest = max(workers, key=lambda student: alone_s[student] / workers[student])
        if workers[slowest] >= limits[slowest]:
            break  # no other worker makes the slowest quicker
        workers[slowest] += 1
    return workers


def _flags(workers: Mapping[str, int], now: Mapping[str, int]) -> str:
    counts = set(workers.values())
    if len(counts) == 1:
        return f"--workers_per_student {counts.pop()}"
    changed = {student: n for student, n in workers.items() if n != now[student]}
    return " ".join(f"--student.{s}.workers_per_student {n}" for s, n in changed.items())
