"""cluster/slurm/raymd.sbatch on this machine without Slurm: commands in PATH that note their words.

    job = FakeJob(tmp_path, raymd="exit 0")
    assert job.run("--students", "resnet8") == 0
    assert job.words_of("scontrol") == [...]

Ray and raymd are such commands too. The real Slurm is slurm.py's.
"""

import itertools
import os
import subprocess
from pathlib import Path

from tests.docs.messages import ROOT

SCRIPT = ROOT / "cluster" / "slurm" / "raymd.sbatch"
END = "END"
NOTE = f"""#!/bin/bash
printf '%s\\0' "${{0##*/}}" "$@" {END} >>"$FAKE_NOTES"
"""
# what each does beside noting its words; the others do nothing
COMMANDS = {
    # a node that is not the head has a /tmp of its own
    "srun": """
while [[ $1 == --* ]]; do shift; done
[[ $SLURMD_NODENAME == "$FAKE_NODE" ]] || export RAYMD_JOB=$RAYMD_JOB-$FAKE_NODE
SLURMD_NODENAME=$FAKE_NODE exec "$@" """,
    "scontrol": '[[ $1 == requeue ]] || echo "$FAKE_HOSTS"',
    "scancel": "",
    # as the real one: 0 where Ray does not start; else the command's own. The third time on a node
    # that is not the head, the step is over.
    "ray": """
if [[ $1 == symmetric-run && $SLURMD_NODENAME != "$RAYMD_HEAD" ]]; then
    [[ $(grep -zcx symmetric-run "$FAKE_NOTES") == 3 ]] && kill $PPID
    exit 0
fi
[[ $1 == symmetric-run && -z $FAKE_RAY_IS_BROKEN ]] || exit 0
if [[ $FAKE_RAY_IS_LATE ]]; then
    echo ready
    for ((i = 0; i < 100; i++)); do [[ -f $RAYMD_JOB/stop ]] && break; sleep 0.05; done
fi
while [[ $1 != -- ]]; do shift; done; shift; exec "$@" """,
    "getent": 'echo "$FAKE_ADDRESS STREAM $2"',
}
ids = itertools.count(os.getpid() * 100)  # the script's folder in /tmp has it in its name


class FakeJob:
    """One start of the script; one of its nodes runs what srun starts, the head if none is named.

    Attributes:
        id: Of the job.
        folder: Where the script keeps what belongs to this start.
    """

    def __init__(
        self,
        tmp_path: Path,
        *,
        raymd: str,
        hosts: str = "one",
        node: str = "",
        address: str = "10.0.0.1",
        ray_is_broken: bool = False,
        ray_is_late: bool = False,
    ) -> None:
        self.id = next(ids)
        self.folder = Path(f"/tmp/raymd-{self.id}-0")
        self.notes = tmp_path / f"notes-{self.id}"
        self.log = tmp_path / f"log-{self.id}"
        commands = tmp_path / f"bin-{self.id}"
        commands.mkdir()
        for name, does in {**COMMANDS, "python": raymd}.items():
            (commands / name).write_text(f"{NOTE}{does}\n")
            (commands / name).chmod(0o755)
        self.environment = {
            "PATH": f"{commands}:/usr/bin:/bin",
            "FAKE_NOTES": str(self.notes),
            "FAKE_HOSTS": hosts.replace(" ", "\n"),
            "FAKE_ADDRESS": address,
            "FAKE_NODE": node or hosts.split()[0],
            "FAKE_RAY_IS_BROKEN": "yes" if ray_is_broken else "",
            "FAKE_RAY_IS_LATE": "yes" if ray_is_late else "",  # it waits for a signal first
            "SLURM_JOB_ID": str(self.id),
            "SLURM_JOB_NUM_NODES": str(len(hosts.split())),
            "SLURM_JOB_NODELIST": hosts,
            "SLURMD_NODENAME": hosts.split()[0],
            "SLURM_CPUS_ON_NODE": "12",
            "SLURM_STEP_ID": "1",
            "SLURM_SUBMIT_DIR": "/shared/project",
        }

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["bash", str(SCRIPT), *words], env=self.environment, stdout=log, stderr=log
            )

    def run(self, *words: str) -> int:
        """Its exit code."""
        return self.start(*words).wait(timeout=60)

    def words_of(self, command: str) -> list[list[str]]:
        """What followed a command's name, each time that it was called."""
        calls: list[list[str]] = [[]]
        for word in self.notes.read_text().split("\0")[:-1]:
            if word == END:
                calls.append([])
            else:
                calls[-1].append(word)
        return [words for name, *words in calls[:-1] if name == command]
