"""A run's plan on the cluster that is connected, or on what that can grow to."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from raymd.config import FitConfig
from raymd.errors import StorageError
from raymd.exchange.blocks import read_losses
from raymd.execution.opening import Announce, Run
from raymd.execution.plan import Plan, check_workers, make_plan
from raymd.run_folder import PLAN
from raymd.yaml_text import load_yaml

Node = Mapping[str, Any]
HEAD = "node:__internal_head__"
# What `ray up` leaves on a cluster's head node: the configuration, with the node types' resources.
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")


def alive_nodes() -> list[Node]:
    """The cluster's nodes, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def plan_of(config: FitConfig, run: Run, nodes: Sequence[Node], *, announce: Announce) -> Plan:
    """The run's plan; what an earlier attempt chose and the weights depend on stays.

    Args:
        config: What the user asked for.
        run: The run; students that it has lost need no place.
        nodes: As Ray describes them.
        announce: Takes a line for each choice worth knowing.

    Raises:
        UserError: The students do not fit; with numbers.
    """
    lost = {loss.student for loss in read_losses(run.storage)}
    units = {unit: of[0] for unit, of in run.settings.units.items() if unit not in lost}
    workers = {unit: student.workers_per_student for unit, student in units.items()}
    sizes = {unit: student.batch_size for unit, student in units.items()}
    num_samples = run.settings.samples_of_each(len(run.data.train))
    check_workers(workers, batch_sizes=sizes, num_samples=num_samples)
    return make_plan(
        workers,
        nodes=node_resources(config, nodes),
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        threads=_recorded_threads(run, announce),
        device=config.device,
        placement=config.placement,
        slots=config.slots,
    )


def node_resources(config: FitConfig, nodes: Sequence[Node]) -> list[Mapping[str, float]]:
    """What each node has in all, with those that an autoscaler may add to a cluster."""
    is_joined = (config.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    growth = cluster_config() if is_joined else None
    return grown([node["Resources"] for node in nodes], growth)


def _recorded_threads(run: Run, announce: Announce) -> int | None:
    """Torch's threads of an earlier attempt."""
    try:
        recorded = run.storage.record(PLAN)
    except StorageError as error:
        announce(f"{error}; threads are chosen anew, and with other ones weights differ in bits")
        return None
    return None if recorded is None else int(recorded["threads"])


def cluster_config() -> Mapping[str, Any] | None:
    """The configuration that `ray up` made this node a head by; None anywhere else."""
    path = BOOTSTRAP.expanduser()
    if not path.is_file():
        return None
    config: Mapping[str, Any] = load_yaml(path.read_text())
    return config


def grown(
    nodes: Sequence[Mapping[str, float]], config: Mapping[str, Any] | None
) -> list[Mapping[str, float]]:
    """Resources of the nodes of a cluster that an autoscaler has made as large as it may be.

    Args:
        nodes: Resources of the nodes that are there.
        config: The cluster's configuration; None: it does not grow.
    """
    if config is None or not any(HEAD in node for node in nodes):
        return list(nodes)
    head_type, types = config.get("head_node_type"), config.get("available_node_types", {})
    room = int(config.get("max_workers", 2))
    workers: list[Mapping[str, float]] = []
    for name, kind in types.items():
        resources = kind.get("resources", {})
        # in the order of their names here, the cluster's own limit is shared by all types
        count = min(int(kind.get("max_workers", 0)), room - len(workers))
        if name != head_type and resources:
            workers += [resources] * count
    heads = [node for node in nodes if HEAD in node]
    largest = heads + workers
    return largest if len(largest) > len(nodes) else list(nodes)
