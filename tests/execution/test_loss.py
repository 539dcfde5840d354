"""A student that fails for good on a real Ray: the others go on, and a resumed run knows of it."""

import json
import signal
import textwrap
from pathlib import Path

import pytest

from raymd.storage import Storage
from tests.execution.commands import Command, as_flags, command, start

__all__ = ["command"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

# A network that cannot be trained any further after its second epoch, whatever is tried.
FLAKY = """
    import torch
    from raymd.models import build_model

    class Flaky(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

        def forward(self, images):
            if self.training:
                self.steps += 1
                if self.steps > 15:
                    raise TypeError("no more")
            return self.network(images)

    def flaky(num_classes, in_channels=3, **_):
        return Flaky(build_model("resnet8", num_classes=num_classes, in_channels=in_channels, image_size=8))
"""  # noqa: E501
FLAGS = {
    "students": "resnet8,flaky_nets:flaky,resnet8",
    "dataset": "digits",
    "subset": "400",
    "epochs": "9",
    "tin": "1",
    "td": "2",
    "precision": "fp32",
    "batch_size": "64",
    "slots": "1",
    "cpus_per_worker": "1",
    "name": "lossy",
}


def flags(**more: str) -> list[str]:
    return as_flags({**FLAGS, **more})


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flaky_nets.py").write_text(textwrap.dedent(FLAKY))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("networks")
def test_others_go_on_without_a_student_that_fails_and_resume_knows(
    command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *flags(on_student_loss="continue", epochs="600"))
    run.wait_for(" lost at epoch 2/")
    run.wait_for("cycle 4 alone", times=2)
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    storage = Storage.at(tmp_path / "runs" / "lossy")
    (record,) = [storage.record(f"lost/{name}") for name in storage.list("lost")]
    assert record is not None
    assert (record["student"], record["reason"].startswith("TypeError: no more")) == (
        "flaky_nets-flaky",
        True,
    )
    again = start(command, tmp_path, "--resume", "--name", "lossy", "--view", "json")
    again.wait_for('"cycle": 5')
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 130, again.err
    events = [json.loads(line) for line in again.out.splitlines()]
    assert {e["student"] for e in events if e["event"] == "epoch"} == {"resnet8", "resnet8-2"}
    assert [e["student"] for e in events if e["event"] == "lost"] == ["flaky_nets-flaky"]


@pytest.mark.usefixtures("networks")
def test_failing_student_ends_the_run_unless_told_otherwise(
    command: list[Command], tmp_path: Path
) -> None:
    run = start(command, tmp_path, *flags())
    assert run.end() == 1
    assert "TypeError: no more" in run.err
    assert "--resume goes on" in run.err
    assert "Traceback" not in run.err
