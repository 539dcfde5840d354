"""What nodes are held against in tests, and their verdicts in short."""

from dataclasses import replace

from raymd.execution.doctor.finding import Against, Node

NODE = Node("n1", "one (10.0.0.1)", "10.0.0.1", cpus=4, gpus=0, store_bytes=2 * 10**9)
SOFTWARE = {
    "python": "3.11.7",
    "raymd": "0.1.0",
    "torch": "2.8.0",
    "torchvision": "0.23.0",
    "ray": "2.60.0",
    "numpy": "2.1.0",
    "pyarrow": "20.0.0",
    "cpu": "EPYC",
    "code": "c0de",
}
AGAINST = Against(NODE, nodes=1, driver=SOFTWARE, needs={"torch": ">=2.7", "ray": "<3,>=2.60"})


def against(*, nodes=1, device="auto", **node):
    return replace(AGAINST, node=replace(NODE, **node), nodes=nodes, device=device)


def levels(verdicts):
    """Their levels; all but ``ok`` say what to do or are notes."""
    for verdict in verdicts:
        assert verdict.found
        assert verdict.remedy or verdict.level in ("ok", "note")
    return [verdict.level for verdict in verdicts]
