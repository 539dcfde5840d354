"""Runs in a storage: their names, what each was begun with, and which one to go on with.

A run exists once its run.json is committed: the settings it was begun with and the fingerprint
of its data. Imports neither torch nor Ray.
"""

import datetime
import time
import uuid
from typing import Any

from raymd.config import FitConfig, parse_yaml, to_yaml
from raymd.differences import differences
from raymd.errors import UserError
from raymd.run_folder import CONFIG, HISTORY, RESULT
from raymd.secrets import masked, without_secrets
from raymd.settings import Settings
from raymd.storage import Storage
from raymd.student_options import merge_students
from raymd.view.events import decode_history, merge_history

IDENTITY = "run.json"


def new_run_name() -> str:
    """A name that sorts by time: ``20261122-225555-3f2a``."""
    stamp = datetime.datetime.now(tz=datetime.UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{uuid.uuid4().hex[:4]}"


def latest_run(base: Storage) -> str:
    """Name of the run begun last in a storage.

    Raises:
        UserError: there is none.
    """
    name = _latest(base)
    if name is None:
        raise UserError(
            f"--resume: no run in {base.uri}; name its folder (--storage), or leave --resume out"
        )
    return name


def _latest(base: Storage) -> str | None:
    begun = [
        (record["begun"], name)
        for name in base.list()
        if (record := base.record(f"{name}/{IDENTITY}")) is not None
    ]
    return max(begun)[1] if begun else None


def choose_run(config: FitConfig, base: Storage) -> tuple[str, bool]:
    """The run to begin or to go on with: its name, and whether it is there already.

    Raises:
        UserError: it exists and ``--resume`` is not given, or the other way round.
    """
    name = config.name or _unnamed(config.resume, base)
    exists = base.record(f"{name}/{IDENTITY}") is not None
    if exists and config.resume == "false":
        raise UserError(
            f"run {name!r} exists in {base.uri}; go on with it (--resume) or choose another --name"
        )
    if config.resume == "true" and not exists:
        raise UserError(
            f"--resume: no run {name!r} in {base.uri}; check --name and --storage, or leave "
            "--resume out (--resume auto begins a run where there is none)"
        )
    return name, exists


def _unnamed(resume: str, base: Storage) -> str:
    if resume == "true":
        return latest_run(base)
    latest = _latest(base) if resume == "auto" else None
    # what is finished leaves nothing to go on with, so a requeued job begins its next run
    if latest is None or base.exists(f"{latest}/{RESULT}"):
        return new_run_name()
    return latest


def begin(storage: Storage, *, config: FitConfig, settings: Settings, fingerprint: str) -> None:
    """Write down what a new run is, so that it exists."""
    storage.write(CONFIG, without_secrets(to_yaml(config)).encode())
    fields = {
        "begun": time.time(),
        "settings": masked(settings.to_dict()),
        "fingerprint": fingerprint,
    }
    storage.commit(IDENTITY, fields)


def check_same_science(storage: Storage, *, settings: Settings, fingerprint: str) -> None:
    """Refuse to go on with a run under anything that would change its weights.

    Raises:
        UserError: naming every field that differs.
    """
    record = storage.record(IDENTITY)
    assert record is not None
    lines = differences(
        Settings.from_dict(record["settings"]), Settings.from_dict(masked(settings.to_dict()))
    )
    if not lines and record["fingerprint"] != fingerprint:
        lines = [
            "the images or labels are not those it was begun with (--dataset, --data_dir), or "
            "large ones fitted in memory only then, or only now, and are decoded batch by batch "
            "where they do not (--image_size; --dataset imagenet: always)"
        ]
    if lines:
        raise UserError(
            f"--resume: {storage.uri} was begun with other settings: {'; '.join(lines)}. Leave "
            "those flags out, or begin a new run (--name)"
        )


def saved_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run was begun with, under the settings given now.

    Args:
        settings: As flags and YAML gave them, unread; ``resume`` among them.

    Returns:
        The run's own config.yaml with those over it; so ``--resume`` alone is enough. Unchanged
        where there is no such run, of which choose_run has to say something.
    """
    storage = str(settings.get("storage") or FitConfig.storage)
    base = Storage.at(storage)
    name = settings.get("name")
    if name is None:
        name = _unnamed(str(settings["resume"]).lower(), base)
    try:
        text = base.sub(str(name)).read(CONFIG).to_pybytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return settings
    saved = parse_yaml(text)
    # the two say one thing together: another of one does not go with the old of the other
    for asked, other in (("placement", "slots"), ("slots", "placement")):
        if asked in settings and other not in settings:
            saved.pop(other, None)
    students = merge_students(saved.get("student"), settings.get("student"))
    return {**saved, **settings, "student": students, "name": str(name), "storage": storage}


def read_history(storage: Storage) -> list[dict[str, Any]]:
    """All epochs that a run's students have committed, by epoch and then by student.

    Args:
        storage: The run's folder.

    Returns:
        ``epoch`` events (view/events.py); those after the last commit of a student are missing.
    """
    parts = []
    for student in storage.list(HISTORY):
        for part in storage.list(f"{HISTORY}/{student}"):
            name = f"{HISTORY}/{student}/{part}"
            parts.append(decode_history(storage.read(name).to_pybytes(), name=name))
    return merge_history(parts)
