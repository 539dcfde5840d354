"""md and its relatives: what each method does with the phases, the teacher and the loss weights.

A method is data. The student loop, the publishing and the aggregator read these descriptions
and hold no name of a method themselves; a new method is a new entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from raymd.errors import unknown_name

LossWeights = Callable[[int, int], tuple[float, float]]
TeacherWeights = Callable[[Mapping[str, float]], dict[str, float]]
Phases = Literal["none", "cycles", "after_burn_in", "always"]
Source = Literal["stored", "live", "peers"]
Weights = Literal["accuracy", "uniform", "inverse_loss"]

COMMON_TEACHER = "all"


# -- alpha and beta ---------------------------------------------------------------------------


def gradual(r: int, td: int) -> tuple[float, float]:
    """alpha = 1 - r/Td, beta = 1 + r/Td (Eq. 11): from the labels to the teacher in each cycle."""
    return 1.0 - r / td, 1.0 + r / td


def fixed(r: int, td: int) -> tuple[float, float]:
    """fMD's alpha 1, beta 2 (Table 6): the weights do not move."""
    del r, td
    return 1.0, 2.0


def equal(r: int, td: int) -> tuple[float, float]:
    """alpha 1, beta 1: EC-DNN, codistillation and deep mutual learning."""
    del r, td
    return 1.0, 1.0


def mostly_teacher(r: int, td: int) -> tuple[float, float]:
    """alpha 0.1, beta 0.9: knowledge distillation from a teacher that is good already."""
    del r, td
    return 0.1, 0.9


# -- a teacher's members ----------------------------------------------------------------------


def accuracy_weights(accuracies: Mapping[str, float]) -> dict[str, float]:
    """``a_i = v_i / sum v`` (Eq. 8) in student-id order; uniform where every v_i is zero.

    Args:
        accuracies: v_i by student id, each in [0, 1], measured on the held-out slice.

    Raises:
        ValueError: no students, or an accuracy outside [0, 1].
    """
    if not accuracies or not all(0.0 <= v <= 1.0 for v in accuracies.values()):
        raise ValueError(f"accuracies in [0, 1] of at least one student, not {dict(accuracies)}")
    total = sum(accuracies[student] for student in sorted(accuracies))
    if total == 0.0:
        return uniform_weights(accuracies)
    return {student: accuracies[student] / total for student in sorted(accuracies)}


def uniform_weights(members: Mapping[str, float]) -> dict[str, float]:
    """A plain mean, in student-id order; the values do not matter.

    Raises:
        ValueError: no students.
    """
    if not members:
        raise ValueError("a teacher has one member at least")
    return dict.fromkeys(sorted(members), 1.0 / len(members))


def inverse_loss_weights(losses: Mapping[str, float]) -> dict[str, float]:
    """``a_i`` in proportion to 1 / loss, in student-id order.

    Unlike accuracies, losses tell apart students that are right equally often; a loss below 1e-6
    counts as that, so that no member has all the weight.

    Args:
        losses: Mean cross entropy of each student on the held-out slice.

    Raises:
        ValueError: no students, or a loss that is negative or no number.
    """
    if not losses or not all(0.0 <= loss < float("inf") for loss in losses.values()):
        raise ValueError(f"losses from 0 of at least one student, not {dict(losses)}")
    inverse = {student: 1.0 / max(losses[student], 1e-6) for student in sorted(losses)}
    total = sum(inverse.values())
    return {student: value / total for student, value in inverse.items()}


WEIGHTS: dict[str, TeacherWeights] = {
    "accuracy": accuracy_weights,
    "uniform": uniform_weights,
    "inverse_loss": inverse_loss_weights,
}


# -- methods ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One method of the family.

    Attributes:
        name: As ``--method`` takes it.
        phases: ``none``: every epoch is independent; ``cycles``: Tin and Td epochs in turn;
            ``after_burn_in``: Tin epochs once, then distillation to the end, with a new teacher
            every ``refresh_epochs``; ``always``: distillation from the first epoch on.
        loss_weights: (r, td) -> (alpha, beta) of distillation epoch r.
        weights: How a teacher's members are weighted, a name of WEIGHTS.
        leaves_self_out: Each student's teacher is made of the others alone.
        source: What a student is taught by. ``stored``: soft labels that the members published;
            ``live``: the members' published weights, evaluated on the student's own crops;
            ``peers``: the others as they are at this very step, on the same batch.
        taught_by: ``students``: the members are the students, and frozen teachers if there are
            any; ``teachers``: frozen teachers alone.
        t: A temperature of its own; None: the run's.
    """

    name: str
    phases: Phases = "cycles"
    loss_weights: LossWeights = gradual
    weights: Weights = "accuracy"
    leaves_self_out: bool = False
    source: Source = "stored"
    taught_by: Literal["students", "teachers"] = "students"
    t: float | None = None

    @property
    def distils(self) -> bool:
        """Whether there are distillation phases."""
        return self.phases != "none"

    @property
    def is_cohort(self) -> bool:
        """Whether the students take every step together, and so share their workers."""
        return self.source == "peers"

    @property
    def exchanges(self) -> bool:
        """Whether there are barriers: something is published that has to be waited for."""
        frozen_and_live = self.taught_by == "teachers" and self.source == "live"
        return self.distils and not self.is_cohort and not frozen_and_live

    @property
    def students_publish(self) -> bool:
        """Whether the students themselves publish at barriers."""
        return self.exchanges and self.taught_by == "students"

    @property
    def least_students(self) -> int:
        """How many students it takes: who learns of the others alone needs one."""
        return 2 if self.leaves_self_out or self.is_cohort else 1

    def teacher_of(self, student: str) -> str:
        """The id of the teacher a student reads: one common one, or its own."""
        return f"without-{student}" if self.leaves_self_out else COMMON_TEACHER

    def teachers(self, students: Sequence[str]) -> tuple[str, ...]:
        """Every teacher id of a cycle, in a stable order."""
        return tuple(sorted({self.teacher_of(student) for student in students}))

    def teacher_weights(self, teacher: str, values: Mapping[str, float]) -> dict[str, float]:
        """The members of a teacher and their weights, which sum to 1.

        Args:
            teacher: One of ``teachers``.
            values: What ``weights`` weighs by, of all publishers: accuracies, or held-out losses.
        """
        members = {s: v for s, v in values.items() if teacher != f"without-{s}"}
        return WEIGHTS[self.weights](members)

    def varied(self, *, weights: Weights | None = None, source: Source | None = None) -> "Method":
        """The same with what the user asked for in place of its own (None: its own)."""
        return replace(self, weights=weights or self.weights, source=source or self.source)


METHODS = {
    method.name: method
    for method in (
        Method("md"),
        Method("fmd", loss_weights=fixed),
        # the paper's rivals (Table 3), and those of other papers
        Method("ec-dnn", loss_weights=equal, weights="uniform"),
        Method("codistill", "after_burn_in", equal, "uniform", leaves_self_out=True),
        Method("kd", "always", mostly_teacher, "uniform", source="live", taught_by="teachers"),
        Method("kd-stored", "always", mostly_teacher, "uniform", taught_by="teachers"),
        Method("dml", "always", equal, "uniform", leaves_self_out=True, source="peers", t=1.0),
        Method("independent", "none"),
    )
}


def get_method(name: str) -> Method:
    """The method of that name; UserError with the nearest name if there is none."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, flag="--method")
    return METHODS[name]
