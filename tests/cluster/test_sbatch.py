"""cluster/slurm/raymd.sbatch: what it starts, its exit code, and when it is requeued."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.scripts.scripts import start as ray_start

from raymd.config import FitConfig
from raymd.fit import read_settings
from tests.cluster.fake_slurm import SCRIPT, FakeJob
from tests.execution.conftest import wait_until
from tuning.hpo.flags import read_flags

FLAGS = ("--students", "resnet8,resnet14", "--dataset", "imagenet", "--data_dir", "/data/imagenet")
# commits when it is told to stop, which takes it a moment
STOPPABLE = """
trap 'sleep 0.3; exit 130' TERM
echo ready; while :; do sleep 0.05; done"""

Make = Callable[..., FakeJob]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes jobs whose folders are removed afterwards."""
    jobs: list[FakeJob] = []

    def made(raymd: str = "exit 0", **options) -> FakeJob:
        jobs.append(FakeJob(tmp_path, raymd=raymd, **options))
        return jobs[-1]

    yield made
    for job in jobs:
        for folder in job.folder.parent.glob(f"{job.folder.name}*"):
            shutil.rmtree(folder)


def stop(job: FakeJob, number: signal.Signals) -> int:
    """The exit code of a job that gets a signal in the middle of its run."""
    process = job.start()
    wait_until(lambda: job.log.exists() and "ready" in job.log.read_text(), "raymd's start")
    process.send_signal(number)
    return process.wait(timeout=60)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_raymds_and_by_itself_it_is_not_requeued(make: Make, code: int) -> None:
    job = make(f"exit {code}")
    assert job.run(*FLAGS) == code
    assert job.words_of("scontrol") == []
    assert job.folder.exists() == (code in (1, 2))  # Ray's logs stay where something failed


def test_ray_that_does_not_start_is_a_failure_though_symmetric_run_has_none(make: Make) -> None:
    job = make(ray_is_broken=True)
    assert job.run() == 1
    assert job.words_of("python") == []
    assert "Ray did not start" in job.log.read_text()


def test_before_the_time_limit_raymd_commits_and_the_job_is_requeued(make: Make) -> None:
    job = make(STOPPABLE)
    assert stop(job, signal.SIGUSR1) == 130
    assert job.words_of("scontrol")[-1] == ["requeue", str(job.id)]


def test_a_run_that_ends_right_then_is_not_requeued(make: Make) -> None:
    job = make(STOPPABLE.replace("130", "0"))
    assert stop(job, signal.SIGUSR1) == 0
    assert ["requeue", str(job.id)] not in job.words_of("scontrol")


def test_a_cancelled_job_commits_and_is_not_requeued(make: Make) -> None:
    job = make(STOPPABLE)
    assert stop(job, signal.SIGTERM) == 130
    assert ["requeue", str(job.id)] not in job.words_of("scontrol")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("ray_is_late", [True, False])
def test_a_signal_that_comes_before_raymd_listens_stops_it(
    make: Make, number: signal.Signals, ray_is_late: bool
) -> None:
    job = make("echo ready; exec sleep 20", ray_is_late=ray_is_late)
    assert stop(job, number) == 130
    requeued = ["requeue", str(job.id)] in job.words_of("scontrol")
    assert requeued == (number == signal.SIGUSR1)


def test_what_raymd_is_started_with_is_what_it_takes(make: Make) -> None:
    job = make()
    assert job.run(*FLAGS) == 0
    ((minus_u, minus_m, module, *words),) = job.words_of("python")
    assert (minus_u, minus_m, module) == ("-u", "-m", "raymd.fit")
    config = FitConfig.from_mapping(read_settings(words))
    assert config.students == ("resnet8", "resnet14")
    assert (config.storage, config.name) == ("/shared/project/runs", f"slurm-{job.id}")
    assert (config.resume, config.address) == ("auto", address(job))
    again = make()
    again.run(*FLAGS, "--storage", "s3://bucket/runs", "--name", "mine")
    settings = read_settings(again.words_of("python")[0][3:])
    assert (settings["storage"], settings["name"]) == ("s3://bucket/runs", "mine")


def test_a_search_is_started_the_same_way(make: Make) -> None:
    job = make()
    job.environment["RAYMD_MODULE"] = "tuning.search"
    assert job.run("--space", "tuning/spaces/default.yaml", "--samples", "20") == 0
    (_, _, module, *words) = job.words_of("python")[0]
    asked = read_flags(words)
    assert (module, asked.resume, asked.name) == ("tuning.search", "auto", f"slurm-{job.id}")
    assert (asked.storage, asked.samples) == ("/shared/project/runs", 20)


def address(job: FakeJob) -> str:
    _, flags = symmetric_run(job)
    return flags[flags.index("--address") + 1]


def symmetric_run(job: FakeJob) -> tuple[list[str], list[str]]:
    """The command that it starts, and its own flags."""
    (words,) = [words for words in job.words_of("ray") if words[0] == "symmetric-run"]
    middle = words.index("--")
    return words[middle + 1 :], words[1:middle]


def test_ray_gets_flags_that_all_nodes_take(make: Make) -> None:
    job = make(hosts="one two three")
    assert job.run(*FLAGS) == 0
    _, flags = symmetric_run(job)
    own = {"--address": flags.pop(flags.index("--address") + 1)}
    own["--min-nodes"] = flags.pop(flags.index("--min-nodes") + 1)
    assert own == {"--address": f"10.0.0.1:{20000 + job.id * 10 % 10000}", "--min-nodes": "3"}
    rest = [flag for flag in flags if flag not in own]
    given = ray_start.make_context("start", rest, resilient_parsing=True)
    said = {k for k, v in given.params.items() if given.get_parameter_source(k).name != "DEFAULT"}
    assert said == {"num_cpus"}  # flags of the head alone would end the others with exit code 0
    assert given.params["num_cpus"] == 12


def test_the_heads_address_is_asked_of_another_node(make: Make) -> None:
    job = make(hosts="one two three")
    assert job.run(*FLAGS) == 0
    assert "--nodelist=three" in job.words_of("srun")[0]
    assert job.words_of("getent") == [["ahostsv4", "one"]]


def test_one_node_asks_nobody_for_its_address(make: Make) -> None:
    job = make(address="127.0.1.1")
    assert job.run(*FLAGS) == 0
    assert address(job).startswith("127.0.0.1:")  # which symmetric-run takes for one node
    assert job.words_of("getent") == []


def test_an_address_that_others_cannot_reach_is_refused(make: Make) -> None:
    job = make(hosts="one two", address="127.0.1.1")
    assert job.run(*FLAGS) == 1
    assert "to node two one is 127.0.1.1" in job.log.read_text()
    assert job.words_of("ray") == []


def test_a_head_without_an_address_is_named(make: Make) -> None:
    job = make(hosts="one two")
    (Path(job.environment["PATH"].partition(":")[0]) / "getent").write_text("#!/bin/sh\nexit 2\n")
    assert job.run(*FLAGS) == 1
    assert "node two does not know the address of one" in job.log.read_text()
    assert job.words_of("ray") == []


def test_a_node_whose_ray_ends_before_the_heads_joins_again(make: Make) -> None:
    job = make(hosts="one two", node="two")
    assert job.run(*FLAGS) == 1
    assert [words[0] for words in job.words_of("ray")] == ["stop", "symmetric-run"] * 3
    assert job.words_of("scancel") == []
    there = job.folder.with_name(f"{job.folder.name}-two")
    assert there.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_there_on_another_node_is_not_trusted(make: Make) -> None:
    job = make(hosts="one two", node="two")
    job.folder.with_name(f"{job.folder.name}-two").mkdir()
    assert job.run(*FLAGS) == 1
    assert job.words_of("ray") == []


def test_leftovers_end_before_and_the_other_nodes_after(make: Make) -> None:
    job = make()
    assert job.run(*FLAGS) == 0
    assert [words[0] for words in job.words_of("ray")] == ["stop", "symmetric-run"]
    assert job.words_of("scancel") == [["--signal=KILL", f"{job.id}.1"]]


def test_each_job_has_a_token_that_stands_on_no_command_line(make: Make) -> None:
    tokens = []
    for _ in range(2):
        job = make('echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_TMPDIR"; exit 1')
        assert job.run(*FLAGS) == 1
        mode, token, folder = job.log.read_text().splitlines()[0].split()
        assert (mode, folder, len(token)) == ("token", str(job.folder), 64)
        assert token not in job.notes.read_text()
        assert (job.folder / "token").read_text().strip() == token
        assert (job.folder / "token").stat().st_mode & 0o777 == 0o600
        assert job.folder.stat().st_mode & 0o777 == 0o700
        tokens.append(token)
    assert tokens[0] != tokens[1]


def test_a_folder_that_is_there_already_is_not_trusted(make: Make) -> None:
    job = make()
    job.folder.mkdir()
    assert job.run(*FLAGS) == 1
    assert not job.notes.exists()  # nothing was called


def test_no_ray_on_path_is_said(make: Make) -> None:
    job = make()
    (Path(job.environment["PATH"].partition(":")[0]) / "ray").unlink()
    assert job.run(*FLAGS) == 2
    assert "activate raymd's environment" in job.log.read_text()


def test_the_shell_finds_nothing_wrong() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck") is not None:
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
