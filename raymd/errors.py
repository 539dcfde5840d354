"""raymd's exceptions: each says what was received, what is allowed and which setting mends it.

They cross process boundaries (a worker raises, the driver reports), so every one survives
pickling: all of its state is in ``args``.
"""

import difflib
from collections.abc import Iterable

from raymd.secrets import without_secrets

FEW_NAMES = 6


class RaymdError(Exception):
    """Anything raymd raises on purpose, its message without credentials. ``exit_code`` is what the
    command line ends with."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(arg) if isinstance(arg, str) else arg for arg in args))


class UserError(RaymdError, ValueError):
    """A setting, a file or a cluster that cannot work as given; the message holds the remedy."""

    exit_code = 2


class DataError(UserError):
    """A data set that is missing, damaged or inconsistent; names the file and the row."""


class StorageError(RaymdError):
    """A committed file that is missing or does not match its checksum."""


class StorageWriteError(RaymdError, OSError):
    """The run's folder can no longer be written; what was committed before is intact."""


class StorageFullError(StorageWriteError):
    """The disk of the run's folder, or its quota, is full."""


class StorageAccessError(RaymdError, OSError):
    """An object store that did not answer as it should; trying again may help."""


class StorageRefusedError(StorageWriteError):
    """An object store that says no: no such bucket, no right, a wrong region."""


class NonFiniteLossError(RaymdError):
    """Training diverged: the loss is no longer a number."""


# What people call settings elsewhere.
ALIASES = {
    "learning_rate": "lr", "temperature": "t", "num_epochs": "epochs", "batch": "batch_size",
    "bs": "batch_size", "wd": "weight_decay", "model": "students", "models": "students",
    "networks": "students", "data": "dataset", "output": "storage", "output_dir": "storage",
    "out": "storage", "gpus": "gpus_per_worker", "cpus": "cpus_per_worker",
    "workers": "workers_per_student", "num_workers": "workers_per_student",
    "scheduler": "lr_schedule", "optim": "optimizer", "warmup": "warmup_epochs",
    "amp": "precision", "img_size": "image_size", "resolution": "image_size",
}  # fmt: skip


def nearest(name: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.5) -> list[str]:
    """The known names that a name is most like, by spelling or by what others call a thing."""
    known = list(known)
    meant = {alias: own for alias, own in ALIASES.items() if own in known}
    plain = name.lower().replace("-", "_")
    near = difflib.get_close_matches(plain, [*known, *meant], n=most, cutoff=cutoff)
    return list(dict.fromkeys(meant.get(word, word) for word in near))


def unknown_name(kind: str, name: str, known: Iterable[str], *, flag: str) -> UserError:
    """The error for a name that is not in a registry, with the nearest known names.

    Args:
        kind: What the name stands for, as in "network".
        name: The name received.
        known: All names that would have been right.
        flag: The setting that mends it, as in "--students".
    """
    known = sorted(known)
    near = nearest(name, known)
    known_ones = f"known: {', '.join(known)}"
    hint = f"did you mean {' or '.join(near)}?" if near else known_ones
    if near and len(known) <= FEW_NAMES:  # of a few the nearest in spelling may be the wrong one
        hint += f" ({known_ones})"
    return UserError(f"unknown {kind} {name!r} ({flag}): {hint}")
