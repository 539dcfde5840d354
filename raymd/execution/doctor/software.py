"""Versions, processor and environment of a node, held against the driver's and raymd's needs."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from packaging.requirements import Requirement
from packaging.version import Version

import raymd
from raymd.environment import environment
from raymd.execution.doctor.finding import Against, Level, Verdict

PACKAGES = ("raymd", "ray", "torch", "torchvision", "numpy", "pyarrow")
# what differs here cannot work together; the others change bits, or nothing
EXACT = ("raymd", "ray")


class Unfit(NamedTuple):
    """A variable of Ray's with a value that does not go with raymd: which, how bad, and why."""

    value: str
    level: Level
    why: str


# read where the driver is, and on every node
OF_DRIVER = {
    "RAY_TRAIN_V2_ENABLED": Unfit("0", "problem", "raymd needs Ray Train's second version")
}
OF_NODE = {
    "RAY_memory_monitor_refresh_ms": Unfit(
        "0", "note", "Ray ends no worker when memory runs out, so the system may end Ray"
    )
}


def needs() -> dict[str, str]:
    """What raymd needs of other packages, by name; empty where it was not installed but copied."""
    try:
        texts = requires("raymd") or []
    except PackageNotFoundError:
        return {}
    wanted = [Requirement(text) for text in texts]
    return {one.name: str(one.specifier) for one in wanted if one.marker is None}


def judge_versions(found: Mapping[str, Any], against: Against) -> list[Verdict]:
    """Each package that is missing, out of raymd's range, or another than the driver's."""
    verdicts = [*_python(found, against), *_raymd(found, against)]
    for package in PACKAGES:
        verdicts += _package(package, found[package], against)
    if verdicts:
        return verdicts
    names = ("python", *PACKAGES)
    return [Verdict("ok", ", ".join(f"{name} {found[name]}" for name in names if found[name]))]


def _python(found: Mapping[str, Any], against: Against) -> Iterator[Verdict]:
    here, there = against.driver["python"], found["python"]
    if here == there:
        return
    same_minor = here.split(".")[:2] == there.split(".")[:2]
    yield Verdict(
        "note" if same_minor else "problem",
        f"python {there}, and the driver's is {here}",
        "" if same_minor else f"use Python {here} on all nodes",
    )


def _raymd(found: Mapping[str, Any], against: Against) -> Iterator[Verdict]:
    same_version = found["raymd"] == against.driver["raymd"]
    if same_version and found["code"] != against.driver["code"]:
        yield Verdict(
            "warning",
            "raymd's code there is not the driver's, though its version is",
            "bring all nodes to one state of the checkout, or install one wheel on all",
        )


def _package(package: str, version: str | None, against: Against) -> Iterator[Verdict]:
    here, needed = against.driver[package], against.needs.get(package, "")
    if version is None:
        if here is not None:
            yield Verdict("problem", f"no {package}", _install(package, here))
    elif needed and not Requirement(f"x{needed}").specifier.contains(Version(version), True):
        pip = f"pip install '{package}{needed}' on this node"
        yield Verdict("problem", f"{package} {version}, and raymd needs {needed}", pip)
    elif version != here:
        level: Level = "problem" if package in EXACT else "warning"
        found = f"{package} {version}, and the driver has {here or 'none'}"
        yield Verdict(level, found, _install(package, here or version))


def _install(package: str, version: str) -> str:
    return f"the same on all nodes: pip install '{package}=={version}'"


def judge_processor(found: Mapping[str, Any], against: Against) -> list[Verdict]:
    """Its model, which weights depend on in their last bits."""
    cpu, here = found["cpu"], against.driver["cpu"]
    if cpu == here:
        return [Verdict("ok", cpu)]
    return [
        Verdict(
            "note",
            f"{cpu}, and the driver's is {here}",
            "weights are the same bit for bit only on one model; take nodes of one kind if you"
            " need that",
        )
    ]


def measure_variables() -> dict[str, str]:
    """Those of the environment that the check looks at."""
    return {name: os.environ[name] for name in (*OF_DRIVER, *OF_NODE) if name in os.environ}


def judge_node_variables(found: Mapping[str, str], _: Against) -> list[Verdict]:
    """Variables that Ray reads on every node."""
    return _variables(found, OF_NODE)


def judge_driver_variables(found: Mapping[str, str], _: Against) -> list[Verdict]:
    """Variables that Ray reads in the driver."""
    return _variables(found, OF_DRIVER)


def _variables(found: Mapping[str, str], unfit: Mapping[str, Unfit]) -> list[Verdict]:
    bad = [
        Verdict(one.level, f"{name}={one.value}: {one.why}", f"unset {name}")
        for name, one in unfit.items()
        if found.get(name) == one.value
    ]
    return bad or [Verdict("ok", "nothing in it changes how Ray works with raymd")]


def measure_software() -> dict[str, Any]:
    """Versions and processor, as result.json has them; and the checksum of raymd's own code, which
    changes in a checkout while its version does not."""
    return {**environment(), "code": _code()}


def _code() -> str:
    folder = Path(raymd.__file__).parent
    digest = xxhash.xxh3_64()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}".encode() + file.read_bytes())
    return str(digest.hexdigest())
