"""One step of each method against one written out by hand with torch's primitives."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymd.data.loader import Batch
from raymd.distillation.methods import METHODS
from raymd.distillation.schedule import Epoch
from raymd.frozen import TeacherConfig
from raymd.storage import Storage
from raymd.training.building import new_state
from raymd.training.epoch import take_step
from raymd.training.frozen import frozen_task, keep_frozen, load_frozen
from raymd.training.segment import commit_all
from raymd.training.step import taught
from raymd.training.student import Member, StudentTask, set_lr
from raymd.training.teachers import LiveTeacher, frozen_teacher
from tests.training.conftest import run_to, tiny_settings, tiny_tasks

T = 3.0


class GivenTeacher:
    """A teacher that says the same of every batch."""

    crops = None

    def __init__(self, rows_NK: Tensor) -> None:
        self.rows_NK = rows_NK

    def rows(self, batch: Batch) -> Tensor:
        return self.rows_NK[batch.sample_ids]


def members_of(storage: Storage, **changes: Any) -> list[Member]:
    tasks = tiny_tasks(storage, tiny_settings(**changes))
    return [Member(task, new_state(task)) for task in tasks]


def epoch_of(task: StudentTask) -> Epoch:
    """The first distillation epoch but one, where alpha and beta differ; else the first epoch."""
    taught = [e for e in task.schedule.epochs if e.phase == "distillation"]
    return taught[min(1, len(taught) - 1)] if taught else task.schedule.epochs[0]


def sgd_step(model: nn.Module, loss: Tensor, task: StudentTask, epoch: Epoch) -> None:
    """SGD's first step: no momentum yet, weight decay on everything."""
    model.zero_grad()
    loss.backward()
    lr = task.student.lr * epoch.lr_factor
    with torch.no_grad():
        for parameter in model.parameters():
            gradient = parameter.grad + task.student.weight_decay * parameter
            parameter -= lr * gradient


def logits(member: Member, model: nn.Module, batch: Batch) -> Tensor:
    member.task.seed_step(member.state.position)
    return model(batch.images)


def kl(teacher_BK: Tensor, logits_BK: Tensor, t: float) -> Tensor:
    log_probs_BK = F.log_softmax(logits_BK / t, dim=1)
    return F.kl_div(log_probs_BK, teacher_BK, reduction="none").sum(dim=1)


def assert_same_weights(model: nn.Module, by_hand: nn.Module) -> None:
    for (name, ours), (_, theirs) in zip(
        model.named_parameters(), by_hand.named_parameters(), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize(
    ("method", "alpha", "beta"),
    [
        ("md", 0.5, 1.5),
        ("fmd", 1, 2),
        ("ec-dnn", 1, 1),
        ("codistill", 1, 1),
        ("kd-stored", 0.1, 0.9),
    ],
)
def test_step_from_stored_soft_labels_is_that_of_the_method(
    method: str, alpha: float, beta: float, storage: Storage
) -> None:
    member = members_of(storage, method=method)[0]
    task, state = member
    epoch, by_hand = epoch_of(task), copy.deepcopy(state.model)
    batch = next(task.loader().batches(epoch.index))
    teacher_NK = torch.rand(len(task.data.train), 3).softmax(dim=1)
    set_lr(task, state, epoch, steps=task.loader().steps)
    take_step([member], epoch, batch, GivenTeacher(teacher_NK))
    scores = logits(member, by_hand, batch)
    loss = alpha * F.cross_entropy(scores, batch.labels)
    loss = loss + beta * T * T * kl(teacher_NK[batch.sample_ids], scores, T).mean()
    sgd_step(by_hand, loss, task, epoch)
    assert_same_weights(state.model, by_hand)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_independent_step_is_cross_entropy_times_the_loss_scale(
    scale: float, storage: Storage
) -> None:
    member = members_of(storage, method="independent", loss_scale=scale)[0]
    task, state = member
    epoch, by_hand = epoch_of(task), copy.deepcopy(state.model)
    batch = next(task.loader().batches(epoch.index))
    set_lr(task, state, epoch, steps=task.loader().steps)
    take_step([member], epoch, batch, None)
    loss = scale * F.cross_entropy(logits(member, by_hand, batch), batch.labels)
    sgd_step(by_hand, loss, task, epoch)
    assert_same_weights(state.model, by_hand)


def test_live_kd_step_is_taught_by_frozen_networks_on_its_own_crops(
    storage: Storage, tmp_path: Path
) -> None:
    before = Storage.at(tmp_path / "before")
    run_to(tiny_tasks(before, tiny_settings(method="independent", epochs=2, seed=8)))
    teachers = tuple(
        TeacherConfig(id=f"old-{arch}", arch=arch, source=before.uri) for arch in ("tiny4", "tiny6")
    )
    member = members_of(storage, method="kd", teachers=teachers)[0]
    task, state = member
    keep_frozen(storage, task.settings, task.data)
    epoch, by_hand = epoch_of(task), copy.deepcopy(state.model)
    batch = next(task.loader().batches(epoch.index))
    set_lr(task, state, epoch, steps=task.loader().steps)
    take_step([member], epoch, batch, frozen_teacher(task))
    networks = [load_frozen(frozen_task(task, teacher)).eval() for teacher in teachers]
    with torch.no_grad():
        teacher_BK = torch.stack([(n(batch.images) / T).softmax(dim=1) for n in networks]).mean(0)
    scores = logits(member, by_hand, batch)
    loss = 0.1 * F.cross_entropy(scores, batch.labels)
    loss = loss + 0.9 * T * T * kl(teacher_BK, scores, T).mean()
    sgd_step(by_hand, loss, task, epoch)
    assert_same_weights(state.model, by_hand)


@pytest.mark.parametrize("update", ["sequential", "simultaneous"])
def test_mutual_step_teaches_each_by_what_the_others_predict(update: str, storage: Storage) -> None:
    members = members_of(storage, method="dml", dml_update=update)
    task = members[0].task
    epoch = epoch_of(task)
    by_hand = [copy.deepcopy(member.state.model) for member in members]
    batch = next(task.loader().batches(epoch.index))
    for member in members:
        set_lr(*member, epoch, steps=task.loader().steps)
    take_step(members, epoch, batch, None)

    def predict(number: int) -> Tensor:
        return logits(members[number], copy.deepcopy(by_hand[number]), batch).softmax(1).detach()

    first, second = predict(0), predict(1)
    for number in (0, 1):
        peer = second if number == 0 else (predict(0) if update == "sequential" else first)
        scores = logits(members[number], by_hand[number], batch)
        loss = F.cross_entropy(scores, batch.labels) + kl(peer, scores, 1.0).mean()
        sgd_step(by_hand[number], loss, members[number].task, epoch)
    for member, theirs in zip(members, by_hand, strict=True):
        assert_same_weights(member.state.model, theirs)


def test_predicting_for_a_peer_moves_no_running_statistics(storage: Storage) -> None:
    once = members_of(storage, method="dml", dml_update="sequential")
    batch = next(once[0].task.loader().batches(0))
    alone = copy.deepcopy(once[0].state.model)
    take_step(once, epoch_of(once[0].task), batch, None)
    logits(once[0], alone, batch)
    for ours, theirs in zip(once[0].state.model.buffers(), alone.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_untaught_samples_keep_their_full_task_loss_and_have_no_kl(storage: Storage) -> None:
    member = members_of(storage, correct_only=True)[0]
    task, state = member
    epoch, by_hand = epoch_of(task), copy.deepcopy(state.model)
    batch = next(task.loader().batches(epoch.index))
    labels = task.data.train.labels
    wrong = torch.arange(len(labels)) % 3 == 0
    tops = torch.where(wrong, (labels + 1) % 3, labels)
    teacher_NK = F.one_hot(tops, 3).float() * 0.8 + 0.2 / 3
    teacher = GivenTeacher(teacher_NK)
    assert torch.equal(taught(task, epoch, batch, teacher.rows(batch)), ~wrong[batch.sample_ids])
    set_lr(task, state, epoch, steps=task.loader().steps)
    take_step([member], epoch, batch, teacher)
    scores = logits(member, by_hand, batch)
    loss_B = F.cross_entropy(scores, batch.labels, reduction="none")
    kl_B = T * T * kl(teacher.rows(batch), scores, T)
    right_B = ~wrong[batch.sample_ids]
    loss = torch.where(right_B, epoch.alpha * loss_B + epoch.beta * kl_B, loss_B).mean()
    sgd_step(by_hand, loss, task, epoch)
    assert_same_weights(state.model, by_hand)


def test_live_teacher_is_the_weighted_mean_of_what_was_published(storage: Storage) -> None:
    members: Sequence[Member] = members_of(storage, teacher="live")
    commit_all(members)
    batch = next(members[0].task.loader().batches(0))
    networks = [(member.task, member.state.model) for member in members]
    live_BK = LiveTeacher(networks, (0.25, 0.75)).rows(batch)
    with torch.no_grad():
        each = [(model.eval()(batch.images) / T).softmax(dim=1) for _, model in networks]
    assert torch.allclose(live_BK, 0.25 * each[0] + 0.75 * each[1], atol=1e-6)
    assert not live_BK.requires_grad


def test_every_method_has_a_step_here() -> None:
    shown = {"md", "fmd", "ec-dnn", "codistill", "kd-stored", "independent", "kd", "dml"}
    assert shown == set(METHODS)
