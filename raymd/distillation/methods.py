"""md and its relatives: what each method does with the phases, the teacher and the loss weights.

A method is data. The student loop, the publishing and the aggregator read these descriptions
and hold no name of a method themselves; a new method is a new entry here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raymd.errors import unknown_name

LossWeights = Callable[[int, int], tuple[float, float]]
TeacherWeights = Callable[[Mapping[str, float]], dict[str, float]]

COMMON_TEACHER = "all"


def gradual(r: int, td: int) -> tuple[float, float]:
    """alpha = 1 - r/Td, beta = 1 + r/Td (Eq. 11): from the labels to the teacher in each cycle."""
    return 1.0 - r / td, 1.0 + r / td


def fixed(r: int, td: int) -> tuple[float, float]:
    """fMD's alpha 1, beta 2 (Table 6): the weights do not move."""
    del r, td
    return 1.0, 2.0


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
        return dict.fromkeys(sorted(accuracies), 1.0 / len(accuracies))
    return {student: accuracies[student] / total for student in sorted(accuracies)}


@dataclass(frozen=True)
class Method:
    """One method of the family.

    Attributes:
        name: As ``--method`` takes it.
        distils: Whether there are distillation phases; if not, every epoch is independent.
        loss_weights: (r, td) -> (alpha, beta) of distillation epoch r.
        weights: v_i of a teacher's members -> their weights in it.
        leaves_self_out: Each student's teacher is made of the others alone.
    """

    name: str
    distils: bool
    loss_weights: LossWeights = gradual
    weights: TeacherWeights = accuracy_weights
    leaves_self_out: bool = False

    def teacher_of(self, student: str) -> str:
        """The id of the teacher a student reads: one common one, or its own."""
        return f"without-{student}" if self.leaves_self_out else COMMON_TEACHER

    def teachers(self, students: Sequence[str]) -> tuple[str, ...]:
        """Every teacher id of a cycle, in a stable order."""
        return tuple(sorted({self.teacher_of(student) for student in students}))

    def teacher_weights(self, teacher: str, accuracies: Mapping[str, float]) -> dict[str, float]:
        """The members of a teacher and their weights, which sum to 1."""
        members = {s: v for s, v in accuracies.items() if teacher != f"without-{s}"}
        return self.weights(members)


METHODS = {
    method.name: method
    for method in (
        Method("md", distils=True),
        Method("fmd", distils=True, loss_weights=fixed),
        Method("independent", distils=False),
    )
}


def get_method(name: str) -> Method:
    """The method of that name; UserError with the nearest name if there is none."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, flag="--method")
    return METHODS[name]
