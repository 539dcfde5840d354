"""A real Slurm of a few hosts on this machine, for the time of a test.

    with slurm(num_hosts=2) as cluster:
        job = cluster.sbatch("--nodes=2", "cluster/slurm/raymd.sbatch", "--students", "resnet8")
        assert job.end() == "COMPLETED 0:0"

Each host is a set of namespaces (network, processes, mounts, name) with a slurmd of its own, so
that `ray symmetric-run`, which ends every Ray that it sees, sees no other. A host ends with its
first process, and that one when this process does: nothing is left, whatever ends the test.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray  # noqa: F401  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from tests.execution.conftest import wait_until

REPOSITORY = Path(__file__).parents[2]
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "nsenter", "ip")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

# A host's first process. Beside the shared folder it has /tmp and /dev/shm of its own, and it knows
# itself as 127.0.1.1, as Debian's hosts do. It ends when its input does.
HOST = """
set -e
hostname {name}
mount --make-rprivate /
mkdir -p {shared}/repository && mount --bind {repository} {shared}/repository
mount -t tmpfs none /tmp
mkdir -p {repository} && mount --bind {shared}/repository {repository}  # should it lie below /tmp
mount -t tmpfs none /dev/shm
mount --bind {shared}/{name}.hosts /etc/hosts
ip link set lo up
echo ready
while read -r _; do :; done
"""

CONFIGURATION = """
ClusterName=raymd
SlurmctldHost=raymd1
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={shared}/munge.socket,cred_expire=5
StateSaveLocation={shared}/state
SlurmdSpoolDir={shared}/spool-%n
SlurmctldPidFile={shared}/slurmctld.pid
SlurmdPidFile={shared}/slurmd-%n.pid
SlurmctldLogFile={shared}/slurmctld.log
SlurmdLogFile={shared}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
GresTypes=gpu
NodeName=raymd[1-{num_hosts}] CPUs={num_cpus} RealMemory=4000 Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)} (slurm-wlm, munge, iproute2)" if absent else ""


@dataclass
class Slurm:
    """The cluster.

    Attributes:
        shared: A folder that all hosts see, as they do the repository's.
        hosts: A process of each one's namespaces.
    """

    shared: Path
    hosts: list[psutil.Process]

    def start(self, host: int, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command on a host, its output in a file beside."""
        with (self.shared / f"{words[0]}-{host}.out").open("ab") as out:
            return subprocess.Popen(
                self._on(host, *words), env=self._environment(), stdout=out, stderr=out
            )

    def run(self, *words: str) -> str:
        """What a command prints on the first host; it has to succeed."""
        done = subprocess.run(
            self._on(0, *words), env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def sbatch(self, *words: str) -> "Job":
        """Submit a job from the repository's folder."""
        return Job(self, self.run("sbatch", "--parsable", *words).strip())

    def ray_processes(self) -> list[psutil.Process]:
        """What there is of Ray on all hosts."""
        hosts = {_space(host) for host in self.hosts}
        return [p for p in psutil.process_iter(["name"]) if _is_ray(p) and _space(p) in hosts]

    def _on(self, host: int, *words: str) -> list[str]:
        spaces = ["--net", "--mount", "--pid", "--uts", f"--wd={REPOSITORY}"]
        return ["nsenter", "-t", str(self.hosts[host].pid), *spaces, "--", *words]

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {
            **kept,
            "SLURM_CONF": str(self.shared / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            # whatever raymd is installed in the environment, workers shall have this one
            "PYTHONPATH": str(REPOSITORY),
        }


@dataclass
class Job:
    """A job of the cluster."""

    slurm: Slurm
    id: str

    def show(self) -> dict[str, str]:
        """Its fields, as scontrol has them."""
        words = self.slurm.run("scontrol", "--oneliner", "show", "job", self.id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    @property
    def log(self) -> str:
        path = Path(self.show()["StdOut"])
        return path.read_text() if path.exists() else ""

    def wait_for(self, text: str, *, times: int = 1, timeout_s: float = 400) -> None:
        """Wait until its log has a text so many times."""

        def printed() -> bool:
            assert self.show()["JobState"] not in ENDED, self.log
            return self.log.count(text) >= times

        wait_until(printed, f"{text!r} in the job's log", timeout_s=timeout_s)

    def end(self, *, timeout_s: float = 300) -> str:
        """Wait for its end; gives back its state and exit code, such as ``COMPLETED 0:0``."""
        wait_until(lambda: self.show()["JobState"] in ENDED, "the job's end", timeout_s=timeout_s)
        fields = self.show()
        return f"{fields['JobState']} {fields['ExitCode']}"


def _is_ray(process: psutil.Process) -> bool:
    name = process.info["name"]
    return name in ("raylet", "gcs_server") or name.startswith("ray::")


def _space(process: psutil.Process) -> str:
    """Which processes it lives among; empty if it has gone."""
    try:
        return str(Path(f"/proc/{process.pid}/ns/pid").readlink())
    except OSError:
        return ""


@contextmanager
def slurm(num_hosts: int, *, num_cpus: int = 1) -> Iterator[Slurm]:
    """A Slurm whose hosts have so many CPUs each, and two GPUs which are none."""
    shared = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))  # hosts hide /tmp
    _write_files(shared, num_hosts=num_hosts, num_cpus=num_cpus)
    firsts: list[subprocess.Popen[str]] = []
    try:
        for number in range(1, num_hosts + 1):
            firsts.append(_make_host(shared, f"raymd{number}"))
        hosts = [psutil.Process(first.pid).children()[0] for first in firsts]
        _connect(hosts)
        cluster = Slurm(shared, hosts)
        _start_daemons(cluster)
        yield cluster
    finally:
        for first in firsts:
            assert first.stdin is not None
            first.stdin.close()
            first.wait(timeout=30)
        shutil.rmtree(shared)


def _write_files(shared: Path, *, num_hosts: int, num_cpus: int) -> None:
    text = CONFIGURATION.format(shared=shared, num_hosts=num_hosts, num_cpus=num_cpus)
    (shared / "slurm.conf").write_text(text)
    (shared / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")
    key = shared / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    for number in range(1, num_hosts + 1):
        others = [i for i in range(1, num_hosts + 1) if i != number]
        lines = ["127.0.0.1 localhost", f"127.0.1.1 raymd{number}"]
        lines += [f"10.88.0.{i} raymd{i}" for i in others]
        (shared / f"raymd{number}.hosts").write_text("\n".join(lines) + "\n")


def _make_host(shared: Path, name: str) -> "subprocess.Popen[str]":
    script = HOST.format(name=name, shared=shared, repository=REPOSITORY)
    spaces = ["--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child"]
    first = subprocess.Popen(
        ["unshare", *spaces, "bash", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    return first


def _connect(hosts: list[psutil.Process]) -> None:
    """Give each host an address; the first is the others' switch."""

    def ip(host: int, words: str) -> None:
        inside = ["nsenter", "-t", str(hosts[host].pid), "--net", "ip"]
        subprocess.run([*inside, *words.split()], check=True)

    ip(0, "link add eth0 type bridge")
    for host in range(1, len(hosts)):
        ip(0, f"link add port{host} type veth peer eth0 netns {hosts[host].pid}")
        ip(0, f"link set port{host} master eth0 up")
    for host in range(len(hosts)):
        ip(host, "link set eth0 up")
        ip(host, f"addr add 10.88.0.{host + 1}/24 dev eth0")


def _start_daemons(cluster: Slurm) -> None:
    shared = cluster.shared
    files = [f"--{name}-file={shared}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    cluster.start(0, "munged", "--foreground", "--force", f"--socket={shared}/munge.socket", *files)
    wait_until(lambda: (shared / "munge.socket").exists(), "munged")
    cluster.start(0, "slurmctld", "-D")
    for number in range(len(cluster.hosts)):
        cluster.start(number, "slurmd", "-D", "-N", f"raymd{number + 1}")
    idle = " ".join(["idle"] * len(cluster.hosts))
    wait_until(lambda: _states(cluster) == idle, "all nodes idle")


def _states(cluster: Slurm) -> str:
    done = subprocess.run(
        cluster._on(0, "sinfo", "--noheader", "--Node", "--format=%T"),
        env=cluster._environment(),
        capture_output=True,
        text=True,
    )
    return " ".join(done.stdout.split())
