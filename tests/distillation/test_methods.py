"""Methods as data: loss weights, teacher weights, and which student reads which teacher."""

from dataclasses import replace

import pytest

from raymd.distillation.methods import (
    COMMON_TEACHER,
    METHODS,
    accuracy_weights,
    fixed,
    get_method,
    gradual,
)
from raymd.errors import UserError

ACCURACIES = {"vgg": 0.2, "alexnet": 0.6, "resnet": 0.2}


def test_gradual_moves_from_the_labels_to_the_teacher() -> None:
    weights = [gradual(r, 30) for r in range(30)]
    assert weights[0] == (1.0, 1.0)
    assert weights[15] == (0.5, 1.5)
    assert weights[29] == pytest.approx((1 / 30, 59 / 30), rel=1e-12)
    assert all(alpha + beta == pytest.approx(2.0, rel=1e-12) for alpha, beta in weights)
    assert all(alpha > 0 for alpha, _ in weights)


def test_fixed_weights_are_one_and_two_in_every_epoch() -> None:
    assert {fixed(r, 30) for r in range(30)} == {(1.0, 2.0)}


def test_weights_are_shares_of_the_accuracy_in_id_order() -> None:
    weights = accuracy_weights(ACCURACIES)
    assert list(weights) == ["alexnet", "resnet", "vgg"]
    assert weights == pytest.approx({"alexnet": 0.6, "resnet": 0.2, "vgg": 0.2}, rel=1e-12)
    assert sum(weights.values()) == pytest.approx(1.0, rel=1e-12)


def test_permuting_students_changes_no_bit_of_their_weights() -> None:
    accuracies = {"a": 0.1, "b": 0.7, "c": 0.3, "d": 0.9}
    permuted = dict(reversed(accuracies.items()))
    assert list(accuracy_weights(accuracies).items()) == list(accuracy_weights(permuted).items())


def test_all_zero_accuracies_mean_uniform_weights() -> None:
    assert accuracy_weights({"b": 0.0, "a": 0.0, "c": 0.0}) == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def test_student_of_zero_accuracy_has_no_say_beside_a_better_one() -> None:
    assert accuracy_weights({"a": 0.0, "b": 0.4}) == {"a": 0.0, "b": 1.0}


def test_one_student_alone_has_the_whole_weight() -> None:
    assert accuracy_weights({"a": 0.37}) == {"a": 1.0}


@pytest.mark.parametrize("bad", [{}, {"a": 1.5}, {"a": -0.1}, {"a": 0.5, "b": float("nan")}])
def test_accuracies_outside_zero_and_one_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"accuracies in \[0, 1\]"):
        accuracy_weights(bad)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_found_by_its_own_name(name: str) -> None:
    assert get_method(name).name == name


@pytest.mark.parametrize("name", METHODS)
def test_teacher_weights_of_every_method_sum_to_one(name: str) -> None:
    method = get_method(name)
    for teacher in method.teachers(list(ACCURACIES)):
        weights = method.teacher_weights(teacher, ACCURACIES)
        assert sum(weights.values()) == pytest.approx(1.0, rel=1e-12)


def test_md_has_one_teacher_of_all_students() -> None:
    md = get_method("md")
    assert md.distils
    assert md.loss_weights is gradual
    assert md.teachers(["b", "a"]) == (COMMON_TEACHER,)
    assert {md.teacher_of(student) for student in ACCURACIES} == {COMMON_TEACHER}
    assert md.teacher_weights(COMMON_TEACHER, ACCURACIES) == accuracy_weights(ACCURACIES)


def test_fmd_differs_from_md_in_name_and_loss_weights_alone() -> None:
    md, fmd = get_method("md"), get_method("fmd")
    assert fmd.loss_weights is fixed
    assert replace(fmd, name="md", loss_weights=gradual) == md


def test_independent_does_not_distil() -> None:
    assert not get_method("independent").distils


def test_method_that_leaves_self_out_has_a_teacher_of_the_others_for_each_student() -> None:
    method = replace(get_method("md"), name="others", leaves_self_out=True)
    teachers = method.teachers(["vgg", "alexnet", "resnet"])
    assert len(teachers) == len(set(teachers)) == 3
    assert teachers == method.teachers(["resnet", "vgg", "alexnet"])
    for student in ACCURACIES:
        weights = method.teacher_weights(method.teacher_of(student), ACCURACIES)
        assert set(weights) == set(ACCURACIES) - {student}
        assert sum(weights.values()) == pytest.approx(1.0, rel=1e-12)


def test_unknown_method_is_answered_with_the_nearest_one_and_the_flag() -> None:
    with pytest.raises(UserError, match=r"'independant'.*--method.*did you mean independent"):
        get_method("independant")
