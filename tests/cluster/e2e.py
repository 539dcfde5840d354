"""A real cluster on this machine: `ray up`, a job, a host lost in mid-run, `ray down`.

    python -m tests.cluster.e2e          # make e2e-cluster

Three hosts (hosts.py) are set up by cluster/local.yaml as it stands, but for addresses, user, key
and versions. Two students train on two of them, all of Ray is killed on one, and the run must end
with the bytes of one that nobody disturbed. Exit code 0: all was as it must be; 77: no hosts can be
made. What each command and Ray's head said is left in build/e2e-cluster/.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.hosts import (
    FOLDER,
    ROOT,
    Host,
    in_a_world,
    make_hosts,
    missing,
    private_key,
    shared_folder,
)
from tests.waiting import wait_until

LOGS = ROOT / "build" / "e2e-cluster"
SKIPPED = 77
LIMIT_S = 900.0
STEP_S = 300.0  # the longest that one command may take
TAIL_LINES = 20
PAUSE_S = 1.0
DASHBOARD = "http://127.0.0.1:8265"
TRAINING = "ray::RayTrainWorker"
RUN = "e2e"
FLAGS = {
    "students": "resnet8,resnet14",
    "dataset": "digits",
    "epochs": "14",
    "tin": "1",
    "td": "6",
    "precision": "fp32",
    "lr": "0.02",
    "batch_size": "64",
    "cpus_per_worker": "1",
    "checkpoint_every": "2s",
    "name": RUN,
}


@dataclass
class Laptop:
    """Where the commands are typed.

    Attributes:
        folder: Of the cluster's YAML and of each command's output.
        started: When the world began, in seconds of the monotonic clock.
        running: What was begun and not waited for.
    """

    folder: Path
    started: float = field(default_factory=time.monotonic)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:5.0f} s  {text}", flush=True)

    def begin(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a command; what it prints goes to NAME.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def run(self, name: str, *command: str) -> str:
        """A command's output, once it ended well."""
        code = self.begin(name, *command).wait(STEP_S)
        output = self.output(name)
        assert code == 0, f"{' '.join(command)} ended with {code}"
        return output

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


def main(argv: Sequence[str] = ()) -> int:
    """All of it; returns the exit code."""
    if FOLDER in os.environ:
        return _inside()
    reason = missing()
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the world's folder goes too
    return in_a_world([sys.executable, "-m", "tests.cluster.e2e"], timeout_s=LIMIT_S)


def _inside() -> int:
    os.setsid()  # Ctrl-C is for the one who made the world, and ends it
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    laptop = Laptop(LOGS)
    hosts: list[Host] = []
    try:
        hosts += make_hosts(3)
        laptop.say(f"hosts: {', '.join(f'{host.name} {host.address}' for host in hosts)}")
        with _cluster(laptop, hosts):
            lose_a_host(laptop, hosts)
        compare(laptop)
    except (AssertionError, subprocess.SubprocessError) as error:
        _keep_logs_of_ray(hosts)
        for log in sorted(LOGS.glob("*.log")):
            print(f"\n--- {log}", *_tail(log), sep="\n")
        print(f"\nFAILED: {error}")
        return 1
    finally:
        laptop.end()
    _keep_logs_of_ray(hosts)
    laptop.say("all as it must be")
    return 0


@contextmanager
def _cluster(laptop: Laptop, hosts: Sequence[Host]) -> Iterator[None]:
    """`ray up`, and `ray down` once the block ended well."""
    config = write_config(laptop.folder, hosts)
    os.environ |= {
        "RAY_UP_enable_autoscaler_v2": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": DASHBOARD,
        "PYTHONUNBUFFERED": "1",  # or a job's lines come when it has ended
    }
    token = laptop.run("token", "ray", "get-auth-token", "--generate").splitlines()[-1]
    (laptop.folder / "token.log").unlink()
    laptop.run("up", "ray", "up", "--yes", str(config))
    laptop.say("ray up: the head is there")
    laptop.begin("dashboard", "ray", "dashboard", str(config))
    code = wait_until(lambda: ask("jobs/")[0], f"an answer of {DASHBOARD}", pause_s=PAUSE_S)
    assert code == 401, f"{DASHBOARD} answered {code} to somebody without a token"
    laptop.say("the dashboard asks for the token")
    wait_until(
        lambda: len(alive_nodes(token)) == len(hosts),
        f"{len(hosts)} nodes",
        timeout_s=STEP_S,
        pause_s=PAUSE_S,
    )
    laptop.say(f"{len(hosts)} nodes")
    yield
    laptop.run("down", "ray", "down", "--yes", str(config))
    laptop.say("ray down")
    # raylets miss their head for a minute, their agents for another
    wait_until(
        lambda: not any(host.ray_processes() for host in hosts),
        "hosts without Ray",
        timeout_s=STEP_S,
        pause_s=PAUSE_S,
    )
    laptop.say("no process of Ray's is left on any host")


def write_config(folder: Path, hosts: Sequence[Host]) -> Path:
    """cluster/local.yaml with these hosts, their key and what is installed on them."""
    config = yaml.safe_load((ROOT / "cluster" / "local.yaml").read_text())
    head, *workers = (host.address for host in hosts)
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(private_key())}
    config["file_mounts"]["~/raymd/constraints.txt"] = str(_constraints(folder))
    path = folder / "local.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _constraints(folder: Path) -> Path:
    """cluster/constraints.txt with the versions that are installed here, and so on the hosts."""
    text = (ROOT / "cluster" / "constraints.txt").read_text()
    names = re.findall(r"^(\S+)==", text, re.MULTILINE)
    path = folder / "constraints.txt"
    path.write_text("".join(f"{name}=={version(name)}\n" for name in names))
    return path


def ask(path: str, *, token: str = "") -> tuple[int, str]:
    """What the dashboard answers: HTTP status, 0 if nobody is there, and text."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{DASHBOARD}/api/{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.reason
    except OSError:
        return 0, ""


def alive_nodes(token: str) -> list[dict[str, Any]]:
    """The cluster's nodes, from Ray's state."""
    code, text = ask("v0/nodes", token=token)
    if code != 200:
        return []
    nodes = json.loads(text)["data"]["result"]["result"]
    return [node for node in nodes if node["state"] == "ALIVE"]


def lose_a_host(laptop: Laptop, hosts: Sequence[Host]) -> None:
    """Train on the cluster, and kill a host that holds a student, which is not the head."""
    flags = [word for name, value in FLAGS.items() for word in (f"--{name}", value)]
    fit = ["python", "-m", "raymd.fit", "--storage", "/srv/raymd/runs", *flags]
    job = laptop.begin("job", "ray", "job", "submit", "--working-dir", ".", "--", *fit)
    _wait_for(laptop, job, "cycle 1 distil")
    holders = _holders(hosts)
    laptop.say(f"students train on {' and '.join(host.name for host in holders)}")
    assert len(holders) == 2, "each student was to have a host of its own"
    lost = holders[-1]
    assert lost is not hosts[0]
    laptop.say(f"killed {lost.kill_ray()} processes of {lost.name}")
    _wait_for(laptop, job, " restarted at epoch ")
    laptop.say(f"goes on on {' and '.join(host.name for host in _holders(hosts))}")
    assert job.wait(STEP_S) == 0, "the job was to end well"
    laptop.say("the job ended well")


def _holders(hosts: Sequence[Host]) -> list[Host]:
    """Those on which a student trains."""
    return [
        host
        for host in hosts
        if any(line.startswith(TRAINING) for line in host.ray_processes().values())
    ]


def _wait_for(laptop: Laptop, job: subprocess.Popen[bytes], text: str) -> None:
    def printed() -> bool:
        output = laptop.output("job")
        assert job.poll() is None, f"the job ended before {text!r}"
        return text in output

    wait_until(printed, f"{text!r} in the job's output", timeout_s=STEP_S, pause_s=0.1)


def compare(laptop: Laptop) -> None:
    """What lies in the shared storage is what the same settings give without Ray."""
    from raymd.config import FitConfig
    from raymd.storage import Storage
    from tests.execution.conftest import fit_without_ray
    from tests.training.conftest import final_files

    run = Storage.at(shared_folder() / "runs" / RUN)
    result = json.loads(run.read("result.json").to_pybytes())
    finished = [student["id"] for student in result["students"]]
    assert finished == FLAGS["students"].split(","), f"result.json says {finished} finished"
    laptop.say(f"result.json: {' and '.join(finished)} finished")
    alone = Path(os.environ[FOLDER]) / "alone"
    reference = fit_without_ray(FitConfig.from_mapping({**FLAGS, "storage": str(alone)}))
    expected, found = final_files(reference), final_files(run)
    names = sorted({*expected, *found})
    different = [name for name in names if found.get(name) != expected.get(name)]
    assert not different, f"other bytes in {', '.join(different)}"
    laptop.say(f"{len(found)} files have the bytes of an undisturbed run without Ray")


def _keep_logs_of_ray(hosts: Sequence[Host]) -> None:
    for host in hosts[:1]:
        ray = host.folder / "tmp" / "ray"
        for name in ("monitor.*", "job-driver-*"):
            for log in ray.glob(f"session_2*/logs/{name}"):
                shutil.copy(log, LOGS)


def _tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-TAIL_LINES:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
