"""What is searched: choices and ranges, and the points at all of their ends.

    space_file.py -> Space -> FitConfigs of its probes, so that a mistake is told at once

Pure.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from raymd.config import FitConfig, config_dict
from raymd.errors import UserError
from raymd.frozen import absolute_teacher
from raymd.models.names import absolute_source
from raymd.point import Value, point_settings
from raymd.recipes import absolute_recipe

# Settings that name files, and may be searched.
PATHS: dict[str, Callable[[str], str]] = {
    "recipe": absolute_recipe,
    "init_from": absolute_source,
    "teachers": lambda names: ",".join(absolute_teacher(name) for name in names.split(",")),
}
RANGES = ("uniform", "loguniform", "randint", "lograndint")
MOST_CHECKED = 2000  # points of a grid that are all checked before anything starts


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


def _placed(name: str, domain: Domain) -> Domain:
    absolute = PATHS.get(name.split(".")[-1])
    if absolute is None or not isinstance(domain, Choice):
        return domain
    return Choice(tuple(v if v == "null" else absolute(str(v)) for v in domain.values))
