"""Frozen dataclasses to and from the plain values that JSON takes, strictly.

Enters: a dataclass of numbers, texts, tuples, dictionaries and dataclasses. Leaves: the same as
dictionaries and lists, and back, with every key and type checked against the annotations, so that
a file edited by hand or written by another version is refused where it differs.

A dataclass may name properties to be written beside its fields, for people and for readers
without raymd: ``DERIVED: ClassVar = {key: property}``. They have to be there, and are not read.
"""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from raymd.errors import DataError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A value as JSON takes it; tuples become lists."""
    if is_dataclass(value):
        derived = {key: getattr(value, name) for key, name in _derived(value).items()}
        own = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        return to_plain(own | derived)
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def _derived(kind: Any) -> Mapping[str, str]:
    return getattr(kind, "DERIVED", {})


def from_plain(kind: type[T], value: Any, *, where: str) -> T:
    """The inverse of to_plain.

    Args:
        kind: The dataclass. Its annotations may be classes, ``X | None``, ``tuple[X, ...]``,
            ``dict[str, X]`` and Any.
        value: What to_plain gave, perhaps through JSON.
        where: The value's place, for the error: "result.json".

    Raises:
        DataError: Keys missing or unknown, or a value of another type; names the place.
    """
    result: T = _read(kind, value, where)
    return result


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(inner[0], value, where)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is tuple:
        _expect(value, list, where)
        return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(value, dict, where)
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not Any:
        _expect(value, kind, where)
    return value


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(value, dict, where)
    hints = get_type_hints(kind)
    names = [entry.name for entry in fields(kind)]
    expected = {*names, *_derived(kind)}
    if expected != value.keys():
        raise DataError(
            f"{where}: unknown keys {sorted(value.keys() - expected)}, missing"
            f" {sorted(expected - value.keys())} (another raymd version, or edited by hand)"
        )
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})


def _expect(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = kind.__name__
        raise DataError(f"{where}: {str(value)[:40]!r} is {type(value).__name__}, not {name}")
