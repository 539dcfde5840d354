"""How many points train at a time, and what each of their workers gets.

    the largest point, the cluster's nodes -> Concurrency

Pure. One run alone takes the whole cluster for its students; of a search that would leave room for
one point at a time. So points are put beside each other first, and CPUs are shared after that. The
common admission (raymd/execution/admission.py) keeps whoever does not fit after all waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from raymd.config import FitConfig
from raymd.execution.plan import Resources, choose_device, largest_share, num_fitting
from raymd.view.text import count_of


@dataclass(frozen=True)
class Concurrency:
    """What was decided.

    Attributes:
        points: At a time.
        cpus_per_worker: CPUs of each training worker.
        why: In words.
    """

    points: int
    cpus_per_worker: float
    why: str


def choose_concurrency(
    config: FitConfig,
    *,
    num_workers: int,
    widest: int,
    nodes: Sequence[Resources],
    num_points: int,
    most: int | None = None,
) -> Concurrency:
    """Decide it from the point with the most workers.

    Args:
        config: Of any point; what it says of devices, CPUs and slots holds for all.
        num_workers: Workers of the largest point, over all its students.
        widest: The most workers of one student, which have to run at the same time.
        nodes: What each node has in all.
        num_points: Points there are.
        most: As the user asked for, at most.

    Raises:
        UserError: the device is not there.
    """
    device = choose_device(config.device, nodes=nodes, gpus_per_worker=config.gpus_per_worker)
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if device == "cuda" else 0.0
    cpus = config.cpus_per_worker or (0.0 if gpus else 1.0)
    fitting = num_fitting(_some(CPU=cpus, GPU=gpus), nodes)
    needed = max(widest, min(num_workers, config.slots or num_workers))
    fit = max(1, fitting // needed)
    points = min(fit, num_points, most or fit)
    share = config.cpus_per_worker or largest_share(
        "CPU", points * min(needed, max(fitting, widest)), nodes, others=_some(GPU=gpus)
    )
    why = f"the largest has {count_of(needed, 'worker')}, the cluster holds {fitting}"
    if fitting < needed:
        why += ", so its students take turns"
    elif points == most and points < fit:
        why += ", no more are asked for"
    elif points < fit:
        why += ", and there are no more points"
    return Concurrency(points, share or 1.0, why)


def _some(**amounts: float) -> dict[str, float]:
    return {name: amount for name, amount in amounts.items() if amount > 0}
