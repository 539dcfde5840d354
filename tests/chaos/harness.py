"""A run that is disturbed: killed in parts and as a whole, watched, gone on with, and compared.

    python -m raymd.fit --view json  ->  events      what is told
    the run directory                ->  Watcher     what is committed
    processes below driver and hosts ->  victims.py  who is killed

What must hold is checked while it runs: no file's bytes change, no student begins before what it
had committed when somebody was killed.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray  # psutil is ray's

import psutil  # isort: skip  # ray brings it along, so it is there after ray

from raymd.distillation.schedule import Position
from raymd.run_folder import student_folder
from raymd.storage import Storage
from raymd.training.checkpoint import committed_positions
from tests.chaos.victims import (
    DRIVER,
    MERGE,
    PAUSE,
    PROCESSES,
    RAYLET,
    TRAINING,
    WORKER,
    Kind,
    catch_merge,
    choose,
    processes,
    titled,
)
from tests.chaos.watcher import Watcher
from tests.execution.commands import Command, as_flags, start
from tests.execution.hosts import Hosts

Event = dict[str, Any]

RECOVERY_S = 300.0
LOOK_S = 0.05
STARTS = 2  # at one position; the third failure there ends a run, as it should

_ = ray


@dataclass
class Kill:
    """One disturbance.

    Attributes:
        kind: Who was killed, or ``pause``.
        at: Seconds since 1970.
        victims: How many processes.
        lost_s: From the kill to what showed that the run goes on; None if the run ended first.
        shown_by: What did.
    """

    kind: str
    at: float
    victims: int
    lost_s: float | None = None
    shown_by: str = ""


@dataclass
class DisturbedRun:
    """A run in ``folder``/runs/``name``, begun by ``begin``.

    Args:
        folder: Of its storage and of its commands' output.
        flags: Settings by name, ``name`` among them.
        draw: Chooses victims.
        hosts: The cluster to join; None: each attempt has a Ray of its own.
    """

    folder: Path
    flags: dict[str, str]
    draw: random.Random
    hosts: Hosts | None = None
    commands: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.storage = Storage.at(self.folder / "runs" / self.flags["name"])
        self.watcher = Watcher(Path(self.storage.uri))
        self._floor: dict[str, Position] = {}
        self._starts: Counter[tuple[str, Position]] = Counter()
        self._read = 0
        self._all: dict[int, psutil.Process] = {}

    # -- attempts ---------------------------------------------------------------------

    def begin(self) -> None:
        """The first attempt."""
        flags = as_flags(self.flags)
        self._start(*flags)

    def resume(self, **changes: str) -> None:
        """Another attempt, with some settings changed."""
        more = as_flags(changes)
        self._start("--resume", "--name", self.flags["name"], *more)

    def _start(self, *flags: str) -> None:
        address = ["--address", self.hosts.address] if self.hosts is not None else []
        start(self.commands, self.folder, "--view", "json", *address, *flags)
        self._read = 0
        self._starts.clear()

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        return self.commands[-1].process

    @property
    def roots(self) -> list[int]:
        """All processes of the run are below these."""
        return [self.driver.pid] + ([self.hosts.process.pid] if self.hosts is not None else [])

    @property
    def is_over(self) -> bool:
        return self.driver.poll() is not None

    # -- looking ----------------------------------------------------------------------

    def look(self) -> None:
        """Read what was told and what is committed; everybody who waits does."""
        out = (self.commands[-1].folder / "out").read_bytes()
        whole = out.rfind(b"\n") + 1
        for line in out[self._read : whole].splitlines():
            self._take(json.loads(line))
        self._read = whole
        self.watcher.look()

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if event["event"] != "started":
            return
        student, position = event["student"], Position(event["epoch"], event["step"])
        self._starts[student, position] += 1
        floor = self._floor.get(student)
        if floor is not None and position < floor:
            self.broken.append(f"{student} began at {position}, though {floor} was committed")

    def wait(
        self, condition: Callable[[], Any], what: str, *, timeout_s: float = RECOVERY_S
    ) -> Any:
        """The condition's value once it is true; None if the run has ended before."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.look()
            value = condition()
            if value:
                return value
            if self.is_over:
                self.look()
                return condition() or None
            time.sleep(LOOK_S)
        tail = [json.dumps(event)[:200] for event in self.events[-20:]]
        raise AssertionError("\n".join([f"{timeout_s:.0f} s went by without {what}:", *tail]))

    def told(self, kind: str, *, since: float) -> list[Event]:
        """Events of a kind that the driver took after a moment."""
        return [e for e in self.events if e["event"] == kind and e["time"] > since]

    def newest(self) -> dict[str, Position]:
        """Where students stand in storage."""
        found = {}
        for student in self.storage.list("students"):
            positions = committed_positions(self.storage, student_folder(student))
            if positions:
                found[student] = positions[-1]
        return found

    # -- disturbing -------------------------------------------------------------------

    def disturb(self, kind: str, **how: Any) -> Kill | None:
        """Kill and wait until the run goes on; None if there was nobody to kill any more.

        Args:
            kind: One of victims.PROCESSES, ``driver``, ``raylet`` or ``pause``.
            how: Of the driver: settings of the attempt after it; of a pause: ``seconds``.
        """
        if kind in TRAINING and not self.wait(self._may_lose_workers, "progress of all students"):
            return None
        if self.is_over:
            return None
        if kind == DRIVER:
            return self._kill_driver(**how)
        if kind == RAYLET:
            return self._kill_raylet()
        if kind == PAUSE:
            return self._pause(**how)
        return self._kill_processes(kind, PROCESSES[kind])

    def _may_lose_workers(self) -> bool:
        """Whether no student has failed so often where it stands that the run would give up."""
        newest = self.newest()
        return all(
            count < STARTS or at != newest.get(student, Position(0))
            for (student, at), count in self._starts.items()
        )

    def is_there(self, kind: str) -> bool:
        """Whether there is somebody of a kind to disturb."""
        if kind in (DRIVER, PAUSE):
            return not self.is_over
        if kind == RAYLET:
            return self.hosts is not None
        return kind == "merge" or bool(titled(PROCESSES[kind].title, self.roots))

    def _begin_kill(self, kind: str, victims: int) -> Kill:
        self._floor.update(self.newest())
        self.kills.append(Kill(kind, time.time(), victims))
        return self.kills[-1]

    def _recovered(self, kill: Kill, shown_by: str, at: float | None) -> Kill:
        kill.shown_by = shown_by if at is not None else "the run's end"
        kill.lost_s = at - kill.at if at is not None else None
        return kill

    def _kill_processes(self, name: str, kind: Kind) -> Kill | None:
        victims = self.wait(lambda: self._victims(kind), f"a {name}", timeout_s=RECOVERY_S)
        if not victims:
            return None
        # by title, for an idle process may become what was killed
        known = {process.pid for process in titled(kind.title, self.roots)}
        kill = self._begin_kill(name, len(victims))
        for process in victims:
            signal_to(process, signal.SIGKILL)
        if kind.recovery == "process":
            back = self.wait(
                lambda: any(p.pid not in known for p in titled(kind.title, self.roots)),
                f"another {name}",
            )
            return self._recovered(kill, "its process", time.time() if back else None)
        return self._wait_for_event(kill, kind.recovery, times=self._expected(name, len(victims)))

    def _victims(self, kind: Kind) -> list[psutil.Process]:
        if kind.title == MERGE:
            return catch_merge(self.roots, self._goes_on)
        return choose(kind, self.roots, self.draw)

    def _goes_on(self) -> bool:
        self.look()
        return not self.is_over

    def _expected(self, name: str, victims: int) -> int:
        """How many students begin again."""
        return victims // int(self.flags.get("workers_per_student", "1")) if name == "group" else 1

    def _wait_for_event(self, kill: Kill, event: str, *, times: int = 1) -> Kill:
        told = self.wait(
            lambda: (found := self.told(event, since=kill.at))[times - 1 :] and found,
            f"{event!r} {times} times after {kill}",
        )
        return self._recovered(kill, event, told[times - 1]["time"] if told else None)

    def _kill_driver(self, **changes: str) -> Kill:
        self._all |= {process.pid: process for process in processes([self.driver.pid])}
        kill = self._begin_kill(DRIVER, 1)
        self.driver.kill()
        self.driver.wait()
        self.look()
        self.resume(**changes)
        return self._wait_for_event(kill, "started")

    def _kill_raylet(self) -> Kill | None:
        assert self.hosts is not None, "only a node of several can be lost"
        node = self.draw.choice(list(self.hosts.nodes)[1:])  # the head's end is the cluster's
        event = "started" if titled(WORKER, [self.hosts.nodes[node]]) else "epoch"
        kill = self._begin_kill(RAYLET, 1)
        self.hosts.kill(node)
        self.hosts.add(num_cpus=1)
        return self._wait_for_event(kill, event)

    def _pause(self, *, seconds: float) -> Kill:
        """Stop the driver for a while: nobody may take it for dead."""
        kill = self._begin_kill(PAUSE, 1)
        self.driver.send_signal(signal.SIGSTOP)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.watcher.look()
            time.sleep(LOOK_S)
        self.driver.send_signal(signal.SIGCONT)
        resumed = time.time()
        heard = self.wait(lambda: self.told_any(since=resumed), "an event after the pause")
        restarted = self.told("restarted", since=kill.at)
        if restarted:
            self.broken.append(f"a paused driver was taken for dead: {restarted}")
        kill.at = resumed  # the time stopped was not lost by the run
        return self._recovered(kill, "an event", heard[0]["time"] if heard else None)

    def told_any(self, *, since: float) -> list[Event]:
        """Events that the driver took after a moment."""
        return [event for event in self.events if event["time"] > since]

    # -- ending -----------------------------------------------------------------------

    def finish(self, *, timeout_s: float = 600.0) -> None:
        """Wait for the run's result.

        Raises:
            AssertionError: it failed, or something that must hold did not.
        """
        self.wait(lambda: self.is_over, "the run's end", timeout_s=timeout_s)
        command = self.commands[-1]
        assert command.end() == 0, f"{command.out[-3000:]}\n{command.err}"
        changed = [f"{name} changed its bytes" for name in sorted(self.watcher.changed)]
        assert not self.broken + changed, "\n".join(self.broken + changed)

    def end(self) -> None:
        """Leave no process behind, whatever happened."""
        left = [*self._all.values(), *processes([command.process.pid for command in self.commands])]
        for command in self.commands:
            if command.process.poll() is None:
                command.process.kill()
                command.process.wait()
        for process in left:
            signal_to(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=60)

    def outcome(self) -> dict[str, Any]:
        """For the report."""
        return {
            "flags": self.flags,
            "joined": self.hosts is not None,
            "attempts": len(self.commands),
            "kills": [asdict(kill) for kill in self.kills],
            "written_again": self.watcher.written_again,
            "restarted": sum(event["event"] == "restarted" for event in self.events),
        }


def signal_to(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal, if the process is still there (and still the same)."""
    if process.is_running():
        os.kill(process.pid, number)
