"""Errors cross process boundaries whole, and answer a wrong name with a right one."""

import pickle

import pytest

from raymd import errors
from raymd.errors import (
    DataError,
    NonFiniteLossError,
    RaymdError,
    StorageError,
    StorageFullError,
    StorageWriteError,
    UserError,
)


def with_subclasses(root: type[RaymdError]) -> list[type[RaymdError]]:
    """A class and all below it, defined anywhere that has been imported."""
    return [root, *(c for child in root.__subclasses__() for c in with_subclasses(child))]


ALL = with_subclasses(RaymdError)


def test_every_class_of_the_module_is_below_raymd_error() -> None:
    everything = [c for c in vars(errors).values() if isinstance(c, type)]
    classes = {c for c in everything if c.__module__ == errors.__name__}
    assert classes <= set(ALL)
    assert {UserError, DataError, StorageError, NonFiniteLossError} < classes


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_error_survives_pickling_with_message_and_exit_code(
    kind: type[RaymdError], protocol: int
) -> None:
    error = kind("--tin 0: at least 1")
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert str(copy) == "--tin 0: at least 1"
    assert copy.args == error.args
    assert copy.exit_code == error.exit_code


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_what_was_noted_on_an_error_survives_pickling(kind: type[RaymdError]) -> None:
    error = kind("message")
    error.add_note("student resnet20, epoch 7")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["student resnet20, epoch 7"]


def test_mistakes_of_a_user_end_with_two_and_other_failures_with_one() -> None:
    assert {UserError.exit_code, DataError.exit_code} == {2}
    assert {RaymdError.exit_code, StorageError.exit_code, NonFiniteLossError.exit_code} == {1}
    assert issubclass(UserError, ValueError)


def test_disk_that_cannot_be_written_is_still_an_os_error_and_no_damage() -> None:
    assert issubclass(StorageFullError, StorageWriteError)
    assert issubclass(StorageWriteError, OSError)
    assert not issubclass(StorageWriteError, StorageError)


@pytest.mark.parametrize("name", ["resnet11O", "ResNet110"])
def test_unknown_name_is_answered_with_the_nearest_known_one(name: str) -> None:
    error = errors.unknown_name("network", name, ["vgg19", "resnet110"], flag="--students")
    assert isinstance(error, UserError)
    hint = "did you mean resnet110? (known: resnet110, vgg19)"
    assert str(error) == f"unknown network {name!r} (--students): {hint}"


def test_name_near_to_none_is_answered_with_all_known_ones() -> None:
    error = errors.unknown_name("dataset", "zzz", iter(["mnist", "cifar10"]), flag="--dataset")
    assert str(error) == "unknown dataset 'zzz' (--dataset): known: cifar10, mnist"
