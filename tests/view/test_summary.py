"""The result's table, and what is said under it."""

import pytest

from raymd.result import LostStudent, Score
from raymd.view.summary import caveat, show_result, standard_error
from tests.view.examples import printed, recording_console, result, scores, student


def shown(whole, *, width=80):
    console = recording_console(width)
    show_result(console, whole)
    return printed(console)


def large(correct, **changes):
    last = scores(correct, 138, total=10_000)
    ours = student("vgg19")
    ours = type(ours)(**{**vars(ours), "last": last})
    fields = {"students": (ours,), "best_student": "vgg19", "num_test": 10_000}
    return result(**fields, **changes)


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_and_has_a_line_for_each_student_and_the_ensemble(width):
    lines = shown(result(), width=width)
    assert max(map(len, lines)) <= width
    (densenet,) = [line for line in lines if line.startswith("densenet100-2 *")]
    assert densenet.split()[2:] == ["769,162", "95.8", "94.4", "(91.6-96.4)", "94.7", "(91.9-96.6)"]
    (ensemble,) = [line for line in lines if line.startswith("ensemble of 2")]
    assert ensemble.split()[3:5] == ["20,809,684", "98.6"]


def test_only_the_best_student_is_marked():
    marked = [line for line in shown(result()) if " * " in line]
    assert len(marked) == 1


def test_without_held_out_images_best_is_absent_and_it_is_said():
    students = (student("a", val=None), student("b", val=None))
    ensemble = result().ensemble
    ensemble = type(ensemble)(
        members=("a", "b"), weights=(0.5, 0.5), last=scores(3, None), best=scores(3, None)
    )
    whole = result(students=students, ensemble=ensemble, best_student="a", num_val=0)
    lines = shown(whole)
    (first,) = [line for line in lines if line.startswith("a *")]
    assert first.split()[3] == "-"
    assert first.split()[-1] == "-"
    assert "nothing was held out" in caveat(whole).plain


def test_small_test_set_cannot_show_a_point():
    text = caveat(result()).plain
    assert "360 test images: one standard error is about 1.2 points" in text
    assert "cannot show a gain of a point; --dataset cifar10" in text


def test_remedy_for_own_small_data_is_more_images():
    text = caveat(result(dataset="parquet:mine")).plain
    assert "use more" in text
    assert "cifar10" not in text


def test_large_test_set_says_what_may_be_chance():
    text = caveat(large(9500, dataset="cifar10")).plain
    assert "10,000 test images: one standard error is about 0.2 points" in text
    assert "less than 0.6 points between two runs may be chance" in text


def test_standard_error_is_near_the_binomial_one_and_never_zero():
    assert standard_error(Score(9500, 10_000)) == pytest.approx(0.00218, rel=0.01)
    assert standard_error(Score(360, 360)) > 0.002


def test_comparison_is_asked_for_unless_the_run_is_it():
    assert "--method independent at equal epochs (--epochs 24)" in caveat(result()).plain
    alone = caveat(result(method="independent")).plain
    assert "--method independent" not in alone
    assert "--seed" in alone


def test_lost_students_are_told_with_when_and_why():
    losses = (LostStudent("vgg19", "[worker] died", epoch=3, cycle=0),)
    assert (
        "vgg19 was lost in epoch 4, and teachers from cycle 1 on are without it: [worker] died"
    ) in shown(result(lost=losses))
    assert not any("lost" in line for line in shown(result()))


def test_student_lost_after_the_last_teacher_is_missing_from_none():
    losses = (LostStudent("vgg19", "[worker] died", epoch=9, cycle=1),)  # the result has one cycle
    assert "vgg19 was lost in epoch 10: [worker] died" in shown(result(lost=losses))


def test_peak_of_the_object_store_is_told_where_it_was_counted():
    assert "object store: at most 2.4 GB" in shown(result(object_store_peak_bytes=2_400_000_000))
    assert not any("object store" in line for line in shown(result()))


def test_run_folder_is_printed_as_it_is():
    assert shown(result())[-1] == "run: runs/[one]"
