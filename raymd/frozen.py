"""Frozen teachers by name (``--teachers``): which networks, with whose weights.

Enters: texts such as ``resnet50:runs/NAME``. Leaves: a TeacherConfig each, without its weights,
which training/frozen.py reads. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from raymd.errors import UserError
from raymd.models.names import absolute_source, check_name
from raymd.student_options import student_ids

FLAG = "--teachers"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """One frozen teacher of a run.

    Attributes:
        id: Its name in the run, unlike any student's.
        arch: The network's name.
        source: A run, a student of one (RUN::STUDENT) or a file of weights.
    """

    id: str
    arch: str
    source: str


def read_teachers(texts: Sequence[str], *, students: Sequence[str]) -> tuple[TeacherConfig, ...]:
    """The teachers that ``--teachers`` names.

    Args:
        texts: ``NETWORK:SOURCE`` each; networks' names may hold a colon themselves.
        students: The students' networks, whose ids are taken.

    Raises:
        UserError: No such network, or no source behind it.
    """
    pairs = [_split(text) for text in texts]
    ids = student_ids([*students, *(arch for arch, _ in pairs)])[len(students) :]
    return tuple(
        TeacherConfig(id=id, arch=arch, source=absolute_source(source))
        for id, (arch, source) in zip(ids, pairs, strict=True)
    )


def _split(text: str) -> tuple[str, str]:
    """The network, which may hold a colon (``timm:NAME``, ``package.module:function``), and the
    source behind it."""
    parts = text.split(":")
    refusals = []
    for count in (1, 2):
        arch, source = ":".join(parts[:count]), ":".join(parts[count:])
        try:
            check_name(arch)
        except UserError as error:
            refusals.append(error)
            continue
        if source:
            return arch, source
    if len(refusals) == 2:
        raise UserError(f"teacher {text!r}: {refusals[0]} ({FLAG} NETWORK:RUN_OR_WEIGHTS)")
    raise UserError(
        f"teacher {text!r}: whose weights? NETWORK:SOURCE, where the source is a run, RUN::STUDENT"
        f" or a file of weights, as in resnet50:runs/NAME ({FLAG})"
    )


def absolute_teacher(text: str) -> str:
    """The same for who stands in another folder."""
    arch, source = _split(text)
    return f"{arch}:{absolute_source(source)}"
