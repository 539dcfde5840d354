"""JSON schemas of what cluster/kuberay/ uses of KubeRay and Kubernetes, and of nothing else.

Field names and types are those of KubeRay's API reference (ray.io/v1, 1.5.1) and of Kubernetes'; a
field that is not here is a misspelt one, or has to be looked up and added.
"""

from pathlib import Path
from typing import Any

import jsonschema
import yaml

Schema = dict[str, Any]

TEXT = {"type": "string"}
TRUTH = {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[kKMGT]i?)?$"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def exactly(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def many(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


METADATA = exactly({"name": TEXT}, labels=TEXTS, annotations=TEXTS)
RESOURCES = exactly({"cpu": QUANTITY, "memory": QUANTITY}, **{"nvidia.com/gpu": QUANTITY})
CONTAINER = exactly(
    {
        "name": TEXT,
        "image": TEXT,
        "imagePullPolicy": one_of("IfNotPresent", "Always", "Never"),
        "securityContext": exactly(
            {
                "allowPrivilegeEscalation": TRUTH,
                "capabilities": exactly({"drop": many(TEXT)}),
            }
        ),
        "resources": exactly({"requests": RESOURCES, "limits": RESOURCES}),
    },
    volumeMounts=many(exactly({"name": TEXT, "mountPath": TEXT})),
    env=many(exactly({"name": TEXT, "value": TEXT})),  # credentials come by envFrom
    envFrom=many(exactly({"secretRef": exactly({"name": TEXT}, optional=TRUTH)})),
    ports=many(exactly({"name": TEXT, "containerPort": COUNT})),
)
VOLUME = {
    "oneOf": [
        exactly({"name": TEXT, "persistentVolumeClaim": exactly({"claimName": TEXT})}),
        exactly(
            {
                "name": TEXT,
                "emptyDir": exactly({"medium": one_of("Memory"), "sizeLimit": QUANTITY}),
            }
        ),
    ]
}
POD = exactly(
    {
        "serviceAccountName": TEXT,
        "automountServiceAccountToken": TRUTH,
        "securityContext": exactly(
            {
                "runAsNonRoot": TRUTH,
                "runAsUser": COUNT,
                "fsGroup": COUNT,
                "seccompProfile": exactly({"type": one_of("RuntimeDefault", "Localhost")}),
            },
            fsGroupChangePolicy=one_of("OnRootMismatch", "Always"),
        ),
        "containers": many(CONTAINER),
    },
    volumes=many(VOLUME),
    restartPolicy=one_of("Never", "OnFailure"),
    terminationGracePeriodSeconds=COUNT,
    nodeSelector=TEXTS,
    tolerations=many(
        exactly({"key": TEXT, "operator": one_of("Exists", "Equal"), "effect": TEXT}, value=TEXT)
    ),
)
TEMPLATE = exactly({"spec": POD}, metadata=exactly({}, labels=TEXTS, annotations=TEXTS))
HEAD = exactly(
    {"rayStartParams": TEXTS, "template": TEMPLATE},
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = exactly(
    {
        "groupName": TEXT,
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "rayStartParams": TEXTS,
        "template": TEMPLATE,
    }
)
CLUSTER = exactly(
    {
        "rayVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "authOptions": exactly({"mode": one_of("token", "disabled")}),
        "enableInTreeAutoscaling": TRUTH,
        "headGroupSpec": HEAD,
        "workerGroupSpecs": many(WORKERS),
    }
)
JOB = exactly(
    {
        "entrypoint": TEXT,
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"),
        "backoffLimit": COUNT,
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "shutdownAfterJobFinishes": TRUTH,
        "ttlSecondsAfterFinished": COUNT,
        "rayClusterSpec": CLUSTER,
        "submitterPodTemplate": TEMPLATE,
    },
    submitterConfig=exactly({"backoffLimit": COUNT}),
)
CLAIM = exactly(
    {
        "accessModes": many(one_of("ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany")),
        "storageClassName": TEXT,
        "resources": exactly({"requests": exactly({"storage": QUANTITY})}),
    }
)


def document(api: str, kind: str, **fields: Schema) -> Schema:
    return exactly(
        {"apiVersion": one_of(api), "kind": one_of(kind), "metadata": METADATA, **fields}
    )


KINDS = {
    "RayJob": document("ray.io/v1", "RayJob", spec=JOB),
    "ServiceAccount": document("v1", "ServiceAccount", automountServiceAccountToken=TRUTH),
    "PersistentVolumeClaim": document("v1", "PersistentVolumeClaim", spec=CLAIM),
}


VALIDATORS = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in KINDS.items()}
NONE = jsonschema.Draft202012Validator(False)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def check(of_one: dict[str, Any]) -> None:
    """See that a document has the fields of its kind, one of KINDS.

    Raises:
        jsonschema.ValidationError: naming the field.
    """
    VALIDATORS.get(of_one.get("kind", ""), NONE).validate(of_one)


def bytes_of(quantity: str) -> int:
    """A quantity of memory: ``16Gi``, ``1000000000``."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    unit = units.get(quantity[-2:], 0)
    return int(quantity[:-2]) * unit if unit else int(quantity)
