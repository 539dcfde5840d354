"""How students teach each other, with every choice taken: the Method and Schedule of a run.

Enters: what TeachingOptions' flags and the recipe amount to; Settings inherits these fields.
Leaves: the descriptions that the student loop, the publishing and the aggregator read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from raymd.distillation.methods import Method, Weights, get_method
from raymd.distillation.schedule import Fading, Schedule, build_schedule, drop_epochs
from raymd.errors import UserError

LAST_DROP, NEVER = "last_drop", "never"


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Attributes are FitConfig's and TeachingOptions' of the same name, with the values that hold
    where nobody says anything else: those of the paper."""

    method: str
    epochs: int
    tin: int
    td: int
    lr_drop: Literal["exact", "cycle"]
    weights: Weights | None = None
    teacher: Literal["stored", "live"] = "stored"
    views: int = 0
    publish: Literal["weights", "ema"] = "weights"
    correct_only: bool = False
    alpha_floor: float = 0.0
    kd_ramp: int = 0
    kd_until: str = NEVER
    refresh_epochs: int = 5
    dml_update: Literal["sequential", "simultaneous"] = "sequential"
    data_split: Literal["full", "disjoint"] = "full"
    relabel_fraction: float = 1.0
    loss_scale: float = 1.0

    def teaching(self) -> Method:
        """The method, with what was asked for in place of its own."""
        method = get_method(self.method)
        if self.teacher == "live" and method.source == "stored":
            return method.varied(weights=self.weights, source="live")
        return method.varied(weights=self.weights)

    def schedule(self) -> Schedule:
        """The run's list of epochs, the same for every student."""
        return build_schedule(
            method=self.teaching(),
            epochs=self.epochs,
            tin=self.tin,
            td=self.td,
            lr_drop=self.lr_drop,
            refresh_epochs=self.refresh_epochs,
            fading=Fading(self.alpha_floor, self.kd_ramp, self._kd_until()),
        )

    def _kd_until(self) -> int | None:
        """The first epoch from which all are independent; None: none."""
        if self.kd_until == NEVER:
            return None
        if self.kd_until == LAST_DROP:
            cycle_epochs = self.tin + self.td
            return max(
                drop_epochs(epochs=self.epochs, cycle_epochs=cycle_epochs, lr_drop=self.lr_drop)
            )
        return int(self.kd_until)

    def check_teaching(self, students: Sequence[str], *, num_teachers: int) -> None:
        """See that the options go together.

        Args:
            students: The students' ids.
            num_teachers: How many frozen teachers there are.

        Raises:
            UserError: They do not; with the flags.
        """
        for refusal in self._refusals(students, num_teachers):
            raise UserError(refusal)

    def _refusals(self, students: Sequence[str], num_teachers: int) -> Iterator[str]:
        method = get_method(self.method)
        if len(students) < method.least_students:
            yield (
                f"method {self.method} with {len(students)} student: a student learns of the others"
                f" there, so it takes {method.least_students} or more (--students, --method md)"
            )
        if method.taught_by == "teachers" and not num_teachers:
            yield (
                f"method {self.method} takes frozen teachers: name them and where their weights"
                " are, as in --teachers resnet50:runs/NAME (--teachers)"
            )
        if num_teachers and not (method.exchanges or method.taught_by == "teachers"):
            yield f"method {self.method} has no use for --teachers (--method kd, md)"
        if self.kd_until not in (NEVER, LAST_DROP) and not self.kd_until.isdecimal():
            yield (
                f"kd_until {self.kd_until!r}: takes the number of an epoch, {LAST_DROP} or {NEVER}"
                " (--kd_until)"
            )
        teaching = self.teaching()
        if self.teacher == "live" and teaching.source != "live":
            yield f"teacher live: method {self.method} has no published weights (--teacher stored)"
        if self.views and not (teaching.exchanges and teaching.source == "stored"):
            yield (
                f"views {self.views}: only stored soft labels have views, and method {self.method}"
                f" with teacher {self.teacher} has none (--views 0, --teacher stored)"
            )
        if self.views and num_teachers and method.taught_by == "students":
            yield (
                f"views {self.views} with --teachers: frozen teachers publish once, and every cycle"
                " has views of its own (--views 0, or --teacher live)"
            )
