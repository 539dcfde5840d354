"""What a run's gauges show, event by event; and docs/metrics.md, which lists them."""

import re
from pathlib import Path

from raymd.view import events
from raymd.view.gauges import GAUGES, Gauges
from tests.view.examples import (
    ONE_OF_EACH,
    about,
    epoch,
    lost,
    progress,
    published,
    result,
    run_finished,
    started,
    taught,
    waiting,
)

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ONE, OTHER = "resnet18", "densenet100-2"


def after(*given, now=100.0, gauges=None, end=False):
    """All readings once the events have come, the first at 100 s, the others each a second later:
    values by name, and for gauges with more tags than the run's by those too."""
    gauges = gauges or Gauges("one", about=about())
    for place, event in enumerate(given):
        gauges.take(event, now=100.0 + place)
    if end:
        gauges.end()
    found = {}
    for reading in gauges.readings(now=now):
        run, *others = reading.tags.values()
        assert run == "one"
        key = (reading.name.removeprefix("raymd_"), *others)
        assert key not in found
        found[key] = reading.value
    return found


def test_run_that_nothing_is_known_of_is_active_and_has_no_figures():
    shown = after()
    assert (shown["active",], shown["epochs",], shown["students_lost",]) == (1, 24, 0)
    assert ("object_store_bytes",) not in shown
    assert {name for name, *_ in shown} == {
        "active", "epochs", "students_lost",
        "images_per_s", "barrier_wait_s", "barrier_waited_s", "soft_label_bytes", "restarts",
    }  # fmt: skip


def test_progress_shows_where_a_student_stands():
    shown = after(started(), progress(index=3, step=10))
    assert shown["phase", ONE, "starts"] == 0
    assert shown["phase", ONE, "distillation"] == 1
    assert shown["epoch", ONE] == 3.25
    assert (shown["images_per_s", ONE], shown["train_accuracy", ONE]) == (1034.4, 0.9)
    assert (shown["loss", ONE], shown["kd_loss", ONE]) == (0.545, 0.133)
    assert ("val_accuracy", ONE) not in shown
    assert ("epoch", OTHER) not in shown


def test_only_one_phase_of_a_student_is_1():
    shown = after(started(), progress(index=1), epoch(index=1), waiting(), taught(), progress())
    now = [key for key, value in shown.items() if key[0] == "phase" and value]
    assert now == [("phase", ONE, "independent")]
    assert shown["phase", ONE, "waits"] == 0


def test_wait_grows_by_the_clock_and_is_0_once_the_teacher_is_there():
    gauges = Gauges("one", about=about())
    shown = after(waiting(seconds=12.0), now=105.0, gauges=gauges)
    assert (shown["barrier_wait_s", ONE], shown["barrier_waited_s", ONE]) == (17, 0)
    assert shown["barrier_wait_s", OTHER] == 0
    shown = after(taught(waited_s=20.0), taught(waited_s=3.0, cycle=1), now=120.0, gauges=gauges)
    assert (shown["barrier_wait_s", ONE], shown["barrier_waited_s", ONE]) == (0, 23)


def test_student_that_waits_trains_no_images():
    gauges = Gauges("one", about=about())
    assert after(progress(), gauges=gauges)["images_per_s", ONE] == 1034.4
    assert after(waiting(), gauges=gauges)["images_per_s", ONE] == 0


def test_bytes_restarts_and_losses_are_counted():
    shown = after(
        published(bytes=100),
        published(cycle=1, bytes=20),
        events.restarted(student=ONE, epoch=1, step=2, attempt=2, reason="killed"),
        events.memory(bytes=1000, peak_bytes=3000),
        lost(OTHER),
    )
    assert (shown["soft_label_bytes", ONE], shown["soft_label_bytes", OTHER]) == (120, 0)
    assert (shown["restarts", ONE], shown["object_store_bytes",]) == (2, 1000)
    assert (shown["students_lost",], shown["active",]) == (1, 1)


def test_history_gives_the_accuracy_that_a_resumed_run_had():
    gauges = Gauges("one", about=about(), history=[epoch(index=0, val_accuracy=0.7)])
    assert after(gauges=gauges)["val_accuracy", ONE] == 0.7


def test_result_gives_test_accuracies_and_the_ensemble_is_no_student():
    shown = after(run_finished(result()))
    assert shown["test_accuracy", OTHER] == 340 / 360
    assert [key for key in shown if key[0] == "test_accuracy"] == [("test_accuracy", OTHER)]


def test_run_whose_students_have_all_finished_is_not_active():
    some = after(events.finished(student=ONE))
    every = after(events.finished(student=ONE), lost(OTHER))
    assert (some["active",], every["active",]) == (1, 0)


def test_nothing_looks_as_if_it_went_on_after_the_end():
    memory = events.memory(bytes=1000, peak_bytes=3000)
    shown = after(progress(), waiting(OTHER), memory, now=200.0, end=True)
    assert (shown["active",], shown["object_store_bytes",]) == (0, 0)
    for student in (ONE, OTHER):
        assert (shown["images_per_s", student], shown["barrier_wait_s", student]) == (0, 0)
        assert shown["phase", student, "ended"] == 1
    assert shown["phase", ONE, "independent"] == 0
    assert shown["loss", ONE] == 0.545  # the last one stays true


def test_student_that_had_finished_is_finished_after_the_end_too():
    assert after(events.finished(student=ONE), end=True)["phase", ONE, "finished"] == 1


def test_every_event_is_taken_and_every_reading_is_of_a_gauge_with_its_tags():
    gauges = Gauges("one", about=about(("a", ONE, OTHER)))
    tags = {gauge.name: set(gauge.tags) for gauge in GAUGES}
    seen = set()
    for event in (progress(index=2), *ONE_OF_EACH):
        gauges.take(event, now=0.0)
        for reading in gauges.readings(now=0.0):
            assert set(reading.tags) == tags[reading.name]
            seen.add(reading.name)
    assert seen == set(tags)


def test_page_lists_every_gauge_with_its_tags():
    rows = re.findall(r"^\| `ray_(\w+)` \| ([\w, ]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert dict(rows) == {gauge.name: ", ".join(gauge.tags) for gauge in GAUGES}
