"""The learning rate of a step, against hand-computed values."""

import pytest

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import build_schedule
from raymd.settings import StudentConfig
from raymd.training.learning_rate import learning_rate

SCHEDULE = build_schedule(method=get_method("md"), epochs=4, tin=1, td=1, lr_drop="exact")


def rate(epoch: int, step: int, **options: object) -> float:
    student = StudentConfig(**{"id": "a", "arch": "a", "lr": 0.8, "batch_size": 2, **options})
    return learning_rate(student, SCHEDULE.epochs[epoch], step=step, steps=10, epochs=4)


def test_step_schedule_drops_tenfold_at_half_and_three_quarters():
    assert [rate(epoch, 9) for epoch in range(4)] == pytest.approx([0.8, 0.8, 0.08, 0.008])


def test_cosine_falls_from_the_rate_to_zero():
    assert rate(0, 0, lr_schedule="cosine") == pytest.approx(0.8)
    assert rate(2, 0, lr_schedule="cosine") == pytest.approx(0.4)
    assert 0 < rate(3, 9, lr_schedule="cosine") < 0.002


def test_warm_up_rises_step_by_step_and_then_leaves_the_schedule_alone():
    rates = [rate(0, step, warmup_epochs=0.5) for step in range(6)]
    assert rates == pytest.approx([0.16, 0.32, 0.48, 0.64, 0.8, 0.8])
    assert rate(2, 0, warmup_epochs=0.5) == pytest.approx(0.08)
