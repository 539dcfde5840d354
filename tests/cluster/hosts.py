"""Hosts on one machine for a real `ray up`: processes, network and files of their own, and an sshd.

    python -m tests.cluster.hosts 3                  # a shell on a laptop beside three hosts
    python -m tests.cluster.hosts 3 -- COMMAND …

    in_a_world(…)  ->  the laptop, in namespaces of its own  ->  make_hosts(…)  ->  ssh 10.77.0.1

The machine's network and files are not touched. A *world* is a namespace for the laptop and, below
it, one for each host; the kernel ends all of it with the world's first process, however that came
to its end. So there is nothing to take down but a folder, which the next world removes if need be.
Root is needed, and what `missing` looks for.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
PREFIX = "world-"  # without the three letters by which Ray's processes are found
NEW_S = 60.0
NETWORK = "10.77.0"
GATEWAY = f"{NETWORK}.254"
TOOLS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "hostname": "hostname",
    "pgrep": "procps",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
FOLDER = "RAYMD_WORLD"  # in the environment of what runs in a world: where its files are
SSH_CONFIG = """\
User root
IdentityFile {key}
BatchMode yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""
SSHD_CONFIG = """\
ListenAddress {address}
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""


@dataclass(frozen=True)
class Host:
    """One of the hosts.

    Attributes:
        name: Its own, such as ``host2``.
        address: In the world's network.
        folder: Its files: ``home/`` and ``tmp/``.
        process: The one that its first process is the child of.
    """

    name: str
    address: str
    folder: Path
    process: subprocess.Popen[bytes]

    def ray_processes(self) -> dict[int, str]:
        """Command lines of all processes of Ray's that run on it, by process id."""
        mine = _link(f"/proc/{self.process.pid}/ns/pid_for_children")
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            if mine and _link(f"{path}/ns/pid") == mine:
                with suppress(OSError):
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return {pid: line for pid, line in found.items() if "ray" in line}

    def kill_ray(self) -> int:
        """SIGKILL all of Ray at once, as if the host had lost its power; returns how many."""
        processes = self.ray_processes()
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(processes)


def missing() -> str:
    """Why hosts cannot be made on this machine; empty if they can."""
    if not sys.platform.startswith("linux"):
        return "hosts are made of Linux namespaces"
    if os.geteuid() != 0:
        return "hosts are made of namespaces and network devices, which takes root"
    absent = {package for tool, package in TOOLS.items() if _tool(tool) is None}
    if absent:
        return f"not installed: {', '.join(sorted(absent))} (apt-get install)"
    probe = subprocess.run(
        ["unshare", *NAMESPACES, "ip", "link", "add", "probe", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces or bridges here: {probe.stderr.strip()}" if probe.returncode else ""


def in_a_world(command: Sequence[str], *, timeout_s: float | None = None) -> int:
    """Run a command on a laptop in a world of its own, which ends with it.

    Args:
        command: Its arguments; it starts in the checkout and finds this Python first on its path.
        timeout_s: When it is ended.

    Returns:
        Its exit code; 124 if the time was over.
    """
    with _folder() as folder:
        laptop = subprocess.Popen(
            # should this process be killed, so is the world
            ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "sh", BOOT, *command],
            cwd=ROOT,
            env=_laptop(folder),
        )
        try:
            return laptop.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            laptop.kill()
            laptop.wait()


def make_hosts(count: int) -> list[Host]:
    """Make hosts in the world that this process runs in; they end with it."""
    folder = Path(os.environ[FOLDER])
    for name in ("user", "host"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "keys" / name))
    ssh = Path.home() / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text(SSH_CONFIG.format(key=private_key()))
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "bridge", "type", "bridge")
    _run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "bridge")
    _run("ip", "link", "set", "bridge", "up")
    names = [f"127.0.0.1 localhost\n{GATEWAY} laptop\n"]
    names += [f"{NETWORK}.{number} host{number}\n" for number in range(1, count + 1)]
    (folder / "hosts").write_text("".join(names))
    _run("mount", "--bind", str(folder / "hosts"), "/etc/hosts")
    hosts = [_make_host(number, folder) for number in range(1, count + 1)]
    for host in hosts:
        wait_until(lambda host=host: _answers(host), f"an sshd on {host.name}")
    return hosts


def private_key() -> Path:
    """The key that opens all hosts of this world to root."""
    return Path(os.environ[FOLDER]) / "keys" / "user"


def shared_folder() -> Path:
    """What all hosts see as /srv/raymd."""
    return Path(os.environ[FOLDER]) / "shared"


def _make_host(number: int, world: Path) -> Host:
    name, address = f"host{number}", f"{NETWORK}.{number}"
    folder = world / name
    (folder / "home").mkdir(parents=True)
    _furnish(folder / "home")
    config = SSHD_CONFIG.format(address=address, keys=world / "keys")
    (folder / "sshd_config").write_text(config)
    sshd = [_tool("sshd") or "sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", *NAMESPACES, "sh", BOOT, "sh", "-c", _WHEN_CONNECTED, "sh", *sshd],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(world, name),
        )
    _connect(process.pid, number, address)
    return Host(name, address, folder, process)


# sshd binds its address once
_WHEN_CONNECTED = f'until ip route get {GATEWAY} >/dev/null 2>&1; do sleep 0.1; done; exec "$@"'


def _connect(pid: int, number: int, address: str) -> None:
    """A cable from a host's network to the bridge. Ray asks its default route for the host's IP."""
    ours = _link("/proc/self/ns/net")
    wait_until(lambda: _link(f"/proc/{pid}/ns/net") not in ("", ours), f"host{number}'s network")
    ends = [f"host{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid)]
    _run("ip", "link", "add", *ends)
    _run("ip", "link", "set", f"host{number}", "master", "bridge", "up")
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "route", "add", "default", "via", GATEWAY)


def _furnish(home: Path) -> None:
    """A home in which Python is this one, and all that raymd needs is installed already.

    The set-up's `pip install` then finds every package there, for the world has no Internet.
    """
    python = Path(sys.base_prefix) / "bin"
    lines = [f"export PATH={python}:{SYSTEM_PATH}", "export RAY_OVERRIDE_RESOURCES='{\"CPU\": 1}'"]
    for name in (".profile", ".bashrc"):
        (home / name).write_text("\n".join(lines) + "\n")
    environment = home / "raymd-env"
    _run(str(python / "python3"), "-m", "venv", "--without-pip", str(environment))
    [packages] = environment.glob("lib/python*/site-packages")
    here = Path(sys.prefix).resolve() / packages.relative_to(environment)
    (packages / "installed-already.pth").write_text(f"{here}\n")
    ray = environment / "bin" / "ray"
    ray.write_text(f"#!{environment}/bin/python\nfrom ray.scripts.scripts import main\n\nmain()\n")
    ray.chmod(0o755)
    config = home / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[global]\nno-index = true\nno-build-isolation = false\n")


def _laptop(folder: Path) -> dict[str, str]:
    ours = {"HOME": str(folder / "laptop" / "home"), "PYTHONPATH": str(ROOT), FOLDER: str(folder)}
    path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
    return {**_environment(folder, "laptop"), **ours, "PATH": path}


def _environment(world: Path, name: str) -> dict[str, str]:
    """What boot.sh reads, and nothing else of this process's environment."""
    needed = {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix)}
    below_tmp = sorted(str(path) for path in needed if path.is_relative_to("/tmp"))
    files = {"FOLDER": str(world / name), "SHARED": str(world / "shared")}
    terminal = {key: os.environ[key] for key in ("TERM", "LANG") if key in os.environ}
    return {"HOST": name, "KEEP": " ".join(below_tmp), "PATH": SYSTEM_PATH, **files, **terminal}


@contextmanager
def _folder() -> Iterator[Path]:
    """A world's files. They are not below /tmp, for there each host has its own."""
    for left in Path("/var/tmp").glob(f"{PREFIX}*"):
        # another that does the same may be quicker
        with suppress(BlockingIOError, FileNotFoundError):
            _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    with _locked(folder):
        for name in ("laptop/home", "shared", "keys"):
            (folder / name).mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    # one that is being made has no lock yet
    if time.time() - folder.stat().st_mtime > NEW_S:
        with _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder until the block ends or this process does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _answers(host: Host) -> bool:
    assert host.process.poll() is None, (host.folder / "log").read_text()
    ssh = subprocess.run(["ssh", host.name, "true"], capture_output=True, check=False)
    return ssh.returncode == 0


def _tool(name: str) -> str | None:
    return shutil.which(name, path=SYSTEM_PATH)


def _link(path: str) -> str:
    """Where a link of /proc leads; empty once its process is gone."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main(argv: list[str] | None = None) -> int:
    """A command, or a shell, on a laptop beside hosts."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.hosts", description=__doc__)
    parser.add_argument("count", type=int, help="of hosts")
    parser.add_argument("command", nargs="*", help="after --; a shell by default")
    args = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"no hosts: {reason}", file=sys.stderr)
        return 2
    if FOLDER not in os.environ:
        again = [sys.executable, "-m", "tests.cluster.hosts", str(args.count), "--"]
        return in_a_world([*again, *(args.command or ["bash"])])
    hosts = make_hosts(args.count)
    print("ssh to", *(host.name for host in hosts), flush=True)
    return subprocess.run(args.command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
