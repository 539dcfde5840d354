"""Connecting to Ray, quietly, and leaving everything as it was found."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import ray

from raymd.errors import UserError
from raymd.execution import own_ray
from raymd.execution.compat import raylet_messages_to_log, session_folder

# Read by Ray in this process when it starts workers; a user's own values win.
TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon a dead or finished worker is noticed
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",  # for a place that the lease says is free
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# The merging task's worker has imported torch, which takes seconds; on a small machine Ray would
# end it after a second without work.
OWN_RAY = {"idle_worker_killing_time_threshold_ms": 3_600_000}
CONNECT_TIMEOUT_S = 5.0
OWN = "a Ray of its own on this machine"
NOISY_LOGGERS = ("ray", "ray.train", "ray.tune", "ray.data")


@contextmanager
def connected(*, address: str | None, verbose: bool) -> Iterator[str]:
    """Be connected to Ray inside the block; yields an announcement of what was connected to.

    A Ray that was there before is used and never shut down.

    Args:
        address: A cluster's address; None: ``RAY_ADDRESS`` if set, or else a Ray of our own on
            this machine.
        verbose: Let Ray's and the workers' own output through.
    """
    with _environment(TRAIN_ENVIRONMENT), _quiet(verbose):
        if ray.is_initialized():
            yield "the Ray of this process"
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        with _own(verbose) if address == "local" else _joined(address, verbose) as where:
            yield where


@contextmanager
def _joined(address: str, verbose: bool) -> Iterator[str]:
    check_reachable(address)
    with _initialised(address, verbose):
        yield f"the Ray at {address}"


@contextmanager
def _own(verbose: bool) -> Iterator[str]:
    place = own_ray.choose_place()
    shared_memory = own_ray.shared_memory_bytes()
    options: dict[str, Any] = {
        "include_dashboard": False,
        "_system_config": OWN_RAY,
        "_temp_dir": str(place.folder),
    }
    with (
        ExitStack() as at_last,
        _environment(own_ray.environment()),
        own_ray.keeper() as watch,
        _initialised("local", verbose, **options),
    ):
        watch()
        at_last.enter_context(own_ray.marked(session_folder()))
        store = int(ray.cluster_resources().get("object_store_memory", 0))
        note = own_ray.store_note(shared_memory, store=store, folder=place.folder)
        yield "; ".join(filter(None, [OWN, place.note, note]))


@contextmanager
def _initialised(address: str, verbose: bool, **options: Any) -> Iterator[None]:
    try:
        ray.init(
            address=address,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            **options,
        )
    except Exception as error:  # a bare one, where its processes are too slow to come up
        raise UserError(_refusal(address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """Ask at a host:port before Ray does, which takes a minute to give up.

    Raises:
        UserError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(_refusal(address, error)) from error


def _refusal(address: str, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if address == "local":
        return f"Ray did not start on this machine: {reason} (--verbose shows its log; try again)"
    if type(error) is ConnectionError:  # ray.init's; nobody listening is a subclass
        # Ray shows no token to an address that was named, and its reason is lost on the way
        reason += "; if the cluster asks for a token, set RAY_AUTH_MODE=token"
    return f"no Ray cluster to join at {address!r} (--address, RAY_ADDRESS): {reason}"


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    added = {key: value for key, value in wanted.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    if verbose:
        yield
        return
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with raylet_messages_to_log():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
