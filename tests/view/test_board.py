"""What TensorBoard finds in its folder."""

import io

import numpy as np
import pytest
from PIL import Image

from raymd.view.board import Board
from raymd.view.heat_map import STOPS, heat_map
from raymd.view.measures import flat
from raymd.view.tfevents import PATTERN, EventFile, read_events
from tests.view.examples import ONE_OF_EACH, epoch, published, result, run_finished, taught


def values(folder, student="resnet18"):
    """What the student's files hold: {(tag, step): value or image's bytes}."""
    found = {}
    for path in sorted((folder / student).glob(PATTERN)):
        for event in read_events(path):
            for value in event.summary.value:
                content = value.image.encoded_image_string or value.simple_value
                found[value.tag, event.step] = content
    return found


def files(folder):
    return sorted(folder.glob(f"*/{PATTERN}"))


def test_epoch_is_on_the_disk_at_once(tmp_path):
    Board(tmp_path).show(epoch(index=3))
    found = values(tmp_path)
    assert {tag: round(value, 4) for (tag, step), value in found.items() if step == 3} == {
        "loss/total": 0.545,
        "loss/task": 0.412,
        "loss/kd": 0.133,
        "accuracy/training": 0.9,
        "accuracy/held_out": 0.951,
        "schedule/lr": 0.1,
        "schedule/alpha": 1.0,
        "schedule/beta": 1.0,
        "speed/images_per_s": 1034.4,
        "speed/epoch_s": 4.0,
    }


def test_unknown_numbers_are_left_out(tmp_path):
    Board(tmp_path).show(epoch(index=0, val_accuracy=None))
    tags = {tag for tag, _ in values(tmp_path)}
    assert "loss/task" in tags
    assert not tags & {"loss/kd", "accuracy/held_out"}


def test_cycle_has_its_weights_waits_and_pictures(tmp_path):
    board = Board(tmp_path)
    board.show(published(cycle=2))
    board.show(taught(cycle=2))
    found = values(tmp_path)
    assert found["weights/densenet100-2", 2] == pytest.approx(0.52)
    assert found["exchange/waited_s", 2] == 1.5
    assert found["exchange/v", 2] == 0.5
    for tag in ("soft_labels/student", "soft_labels/teacher"):
        picture = np.asarray(Image.open(io.BytesIO(found[tag, 2])))
        assert picture.shape == (2 * 133, 3 * 133, 3)


def test_published_without_a_sample_has_no_picture(tmp_path):
    Board(tmp_path).show(published(sample=[]))
    assert ("soft_labels/student", 0) not in values(tmp_path)


def test_events_that_measure_nothing_write_nothing(tmp_path):
    board = Board(tmp_path)
    for event in ONE_OF_EACH:
        if event["event"] not in ("epoch", "published", "taught", "run_finished"):
            board.show(event)
    assert files(tmp_path) == []


def test_each_student_has_a_folder_of_its_own(tmp_path):
    board = Board(tmp_path)
    board.show(epoch())
    board.show(epoch("densenet100-2"))
    assert [path.parent.name for path in files(tmp_path)] == ["densenet100-2", "resnet18"]


def test_result_gives_final_accuracies_and_hyperparameters(tmp_path):
    whole = result()
    Board(tmp_path).show(run_finished(whole))
    found = values(tmp_path, "vgg19")
    assert found["final/test_last", 0] == pytest.approx(350 / 360)
    assert found["final/held_out_best", 0] == pytest.approx(130 / 144)
    assert ("_hparams_/session_start_info", 0) in found
    assert values(tmp_path, "ensemble")["final/test_best", 0] == pytest.approx(346 / 360)


def test_resume_starts_anew_from_the_history_and_keeps_what_it_lacks(tmp_path):
    board = Board(tmp_path)
    board.show(epoch(index=0))
    board.show(epoch(index=7, loss=9.0))  # trained, never committed
    board.show(published(cycle=0))
    board.show(taught(cycle=0))
    again = Board(tmp_path)
    again.rebuild([epoch(index=0), epoch(index=1)])
    again.show(epoch(index=2))
    found = values(tmp_path)
    assert [step for tag, step in sorted(found) if tag == "loss/total"] == [0, 1, 2]
    assert found["weights/resnet18", 0] == pytest.approx(0.48)
    assert ("soft_labels/teacher", 0) in found
    assert len(files(tmp_path)) == 1


def test_rebuilding_twice_changes_nothing_not_even_the_times(tmp_path):
    board = Board(tmp_path)
    board.show({**epoch(index=0), "time": 1234.5})
    board.show(taught())
    first = values(tmp_path)
    for _ in range(2):
        board.rebuild([epoch(index=0)])
    assert values(tmp_path) == first
    (path,) = files(tmp_path)
    assert 1234.5 in [event.wall_time for event in read_events(path)]


def test_file_cut_off_by_a_kill_is_read_up_to_there(tmp_path):
    board = Board(tmp_path)
    board.show(epoch(index=0))
    board.show(epoch(index=1))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    assert {step for _, step in values(tmp_path)} == {0}


def test_two_files_of_one_second_are_two_files(tmp_path):
    for step in range(3):
        file = EventFile(tmp_path / "a")
        file.add(step=step, wall_time=0.0, scalars={"x": 1.0})
        file.close()
    assert sorted(values(tmp_path, "a")) == [("x", 0), ("x", 1), ("x", 2)]


def test_heat_map_goes_from_the_darkest_to_the_brightest_colour():
    pixels = heat_map([[0.0, 0.02], [0.01, 0.0]])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (400, 400, 3)
    assert tuple(pixels[0, 0]) == tuple(STOPS[0])
    assert tuple(pixels[0, -1]) == tuple(STOPS[-1])
    assert tuple(pixels[-1, 0]) == tuple(STOPS[2])
    assert heat_map([[0.0] * 100] * 8).shape == (32, 400, 3)


def test_settings_become_one_level():
    assert flat({"t": 3.0, "students": [{"id": "a"}, {"id": "b"}]}) == {
        "t": 3.0,
        "students.0.id": "a",
        "students.1.id": "b",
    }
