"""Names of data sets and augmentations, without torch: a wrong flag is refused at once.

Place on the data's way: FitConfig asks ``check_dataset`` and ``check_augment``; ``datasets.py``
adds what is registered.
"""

from pathlib import Path

from raymd.errors import UserError, unknown_name
from raymd.paths import absolute_path, is_uri

FLAG = "--dataset"

# Name -> what stands behind its colon, "" for nothing. The built-in ones are listed here since
# their loaders live in a file that imports torch.
_ARGUMENTS = {
    "digits": "",
    "mnist": "",
    "fashion_mnist": "",
    "cifar10": "",
    "cifar100": "",
    "imagenet": "",
    "folder": "DIR",
    "parquet": "DIR",
    "arrow": "DIR",
}

_PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}

AUGMENT_FLAG = "--augment"
AUGMENTATIONS = ("none", "crop-flip", "randaugment", "mixup")


def add_name(name: str, *, argument: str) -> None:
    """Make a name known; ``argument`` says what follows its colon, "" for nothing."""
    if not name or ":" in name:
        raise UserError(f"a data set cannot be named {name!r}: names are not empty, without ':'")
    _ARGUMENTS[name] = argument


def known_datasets() -> list[str]:
    """All names as the flag takes them, sorted: "cifar10", "parquet:DIR", …"""
    return sorted(f"{name}:{rest}" if rest else name for name, rest in _ARGUMENTS.items())


def check_dataset(spec: str) -> tuple[str, str]:
    """Split ``spec`` into name and argument; touches no data.

    Args:
        spec: ``NAME`` or ``NAME:ARGUMENT``, as ``--dataset`` has it.

    Raises:
        UserError: the name is not registered, or its argument is missing or too much.
    """
    name, _, argument = spec.partition(":")
    if name not in _ARGUMENTS and (is_uri(spec) or Path(spec).is_dir()):
        raise UserError(
            f"data set {spec!r} is a folder: say what is in it, {FLAG} folder:{spec} for images"
            f" (or parquet:{spec}, arrow:{spec})"
        )
    if name not in _ARGUMENTS:
        raise unknown_name("data set", name, _ARGUMENTS, flag=FLAG)
    wanted = _ARGUMENTS[name]
    if wanted and not argument:
        raise UserError(f"data set {spec!r} lacks its argument: {FLAG} {name}:{wanted}")
    if argument and not wanted:
        raise UserError(f"data set {name!r} takes no argument, got {argument!r}: {FLAG} {name}")
    return name, argument


def part_of(name: str) -> str | None:
    """The part that a folder or file called so holds: "train", "test", "val", or None."""
    return next((part for part, names in _PARTS.items() if name.lower() in names), None)


def check_augment(names: tuple[str, ...]) -> None:
    """Check what ``--augment`` names; touches no data.

    Raises:
        UserError: an unknown name, "none" with others, a name twice, or no name at all.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, AUGMENTATIONS, flag=AUGMENT_FLAG)
    got = ",".join(names)
    if not names:
        raise UserError(f"no augmentation named: {AUGMENT_FLAG} {'|'.join(AUGMENTATIONS)}")
    if "none" in names and len(names) > 1:
        raise UserError(f"augment {got}: 'none' stands alone ({AUGMENT_FLAG})")
    if len(set(names)) < len(names):
        raise UserError(f"augment {got}: names one twice ({AUGMENT_FLAG})")


def absolute_dataset(spec: str) -> str:
    """The spec with its folder, if it names one, as an absolute path."""
    name, argument = check_dataset(spec)
    return f"{name}:{absolute_path(argument)}" if takes_folder(name) else spec


def takes_folder(name: str) -> bool:
    """Whether a folder stands behind a known name's colon."""
    return _ARGUMENTS[name] == "DIR"
