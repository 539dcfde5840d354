"""What unfinished or crashed runs left below a storage, and may go.

Place on the data's way: beside it. A storage enters; a list of Leftovers and of runs that are
passed over leaves. Results, histories, teachers and whatever `--resume` needs are never in it.

Nothing tells for sure whether a run is going on, perhaps on another machine. A run without a result
counts as going on until nothing was written into its folder for `idle_s`, and at least for twice
its `checkpoint_every`.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import pyarrow.fs as pafs

from raymd.config import from_yaml, parse_checkpoint_every
from raymd.errors import RaymdError, UserError
from raymd.object_store import explained
from raymd.run_folder import CONFIG, ENDED, RESULT, SCRATCH, checkpoints_folder
from raymd.runs import IDENTITY
from raymd.storage import Storage

SOFT_LABELS = "soft_labels"
STUDENTS = "students"
TEMPORARY_AGE_S = 3600.0
UNTIMED_CHECKPOINT_S = 3600.0  # taken for a checkpoint_every in steps or epochs
# as Storage names what it has not finished writing, and the file it tries a folder with
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp|\.probe-[0-9a-f]{32}")
_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")  # runs.new_run_name


@dataclass(frozen=True)
class File:
    """One file: size, and seconds since it was written."""

    num_bytes: int
    age_s: float


@dataclass(frozen=True)
class Leftover:
    """Something that may go.

    Attributes:
        name: Of the file or folder, relative to the storage.
        why: What it is, for people.
        num_bytes: In all.
        remove: Removes it; OSError if that cannot be.
        place: Where it lies: in the ``storage``.
    """

    name: str
    why: str
    num_bytes: int
    remove: Callable[[], None] = field(compare=False, repr=False)
    place: str = "storage"


@dataclass(frozen=True)
class GoingOn:
    """A run that is passed over: its name, and seconds since it last wrote."""

    run: str
    age_s: float


@dataclass(frozen=True)
class Found:
    """All that was found."""

    leftovers: tuple[Leftover, ...]
    going_on: tuple[GoingOn, ...]


def find_leftovers(
    storage: Storage, *, runs: Iterable[str] | None, idle_s: float, whole: bool = False
) -> Found:
    """Look through a storage.

    Args:
        storage: The folder around the runs.
        runs: Names of those wanted; None: all, and what lies beside them.
        idle_s: How long a run without a result counts as going on after it last wrote.
        whole: List whole runs with their results, instead of what they left behind.

    Raises:
        UserError: a name that is no run.
    """
    wanted = storage.list() if runs is None else list(runs)
    leftovers: list[Leftover] = []
    going_on: list[GoingOn] = []
    for run in wanted:
        files = list_files(storage, run)
        is_run = storage.exists(f"{run}/{IDENTITY}")
        if runs is not None and not is_run:
            raise UserError(f"{run!r} is no run in {storage.uri} (RUN, --storage)")
        age_s = min((file.age_s for file in files.values()), default=float("inf"))
        if is_run and age_s < _idle_s(storage, run, idle_s):
            going_on.append(GoingOn(run, age_s))
        elif whole:
            leftovers.append(_folder(storage, run, "run with its results", files))
        else:
            leftovers += _of_run(storage, run, files, is_run=is_run)
    if runs is None:
        leftovers += _temporaries(storage, list_files(storage, "", recursive=False))
    return Found(tuple(leftovers), tuple(going_on))


def list_files(storage: Storage, folder: str, *, recursive: bool = True) -> dict[str, File]:
    """All files below a folder of a storage, temporary ones too, by their names in the storage."""
    filesystem, root = storage.filesystem
    path = f"{root}/{folder}" if folder else root
    with explained(storage.uri):
        if filesystem.get_file_info(path).type != pafs.FileType.Directory:
            return {}
        selector = pafs.FileSelector(path, recursive=recursive, allow_not_found=True)
        infos = filesystem.get_file_info(selector)
    return {
        info.path.removeprefix(f"{root}/"): File(info.size, _age_s(info))
        for info in infos
        if info.type == pafs.FileType.File
    }


def _age_s(info: pafs.FileInfo) -> float:
    # object stores give their folders no time
    return time.time() - (info.mtime_ns or 0) / 1e9


def _idle_s(storage: Storage, run: str, idle_s: float) -> float:
    """How long after its last write a run still counts as going on; 0 for one that
    is finished, or was stopped or failed in the driver's presence."""
    if storage.exists(f"{run}/{RESULT}") or storage.exists(f"{run}/{ENDED}"):
        return 0.0
    try:
        config = from_yaml(storage.read(f"{run}/{CONFIG}").to_pybytes().decode())
        every_s = parse_checkpoint_every(config.checkpoint_every).seconds or UNTIMED_CHECKPOINT_S
    except (RaymdError, OSError):  # of another version, or gone
        every_s = UNTIMED_CHECKPOINT_S
    return max(idle_s, 2 * every_s) if idle_s else 0.0


def _of_run(
    storage: Storage, run: str, files: Mapping[str, File], *, is_run: bool
) -> Iterator[Leftover]:
    """What a run that is finished, or was left behind, does not need."""
    if not is_run:
        if _is_empty_run(storage, run, files):
            yield _folder(storage, run, "run that was never begun", files)
        return
    folders = {f"{run}/{SCRATCH}": "Ray Train's scratch"}
    if storage.exists(f"{run}/{RESULT}"):
        folders[f"{run}/{SOFT_LABELS}"] = "soft labels of a finished run"
        for student in storage.list(f"{run}/{STUDENTS}"):
            name = f"{run}/{checkpoints_folder(student)}"
            folders[name] = "checkpoints of a finished run"
    for name, why in folders.items():
        if storage.exists(name):
            yield _folder(storage, name, why, files)
    rest = {
        name: file
        for name, file in files.items()
        if not any(name.startswith(f"{folder}/") for folder in folders)
    }
    yield from _temporaries(storage, rest)


def _folder(storage: Storage, name: str, why: str, files: Mapping[str, File]) -> Leftover:
    inside = (file.num_bytes for path, file in files.items() if path.startswith(f"{name}/"))
    return Leftover(name, why, sum(inside), partial(storage.delete, name))


def _is_empty_run(storage: Storage, name: str, files: Mapping[str, File]) -> bool:
    """Whether a folder holds nothing but raymd's own scratch, and has not for an hour.

    Other people's folders may lie beside runs, so an empty one has to be named like a run's.
    """
    filesystem, root = storage.filesystem
    info = filesystem.get_file_info(f"{root}/{name}")
    if info.type != pafs.FileType.Directory or _age_s(info) < TEMPORARY_AGE_S:
        return False
    is_ours = any(storage.exists(f"{name}/{own}") for own in (SCRATCH, STUDENTS, SOFT_LABELS))
    if not (is_ours or _RUN_NAME.fullmatch(name)):
        return False
    return all(
        file.age_s > TEMPORARY_AGE_S
        and (path.startswith(f"{name}/{SCRATCH}/") or _is_temporary(path))
        for path, file in files.items()
    )


def _is_temporary(path: str) -> bool:
    return _TEMPORARY.fullmatch(path.rpartition("/")[2]) is not None


def _temporaries(storage: Storage, files: Mapping[str, File]) -> Iterator[Leftover]:
    for path, file in files.items():
        if _is_temporary(path) and file.age_s > TEMPORARY_AGE_S:
            remove = partial(storage.delete, path)
            yield Leftover(path, "half-written file", file.num_bytes, remove)
