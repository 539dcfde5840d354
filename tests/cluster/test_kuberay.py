"""cluster/kuberay/: fields that exist, versions that agree, and what the pods may and may not."""

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray

from raymd.config import FitConfig
from raymd.fit import read_settings
from tests.cluster.kuberay import bytes_of, check, documents
from tests.docs.messages import ROOT

FOLDER = ROOT / "cluster" / "kuberay"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return documents(FOLDER / "rayjob.yaml")[0]


@pytest.fixture(scope="module")
def cluster(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["rayClusterSpec"]


@pytest.fixture(scope="module")
def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.fixture(scope="module")
def pods(job: dict[str, Any], groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the submitter, the head and the workers."""
    submitter = job["spec"]["submitterPodTemplate"]["spec"]
    return [submitter, *(group["template"]["spec"] for group in groups)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_fields_are_those_of_their_kind(path: Path) -> None:
    for document in documents(path):
        check(document)


def every_key(value: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Paths of all keys below a value, but for those that are names of somebody's own."""
    if isinstance(value, list):
        return [p for i, item in enumerate(value) for p in every_key(item, *path, i)]
    if not isinstance(value, dict) or path[-1:] in [("rayStartParams",), ("annotations",)]:
        return []
    return [p for k, v in value.items() for p in ((*path, k), *every_key(v, *path, k))]


def test_any_misspelt_field_is_caught(job: dict[str, Any]) -> None:
    paths = every_key(job)
    assert len(paths) > 100
    for path in paths:
        document = copy.deepcopy(job)
        below = document
        for key in path[:-1]:
            below = below[key]
        below[f"{path[-1]}s"] = below.pop(path[-1])
        with pytest.raises(jsonschema.ValidationError):
            check(document)


def test_versions_are_those_of_the_ray_that_is_tested(
    cluster: dict[str, Any], pods: list[dict[str, Any]]
) -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert cluster["rayVersion"] == ray.__version__
    assert re.findall(r"^FROM rayproject/ray:(.+)$", dockerfile, re.MULTILINE) == [
        f"{ray.__version__}-py311-gpu"
    ]
    assert f'"ray[default,train,tune]=={ray.__version__}"' in dockerfile
    images = {pod["containers"][0]["image"] for pod in pods}
    (image,) = images
    assert image.endswith(f"-ray{ray.__version__}")
    assert image.rpartition("/")[2] in dockerfile


def test_what_the_image_is_made_of_is_sent_and_there() -> None:
    copied = re.findall(r"^COPY --chown=ray (.+) \S+$", (FOLDER / "Dockerfile").read_text(), re.M)
    sources = [source for line in copied for source in line.split()]
    sent = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert sent[0] == "*"
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


def test_requests_are_the_limits(pods: list[dict[str, Any]]) -> None:
    for pod in pods:
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_head_holds_no_student_and_each_worker_a_gpu(groups: list[dict[str, Any]]) -> None:
    head, *workers = groups
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    assert workers
    for group in workers:
        container = group["template"]["spec"]["containers"][0]
        assert int(container["resources"]["limits"]["nvidia.com/gpu"]) > 0
        assert not {"num-cpus", "num-gpus"} & set(group["rayStartParams"])  # read off the limits


def test_the_object_store_fits_into_shared_memory_and_that_into_the_container(
    groups: list[dict[str, Any]],
) -> None:
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        (shm,) = [v["emptyDir"] for v in pod["volumes"] if v["name"] == mounts["/dev/shm"]]
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store <= bytes_of(shm["sizeLimit"])
        assert bytes_of(shm["sizeLimit"]) < bytes_of(container["resources"]["limits"]["memory"]) / 2


def test_pods_have_no_more_rights_than_they_need(pods: list[dict[str, Any]]) -> None:
    account, claim = documents(FOLDER / "storage.yaml")
    for pod in pods:
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        claims = [
            v["persistentVolumeClaim"] for v in pod.get("volumes", []) if v["name"] == "shared"
        ]
        assert claims == [{"claimName": claim["metadata"]["name"]}] * ("volumes" in pod)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_nobody_without_the_token_gets_in_and_no_secret_is_written_here(
    cluster: dict[str, Any], groups: list[dict[str, Any]]
) -> None:
    assert cluster["authOptions"] == {"mode": "token"}
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert [e["secretRef"]["name"] for e in container["envFrom"]] == ["raymd-credentials"]
        for entry in container.get("env", []):
            assert not re.search(r"TOKEN|KEY|SECRET|PASSWORD", entry["name"])
    text = "".join(path.read_text() for path in FILES)
    assert not re.search(r"AKIA|kind: Secret|stringData", text)


def test_the_entrypoint_is_one_that_raymd_takes_and_can_be_started_again(
    job: dict[str, Any], groups: list[dict[str, Any]]
) -> None:
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "raymd.fit"]
    config = FitConfig.from_mapping(read_settings(words[3:]))
    assert (config.resume, config.name) == ("auto", job["metadata"]["name"])
    assert config.storage.startswith("/shared/")
    assert str(config.data_dir).startswith("/shared/")
    assert job["spec"]["backoffLimit"] > 0
    gpus = sum(
        int(g["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        * g["replicas"]
        for g in groups[1:]
    )
    assert gpus == len(config.students)


def test_the_submitter_is_the_container_that_kuberay_fills_in(job: dict[str, Any]) -> None:
    pod = job["spec"]["submitterPodTemplate"]["spec"]
    assert pod["restartPolicy"] == "Never"  # the pod's own default is refused in a Job
    (container,) = pod["containers"]
    assert container["name"] == "ray-job-submitter"
    assert not {"command", "args"} & container.keys()


def test_the_cluster_has_all_its_nodes_before_the_run_begins(cluster: dict[str, Any]) -> None:
    assert cluster["enableInTreeAutoscaling"] is False
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
