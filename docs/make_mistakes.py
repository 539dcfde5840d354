"""Writes docs/mistakes.md: typed mistakes, each with what raymd answered.

    python docs/make_mistakes.py

Every line is run in this process, in a scratch folder with a few files. No Ray is started: lines
that come so far are sent to an address where there is none. A test runs them again and compares.
"""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from raymd import cli

PAGE = Path(__file__).with_name("mistakes.md")
SHOWN_FOLDER = "/home/me"
NOBODY = "127.0.0.1:9"  # port 9 discards; nobody has it open today
NETS = """from torch import nn

NAMES = ("tiny",)


def tiny(*, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes), nn.Softmax(-1))[:0]


def wide(width, *, num_classes):
    return nn.Linear(width, num_classes)


def features(*, num_classes):
    return nn.Sequential(nn.Conv2d(1, num_classes, 3))


def broken(*, num_classes):
    raise RuntimeError("no such block")
"""
TEXTS = {
    "mynets.py": NETS,
    "needs.py": "import nowhere_to_be_found\n",
    "broken.yaml": "students: [resnet8\nt: 3\n",
    "list.yaml": "- resnet8\n",
    "typo.yaml": "students: resnet8\nepoch: 3\n",
    "warm.yaml": "students: resnet8\nt: warm\n",
    "flat.yaml": "students: resnet8\nstudent: {resnet8: 0.05}\n",
    "recipe.yaml": "epochs: 10\ntin: 1\ntd: 1\nlr: 0.1\n",
    "shards/train-00000-of-00002.parquet": "",
    "loose/cat.jpg": "",
    "ugly/cat/notes.jpg": "a text under an image's name",
    "tested/test/cat/x.jpg": "",
}

# Heading -> lines as typed.
MISTAKES = {
    "Flags and values": """\
fit
students resnet8
--students resnet8
fot --students resnet8
fit resnet8
fit --students
fit --students resnet8, resnet20
fit --student resnet8
fit --students resnet8 --epoch 3
fit --students resnet8 --val-fraction 0.1
fit --students resnet8 --epochs 1.5
fit --students resnet8 --epochs 0
fit --students resnet8 --t 0
fit --students resnet8 --lr=-0.1
fit --students resnet8 --val_fraction 10
fit --students resnet8 --precision fp8
fit --students resnet8 --device gpu
fit --students resnet8 --checkpoint_every 5
fit --students resnet8 --name runs/mine
fit --students resnet8 --method dmd
fit --students resnet8 --augment mixup,none
fit --students resnet8 --augment flip
fit --students resnet8 --gpus_per_worker 1.5
fit --students resnet8 --device cpu --gpus_per_worker 1
fit --students resnet8 --placement turns
fit --students resnet8 --slots 0
fit --students resnet8 --on_student_loss stop
fit --students resnet8 --barrier_timeout_s 0
fit --students resnet8 --recipe imagnet""",
    "One student's options": """\
fit --students resnet8,resnet20 --student.resnet9.lr 0.05
fit --students resnet8,resnet20 --student.resnet8.rate 0.05
fit --students resnet8,resnet20 --student.lr 0.05
fit --students resnet8,resnet20 --student.resnet8.lr
fit --students resnet8,resnet20 --student.resnet8.lr fast
fit --students resnet8 --pretrained --init_from other.safetensors""",
    "Students that teach each other": """\
fit --students resnet8 --method dml
fit --students resnet8 --method kd
fit --students resnet8 --method kd --teachers resnet50
fit --students resnet8 --method kd --teachers resnet5O:other.safetensors
fit --students resnet8 --method kd --teachers resnet8:other.safetensors
fit --students resnet8 --method kd --teachers resnet8:runs/none
fit --students resnet8 --method independent --teachers resnet8:other.safetensors
fit --students resnet8,resnet8 --method dml --teacher live
fit --students resnet8,resnet8 --teacher live --views 4
fit --students resnet8,resnet8 --soft_labels 16
fit --students resnet8,resnet8 --soft_labels top_k:11
fit --students resnet8,resnet8 --teachers resnet8:other.safetensors --views 4
fit --students resnet8 --method kd --teacher stored
fit --students resnet8,resnet8 --method dml --weights accuracy
fit --students resnet8,resnet8 --method dml --data_split disjoint
fit --students resnet8,resnet8 --method dml --kd_ramp 2
fit --students resnet8 --kd_until soon
fit --students resnet8 --publish ema
fit --students resnet8 --weights inverse_loss --val_fraction 0
fit --students resnet8 --weights best
fit --students resnet8,resnet20 --method dml --student.resnet8.batch_size 16
fit --students resnet8,resnet20 --method dml --on_student_loss continue""",
    "Files of settings": """\
fit --config none.yaml
fit --config broken.yaml
fit --config list.yaml
fit --config typo.yaml
fit --config warm.yaml
fit --config flat.yaml
fit --students resnet8 --recipe recipe.yaml""",
    "Networks": """\
fit --students resnet9
fit --students timm-resnet18
fit --students timm:
fit --students mynets.py
fit --students mynets:tony
fit --students mynets:NAMES
fit --students nowhere:tiny
fit --students needs:tiny
fit --students mynets:wide
fit --students mynets:tiny
fit --students mynets:features
fit --students mynets:broken
fit --students resnet18 --pretrained
fit --students resnet8 --init_from none.safetensors
fit --students resnet8 --init_from other.safetensors
fit --students resnet8 --init_from runs/none""",
    "Images": """\
fit --students resnet8 --dataset cifar
fit --students resnet8 --dataset folder
fit --students resnet8 --dataset digits:8
fit --students resnet8 --dataset folder:nowhere
fit --students resnet8 --dataset folder:mynets.py
fit --students resnet8 --dataset folder:loose
fit --students resnet8 --dataset folder:one
fit --students resnet8 --dataset folder:ugly
fit --students resnet8 --dataset folder:tested
fit --students resnet8 --dataset folder:odd
fit --students resnet8 --dataset parquet:photos
fit --students resnet8 --dataset parquet:table
fit --students resnet8 --dataset parquet:shards
fit --students resnet8 --subset 5000
fit --students resnet8 --subset 4
fit --students resnet8 --image_size 2
fit --students resnet8 --storage mynets.py""",
    "Clusters": """\
fit --students resnet8 --address 127.0.0.1:9""",
    "Resuming": """\
fit --students resnet8 --resume
fit --students resnet8 --resume --name mine
fit --students resnet8 --resume=maybe""",
    "After training": """\
predict
predict latest
predict latest nowhere.jpg
predict latest one/cat/0.png
predict mine one/cat/0.png
predict latest shards
predict latest one/cat/0.png --top 0
predict latest one/cat/0.png --student.resnet8 best
evaluate
evaluate latest --part_of val
evaluate latest --baseline
evaluate latest --output nowhere/figures.csv
clean --all
clean --run runs/mine
clean --run mine""",
}
LINES = tuple(line for lines in MISTAKES.values() for line in lines.splitlines())
OPENING = """# Typed mistakes

What raymd answers when something cannot work: one line, with what was received, what is allowed and
the flag to change, before anything is trained; the exit code is 2. Each line here was run and its
answer written by `python docs/make_mistakes.py`; a test runs them again. The folder they were typed
in is shown as `/home/me`.
[errors.md](errors.md) has every message with its remedy.
"""


class Answer(NamedTuple):
    """What came of a line: its exit code, and what was written to stderr."""

    code: int
    text: str


def answer(typed: str, folder: Path) -> Answer:
    """Run ``raymd TYPED`` in this process; paths below the folder are shown as SHOWN_FOLDER."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(shlex.split(typed))
    return Answer(code, err.getvalue().replace(str(folder), SHOWN_FOLDER))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with the files that the lines speak of, as the current one."""
    before, path, address = Path.cwd(), list(sys.path), os.environ.get("RAY_ADDRESS")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        _fill(folder)
        os.chdir(folder)
        os.environ["RAY_ADDRESS"] = NOBODY
        try:
            yield folder
        finally:
            os.chdir(before)
            sys.path[:] = path
            for module in ("mynets", "needs"):  # which a line may have imported
                sys.modules.pop(module, None)
            os.environ.pop("RAY_ADDRESS")
            if address is not None:
                os.environ["RAY_ADDRESS"] = address


def _fill(folder: Path) -> None:
    for name, text in TEXTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "table").mkdir()
    pq.write_table(pa.table({"photo": [b""], "label": [0]}), folder / "table" / "train.parquet")
    save_file({"fc.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    grey = np.full((16, 16), 128, dtype=np.uint8)
    # one: a single class; ugly: two, one of them with a file that is no image; odd: a class that
    # only the test part has
    for place in ("one/cat", "ugly/dog", "odd/train/cat", "odd/train/dog", "odd/test/bird"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            Image.fromarray(grey).save(folder / place / f"{number}.png")
    (folder / "photos").mkdir()


def page() -> str:
    """The whole of mistakes.md."""
    parts = [OPENING]
    with scratch() as folder:
        for heading, lines in MISTAKES.items():
            parts.append(f"## {heading}\n")
            for typed in lines.splitlines():
                text = answer(typed, folder).text.rstrip()
                parts.append(f"```\n$ raymd {typed}\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
