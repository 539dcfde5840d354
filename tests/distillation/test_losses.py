"""Eq. 1-4, 9 and 10 against METHOD.md's golden numbers, and what must hold for any input."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from raymd.distillation.aggregation import merge_rows
from raymd.distillation.losses import (
    KLScale,
    kd_factor,
    kl_divergence,
    mix_rows,
    soft_labels,
    soft_log_probs,
    student_loss,
)
from raymd.distillation.methods import accuracy_weights, gradual

STUDENT = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]
TEACHER = [[3.0, 2.0, 1.0], [2.0, 0.0, -2.0]]
LABELS = torch.tensor([0, 1])
GOLDEN = 1e-9


def student_logits() -> torch.Tensor:
    return torch.tensor(STUDENT, dtype=torch.float64)


def teacher_logits() -> torch.Tensor:
    return torch.tensor(TEACHER, dtype=torch.float64)


def golden_teacher() -> torch.Tensor:
    """0.6 softmax(q/3) + 0.4 softmax(s/3), what two students of v 0.6 and 0.4 agree on."""
    return 0.6 * soft_labels(teacher_logits(), t=3) + 0.4 * soft_labels(student_logits(), t=3)


def random_logits(seed: int, *shape: int, scale: float = 5.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_is_golden() -> None:
    losses = student_loss(student_logits(), LABELS)
    assert losses.loss.item() == pytest.approx(1.7531091266, rel=0, abs=GOLDEN)
    assert losses.task_loss.item() == losses.loss.item()
    assert losses.kd_loss.item() == 0.0


@pytest.mark.parametrize(
    ("t", "kl_scale", "golden"),
    [
        (1.0, "none", 0.9039878049),
        (1.0, "t2", 0.9039878049),
        (3.0, "none", 0.1393749368),
        (3.0, "t2", 1.2543744313),
    ],
)
def test_kl_of_two_networks_is_golden(t: float, kl_scale: KLScale, golden: float) -> None:
    teacher = soft_labels(teacher_logits(), t=t)
    losses = student_loss(
        student_logits(), LABELS, teacher_BK=teacher, beta=1.0, t=t, kl_scale=kl_scale
    )
    assert losses.kd_loss.item() == pytest.approx(golden, rel=0, abs=GOLDEN)


def test_aggregate_row_is_golden() -> None:
    row = golden_teacher()[0].tolist()
    assert row == pytest.approx([0.3611594048, 0.3213219199, 0.3175186753], rel=0, abs=GOLDEN)


@pytest.mark.parametrize(("kl_scale", "golden"), [("none", 0.0500956368), ("t2", 0.4508607317)])
def test_kl_of_the_aggregate_is_golden(kl_scale: KLScale, golden: float) -> None:
    kl = kl_divergence(golden_teacher(), soft_log_probs(student_logits(), t=3))
    assert kd_factor(t=3, kl_scale=kl_scale) * kl.item() == pytest.approx(golden, rel=0, abs=GOLDEN)


@pytest.mark.parametrize(
    ("kl_scale", "r", "golden"),
    [
        ("t2", 0, 2.2039698583),
        ("t2", 15, 1.5528456609),
        ("t2", 29, 0.9451297433),
        ("none", 0, 1.8032047634),
        ("none", 15, 0.9516980186),
        ("none", 29, 0.1569583900),
    ],
)
def test_md_loss_is_golden(kl_scale: KLScale, r: int, golden: float) -> None:
    alpha, beta = gradual(r, 30)
    losses = student_loss(
        student_logits(),
        LABELS,
        teacher_BK=golden_teacher(),
        alpha=alpha,
        beta=beta,
        t=3,
        kl_scale=kl_scale,
    )
    assert losses.loss.item() == pytest.approx(golden, rel=0, abs=GOLDEN)
    parts = alpha * losses.task_loss + beta * losses.kd_loss
    assert parts.item() == pytest.approx(golden, rel=0, abs=GOLDEN)


def test_soft_labels_agree_with_a_plain_softmax() -> None:
    logits = random_logits(0, 8, 5).double()
    exponents = torch.exp(logits / 3)
    expected = exponents / exponents.sum(dim=1, keepdim=True)
    torch.testing.assert_close(soft_labels(logits, t=3), expected, rtol=1e-12, atol=0)


def test_higher_temperature_is_softer() -> None:
    logits = random_logits(1, 16, 7)
    peaks = [soft_labels(logits, t=t).amax(dim=1) for t in (0.5, 1.0, 3.0, 9.0)]
    assert all((a > b).all() for a, b in pairwise(peaks))


def test_student_equal_to_its_teacher_has_zero_kl_and_no_gradient() -> None:
    logits = random_logits(2, 16, 7).double().requires_grad_()
    losses = student_loss(
        logits, torch.zeros(16, dtype=torch.long), teacher_BK=soft_labels(logits, t=3),
        alpha=0.0, beta=2.0, t=3,
    )  # fmt: skip
    losses.loss.backward()
    assert losses.kd_loss.item() == pytest.approx(0.0, abs=1e-14)
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-14


def test_t2_keeps_the_size_of_the_gradient_of_kl() -> None:
    """For small logits KL's gradient falls by t² (with 1/t from each side); t2 restores it."""

    def gradient_norm(t: float, kl_scale: KLScale) -> float:
        logits = random_logits(3, 4, 5, scale=0.01).double().requires_grad_()
        teacher = soft_labels(random_logits(4, 4, 5, scale=0.01).double(), t=t)
        labels = torch.zeros(4, dtype=torch.long)
        student_loss(
            logits, labels, teacher_BK=teacher, alpha=0.0, beta=1.0, t=t, kl_scale=kl_scale
        ).loss.backward()
        assert logits.grad is not None
        return logits.grad.norm().item()

    assert gradient_norm(6.0, "t2") == pytest.approx(gradient_norm(1.0, "t2"), rel=0.02)
    assert gradient_norm(6.0, "none") == pytest.approx(gradient_norm(1.0, "t2") / 36, rel=0.02)


def test_gradient_of_kl_is_student_minus_teacher() -> None:
    logits = random_logits(5, 6, 4).double().requires_grad_()
    teacher = soft_labels(random_logits(6, 6, 4).double(), t=3)
    kl_divergence(teacher, soft_log_probs(logits, t=3)).backward()
    expected = (soft_labels(logits.detach(), t=3) - teacher) / (3 * 6)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-12)


def test_no_gradient_reaches_the_teacher_or_a_peer() -> None:
    own, peer = (random_logits(seed, 4, 5).requires_grad_() for seed in (7, 8))
    teacher = 0.5 * soft_labels(own, t=3) + 0.5 * soft_labels(peer, t=3)
    teacher.retain_grad()
    losses = student_loss(own, torch.arange(4), teacher_BK=teacher, beta=1.0, t=3)
    losses.loss.backward()
    assert own.grad is not None
    assert own.grad.abs().max().item() > 0
    assert teacher.grad is None
    assert peer.grad is None


def test_reported_parts_hold_no_graph() -> None:
    logits = random_logits(9, 4, 5).requires_grad_()
    teacher = soft_labels(random_logits(10, 4, 5), t=3)
    for given in (None, teacher):
        losses = student_loss(logits, torch.arange(4), teacher_BK=given, beta=1.0, t=3)
        assert losses.loss.requires_grad
        assert not losses.task_loss.requires_grad
        assert not losses.kd_loss.requires_grad


def test_zero_probability_of_a_teacher_counts_as_zero() -> None:
    hot = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    kl = kl_divergence(hot, soft_log_probs(logits, t=1))
    cross_entropy = torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    assert kl.item() == pytest.approx(cross_entropy.item(), rel=0, abs=GOLDEN)


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits_stay_finite_with_their_gradients(t: float, dtype: torch.dtype) -> None:
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    logits = extreme.to(dtype).requires_grad_()
    teacher = soft_labels(-extreme.to(dtype), t=t)
    losses = student_loss(
        logits, torch.tensor([1, 0, 2]), teacher_BK=teacher, alpha=0.5, beta=1.5, t=t
    )
    losses.loss.backward()
    assert all(math.isfinite(part.item()) for part in losses)
    assert losses.kd_loss.item() > 1e3  # the teacher contradicts the student completely
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    half, teacher = random_logits(11, 32, 10).to(dtype), soft_labels(random_logits(12, 32, 10), t=3)
    labels = torch.arange(32) % 10
    settings = {"teacher_BK": teacher, "alpha": 0.5, "beta": 1.5, "t": 3.0}
    losses = student_loss(half, labels, **settings)
    assert {part.dtype for part in losses} == {torch.float32}
    assert torch.equal(losses.loss, student_loss(half.float(), labels, **settings).loss)
    assert soft_labels(half, t=3).dtype == torch.float32


def test_float64_stays_float64() -> None:
    losses = student_loss(student_logits(), LABELS, teacher_BK=golden_teacher(), beta=1.0, t=3)
    assert {part.dtype for part in losses} == {torch.float64}


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0, 9.0])
def test_kl_is_not_negative_for_float16_rows_after_renormalisation(t: float) -> None:
    for seed in range(20):
        logits = random_logits(seed, 64, 100)
        stored = soft_labels(logits, t=t).half().float()
        renormalised = stored / stored.sum(dim=1, keepdim=True)
        log_probs = soft_log_probs(logits, t=t)
        for row, own in zip(renormalised, log_probs, strict=True):
            assert kl_divergence(row[None], own[None]).item() >= -1e-6


def test_float16_rows_without_renormalisation_turn_kl_negative() -> None:
    """Why rows are renormalised: the loss would otherwise reward what is rounding alone."""
    logits = random_logits(0, 256, 100)
    stored = soft_labels(logits, t=9.0).half().float()
    gaps = [
        kl_divergence(row[None], own[None]).item()
        for row, own in zip(stored, soft_log_probs(logits, t=9.0), strict=True)
    ]
    assert min(gaps) < -1e-5


@pytest.mark.parametrize("seed", range(25))
def test_cross_entropy_of_the_mean_is_at_most_the_mean_cross_entropy(seed: int) -> None:
    """Eq. 7, over random students, accuracies and labels."""
    generator = torch.Generator().manual_seed(seed)
    num_students = 1 + seed % 5
    logits_SBK = 6 * torch.randn(num_students, 16, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (16,), generator=generator)
    accuracies = torch.rand(num_students, generator=generator).tolist()
    weights = accuracy_weights({f"s{i}": v for i, v in enumerate(accuracies)})
    probs_SBK = soft_labels(logits_SBK, t=3)
    mean_BK = sum(weights[f"s{i}"] * probs for i, probs in enumerate(probs_SBK))
    own = torch.arange(16)
    of_mean = -mean_BK[own, labels].log().mean()
    of_each = [-probs[own, labels].log().mean() for probs in probs_SBK]
    bound = sum(weights[f"s{i}"] * loss for i, loss in enumerate(of_each))
    assert of_mean <= bound + 1e-12


def test_teacher_of_merged_blocks_and_the_golden_teacher_agree() -> None:
    students = [soft_labels(x(), t=3).float().numpy() for x in (teacher_logits, student_logits)]
    merged = torch.from_numpy(
        merge_rows(students, list(accuracy_weights({"a": 0.6, "b": 0.4}).values()))
    )
    torch.testing.assert_close(merged, golden_teacher().float(), rtol=1e-6, atol=0)


def test_label_smoothing_is_a_mean_of_all_classes_cross_entropies():
    labels = torch.tensor([0, 1])
    losses = student_loss(student_logits(), labels, label_smoothing=0.3)
    each = torch.stack(
        [F.cross_entropy(student_logits(), torch.full((2,), k)) for k in range(3)]
    ).mean()
    expected = 0.7 * F.cross_entropy(student_logits(), labels) + 0.3 * each
    torch.testing.assert_close(losses.loss, expected)


def test_mixed_labels_weigh_both_images_by_their_share():
    one, other = torch.tensor([0, 1]), torch.tensor([2, 1])
    losses = student_loss(student_logits(), one, mixed_labels_B=other, share=0.7)
    expected = 0.7 * F.cross_entropy(student_logits(), one) + 0.3 * F.cross_entropy(
        student_logits(), other
    )
    torch.testing.assert_close(losses.task_loss, expected)


def test_mixed_teacher_rows_are_those_of_both_images():
    one, other = F.softmax(teacher_logits(), dim=-1), F.softmax(student_logits(), dim=-1)
    mixed = mix_rows(one, other, share=0.25)
    torch.testing.assert_close(mixed, 0.25 * one + 0.75 * other)
    torch.testing.assert_close(mixed.sum(dim=-1), torch.ones(2, dtype=mixed.dtype))
