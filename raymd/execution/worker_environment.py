"""What the processes that train find in their environment: how the C library hands out memory.

Activations and gradients of a step are freed and asked for again at the next. glibc gives large
pieces back to the system and takes fresh pages for them, which the kernel first fills with zeros: a
tenth of a step's time (docs/performance.md). Kept pages cost a tenth more memory.

One arena, for Ray Train trains in a thread, and every other arena than the first is made of small
mappings of its own. All of it is read when a process starts, so it cannot be set later.
"""

import os

KEPT_PAGES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",  # large pieces from the heap too
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),  # and the heap's end is never given back
}


def worker_environment() -> dict[str, str]:
    """Variables for a process that trains; a user's own values win."""
    return {name: value for name, value in KEPT_PAGES.items() if name not in os.environ}
