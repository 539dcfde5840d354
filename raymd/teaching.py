"""How students teach each other, with every choice taken: the Method and Schedule of a run.

Enters: what TeachingOptions' flags and the recipe amount to; Settings inherits these fields.
Leaves: the descriptions that the student loop, the publishing and the aggregator read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raymd.distillation.formats import DENSE, SoftLabelDtype, SoftLabelFormat
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
    soft_labels: str = DENSE
    soft_label_dtype: SoftLabelDtype = "float16"
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

    @property
    def soft_label_format(self) -> SoftLabelFormat:
        """How published soft labels are stored."""
        return SoftLabelFormat.parse(self.soft_labels, self.soft_label_dtype)

    @property
    def phase_epochs(self) -> tuple[int | None, int | None]:
        """Epochs of an independent phase and of a distillation phase; None: it has no end."""
        match self.teaching().phases:
            case "always":
                return None, None
            case "after_burn_in":
                return self.tin, self.refresh_epochs
            case _:
                return self.tin, self.td

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
        least = self.teaching().least_students
        if len(students) < least:
            raise UserError(
                f"method {self.method} with {len(students)} student: each learns of the others"
                f" alone, so it takes {least} or more (--students, --method md)"
            )
        if self.kd_until not in (NEVER, LAST_DROP) and not self.kd_until.isdecimal():
            raise UserError(
                f"kd_until {self.kd_until!r}: takes the number of an epoch, {LAST_DROP} or {NEVER}"
                " (--kd_until)"
            )
        if self.kd_ramp and self.teaching().phases == "always":
            raise UserError(
                f"kd_ramp {self.kd_ramp}: counts cycles, and method {self.method} has none"
                " (--kd_ramp 0, or --method md)"
            )
        self._check_frozen(num_teachers)
        self._check_source(num_teachers)
        self._check_soft_labels()

    def _check_frozen(self, num_teachers: int) -> None:
        method = self.teaching()
        if method.taught_by == "teachers" and not num_teachers:
            raise UserError(
                f"method {self.method} takes frozen teachers: name them and where their weights"
                " are, as in --teachers resnet50:runs/NAME (--teachers)"
            )
        if num_teachers and not (method.exchanges or method.taught_by == "teachers"):
            raise UserError(
                f"method {self.method} has no use for frozen teachers (--teachers; --method kd, md)"
            )

    def _check_source(self, num_teachers: int) -> None:
        method = self.teaching()
        if self.weights not in (None, get_method(self.method).weights) and not method.exchanges:
            raise UserError(
                f"weights {self.weights}: method {self.method} weighs nobody by what is published"
                f" (--weights {get_method(self.method).weights}, or --method md)"
            )
        has_source = method.exchanges or method.taught_by == "teachers"
        if self.teacher == "live" and not (method.source == "live" and has_source):
            raise UserError(
                f"teacher live: method {self.method} publishes nothing (--teacher stored, or"
                " --method md)"
            )
        if self.views and not (method.exchanges and method.source == "stored"):
            raise UserError(
                f"views {self.views}: only stored soft labels have views, and method {self.method}"
                f" with teacher {self.teacher} has none (--views 0, --teacher stored)"
            )
        if self.views and num_teachers and method.taught_by == "students":
            raise UserError(
                f"views {self.views} with frozen teachers: they publish once, and every cycle has"
                " views of its own (--views 0, or --teacher live)"
            )

    def _check_soft_labels(self) -> None:
        try:
            form = self.soft_label_format
        except ValueError as error:
            raise UserError(
                f"soft_labels {self.soft_labels!r}: takes dense, or top_k:K with the number of"
                " classes that are kept, as in top_k:16 (--soft_labels)"
            ) from error
        method = self.teaching()
        if form != SoftLabelFormat() and not (method.exchanges and method.source == "stored"):
            raise UserError(
                f"soft_labels {form}: method {self.method} with teacher {self.teacher} stores none"
                " (--soft_labels dense, --soft_label_dtype float16, or --teacher stored)"
            )

    def check_classes(self, num_classes: int) -> None:
        """See that the options fit the data.

        Raises:
            UserError: They do not; with the flag.
        """
        kept = self.soft_label_format.top_k
        if kept is not None and kept > num_classes:
            raise UserError(
                f"soft_labels top_k:{kept}: the data set has {num_classes} classes, so K is 1 to"
                f" {num_classes} (--soft_labels)"
            )
