"""Where this process runs: versions and processor, for result.json and bug reports; memory left."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("raymd", "torch", "torchvision", "ray", "numpy", "pyarrow")


def environment() -> dict[str, Any]:
    """Versions and the processor of this machine; nothing personal, no environment variables.

    Returns:
        ``python``, a version (None if not installed) for each package, ``platform``, ``cpu`` (its
        model) and ``cores`` (logical ones that this process may use).
    """
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": _num_cores(),
    }


def _version(package: str) -> str | None:
    # from the metadata: importing torch would take seconds
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    # a container or a scheduler may allow less than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes() -> int:
    """Memory that can still be used here: of the machine, or of the container if less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        memory = next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass  # not Linux
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return memory
    return memory if limit == "max" else min(memory, int(limit))
