"""The list of epochs: which cycle, phase, loss weights, learning rate and teacher each one has.

A student is at a position (epoch, step) in this list, and everything it does follows from the
position and the settings. Nothing here knows of Ray, of time or of other students.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from raymd.distillation.methods import Method

Phase = Literal["independent", "distillation"]


class Position(NamedTuple):
    """Where a student stands: this epoch and step come next. Ordered."""

    epoch: int
    step: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch of the list.

    Attributes:
        index: Its place, from 0.
        cycle: Its cycle, from 0; teachers and soft labels are numbered by it.
        phase: ``independent`` or ``distillation``.
        r: Its place within its phase, from 0.
        alpha, beta: Weights of task loss and KL (Eq. 11); (1, 0) without a teacher.
        lr_factor: What the student's learning rate is multiplied by.
        publishes: Students publish soft labels of this cycle *before* this epoch begins.
    """

    index: int
    cycle: int
    phase: Phase
    r: int
    alpha: float
    beta: float
    lr_factor: float
    publishes: bool


@dataclass(frozen=True)
class Schedule:
    """All epochs of a run; the same for every student."""

    epochs: tuple[Epoch, ...]

    @property
    def start(self) -> Position:
        """The beginning of the run."""
        return Position(0)

    @property
    def end(self) -> Position:
        """The position behind the last epoch."""
        return Position(len(self.epochs))

    @property
    def barriers(self) -> tuple[int, ...]:
        """Indices of the epochs before which students publish and wait for a teacher."""
        return tuple(epoch.index for epoch in self.epochs if epoch.publishes)

    def barrier_at(self, position: Position) -> Epoch | None:
        """The epoch whose teacher students publish for at this very position, if there is one."""
        if position.step != 0 or position.epoch >= len(self.epochs):
            return None
        epoch = self.epochs[position.epoch]
        return epoch if epoch.publishes else None

    def first_drop_inside_distillation(self) -> int | None:
        """The first epoch of a distillation phase that trains at a lower rate than its teacher's
        members did; None if every drop falls on an independent phase."""
        pairs = zip(self.epochs, self.epochs[1:], strict=False)
        inside = (
            b.index for a, b in pairs if b.lr_factor < a.lr_factor and b.phase == "distillation"
        )
        return next(inside, None)


LR_MILESTONES = (0.5, 0.75)
LR_GAMMA = 0.1


def drop_epochs(*, epochs: int, cycle_epochs: int, lr_drop: str) -> tuple[int, ...]:
    """The epochs from which the learning rate is ten times smaller, once for each.

    Args:
        epochs: The budget.
        cycle_epochs: Tin + Td.
        lr_drop: ``exact``: at 50 % and 75 % of all epochs, the paper's words; ``cycle``: each
            moved to the next cycle boundary.
    """
    exact = [math.ceil(milestone * epochs) for milestone in LR_MILESTONES]
    if lr_drop == "cycle":
        return tuple(math.ceil(epoch / cycle_epochs) * cycle_epochs for epoch in exact)
    return tuple(exact)


@dataclass(frozen=True)
class Fading:
    """How much of a method's distillation there is, beyond the paper: its own by default.

    Attributes:
        alpha_floor: Least weight of the task loss in a distillation epoch.
        kd_ramp: Cycles over which distillation comes in: cycle c has (c + 1) / (kd_ramp + 1) of
            it, the rest being the independent loss; 0: all of it from the first on.
        kd_until: The first epoch from which all are independent; None: none.
    """

    alpha_floor: float = 0.0
    kd_ramp: int = 0
    kd_until: int | None = None

    def weights(self, alpha: float, beta: float, *, cycle: int) -> tuple[float, float]:
        """alpha and beta in a cycle; (1, 0) is the independent loss."""
        part = (cycle + 1) / (self.kd_ramp + 1)
        if part < 1.0:
            alpha, beta = 1.0 - part * (1.0 - alpha), part * beta
        return max(self.alpha_floor, alpha), beta


NO_FADING = Fading()


class _Place(NamedTuple):
    """An epoch among its method's phases: the length of its phase in ``td``, its place in ``r``."""

    cycle: int
    phase: Phase
    r: int
    td: int


def _place(method: Method, index: int, *, epochs: int, tin: int, td: int, refresh: int) -> _Place:
    if method.phases == "always":
        return _Place(0, "distillation", index, epochs)
    if method.phases == "after_burn_in":
        cycle, r = divmod(max(0, index - tin), refresh)
        burns_in = index < tin
        return _Place(
            cycle, "independent" if burns_in else "distillation", index if burns_in else r, refresh
        )
    cycle, place = divmod(index, tin + td)
    if place < tin or not method.distils:
        return _Place(cycle, "independent", place, td)
    return _Place(cycle, "distillation", place - tin, td)


def build_schedule(
    *,
    method: Method,
    epochs: int,
    tin: int,
    td: int,
    lr_drop: str,
    refresh_epochs: int = 5,
    fading: Fading = NO_FADING,
) -> Schedule:
    """The schedule of a run: phases as the method has them, until the budget is spent.

    A last cycle may be cut short; if it ends within its independent phase nothing is published.
    ``independent`` keeps the cycle numbers and the learning rate, so that up to the first
    distillation step its epochs equal md's.

    Args:
        method: Of methods.METHODS, or a variation of one.
        epochs: The budget in epochs.
        tin, td: Lengths of the two phases in epochs.
        lr_drop: ``exact`` or ``cycle`` (see drop_epochs).
        refresh_epochs: How long a teacher is kept by a method without cycles.
        fading: How much distillation there is.
    """
    drops = drop_epochs(epochs=epochs, cycle_epochs=tin + td, lr_drop=lr_drop)

    def epoch_at(index: int) -> Epoch:
        at = _place(method, index, epochs=epochs, tin=tin, td=td, refresh=refresh_epochs)
        lr_factor = LR_GAMMA ** sum(index >= drop for drop in drops)
        is_over = fading.kd_until is not None and index >= fading.kd_until
        if at.phase == "independent" or is_over:
            return Epoch(index, at.cycle, "independent", at.r, 1.0, 0.0, lr_factor, False)
        alpha, beta = fading.weights(*method.loss_weights(at.r, at.td), cycle=at.cycle)
        publishes = method.exchanges and at.r == 0
        return Epoch(index, at.cycle, at.phase, at.r, alpha, beta, lr_factor, publishes)

    return Schedule(tuple(epoch_at(index) for index in range(epochs)))
