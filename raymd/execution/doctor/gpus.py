"""Judges a node's GPUs: are there as many as Ray counts, and does torch compute on them."""

from collections.abc import Iterator

from raymd.execution.doctor.finding import Against, Level, Verdict
from raymd.execution.doctor.gpu_facts import Gpus
from raymd.view.text import count_of, num_bytes

TAKEN = 0.1
BUSY = ("out of memory", "busy")


def judge_gpus(gpus: Gpus, against: Against) -> list[Verdict]:
    """What would keep GPUs from being trained on, or slow them."""
    if against.device in ("cpu", "mps"):
        return [Verdict("ok", f"{count_of(len(gpus.listed), 'GPU')}, not used (--device)")]
    if not gpus.listed:
        return list(_none_listed(gpus, against))
    verdicts = [*_counted(gpus, against), *_torch(gpus, against), *_each(gpus)]
    return verdicts or [Verdict("ok", _described(gpus))]


def _none_listed(gpus: Gpus, against: Against) -> Iterator[Verdict]:
    level: Level = "problem" if against.device == "cuda" or against.node.gpus else "warning"
    if gpus.why_none and not gpus.on_bus and not against.node.gpus:
        # a node for CPUs whose image has the driver, as a cloud's head node often is
        yield Verdict("note", f"none, and an nvidia-smi that says: {gpus.why_none}")
    elif gpus.why_none:
        yield Verdict(
            level,
            f"nvidia-smi: {gpus.why_none}",
            "load the driver or install it anew; after an update of either, reboot",
        )
    elif gpus.on_bus:
        yield Verdict(
            level,
            f"{count_of(gpus.on_bus, 'NVIDIA GPU')}, but no nvidia-smi",
            "install NVIDIA's driver, or start the container with its GPUs (docker run --gpus all)",
        )
    elif against.node.gpus:
        yield Verdict(
            "warning",
            f"Ray counts {count_of(int(against.node.gpus), 'GPU')}, and no nvidia-smi tells of one",
            "if they are NVIDIA's, install the driver; else leave out ray start --num-gpus",
        )
    else:
        yield Verdict("ok", "none")


def _counted(gpus: Gpus, against: Against) -> Iterator[Verdict]:
    counted, listed = against.node.gpus, len(gpus.listed)
    where = "" if gpus.visible is None else f" (CUDA_VISIBLE_DEVICES={gpus.visible!r} there)"
    is_split = any(gpu.is_split for gpu in gpus.listed)  # Ray is told of instances then
    if counted > listed and not is_split:
        yield Verdict(
            "problem",
            f"Ray counts {counted:g} GPUs and nvidia-smi {listed}{where}",
            f"ray start --num-gpus {listed}",
        )
    elif counted < listed and not is_split:
        yield Verdict(
            "warning",
            f"Ray counts {counted:g} GPUs and nvidia-smi {listed}{where}, so some stay idle",
            f"ray start --num-gpus {listed}, without CUDA_VISIBLE_DEVICES",
        )


def _torch(gpus: Gpus, against: Against) -> Iterator[Verdict]:
    level: Level = "problem" if against.node.gpus else "warning"
    versions = f"driver {gpus.listed[0].driver} knows CUDA up to {gpus.driver_cuda or 'unknown'}"
    if gpus.torch_cuda is None:
        yield Verdict(level, "torch is built without CUDA", "install torch with CUDA (pytorch.org)")
    elif isinstance(gpus.in_torch, str) or not gpus.in_torch:
        yield Verdict(
            level,
            f"torch sees no GPU: {gpus.in_torch or 'it says nothing why'}",
            f"the {versions} and torch is built for {gpus.torch_cuda}: update the driver, or"
            " install torch for an older CUDA (pytorch.org)",
        )
    else:
        yield from _computing(gpus.in_torch, level)


def _computing(errors: tuple[str, ...], level: Level) -> Iterator[Verdict]:
    for index, error in enumerate(errors):
        if not error:
            continue
        is_busy = any(word in error.lower() for word in BUSY)
        remedy = "end what holds it" if is_busy else "nvidia-smi -q may tell why; else reboot"
        yield Verdict(
            "warning" if is_busy else level, f"torch cannot compute on GPU {index}: {error}", remedy
        )


def _each(gpus: Gpus) -> Iterator[Verdict]:
    for gpu in gpus.listed:
        if gpu.ecc_errors:
            yield Verdict(
                "warning",
                f"GPU {gpu.index} had {count_of(gpu.ecc_errors, 'memory error')} that could not be"
                " corrected",
                "reset or replace it: nvidia-smi -q -d ECC,ROW_REMAPPER",
            )
        if gpu.is_split:
            yield Verdict(
                "note",
                f"GPU {gpu.index} is split (MIG)",
                "Ray counts whole GPUs: name the instances in CUDA_VISIBLE_DEVICES before ray start"
                " with --num-gpus, or nvidia-smi -mig 0. Workers of one student need whole GPUs",
            )
        if gpu.used_bytes > TAKEN * gpu.total_bytes:
            used = f"{num_bytes(gpu.used_bytes)} of {num_bytes(gpu.total_bytes)}"
            yield Verdict("note", f"GPU {gpu.index}: {used} are taken", "see nvidia-smi by whom")


def _described(gpus: Gpus) -> str:
    names = [gpu.name for gpu in gpus.listed]
    kinds = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    driver = f"driver {gpus.listed[0].driver}, CUDA up to {gpus.driver_cuda or 'unknown'}"
    return f"{kinds}; {driver}; torch, for CUDA {gpus.torch_cuda}, computes on each"
