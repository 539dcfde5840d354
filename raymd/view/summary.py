"""A Result as a table for the terminal, and what it can and cannot show.

Enters: a Result. Leaves: a rich table within 80 columns, and plain sentences under it.
"""

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raymd.result import Result, Score, Scores, StudentResult
from raymd.view.text import ABSENT, count_of, num_bytes, points

FEW_TEST_IMAGES = 2000
Z_95 = 1.96


def show_result(console: Console, result: Result) -> None:
    """Print a result: its table, what it can show, and where it lies."""
    console.print()
    console.print(result_table(result))
    console.print()
    for text in _remarks(result):
        console.print(text, soft_wrap=True)
    console.print(caveat(result))
    console.print(Text(f"run: {result.run}"), soft_wrap=True)


def _remarks(result: Result) -> Iterator[Text]:
    """Who was lost, when and why; and the memory that the exchange took."""
    for lost in result.lost:
        after = any(record.cycle >= lost.cycle for record in result.cycles)
        teachers = f", and teachers from cycle {lost.cycle + 1} on are without it" if after else ""
        text = f"{lost.id} was lost in epoch {lost.epoch + 1}{teachers}: {lost.reason}"
        yield Text(text, style="red")
    if result.object_store_peak_bytes is not None:
        yield Text(f"object store: at most {num_bytes(result.object_store_peak_bytes)}")


def result_table(result: Result) -> Table:
    """Each student and the ensemble: parameters, held-out accuracy, test accuracy with interval.

    ``last`` and ``best`` are the weights after the last epoch and those of the epoch with the
    best held-out accuracy; the held-out accuracy shown is the best weights'.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("student", overflow="fold", min_width=8)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("held-out\n%", justify="right", no_wrap=True)
    for name in ("last", "best"):
        table.add_column(f"test %, {name}\n(95 % interval)", justify="right", no_wrap=True)
    for student in result.students:
        best = student.id == result.best_student
        style = "bold" if best else ""
        table.add_row(*_student_row(student, mark=" *" if best else ""), style=style)
    table.add_section()
    table.add_row(*_ensemble_row(result))
    return table


def _student_row(student: StudentResult, *, mark: str) -> list[str]:
    return [
        student.id + mark,
        f"{student.parameters:,}",
        _held_out(student.best or student.last),
        _with_interval(student.last.test),
        ABSENT if student.best is None else _with_interval(student.best.test),
    ]


def _ensemble_row(result: Result) -> list[str]:
    ensemble = result.ensemble
    parameters = {student.id: student.parameters for student in result.students}
    return [
        f"ensemble of {len(ensemble.members)}",
        f"{sum(parameters[member] for member in ensemble.members):,}",
        _held_out(ensemble.best),
        _with_interval(ensemble.last.test),
        ABSENT if result.num_val == 0 else _with_interval(ensemble.best.test),
    ]


def _held_out(scores: Scores) -> str:
    return ABSENT if scores.val is None else points(scores.val.accuracy)


def _with_interval(score: Score) -> str:
    low, high = score.interval
    return f"{points(score.accuracy)} ({points(low).strip()}-{points(high).strip()})"


def standard_error(score: Score) -> float:
    """Standard error of an accuracy, a part of 1, from the width of its interval.

    So it is not zero where all of few images are hit.
    """
    low, high = score.interval
    return (high - low) / (2 * Z_95)


def caveat(result: Result) -> Text:
    """What the result can show: the size of chance in it, and what to compare it with."""
    best = next(s for s in result.students if s.id == result.best_student)
    sentences = [_pick(result), _resolution(result, standard_error(best.last.test)), _seeds(result)]
    return Text("\n".join(sentences))


def _pick(result: Result) -> str:
    if result.num_val == 0:
        return "* the first student: nothing was held out to pick the best by (--val_fraction)."
    held_out = count_of(result.num_val, "held-out image")
    return f"* best on the {held_out}; test images choose nothing."


def _resolution(result: Result, error: float) -> str:
    images = count_of(result.num_test, "test image")
    text = f"{images}: one standard error is about {100 * error:.1f} points,"
    # between two runs the errors add up to sqrt(2) times that; two such errors are 95 %
    visible = 2 * math.sqrt(2) * error
    if result.num_test < FEW_TEST_IMAGES and visible > 0.01:
        remedy = "--dataset cifar10 has 10,000" if result.dataset == "digits" else "use more"
        return f"{text} so this data set cannot show a gain of a point; {remedy}."
    return f"{text} so less than {100 * visible:.1f} points between two runs may be chance."


def _seeds(result: Result) -> str:
    if result.method == "independent":
        return "One seed; repeat it with others (--seed) before you conclude."
    return (
        f"One seed; compare with --method independent at equal epochs (--epochs {result.epochs})."
    )
