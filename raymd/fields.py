"""How one setting is described, read and limited; the ground under config.py.

Enters: a dataclass field and a value as a flag (text), a YAML file or Python brought it. Leaves:
the value in its declared type and within its limits, or a UserError of one line. Reading lives
here and not in the flag parser so that all three ways of saying a setting are answered alike.
"""

import math
import os
from collections.abc import Callable
from dataclasses import Field, dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from raymd.errors import UserError, unknown_name

_KEY = "about"


@dataclass(frozen=True)
class About:
    """A setting's documentation, which is its ``--help`` text, and its limits (None: no limit).

    Attributes:
        help: What it is, with its unit.
        minimum, maximum: The smallest and the largest value allowed.
        above, below: Limits that are themselves not allowed.
        names: What a field of several names can hold; empty for any.
        read_apart: Whoever owns the field reads it, for it depends on others.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    names: tuple[str, ...] = ()
    read_apart: bool = False

    def allows(self, value: float) -> bool:
        """Whether the value is within all limits."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def limits(self) -> str:
        """The limits in words, as in "at least 0, below 1"; empty if there are none."""
        if self.names:
            return f"some of {', '.join(self.names)}"
        words = {
            "at least": self.minimum,
            "above": self.above,
            "below": self.below,
            "at most": self.maximum,
        }
        return ", ".join(f"{word} {limit:,}" for word, limit in words.items() if limit is not None)


def about(help: str, **limits: Any) -> dict[str, About]:
    """The ``metadata`` of a dataclass field: its documentation and its limits (see About)."""
    return {_KEY: About(help, **limits)}


def about_of(field: Field[Any]) -> About:
    """What ``about`` was told of this field."""
    entry = field.metadata[_KEY]
    assert isinstance(entry, About)
    return entry


def flag(field: Field[Any]) -> str:
    """The flag that sets the field."""
    return f"--{field.name}"


def alternatives(field: Field[Any]) -> tuple[Any, ...]:
    """The declared type's alternatives: (float, NoneType) of ``float | None``."""
    # a union with a Literal is a typing.Union before Python 3.14, any other a UnionType
    union = get_origin(field.type) in (Union, UnionType)
    return get_args(field.type) if union else (field.type,)


def kind_of(field: Field[Any]) -> Any:
    """The declared type apart from None."""
    return alternatives(field)[0]


def choices_of(field: Field[Any]) -> tuple[str, ...]:
    """The values that a Literal field can take; empty for any other."""
    kind = kind_of(field)
    return get_args(kind) if get_origin(kind) is Literal else ()


def takes(field: Field[Any]) -> str:
    """What the field takes, in words: "a number, above 0"."""
    if choices_of(field):
        return "one of " + ", ".join(choices_of(field))
    limits = about_of(field).limits()
    return _KINDS[kind_of(field)].words + (f", {limits}" if limits else "")


def read(field: Field[Any], value: object) -> Any:
    """The value in the field's type and within its limits.

    Text is read as a flag would be: ``"0.1"`` is a number, ``"null"`` is None where None is
    allowed (so that a flag can take back what a YAML file says).

    Raises:
        UserError: Another type, or outside the limits; with what the field takes and its flag.
    """
    if NoneType in alternatives(field) and _is_null(value):
        return None
    choices = choices_of(field)
    if choices:
        value = str(value).lower() if isinstance(value, bool) else value
        if value not in choices:
            raise unknown_name(field.name, str(value), choices, flag=flag(field))
        return value
    try:
        result = _KINDS[kind_of(field)].read(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(field, value) from error
    if isinstance(result, Real) and not about_of(field).allows(float(result)):
        raise _refusal(field, value)
    names = about_of(field).names
    for name in result if names else ():
        if name not in names:
            raise unknown_name(field.name, name, names, flag=flag(field))
    return result


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("null", "none"))


def _refusal(field: Field[Any], value: object) -> UserError:
    return UserError(f"{field.name} {value!r}: takes {takes(field)} ({flag(field)})")


def _read_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral | str):
        raise TypeError(value)
    return int(value)


def _read_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real | str):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _read_bool(value: object) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _read_str(value: object) -> str:
    # YAML reads `name: 7` as a number, and Python callers like Path
    if isinstance(value, bool) or not isinstance(value, str | os.PathLike | int):
        raise TypeError(value)
    text = str(value) if isinstance(value, int) else os.fspath(value)
    if not text.strip():
        raise ValueError(value)
    return text


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, str | list | tuple):
        raise TypeError(value)
    names = value.split(",") if isinstance(value, str) else value
    if not names:
        raise ValueError(value)
    return tuple(_read_str(name).strip() for name in names)


@dataclass(frozen=True)
class _Kind:
    words: str
    metavar: str
    read: Callable[[object], Any]


_KINDS: dict[Any, _Kind] = {
    int: _Kind("a whole number", "N", _read_int),
    float: _Kind("a number", "X", _read_float),
    bool: _Kind("true or false", "true|false", _read_bool),
    str: _Kind("a text", "TEXT", _read_str),
    tuple[str, ...]: _Kind("names with commas between", "A,B", _read_names),
}


def metavar(field: Field[Any]) -> str:
    """What stands for the value in ``--help``: ``N``, ``TEXT``, or the choices."""
    return "|".join(choices_of(field)) or _KINDS[kind_of(field)].metavar
