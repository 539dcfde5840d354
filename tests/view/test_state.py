"""What a run's events amount to."""

import pytest

from raymd.view import events
from raymd.view.state import RunState
from tests.view.examples import (
    ONE_OF_EACH,
    about,
    epoch,
    lost,
    progress,
    published,
    result,
    run_finished,
    run_started,
    segment,
    started,
    taught,
    waiting,
)

STUDENTS = ["resnet18", "densenet100-2"]


def state_of(*told, **options):
    """The state after events that came one second apart."""
    state = RunState.of(about(**options))
    for now, event in enumerate(told):
        state.add(event, now=float(now))
    return state


def student_after(*told, **options):
    return state_of(*told, **options).students["resnet18"]


def test_nothing_is_known_before_the_first_event():
    student = student_after()
    told = {name: value for name, value in vars(student).items() if value not in (None, {})}
    assert told == {"id": "resnet18"}
    assert student.part is student.best_epoch is student.val_accuracy is None
    assert state_of().time_left.seconds() is None


@pytest.mark.parametrize(
    ("event", "doing"),
    [
        (started(), "starts"),
        (progress(index=1), "independent"),
        (progress(index=2), "distillation"),
        (epoch(index=0), "independent"),
        (epoch(index=1), "publishing"),
        (epoch(index=2), "distillation"),
        (epoch(index=23), "finishing"),
        (published(), "published"),
        (waiting(), "waits"),
        (taught(), "distillation"),
        (events.restarted(student="resnet18", epoch=3, step=0, attempt=1, reason=""), "restarted"),
        (events.stopped(student="resnet18", epoch=3, step=0), "stopped"),
        (events.finished(student="resnet18"), "finished"),
        (lost(), "lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["event"],
)
def test_each_event_says_what_a_student_does(event, doing):
    assert student_after(event).doing == doing


def test_student_without_teachers_never_publishes():
    assert student_after(epoch(index=1), distils=False).doing == "independent"


def test_student_whose_turn_has_ended_waits_for_a_slot_until_the_next_begins():
    finished = events.finished(student="resnet18")
    assert student_after(published(), segment(), slots=1).doing == "queued"
    assert student_after(published(), segment(), started(), slots=1).doing == "starts"
    assert student_after(finished, segment(), slots=1).doing == "finished"
    assert student_after(published(), segment()).doing == "published"  # it keeps its slot


def test_lost_student_stays_lost_whatever_still_comes_of_it():
    state = state_of(epoch(), epoch("densenet100-2", seconds=1.0), lost(), progress(index=8))
    assert state.students["resnet18"].doing == "lost"
    assert state.time_left.seconds() == 23 * 1.0
    assert list(state.notes) == ["resnet18 is lost: [worker] died"]


def test_finished_student_has_nothing_left_though_nothing_else_was_heard_of_it():
    state = state_of(events.finished(student="densenet100-2"), epoch(index=22), slots=1)
    assert state.time_left.seconds() == 4.0


def test_memory_is_that_now_and_the_peak_of_all_attempts():
    peaks = [(5, 9), (3, 4)]
    state = state_of(*(events.memory(bytes=now, peak_bytes=peak) for now, peak in peaks))
    assert (state.object_store_bytes, state.peak_bytes) == (3, 9)


def test_every_kind_of_event_is_taken_in():
    state = state_of(*ONE_OF_EACH)
    assert state.run == "runs/[one]"
    assert state.finished
    assert "a" not in state.students


def test_progress_tells_how_much_of_the_epoch_is_done_and_the_end_all_of_it():
    assert student_after(progress(step=10)).part == 0.25
    assert student_after(progress(step=10), epoch()).part == 1
    assert student_after(epoch()).part is None


def test_first_epoch_under_way_gives_the_time_left():
    state = state_of(progress(step=10), progress(step=20))
    assert state.students["resnet18"].epoch_seconds == 4.0  # ten of forty steps a second
    assert state.time_left.seconds() == 4.0 * 23.5


def test_best_is_the_first_epoch_of_the_highest_held_out_accuracy():
    values = [0.2, 0.7, 0.7, 0.5]
    student = student_after(*(epoch(index=i, val_accuracy=v) for i, v in enumerate(values)))
    assert (student.best_epoch, student.val_accuracy) == (1, 0.5)


def test_epoch_trained_again_after_a_restart_replaces_the_first():
    student = student_after(epoch(val_accuracy=0.9), epoch(val_accuracy=0.4))
    assert list(student.val_accuracies.values()) == [0.4]


def test_without_held_out_images_the_past_is_that_of_training_and_there_is_no_best():
    student = student_after(epoch(val_accuracy=None))
    assert student.accuracies == {0: 0.9}
    assert student.best_epoch is None


def test_history_of_earlier_attempts_is_past_and_not_present():
    state = state_of()
    state.recall([epoch(val_accuracy=0.8), epoch("other")])
    student = state.students["resnet18"]
    assert student.val_accuracies == {0: 0.8}
    assert student.doing is student.epoch is None


def test_students_that_wait_for_the_same_are_one_wait_since_the_first_began():
    state = state_of()
    state.add(waiting("resnet18", missing=["x"], seconds=5.0), now=20.0)
    state.add(waiting("densenet100-2", missing=["x"], seconds=1.0), now=20.0)
    ((wait, who),) = state.waits
    assert (wait.since, who) == (15.0, STUDENTS)


@pytest.mark.parametrize("event", [taught(), progress(), started(), epoch()])
def test_wait_ends_with_the_next_thing_a_student_does(event):
    assert state_of(waiting(), event).waits == []


def test_bytes_are_counted_by_cycle():
    state = state_of(published(bytes=10), published("densenet100-2", bytes=5), published(cycle=1))
    assert state.published_bytes == {0: 15, 1: 25_860}


def test_notes_are_the_last_three_and_a_teacher_is_one_note():
    state = state_of(*(events.note(text=f"{n}\nlines") for n in range(3)), taught())
    state.add(taught("densenet100-2"), now=5.0)
    assert list(state.notes) == [
        "1 lines",
        "2 lines",
        "teacher of cycle 1: resnet18 48.0 % and densenet100-2 52.0 %",
    ]


def test_run_is_described_by_its_start_and_ends_with_its_result():
    state = state_of(run_started(), run_finished(result()))
    assert (state.method, state.dataset, state.finished) == ("md", "digits", True)
