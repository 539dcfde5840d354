"""Losses and schedules of md's relatives: numbers reckoned without torch, and what must hold."""

from typing import Any

import pytest
import torch

from raymd.distillation.losses import hits, peer_loss, soft_labels, student_loss
from raymd.distillation.methods import (
    METHODS,
    get_method,
    inverse_loss_weights,
    uniform_weights,
)
from raymd.distillation.schedule import Fading, Schedule, build_schedule

LABELS = torch.tensor([0, 1])
GOLDEN = 1e-9


def s() -> torch.Tensor:
    return torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


def q() -> torch.Tensor:
    return torch.tensor([[3.0, 2.0, 1.0], [2.0, 0.0, -2.0]], dtype=torch.float64)


def u() -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


# -- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "teacher", "golden"),
    [
        ("fmd", 0.6 * soft_labels(q(), t=3) + 0.4 * soft_labels(s(), t=3), 2.6548305900),
        ("ec-dnn", 0.5 * soft_labels(q(), t=3) + 0.5 * soft_labels(s(), t=3), 2.0671999144),
        ("codistill", soft_labels(q(), t=3), 3.0074835579),
        ("kd", soft_labels(q(), t=3), 1.3042479009),
        ("kd-stored", soft_labels(q(), t=3), 1.3042479009),
    ],
)
def test_loss_of_each_method_is_golden(method: str, teacher: torch.Tensor, golden: float) -> None:
    alpha, beta = METHODS[method].loss_weights(7, 30)
    losses = student_loss(s(), LABELS, teacher_BK=teacher, alpha=alpha, beta=beta, t=3.0)
    assert losses.loss.item() == pytest.approx(golden, rel=0, abs=GOLDEN)


@pytest.mark.parametrize(
    ("own", "peers", "golden"),
    [
        (s(), [q()], 2.6570969315),
        (q(), [s()], 2.3726388490),
        (s(), [q(), u()], 2.3131725628),
    ],
)
def test_loss_against_peers_is_golden(
    own: torch.Tensor, peers: list[torch.Tensor], golden: float
) -> None:
    losses = peer_loss(own, LABELS, peers_SBK=[soft_labels(peer, t=1) for peer in peers])
    assert losses.loss.item() == pytest.approx(golden, rel=0, abs=GOLDEN)


def test_no_gradient_reaches_a_peer() -> None:
    own, peer = s().requires_grad_(), q().requires_grad_()
    peer_loss(own, LABELS, peers_SBK=[soft_labels(peer, t=1)]).loss.backward()
    assert own.grad is not None
    assert peer.grad is None


def test_samples_that_the_teacher_gets_wrong_keep_their_task_loss_alone() -> None:
    teacher = soft_labels(q(), t=3)
    right = hits(teacher, LABELS)
    assert right.tolist() == [True, False]
    losses = student_loss(
        s(), LABELS, teacher_BK=teacher, alpha=0.5, beta=1.5, t=3.0, taught_B=right
    )
    assert losses.loss.item() == pytest.approx(2.1331240490, rel=0, abs=GOLDEN)


def test_where_all_are_taught_a_mask_changes_nothing() -> None:
    teacher, every = soft_labels(q(), t=3), torch.tensor([True, True])
    masked = student_loss(s(), LABELS, teacher_BK=teacher, alpha=0.5, beta=1.5, t=3, taught_B=every)
    plain = student_loss(s(), LABELS, teacher_BK=teacher, alpha=0.5, beta=1.5, t=3)
    assert masked.loss.item() == pytest.approx(plain.loss.item(), rel=1e-15)


# -- weights ----------------------------------------------------------------------------------


def test_uniform_weights_ask_for_no_values() -> None:
    assert uniform_weights({"b": 0.9, "a": 0.0}) == {"a": 0.5, "b": 0.5}


def test_inverse_losses_are_weighed_in_proportion() -> None:
    weights = inverse_loss_weights({"b": 0.5, "a": 1.0})
    assert list(weights) == ["a", "b"]
    assert weights == pytest.approx({"a": 1 / 3, "b": 2 / 3}, rel=1e-12)


def test_loss_of_zero_has_not_all_the_weight_of_two() -> None:
    assert inverse_loss_weights({"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("bad", [{}, {"a": -0.1}, {"a": float("nan")}, {"a": float("inf")}])
def test_losses_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="losses from 0"):
        inverse_loss_weights(bad)


# -- schedules --------------------------------------------------------------------------------


def schedule(method: str, *, epochs: int = 12, tin: int = 2, td: int = 4, **more: Any) -> Schedule:
    return build_schedule(
        method=get_method(method), epochs=epochs, tin=tin, td=td, lr_drop="exact", **more
    )


def test_codistill_burns_in_once_and_then_refreshes_its_teacher() -> None:
    plan = schedule("codistill", refresh_epochs=4)
    assert [e.phase for e in plan.epochs] == ["independent"] * 2 + ["distillation"] * 10
    assert plan.barriers == (2, 6, 10)
    assert [e.cycle for e in plan.epochs] == [0, 0, *[0] * 4, *[1] * 4, *[2] * 2]
    assert {(e.alpha, e.beta) for e in plan.epochs[2:]} == {(1.0, 1.0)}


@pytest.mark.parametrize(("method", "barriers"), [("kd", ()), ("kd-stored", (0,)), ("dml", ())])
def test_methods_without_phases_distil_from_the_first_epoch(
    method: str, barriers: tuple[int, ...]
) -> None:
    plan = schedule(method)
    assert {e.phase for e in plan.epochs} == {"distillation"}
    assert {e.cycle for e in plan.epochs} == {0}
    assert plan.barriers == barriers


def test_learning_rate_is_the_same_under_every_method() -> None:
    rates = {tuple(e.lr_factor for e in schedule(method).epochs) for method in METHODS}
    assert len(rates) == 1


def test_alpha_never_falls_below_its_floor() -> None:
    alphas = [e.alpha for e in schedule("md", fading=Fading(alpha_floor=0.4)).epochs[2:6]]
    assert alphas == [1.0, 0.75, 0.5, 0.4]


def test_distillation_comes_in_over_the_first_cycles() -> None:
    plan = schedule("fmd", epochs=18, fading=Fading(kd_ramp=2))
    weights = [(plan.epochs[b].alpha, plan.epochs[b].beta) for b in plan.barriers]
    assert weights == [pytest.approx(w) for w in [(1, 2 / 3), (1, 4 / 3), (1, 2)]]
    plan = schedule("md", epochs=18, fading=Fading(kd_ramp=2))
    last = [(plan.epochs[b + 3].alpha, plan.epochs[b + 3].beta) for b in plan.barriers]
    assert last == [pytest.approx(w) for w in [(0.75, 1.75 / 3), (0.5, 3.5 / 3), (0.25, 1.75)]]


def test_nothing_is_distilled_or_published_from_kd_until_on() -> None:
    plan = schedule("md", fading=Fading(kd_until=4))
    assert [e.phase for e in plan.epochs] == [
        *["independent"] * 2, *["distillation"] * 2, *["independent"] * 8,
    ]  # fmt: skip
    assert plan.barriers == (2,)
    assert {(e.alpha, e.beta) for e in plan.epochs[4:]} == {(1.0, 0.0)}


def test_fading_that_nobody_asked_for_changes_no_bit() -> None:
    assert schedule("md", fading=Fading()).epochs == schedule("md").epochs
    for r in range(4):
        assert (schedule("md").epochs[2 + r].alpha, schedule("md").epochs[2 + r].beta) == (
            1 - r / 4,
            1 + r / 4,
        )
