"""A space file: what is searched, between which bounds, and what all points share.

    YAML -> Space -> FitConfigs at all choices and bounds, so that a mistake is told at once

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
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from raymd.config import FitConfig, config_dict
from raymd.errors import UserError, unknown_name
from raymd.frozen import absolute_teacher
from raymd.models.names import absolute_source
from raymd.point import NUM_STUDENTS, ONE_STUDENT, Value, point_settings, split_student
from raymd.recipes import absolute_recipe
from raymd.yaml_text import load_yaml

# Settings that name files, and may be searched.
PATHS: dict[str, Callable[[str], str]] = {
    "recipe": absolute_recipe,
    "init_from": absolute_source,
    "teachers": lambda names: ",".join(absolute_teacher(name) for name in names.split(",")),
}
PARTS = ("search", "pool", "fixed")
RANGES = ("uniform", "loguniform", "randint", "lograndint")
MOST_CHECKED = 2000  # points of a grid that are all checked before anything starts

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
            "barrier_timeout_s", "on_student_loss",
        ),
        _PLACE,
    ),
}  # fmt: skip
# What belongs to the search itself, and not to its runs.
SEARCHS_OWN = ("storage", "name", "resume", "view", "log")


@dataclass(frozen=True)
class Choice:
    """Some values; lists have become texts, which search algorithms can tell apart."""

    values: tuple[Value, ...]

    def probes(self) -> tuple[Value, ...]:
        """Values to check."""
        return self.values

    def to_plain(self) -> list[Value]:
        """As a space file has it."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """All values between two, both included.

    Attributes:
        kind: One of RANGES.
        low, high: Whole numbers for the kinds with ``int``.
    """

    kind: str
    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return "int" in self.kind

    def probes(self) -> tuple[Value, ...]:
        """Values to check: both ends, and one between."""
        middle = (self.low + self.high) / 2
        return (self.low, self.high, int(middle) if self.is_whole else float(middle))

    def to_plain(self) -> dict[str, list[float]]:
        """As a space file has it."""
        return {self.kind: [self.low, self.high]}


Domain = Choice | Range


@dataclass(frozen=True)
class Space:
    """What a space file says.

    Attributes:
        search: By name: a setting, ``num_students``, or ``student.ID.OPTION``.
        fixed: Settings of every point, unread.
        pool: Networks that ``num_students`` counts off.
    """

    search: dict[str, Domain]
    fixed: dict[str, Any] = field(default_factory=dict)
    pool: tuple[str, ...] = ()

    @property
    def is_grid(self) -> bool:
        """Whether there are choices only, so that all points can be counted."""
        return all(isinstance(domain, Choice) for domain in self.search.values())

    @property
    def num_points(self) -> int:
        """Points of the grid."""
        return math.prod(len(domain.probes()) for domain in self.search.values())

    def settings(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """One point's settings."""
        return point_settings(values, fixed=self.fixed, pool=self.pool)

    def probes(self) -> Iterator[dict[str, Value]]:
        """Points to check before anything starts: each choice and bound beside the others' first
        ones; all points of a grid that is not too large."""
        if self.is_grid and self.num_points <= MOST_CHECKED:
            values = (domain.probes() for domain in self.search.values())
            for point in itertools.product(*values):
                yield dict(zip(self.search, point, strict=True))
            return
        first = {name: domain.probes()[0] for name, domain in self.search.items()}
        yield first
        for name, domain in self.search.items():
            for value in domain.probes()[1:]:
                yield {**first, name: value}

    def check(self) -> list[FitConfig]:
        """The configurations of all probes.

        Raises:
            UserError: one of them cannot be; with the values that do not go together.
        """
        return [self._check(point) for point in self.probes()]

    def _check(self, point: Mapping[str, Value]) -> FitConfig:
        try:
            return FitConfig.from_mapping(self.settings(point))
        except UserError as error:
            said = ", ".join(f"{name} {value}" for name, value in point.items())
            raise UserError(f"point {said}: {error}") from error

    def placed(self) -> Self:
        """The same for processes that stand in another folder."""
        first = next(self.probes())
        config = FitConfig.from_mapping(self.settings(first)).with_absolute_paths()
        plain = config_dict(config)
        return dataclasses.replace(
            self,
            search={name: _placed(name, domain) for name, domain in self.search.items()},
            fixed={name: plain[name] for name in self.fixed},
        )

    def to_dict(self) -> dict[str, Any]:
        """As a space file has it; read_space gives an equal one."""
        search = {name: domain.to_plain() for name, domain in self.search.items()}
        return {"search": search, "pool": list(self.pool), "fixed": self.fixed}


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


def _placed(name: str, domain: Domain) -> Domain:
    absolute = PATHS.get(name.split(".")[-1])
    if absolute is None or not isinstance(domain, Choice):
        return domain
    return Choice(tuple(v if v == "null" else absolute(str(v)) for v in domain.values))


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
