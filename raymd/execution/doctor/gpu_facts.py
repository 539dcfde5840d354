"""Measures a node's GPUs: those that the driver sees, those that are there, those that torch uses.

nvidia-smi is asked, for a process that holds no GPU of Ray's sees none through torch; then a
process of its own, which sees all, computes on each.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

FIELDS = (
    "index", "name", "driver_version", "memory.total", "memory.used", "mig.mode.current",
    "ecc.errors.uncorrected.volatile.total",
)  # fmt: skip
SMI_S, TORCH_S = 20.0, 45.0
LIMIT_S = 2 * SMI_S + TORCH_S
MIB = 2**20
NVIDIA, DISPLAY = "0x10de", "0x03"  # a PCI device's vendor, and the begin of its class
# prints an error for each GPU, empty where torch computes on it
TRY = """
import json, torch
def attempt(n):
    try:
        assert torch.ones(1000, device=f"cuda:{n}").sum().item() == 1000
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
torch.cuda.init()
print(json.dumps([attempt(n) for n in range(torch.cuda.device_count())]))
"""


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi describes it.

    Attributes:
        is_split: Into MIG instances.
        ecc_errors: Errors of its memory that could not be corrected since it was last reset; None
            where they are not counted.
    """

    index: int
    name: str
    driver: str
    total_bytes: int
    used_bytes: int
    is_split: bool = False
    ecc_errors: int | None = None


@dataclass(frozen=True)
class Gpus:
    """A node's GPUs.

    Attributes:
        listed: By nvidia-smi.
        why_none: What nvidia-smi said instead; empty if it listed them, or is not installed.
        on_bus: NVIDIA GPUs that the machine has, whether there is a driver or not.
        driver_cuda, torch_cuda: The newest CUDA that the driver knows, and the one torch is built
            for; None: not known, or built without.
        in_torch: For each GPU that torch sees the error of computing on it, empty if there was
            none; or why torch sees none at all.
        visible: CUDA_VISIBLE_DEVICES of Ray's processes.
    """

    listed: tuple[Gpu, ...] = ()
    why_none: str = ""
    on_bus: int = 0
    driver_cuda: str | None = None
    torch_cuda: str | None = None
    in_torch: tuple[str, ...] | str = ()
    visible: str | None = None


def measure_gpus() -> Gpus:
    """Ask nvidia-smi, the PCI bus and torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = Gpus(on_bus=_on_bus(), torch_cuda=_torch_cuda(), visible=visible)
    query = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        listed = _run(query, SMI_S)
        if listed.returncode:
            said = f"{listed.stdout} {listed.stderr}".strip().partition("\n")[0]
            return Gpus(**{**vars(found), "why_none": said})
        cuda = cuda_of_driver(_run(["nvidia-smi"], SMI_S).stdout)
    except FileNotFoundError:
        return found
    gpus = read_gpus(listed.stdout)
    in_torch = _in_torch() if gpus and found.torch_cuda else ()
    return Gpus(**{**vars(found), "listed": gpus, "driver_cuda": cuda, "in_torch": in_torch})


def _run(words: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    # what Ray hides from a process without GPUs is not hidden from this one
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
    )


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """What nvidia-smi's table (``FIELDS`` without header and units) says."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]
    return tuple(
        Gpu(
            index=int(index),
            name=name,
            driver=driver,
            total_bytes=MIB * (_number(total) or 0),
            used_bytes=MIB * (_number(used) or 0),
            is_split=split == "Enabled",
            ecc_errors=_number(errors),
        )
        for index, name, driver, total, used, split, errors in rows
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None  # "[N/A]", "[Not Supported]"


def cuda_of_driver(text: str) -> str | None:
    """The newest CUDA that a driver knows, from nvidia-smi's heading."""
    match = re.search(r"CUDA Version\s*:\s*([\d.]+)", text)
    return match[1] if match else None


def _torch_cuda() -> str | None:
    """The CUDA that torch is built for, without importing it, which takes seconds."""
    try:
        file = Path(str(distribution("torch").locate_file("torch/version.py")))
        match = re.search(r"^cuda\b.*= '([\d.]+)'", file.read_text(encoding="utf-8"), re.MULTILINE)
    except (PackageNotFoundError, OSError):
        return None
    return match[1] if match else None


def _on_bus() -> int:
    devices = Path("/sys/bus/pci/devices").glob("*")
    return sum(
        _says(device / "vendor", NVIDIA) and _says(device / "class", DISPLAY) for device in devices
    )


def _says(file: Path, begin: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8").startswith(begin)


def _in_torch() -> tuple[str, ...] | str:
    try:
        done = _run([sys.executable, "-c", TRY], TORCH_S)
    except subprocess.TimeoutExpired:
        return f"torch did not answer within {TORCH_S:g} s"
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2] or f"torch ended with {done.returncode}"
    return tuple(json.loads(done.stdout.splitlines()[-1]))
