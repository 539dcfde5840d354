"""A student at the run's beginning: its network, optimiser, and what training calls.

Enters: a StudentTask. Leaves: a fresh StudentState, for checkpoint.restore to fill.
"""

import inspect
import os
import platform
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from raymd.errors import UserError
from raymd.models import build_model
from raymd.models.initial import load_initial
from raymd.training.student import StudentState, StudentTask, draw_seed

# One pass over the weights instead of one an operation.
FUSED_DEVICES = ("cpu", "cuda")
COMPILERS = ("g++", "clang++", "c++")  # that torch knows
# What newer versions of torch call it, and what older ones do.
_NO_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}


def new_model(task: StudentTask, *, initialise: bool = True) -> tuple[nn.Module, list[str]]:
    """The student's network, from (seed, student id) and, if asked for, from trained weights.

    Args:
        task: The student.
        initialise: Whether trained weights are wanted; a checkpoint will replace them.

    Returns:
        The network on its device, and announcements.
    """
    notes: list[str] = []
    torch.manual_seed(draw_seed("init", task.settings.seed, task.student.id))
    model = build_model(
        task.student.arch,
        num_classes=len(task.data.classes),
        in_channels=task.data.train.channels,
        image_size=task.data.image_size,
        pretrained=task.student.pretrained and initialise,
    )
    if task.student.init_from is not None and initialise:
        notes = load_initial(model, source=task.student.init_from, arch=task.student.arch)
    return model.to(task.device).to(memory_format=task.memory_format), notes


def new_state(task: StudentTask, *, initialise: bool = True) -> StudentState:
    """The student at the run's beginning."""
    model, notes = new_model(task, initialise=initialise)
    fp16 = task.student.precision == "fp16"
    averaged = None
    if task.student.ema:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(task.student.ema))
    return StudentState(
        model=model,
        network=training_network(task, model),
        optimizer=new_optimizer(task, model),
        scaler=torch.amp.GradScaler(task.device.type, enabled=fp16),
        averaged=averaged,
        position=task.schedule.start,
        notes=notes,
    )


def new_optimizer(task: StudentTask, model: nn.Module) -> torch.optim.Optimizer:
    """The student's optimiser, at its start."""
    student = task.student
    options: dict[str, Any] = {
        "lr": student.lr,
        "weight_decay": student.weight_decay,
        "fused": task.device.type in FUSED_DEVICES and _can_fuse(model),
    }
    if student.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), **options)
    return torch.optim.SGD(model.parameters(), momentum=student.momentum, **options)


def _can_fuse(model: nn.Module) -> bool:
    """Whether all weights lie in memory as their gradients will.

    Fused kernels go through weight, gradient and momentum as they lie, without a look at strides,
    and a gradient lies as its weight does where that is dense.
    """
    return all(
        weight.is_contiguous()
        or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
        for weight in model.parameters()
    )


def training_network(task: StudentTask, model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as training calls it: in DDP with several workers, compiled if asked for."""
    network: Any = model
    if task.ranks.world_size > 1:
        ids = [task.device] if task.device.type == "cuda" else None
        # BatchNorm's statistics are rank 0's at each epoch's end, not broadcast at each step.
        network = DistributedDataParallel(model, device_ids=ids, **_NO_BUFFERS)
        _warm_up(task, model, network)
    if not task.student.compile:
        return network
    _check_compiler(task)
    return torch.compile(network)


def _check_compiler(task: StudentTask) -> None:
    """Refuse to compile for a CPU where torch would find out at the first step, and at length.

    Raises:
        UserError: this machine has no C++ compiler.
    """
    compilers = (os.environ.get("CXX", "g++"), *COMPILERS)
    if task.device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise UserError(
            f"compile of {task.student.id}: no C++ compiler on {platform.node()}, which torch takes"
            " to compile for a CPU (--compile false, or install g++ on every machine)"
        )


def _warm_up(task: StudentTask, model: nn.Module, network: nn.Module) -> None:
    """Two steps forward and back, of which nothing is kept.

    DDP rebuilds its buckets after the first, which changes the order of its sums: done before
    anything is restored, every attempt adds up gradients alike.
    """
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    side, channels = task.data.image_size, task.data.train.channels
    network.train()
    for _ in range(2):
        with task.autocast():
            logits_BK = network(torch.zeros(2, channels, side, side, device=task.device))
        torch.autograd.backward(logits_BK.float().sum())
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
