"""Lines as they are printed."""

import pytest

from raymd.view import events
from raymd.view.lines import Lines, next_report
from tests.view.examples import (
    ONE_OF_EACH,
    about,
    epoch,
    lost,
    printed,
    progress,
    published,
    recording_console,
    result,
    run_finished,
    run_started,
    segment,
    started,
    taught,
    waiting,
)

STUDENTS = ["resnet18", "densenet100-2"]


def lines_of(shown, *, width=120, **options):
    console = recording_console(width)
    lines = Lines(console, about=about(**options))
    for event in shown:
        lines.show(event)
    return printed(console)


def waits(seconds, **fields):
    return waiting(seconds=seconds, **fields)


def test_epoch_in_a_wide_console_tells_everything():
    (line,) = lines_of([epoch(index=6 + 4)], students=["resnet18"])
    assert line == (
        "resnet18  epoch 11/24  cycle 2 distil 3/4  task 0.412 kd 0.133"
        "  held-out 95.1 %   1,034 img/s  52 s left"
    )


def test_epoch_in_80_columns_moves_together():
    (line,) = lines_of([epoch(index=10)], students=["resnet18"], width=80)
    assert line == (
        "resnet18 11/24 distil 3/4 task 0.412 kd 0.133 held-out 95.1 % 1,034/s 52 s left"
    )


def test_epoch_in_70_columns_keeps_what_matters_most():
    (line,) = lines_of([epoch(index=10)], students=["resnet18"], width=70)
    assert line == "resnet18 11/24 task 0.412 kd 0.133 held-out 95.1 % 52 s left"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_event_of_a_long_run_takes_one_line_within_the_console(width):
    shown = [
        epoch(student, index, seconds=9000.0, task_loss=10.0**index, images_per_s=123456.0)
        for index in range(24)
        for student in STUDENTS
    ]
    lines = lines_of(shown, width=width)
    assert len(lines) == len(shown)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_columns_are_aligned_for_ids_and_epochs_of_any_length(width):
    shown = [epoch(student, index) for index in (0, 3, 11, 20) for student in STUDENTS]
    lines = lines_of(shown, width=width)
    for column in ("task", "held-out"):
        assert len({line.index(column) for line in lines}) == 1
    assert len({line.index("kd") for line in lines if "kd" in line}) == 1


def test_epoch_without_held_out_images_shows_training_accuracy():
    (line,) = lines_of([epoch(val_accuracy=None)])
    assert "training 90.0 %" in line
    assert "held-out" not in line


def test_epoch_without_teacher_shows_no_distillation_loss():
    (line,) = lines_of([epoch(index=0)])
    assert "kd" not in line
    assert "alone  1/2" in line


def test_method_without_teachers_spends_no_column_on_them():
    (line,) = lines_of([epoch(index=0)], distils=False)
    assert "task 0.412  held-out" in line


def test_unknown_phase_lengths_are_left_out():
    (line,) = lines_of([epoch(index=10)], tin=None, td=None)
    assert "distil 3 " in line


def test_resumed_run_says_where_it_goes_on():
    first, second = lines_of([started(index=16, step=39), epoch(index=16)])
    assert first.endswith("11,173,962 parameters on cpu, 1 thread, goes on at epoch 17/24, step 40")
    assert "17/24" in second
    assert second.endswith("28 s left")


def test_next_turn_of_a_student_is_no_news_and_a_setback_is():
    turn = [started(), epoch(index=0), started(index=1)]
    assert len(lines_of(turn)) == 2
    assert "goes on at epoch 1/24, step 5" in lines_of([*turn, started(index=0, step=4)])[-1]


def test_start_of_each_turn_is_told_once_in_an_attempt():
    turns = [started(), epoch(index=0), segment(), started(index=1), segment(), started(index=1)]
    assert len(lines_of(turns, slots=1)) == 2


def test_lost_student_is_told_and_counts_no_more_for_the_time_left():
    late = epoch("densenet100-2", index=0, seconds=1000.0)
    _, loss, after = lines_of([late, lost("densenet100-2"), epoch(index=22)])
    assert loss.split(None, 1)[1] == (
        "lost at epoch 9/24, step 4, the others go on without it: [worker] died"
    )
    assert after.endswith("4 s left")


def test_waiting_is_told_after_growing_intervals():
    seconds = [1, 4.9, 5, 6, 14, 15.2, 30, 59, 60.3, 119, 121, 179, 185]
    lines = lines_of([waits(s) for s in seconds])
    told = [line.rsplit(", ", 1)[1] for line in lines]
    assert told == ["5 s", "15 s", "1 min", "2 min", "3 min"]


def test_late_first_report_skips_the_intervals_gone_by():
    assert len(lines_of([waits(30.0), waits(40.0), waits(59.0)])) == 1
    assert [next_report(s) for s in (0, 5, 15, 60, 119, 120)] == [5, 15, 60, 120, 120, 180]


def test_new_wait_is_told_anew():
    assert len(lines_of([waits(20.0), waits(5.0)])) == 2
    assert len(lines_of([waits(20.0), waits(20.0, cycle=1)])) == 2


def test_waiting_names_who_is_missing_and_where_it_stands():
    (_, line) = lines_of([epoch("densenet100-2", 3), waits(12.0)])
    assert line.split(None, 1) == ["resnet18", "waits for densenet100-2 (epoch 5/24), 12 s"]
    (unheard,) = lines_of([waits(12.0)])
    assert "densenet100-2 (not started)" in unheard


def test_waiting_for_nobody_is_waiting_for_the_merge():
    (line,) = lines_of([waits(12.0, missing=())])
    assert "the teacher of cycle 1 to be merged" in line


def test_many_missing_students_are_counted():
    (line,) = lines_of([waits(12.0, missing="abcdef")])
    assert "c (not started) and 3 more, 12 s" in line


def test_common_teacher_is_told_once():
    weights = {"resnet18": 0.48, "densenet100-2": 0.52}
    (line,) = lines_of([taught(student, weights=weights) for student in STUDENTS])
    assert line.strip() == "teacher of cycle 1: resnet18 48.0 % and densenet100-2 52.0 %"


def test_teacher_of_one_student_is_told_with_the_student():
    lines = lines_of(
        [
            taught(teacher="without-resnet18", weights={"densenet100-2": 1.0}),
            taught("densenet100-2", teacher="without-densenet100-2", weights={"resnet18": 1.0}),
        ]
    )
    assert lines[0].startswith("resnet18 ")
    assert lines[1].startswith("densenet100-2 ")


def test_restart_stop_and_finish_are_told():
    lines = lines_of(
        [
            events.restarted(
                student="resnet18", epoch=7, step=11, attempt=2, reason="[worker] died"
            ),
            started(index=7, step=11),
            events.stopped(student="resnet18", epoch=8, step=0),
            events.finished(student="resnet18"),
        ]
    )
    assert [line.split(None, 1)[1] for line in lines] == [
        "restarted at epoch 8/24, step 12 (restart 2): [worker] died",
        "stopped at epoch 9/24, committed",
        "finished",
    ]


def test_publishing_progress_turns_and_memory_are_quiet():
    memory = events.memory(bytes=1, peak_bytes=2)
    shown = [published(), progress(), segment(), memory, run_started(), run_finished(result())]
    assert lines_of(shown) == []


def test_note_is_printed_as_it_is():
    assert lines_of([events.note(text="[W&B] gone: no space left on device")]) == [
        "[W&B] gone: no space left on device"
    ]


def test_several_workers_are_told():
    (line,) = lines_of([started(workers=4, threads=2)])
    assert line.endswith("on cpu, 2 threads in each of 4 workers")


def test_nine_kinds_of_event_are_worth_a_line():
    assert len(lines_of(ONE_OF_EACH)) == 9
