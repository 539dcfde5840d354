"""How the settings asked for differ from those of a run: what a resume refuses.

Enters: two Settings. Leaves: a line for each difference, with the flag that makes it.
"""

import dataclasses

from raymd.settings import Settings
from raymd.student_options import OPTIONS


def differences(run: Settings, asked: Settings) -> list[str]:
    """How the settings asked for differ from those of a run, as a resume's refusal tells it.

    The order of students is no difference: everything about a student follows from its id.

    Args:
        run: What the run was begun with.
        asked: What it should go on with.

    Returns:
        Such as "t: 3.0 in the run, 4.0 asked for (--t)"; empty if they are the same.
    """
    lines = [
        _difference(entry.name, getattr(run, entry.name), getattr(asked, entry.name))
        for entry in dataclasses.fields(Settings)
        if entry.name not in ("students", "teachers", "dataset")
        and getattr(run, entry.name) != getattr(asked, entry.name)
    ]
    # Where a data set lies may change; what it holds is compared by its fingerprint.
    if run.dataset.partition(":")[0] != asked.dataset.partition(":")[0]:
        lines.append(_difference("dataset", run.dataset, asked.dataset))
    # Nor where a teacher's weights came from: the run has kept them.
    was, now = (
        ",".join(teacher.arch for teacher in settings.teachers) for settings in (run, asked)
    )
    if was != now:
        lines.append(_difference("teachers", was or "none", now or "none"))
    return lines + _student_differences(run, asked)


def _difference(label: str, run: object, asked: object, *, flag: str | None = None) -> str:
    return f"{label}: {run} in the run, {asked} asked for (--{flag or label})"


def _student_differences(run: Settings, asked: Settings) -> list[str]:
    was, now = ({s.id: s for s in settings.students} for settings in (run, asked))
    if was.keys() != now.keys():
        return [_difference("students", ",".join(was), ",".join(now))]
    return [
        _difference(
            f"{student}'s {name}",
            getattr(was[student], name),
            getattr(now[student], name),
            flag="students" if name == "arch" else name,
        )
        for student in was
        for name in ("arch", *OPTIONS)
        if getattr(was[student], name) != getattr(now[student], name)
    ]
