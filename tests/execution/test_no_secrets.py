"""Credentials of the environment, of URIs, in errors: none in a run's folder or on the screen."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.execution.opening import open_run
from raymd.execution.telling import Telling
from raymd.runs import begin, check_same_science

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef",
    "DATABASE_PASSWORD": "correct-horse-battery",
}
URI = "s3://AKIAEXAMPLE:sEcr3tOfTheUri@bucket/runs?session_token=t0kenOfTheUri&region=eu"
PARTS = [*SECRETS.values(), "sEcr3tOfTheUri", "t0kenOfTheUri"]

# a network that trains for a while, then fails with credentials in its message
SCRIPT = """
import os, sys, torch, raymd

class Leaky(torch.nn.Module):
    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.layer = torch.nn.LazyLinear(num_classes)
        self.layer(torch.zeros(2, in_channels * image_size**2))
        self.steps = 0
    def forward(self, images):
        self.steps += self.training
        if self.steps > 12:
            raise TypeError(f"{os.environ['LEAK']} refused {os.environ['AWS_SECRET_ACCESS_KEY']}")
        return self.layer(images.flatten(1))

@raymd.register_model("leaky")
def leaky(num_classes, in_channels, image_size):
    return Leaky(num_classes, in_channels, image_size)

if __name__ == "__main__":
    from raymd.fit import main
    sys.exit(main(sys.argv[1:]))
"""


def holding(folder: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in files
        for secret in PARTS
        if secret.encode() in path.read_bytes()
    ]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_failing_run_leaves_no_secret_in_its_folder_or_on_the_screen(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    words = "--students leaky --dataset digits --subset 200 --batch_size 32 --epochs 9 --td 2"
    done = subprocess.run(
        [sys.executable, "mine.py", *words.split(), "--storage", "runs", "--name", "leak"],
        cwd=tmp_path,
        env={**os.environ, **SECRETS, "LEAK": URI},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "s3://***@bucket/runs?session_token=***&region=eu refused ***" in done.stderr
    assert [part for part in PARTS if part in done.stdout + done.stderr] == []
    run = tmp_path / "runs" / "leak"
    assert "refused ***" in (run / "students/leaky/failure.txt").read_text()
    assert (run / "config.yaml").exists()
    assert holding(run) == []


@pytest.fixture
def config(tmp_path: Path) -> FitConfig:
    return FitConfig(
        students="resnet8", subset=100, storage=str(tmp_path), name="run", dataset="digits"
    )


def test_settings_of_a_run_are_written_without_the_credentials_of_uris(
    config: FitConfig, tmp_path: Path
) -> None:
    run = open_run(config, lambda line: None)
    student = replace(run.settings.students[0], init_from=f"{URI}/run")
    settings = replace(run.settings, students=(student,))
    begin(
        run.storage,
        config=replace(config, storage=URI, init_from=f"{URI}/run"),
        settings=settings,
        fingerprint=run.data.fingerprint,
    )
    assert holding(tmp_path) == []
    # and it is gone on with under the same settings, credentials and all
    check_same_science(run.storage, settings=settings, fingerprint=run.data.fingerprint)


def test_errors_and_announcements_are_told_without_credentials(
    config: FitConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    telling = Telling(config)
    telling.announce(f"run {URI}: {SECRETS['WANDB_API_KEY']}")
    out = capsys.readouterr().out
    assert out.strip() == "run s3://***@bucket/runs?session_token=***&region=eu: ***"
    assert str(UserError(f"storage {URI}")) == (
        "storage s3://***@bucket/runs?session_token=***&region=eu"
    )
