"""Who may hold which part of a cluster: leases, first come first served.

    what jobs ask for, what the nodes have -> Leases -> grants, and what a waiting job is told

Pure: the clock and the nodes enter as numbers. Only the first of those waiting may be granted, and
all of its bundles or none. So no two jobs hold half of what they need and wait for each other, and
a job that needs the whole cluster gets it once those before it have ended.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from raymd.execution.plan import ROUNDING, Resources
from raymd.view.text import count_of, duration, listed


@dataclass(frozen=True)
class Lease:
    """What a job holds of the cluster or, before it is granted, waits for.

    Attributes:
        job: Who; a job has one lease.
        run: How people know it.
        bundles: One a worker; each lies on one node.
        asked_at: When, in seconds; the order of the queue.
        granted_at: When, in seconds; None while it waits.
    """

    job: str
    run: str
    bundles: tuple[Resources, ...]
    asked_at: float
    granted_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the job's monitor remembers it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, remembered: Mapping[str, Any]) -> Self:
        """The inverse of to_dict."""
        return cls(**remembered)


class Leases:
    """What is held and what is waited for.

    Attributes:
        nodes: What each node of the cluster has in all.
    """

    def __init__(self) -> None:
        self.nodes: tuple[Resources, ...] = ()
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, job: str) -> Lease | None:
        """A job's lease."""
        return self._leases.get(job)

    def put(self, lease: Lease) -> None:
        """Take in what a job asks for, or holds already; in place of what it had before."""
        self._leases[lease.job] = lease

    def drop(self, job: str) -> None:
        """A job gives its lease back, waits no longer, or has died."""
        self._leases.pop(job, None)

    @property
    def held(self) -> list[Lease]:
        """Granted leases, the oldest first."""
        granted = [lease for lease in self._leases.values() if lease.granted_at is not None]
        return sorted(granted, key=lambda lease: lease.granted_at or 0.0)

    @property
    def waiting(self) -> list[Lease]:
        """The queue, its head first."""
        asked = [lease for lease in self._leases.values() if lease.granted_at is None]
        return sorted(asked, key=lambda lease: lease.asked_at)

    def grant(self, *, at: float) -> list[Lease]:
        """Grant the head of the queue as long as it fits beside what is held.

        Args:
            at: The time, in seconds.

        Returns:
            The leases granted by this call.
        """
        granted = []
        for lease in self.waiting:
            if not fits([*self._held_bundles(), *lease.bundles], self.nodes):
                break
            granted.append(replace(lease, granted_at=at))
            self.put(granted[-1])
        return granted

    def lacking(self) -> tuple[Resources, ...]:
        """What the cluster would have to hold for the head of the queue; empty if nobody waits."""
        return (*self._held_bundles(), *self.waiting[0].bundles) if self.waiting else ()

    def explain(self, job: str, *, now: float) -> str:
        """What a waiting job is told: what it waits for, who has it, and what would help.

        Args:
            job: One that waits.
            now: The time, in seconds.
        """
        queue = self.waiting
        before = queue[: [lease.job for lease in queue].index(job)]
        own = self._leases[job]
        holders = [
            f"{lease.run} has held {_workers(lease.bundles)} for {_since(lease.granted_at, now)}"
            for lease in self.held
        ]
        ahead = [f"{_asked(lease, now)} ago for {_workers(lease.bundles)}" for lease in before]
        facts = [
            f"{_asked(own, now)} ago for {_workers(own.bundles)} at once",
            f"the cluster has {_there(self.nodes)}",
            *([listed(holders)] if holders else []),
            *([f"before it, {listed(ahead)}"] if ahead else []),
        ]
        return f"{'; '.join(facts)}. {self._remedy(own, before)}"

    def _remedy(self, own: Lease, before: Sequence[Lease]) -> str:
        if not fits(own.bundles, self.nodes):
            return (
                "The whole cluster is too small: add nodes (an autoscaler has been asked to), or "
                "stop this run and ask for less (--placement sliced, fewer --slots or --students)"
            )
        if (first := (*before, own)[0]) is not own and not fits(first.bundles, self.nodes):
            return f"{first.run} is too large for the cluster: add nodes, or stop that run"
        return "It begins once enough of that is given back, or nodes are added"

    def _held_bundles(self) -> list[Resources]:
        return [bundle for lease in self.held for bundle in lease.bundles]


def fits(bundles: Iterable[Resources], nodes: Iterable[Resources]) -> bool:
    """Whether nodes hold all bundles at once, each bundle on one node.

    First fit, the largest first: exact for equal bundles, which the workers of one job are. Among
    several jobs' it may miss a packing, so that one waits for more room than it needs.

    Args:
        bundles: Resources of each; parts of a GPU, or whole ones.
        nodes: What each node has in all.
    """
    # workers without a GPU go to nodes without one, as long as there are any
    free = [_Node(node) for node in sorted(nodes, key=lambda node: node.get("GPU", 0.0))]
    ordered = sorted(bundles, key=_size, reverse=True)
    return all(any(node.take(bundle) for node in free) for bundle in ordered)


def _size(bundle: Resources) -> tuple[float, float, float]:
    return bundle.get("GPU", 0.0), bundle.get("CPU", 0.0), sum(bundle.values())


class _Node:
    """What is free of one node."""

    def __init__(self, resources: Resources) -> None:
        self.free = {name: amount for name, amount in resources.items() if name != "GPU"}
        whole, part = divmod(resources.get("GPU", 0.0), 1.0)
        self.gpus = [part, *([1.0] * int(whole))]

    def take(self, bundle: Resources) -> bool:
        """Place a bundle here, if it fits."""
        others = {name: amount for name, amount in bundle.items() if name != "GPU"}
        gpus = _without(self.gpus, bundle.get("GPU", 0.0))
        if gpus is None or any(
            self.free.get(name, 0.0) + ROUNDING < amount for name, amount in others.items()
        ):
            return False
        self.gpus = gpus
        self.free |= {name: self.free.get(name, 0.0) - amount for name, amount in others.items()}
        return True


def _without(gpus: Sequence[float], amount: float) -> list[float] | None:
    """What is left of GPUs once an amount is taken: whole ones, or a part of a single one."""
    left = sorted(gpus)  # the fullest that still holds a part, so that whole ones stay whole
    if amount <= 0:
        return left
    share = min(amount, 1.0)
    for _ in range(max(1, round(amount))):
        index = next((i for i, free in enumerate(left) if free + ROUNDING >= share), None)
        if index is None:
            return None
        left[index] -= share
    return left


def _asked(lease: Lease, now: float) -> str:
    return f"{lease.run} asked {_since(lease.asked_at, now)}"


def _since(then: float | None, now: float) -> str:
    # clocks may be set back
    return duration(max(0.0, now - (now if then is None else then)))


def _workers(bundles: Iterable[Resources]) -> str:
    kinds = Counter(_amounts(bundle) for bundle in bundles)
    return " and ".join(f"{count_of(n, 'worker')} of {amounts}" for amounts, n in kinds.items())


def _there(nodes: Sequence[Resources]) -> str:
    totals = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    return f"{_amounts(totals)} on {count_of(len(nodes), 'node')}"


def _amounts(resources: Resources) -> str:
    some = [
        f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"
        for name, amount in resources.items()
        if amount > 0
    ]
    return " and ".join(some) or "nothing"
