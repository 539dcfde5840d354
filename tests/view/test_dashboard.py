"""Pictures of a run at several sizes."""

import pytest
from rich.cells import cell_len

from raymd.view import events
from raymd.view.cells import cut
from raymd.view.dashboard import HINT, render
from raymd.view.state import RunState
from raymd.view.text import num_bytes, sparkline
from tests.view.examples import (
    about,
    epoch,
    lost,
    printed,
    progress,
    published,
    recording_console,
    run_started,
    segment,
    started,
    taught,
    waiting,
)

PAIR = ["resnet18", "densenet100-2"]
MANY = [f"resnet18-{number}" for number in range(16)]
FORTY = [f"resnet18-{number}" for number in range(40)]
STRANGE = [
    "größe-äöü",
    "torchvision-efficientnet_v2_large-13",
    "模型模型模型模型模型模型模型",
    "[red]",
]


def unheard(students, **changes):
    return RunState.of(about(students, **changes))


def early(students, **changes):
    state = unheard(students, **changes)
    for student in students:
        state.add(started(student), now=0.0)
        state.add(progress(student), now=1.0)
    return state


def busy(students):
    """Nine epochs in: the first trains on, the last waits for it, and there is much to note."""
    state = unheard(students)
    state.add(run_started(students, run="runs/" + "long" * 20), now=0.0)
    for index in range(9):
        for student in students:
            now = 4.0 * index
            state.add(progress(student, index, step=30), now=now)
            value = 0.3 + 0.07 * index
            state.add(epoch(student, index, val_accuracy=value, task_loss=1e5), now=now + 4)
    for student in students:
        state.add(published(student), now=36.0)
        state.add(taught(student, weights=dict.fromkeys(students, 0.5)), now=36.0)
    state.add(progress(students[0], 9, step=13, images_per_s=123456.0), now=40.0)
    state.add(waiting(students[-1], 1, missing=students[:-1], seconds=5.0), now=40.0)
    state.add(events.note(text="as long as a note can be " * 10), now=40.0)
    return state


def in_turns(students):
    """Two at a time: the last two train, one before them is lost, the first has finished."""
    state = early(students, slots=2)
    for student in students[:-2]:
        state.add(published(student), now=20.0)
        state.add(segment(student), now=20.0)
    state.add(events.finished(student=students[0]), now=30.0)
    state.add(lost(students[1 % len(students)], reason="its worker was killed " * 9), now=30.0)
    state.add(events.memory(bytes=1_200_000_000, peak_bytes=2_400_000_000), now=41.0)
    return state


def stopped(students):
    state = busy(students)
    for student in students:
        state.add(
            events.restarted(student=student, epoch=9, step=0, attempt=2, reason="x\n" * 99),
            now=41.0,
        )
    state.add(events.stopped(student=students[0], epoch=9, step=3), now=42.0)
    state.add(events.finished(student=students[-1]), now=42.0)
    return state


def picture(state, width=80, height=23, **options):
    console = recording_console(width + 60)  # so that nothing but render keeps to the width
    console.print(render(state, width=width, height=height, now=42.0, **options))
    return printed(console)


@pytest.mark.parametrize("make", [unheard, early, busy, stopped, in_turns])
@pytest.mark.parametrize("students", [["a"], PAIR, PAIR * 2, MANY, FORTY, STRANGE], ids=len)
@pytest.mark.parametrize(
    "size", [(80, 23), (120, 50), (60, 12), (40, 9), (24, 5), (12, 2), (80, 1)]
)
def test_no_line_is_wider_and_no_picture_higher_than_the_screen(make, students, size):
    names = [f"{name}{place}" for place, name in enumerate(students)]
    width, height = size
    lines = picture(make(names), width, height)
    assert max(map(cell_len, lines)) <= width
    assert 0 < len(lines) <= height


def test_two_students_have_panels_that_tell_everything():
    text = "\n".join(picture(busy(PAIR)))
    for told in (
        "md on digits 42 s so far 1:00 left run runs/longlong",
        "─ resnet18  distil 2/4 in cycle 2 ─",
        "epoch 10/24   32 %",
        "123,456 img/s",
        "59 s left",
        "loss 0.545  task 0.412  kd 0.133  training 90.0 %  lr 0.1",
        "held-out 86.0 %  best 86.0 % (epoch 9)  ▁▂▃▄▅▆▆██",
        "cycle 2: 7 s  densenet100-2 waits for resnet18 (epoch 10/24)",
        "soft labels: 51.7 kB published in cycle 1, 51.7 kB in all",
        "teacher of cycle 1: resnet18 50.0 % and densenet100-2 50.0 %",
        "as long as a note can be",
        HINT,
    ):
        assert told in text


def test_four_students_have_smaller_panels_and_sixteen_a_line_each():
    four = picture(busy([*PAIR, "vgg19", "alexnet"]))
    assert sum(line.startswith("╭") for line in four) == 4
    assert sum("▁" in line for line in four) == 4
    sixteen = picture(busy(MANY))
    assert not any(line.startswith("╭") for line in sixteen)
    assert [line.split()[0] for line in sixteen if line.startswith("resnet18")] == MANY


def test_students_that_do_not_fit_are_counted():
    lines = picture(busy(MANY), 80, 10)
    assert sum(line.startswith("resnet18-") for line in lines) == 5
    (more,) = [line for line in lines if "more" in line]
    assert more == "and 11 more students: 10 x distil, 1 x waits"


def test_of_forty_in_turns_those_that_train_are_shown_and_the_others_counted():
    lines = picture(in_turns(FORTY))
    shown = [line.split()[0] for line in lines if line.startswith("resnet18-")][:-1]
    assert shown == [*(f"resnet18-{n}" for n in range(1, 16)), "resnet18-38", "resnet18-39"]
    assert "lost" in lines[1]
    assert "waits for a slot" in lines[2]
    assert "alone 1/2" in lines[17]  # the lines before it are those of students that wait
    assert lines[18] == "and 23 more students: 22 x waits for a slot, 1 x finished"
    assert "object store: 1.2 GB, peak 2.4 GB" in lines
    assert lines[-1] == HINT


def test_students_in_turns_that_nobody_has_heard_of_wait_for_a_slot():
    text = "\n".join(picture(unheard(PAIR, slots=1)))
    assert text.count("waits for a slot") == 2


def test_unknown_numbers_are_not_shown():
    text = "\n".join(picture(unheard(PAIR)))
    assert "not started" in text
    for word in ("%", "loss", "img/s", "left", "waits", "soft labels", "epoch"):
        assert word not in text
    assert "held-out" not in "\n".join(picture(early(PAIR)))


def test_student_alone_has_one_loss():
    lines = picture(early(PAIR))
    assert any("task 0.412  training" in line for line in lines)
    assert not any("kd" in line or "loss" in line for line in lines)


def test_waiting_student_has_no_speed():
    (panel,) = [line for line in picture(busy(["a", "b"])) if "img/s" in line]
    assert "epoch 10/24" in panel


def test_hint_goes_where_there_is_nothing_to_stop():
    assert picture(busy(PAIR))[-1] == HINT
    assert HINT not in picture(busy(PAIR), hint=False)


def test_notes_give_way_to_waits():
    lines = picture(busy(PAIR), 80, 6)
    assert any("waits for" in line for line in lines)
    assert not any("as long as" in line for line in lines)


def test_long_ids_lose_their_middle_so_that_copies_differ():
    ids = ["efficientnet_v2_large_in22k", "efficientnet_v2_large_in22k-2"]
    first, second = [line.split()[0] for line in picture(busy(ids), 80, 8)[1:3]]
    assert first != second
    assert "…" in first
    assert cut("abcdefgh", width=5) == "abcd…"
    assert cut("abcdefgh", width=5, tail=2) == "ab…gh"
    assert cut("abc", width=3) == "abc"
    assert [cut("abcdefgh", width=width) for width in (1, 0)] == ["…", ""]


def test_course_goes_from_lowest_to_highest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=20) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], width=2) == "▁█"
    assert sparkline([3, 3], width=9) == "▅▅"
    assert sparkline([3], width=9) == sparkline([1, 2], width=0) == ""


def test_bytes():
    assert [num_bytes(n) for n in (0, 999, 25_860, 999_960, 5 * 10**9, 2 * 10**12)] == [
        "0 B",
        "999 B",
        "25.9 kB",
        "1.0 MB",
        "5.0 GB",
        "2.0 TB",
    ]
