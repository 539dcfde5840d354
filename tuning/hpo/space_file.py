"""A space file: what is searched, between which bounds, and what all points share.

    YAML -> Space (space.py), its names checked

    search:
      t: [2, 3, 4]                       # choices
      tin: {randint: [1, 10]}            # both ends included; also lograndint
      lr: {loguniform: [0.01, 0.2]}      # also uniform
      students: [[resnet8, resnet8], [resnet8, resnet14]]
      student.resnet8.lr: [0.05, 0.1]    # an option of one student
    fixed:
      epochs: 40                         # any setting of raymd.fit; flags go over it

The number of students is searched by ``num_students: [1, 2, 3]`` over a ``pool:`` of networks.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from raymd.config import FitConfig
from raymd.errors import UserError, unknown_name
from raymd.point import NUM_STUDENTS, ONE_STUDENT, Value, split_student
from raymd.yaml_text import load_yaml
from tuning.hpo.space import RANGES, Choice, Domain, Range, Space

PARTS = ("search", "pool", "fixed")
_DATA = "points are compared on the same held-out images"
_PLACE = "it says where and how a run trains, not what"
# Settings that points may not differ in, and why.
NOT_SEARCHED = {
    "epochs": "more epochs are nearly always better, so the search would only find the largest"
    " budget; tin and td vary within one budget (--search_epochs if this is what you want to know)",
    "seed": "a point is trained once for each of the same seeds (--seeds K)",
    "student": "write student.ID.OPTION, such as student.resnet50.lr",
    **dict.fromkeys(("dataset", "data_dir", "subset", "val_fraction"), _DATA),
    **dict.fromkeys(
        (
            "storage", "name", "resume", "address", "view", "log", "verbose", "wait_s", "device",
            "placement", "slots", "cpus_per_worker", "gpus_per_worker", "checkpoint_every",
            "barrier_timeout_s", "on_student_loss", "data_cache",
        ),
        _PLACE,
    ),
}  # fmt: skip
# What belongs to the search itself, and not to its runs.
SEARCHS_OWN = ("storage", "name", "resume", "view", "log")


def load_space(path: str) -> dict[str, Any]:
    """The document that a space file holds.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    try:
        document = load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a text file"
        raise UserError(f"{path}: {reason} (--space takes a YAML file)") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: a space has the parts {', '.join(PARTS)} (--space)")
    return document


def read_space(document: Mapping[str, Any], *, search_epochs: bool = False) -> Space:
    """A space of a document, names checked; its values are by ``check``.

    Args:
        document: Of a space file.
        search_epochs: Whether points may differ in their budget.

    Raises:
        UserError: an unknown name, with the nearest, or a domain that is none.
    """
    for part in document:
        if part not in PARTS:
            raise unknown_name("part", str(part), PARTS, flag="--space")
    search, fixed = (_mapping(document, part) for part in ("search", "fixed"))
    if not search:
        raise UserError("the space searches nothing: name at least one setting below 'search:'")
    for name in fixed:
        _check_fixed(str(name))
    for name in search:
        _check_searched(str(name), fixed, search_epochs=search_epochs)
    pool = _pool(document.get("pool"), search, fixed)
    domains = {str(name): _domain(str(name), said) for name, said in search.items()}
    return Space(domains, {str(name): value for name, value in fixed.items()}, pool)


def _mapping(document: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    value = document.get(part) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{part!r} of the space: takes lines like 't: 3', not {value!r}")
    return value


def _known() -> list[str]:
    return [entry.name for entry in dataclasses.fields(FitConfig)]


def _check_fixed(name: str) -> None:
    if name not in _known():
        raise unknown_name("setting", name, _known(), flag="'fixed' of the space")
    if name in SEARCHS_OWN:
        raise UserError(f"{name!r} in 'fixed': that is the search's own, a flag (--{name})")


def _check_searched(name: str, fixed: Mapping[str, Any], *, search_epochs: bool) -> None:
    if name == NUM_STUDENTS:
        return
    if name.startswith(ONE_STUDENT):
        split_student(name)
        return
    if name not in _known():
        known = [NUM_STUDENTS, *(name for name in _known() if name not in NOT_SEARCHED)]
        raise unknown_name("setting", name, known, flag="'search' of the space")
    if name in NOT_SEARCHED and not (name == "epochs" and search_epochs):
        raise UserError(f"{name!r} in 'search': {NOT_SEARCHED[name]}")
    if name in fixed:
        raise UserError(f"{name!r} is searched and fixed to {fixed[name]!r}: it is one of the two")


def _pool(said: Any, search: Mapping[str, Any], fixed: Mapping[str, Any]) -> tuple[str, ...]:
    if NUM_STUDENTS not in search:
        if said:
            raise UserError(
                "'pool' without 'num_students' in 'search': it holds the networks that"
                " num_students counts off"
            )
        return ()
    if "students" in search or "students" in fixed:
        raise UserError("num_students and students: networks come from 'pool', or are named")
    pool = tuple(said.split(",") if isinstance(said, str) else said or ())
    if not pool or not all(isinstance(name, str) for name in pool):
        raise UserError(
            "num_students in 'search' counts networks of 'pool: [resnet20, resnet14, resnet8]'"
        )
    return tuple(name.strip() for name in pool)


def _domain(name: str, said: Any) -> Domain:
    if isinstance(said, list) and said:
        values = tuple(_value(name, value) for value in said)
        if len(set(map(str, values))) < len(values):
            raise UserError(f"{name!r} in 'search': {said!r} has a value twice")
        domain: Domain = Choice(values)
    elif isinstance(said, Mapping) and len(said) == 1:
        domain = _range(name, *next(iter(said.items())))
    else:
        raise UserError(
            f"{name!r} in 'search': takes choices, [2, 3, 4], or a range, {{uniform: [1, 5]}}"
            f" ({', '.join(RANGES)}), not {said!r}; one value stands in 'fixed'"
        )
    if name == NUM_STUDENTS:
        _check_counts(domain)
    return domain


def _value(name: str, said: Any) -> Value:
    if isinstance(said, list | tuple):
        return ",".join(map(str, said))
    if said is None:
        return "null"  # as a flag has it; search algorithms take no None
    if not isinstance(said, str | int | float | bool):
        raise UserError(f"{name!r} in 'search': {said!r} is no value of a setting")
    return said


def _range(name: str, kind: Any, ends: Any) -> Range:
    if kind not in RANGES:
        raise unknown_name("range", str(kind), RANGES, flag=f"{name!r} in 'search'")
    whole = "int" in kind
    try:
        low, high = (int(str(end)) if whole else float(end) for end in ends)
    except (TypeError, ValueError) as error:
        what = "whole numbers" if whole else "numbers"
        raise UserError(f"{name!r} in 'search': {kind} takes two {what}, not {ends!r}") from error
    if not low < high or not math.isfinite(high - low) or (kind.startswith("log") and low <= 0):
        above = "above 0, " if kind.startswith("log") else ""
        raise UserError(
            f"{name!r} in 'search': {kind} takes two numbers, {above}the lower one first,"
            f" not {ends!r}"
        )
    return Range(kind, low, high)


def _check_counts(domain: Domain) -> None:
    for count in domain.probes():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UserError(f"num_students in 'search': {count!r} is no number of students")
