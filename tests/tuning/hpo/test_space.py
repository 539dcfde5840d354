"""Space files: what they may say, what is refused, and which points are checked beforehand."""

import dataclasses

import pytest

from raymd.config import FitConfig
from raymd.errors import UserError
from raymd.point import point_settings
from tuning.hpo.decide import read_checked_space
from tuning.hpo.flags import read_flags
from tuning.hpo.space import Choice, Range
from tuning.hpo.space_file import NOT_SEARCHED, load_space, read_space

FIXED = {"students": "resnet8,resnet14", "epochs": 6}


def space(search, fixed=None, **parts):
    return read_space({"search": search, "fixed": FIXED if fixed is None else fixed, **parts})


def test_choices_and_ranges_are_read():
    read = space({"t": [2, 3], "tin": {"randint": [1, 10]}, "lr": {"loguniform": ["1e-3", 0.2]}})
    assert read.search == {
        "t": Choice((2, 3)),
        "tin": Range("randint", 1, 10),
        "lr": Range("loguniform", 1e-3, 0.2),
    }
    assert not read.is_grid
    assert len(read.check()) == 1 + 1 + 2 + 2  # the first point, and one for each other probe


def test_a_grid_checks_all_its_points():
    read = space({"t": [2, 3, 4], "td": [1, 2]})
    assert read.is_grid
    assert read.num_points == 6
    assert [(c.t, c.td) for c in read.check()] == [
        (2.0, 1), (2.0, 2), (3.0, 1), (3.0, 2), (4.0, 1), (4.0, 2),
    ]  # fmt: skip


def test_lists_of_students_become_texts_that_algorithms_can_tell_apart():
    read = space({"students": [["resnet8", "resnet8"], ["resnet8", "resnet14"]]}, {})
    assert read.search["students"] == Choice(("resnet8,resnet8", "resnet8,resnet14"))
    assert [c.students for c in read.check()] == [("resnet8", "resnet8"), ("resnet8", "resnet14")]


def test_number_of_students_counts_off_the_pool_and_begins_again():
    read = space({"num_students": [1, 3]}, {}, pool=["resnet8", "resnet14"])
    assert [c.students for c in read.check()] == [("resnet8",), ("resnet8", "resnet14", "resnet8")]


def test_an_option_of_one_student_can_be_searched():
    read = space(
        {"student.resnet14.lr": [0.1, 0.2]}, {**FIXED, "student": {"resnet14": {"ema": 0.9}}}
    )
    configs = read.check()
    assert [c.options_of("resnet14")["lr"] for c in configs] == [0.1, 0.2]
    assert {c.options_of("resnet14")["ema"] for c in configs} == {0.9}
    assert "lr" not in configs[0].options_of("resnet8")


def test_searched_values_leave_the_fixed_ones_as_they_were():
    fixed = {"student": {"a": {"lr": 0.1}}}
    point_settings({"student.a.lr": 0.5}, fixed=fixed, pool=())
    assert fixed == {"student": {"a": {"lr": 0.1}}}


MISTAKES = [
    ({"temperatur": [1, 2]}, {}, ["'temperatur'", "did you mean t"]),
    ({"tinn": [1, 2]}, {}, ["'tinn'", "tin"]),
    ({"t": [0, 2]}, {}, ["point t 0", "above 0"]),
    ({"t": 3}, {}, ["'t'", "choices", "'fixed'"]),
    ({"t": []}, {}, ["'t'", "choices"]),
    ({"t": [2, 2]}, {}, ["twice"]),
    ({"t": {"unifrom": [1, 2]}}, {}, ["'unifrom'", "did you mean uniform"]),
    ({"t": {"uniform": [2, 1]}}, {}, ["the lower one first"]),
    ({"t": {"uniform": [1]}}, {}, ["takes two numbers"]),
    ({"lr": {"loguniform": [0, 1]}}, {}, ["above 0"]),
    ({"tin": {"randint": [1, 2.5]}}, {}, ["whole numbers"]),
    ({"tin": {"uniform": [1, 3]}}, {}, ["tin 1.0", "whole number"]),
    ({"t": [2, 3]}, {"t": 4}, ["searched and fixed to 4"]),
    ({"t": [2, 3]}, {"epoch": 4}, ["'epoch'", "did you mean epochs"]),
    ({"t": [2, 3]}, {"storage": "x"}, ["--storage"]),
    ({"epochs": [4, 8]}, {"epochs": None}, ["'epochs'", "--search_epochs"]),
    ({"seed": [0, 1]}, {}, ["--seeds"]),
    ({"dataset": ["digits", "mnist"]}, {}, ["same held-out images"]),
    ({"val_fraction": [0.1, 0.2]}, {}, ["same held-out images"]),
    ({"storage": ["a", "b"]}, {}, ["where and how"]),
    ({"student": ["a"]}, {}, ["student.ID.OPTION"]),
    ({"student.resnet8.t": [1, 2]}, {}, ["student.ID.OPTION"]),
    ({"student.resnet9.lr": [0.1, 0.2]}, {}, ["'resnet9'", "resnet8"]),
    ({"students": [["resnet8"], ["resnet9"]]}, {"students": None}, ["'resnet9'", "resnet8"]),
    ({"num_students": [1, 2]}, {}, ["num_students and students"]),
    ({}, {}, ["searches nothing"]),
]  # fmt: skip


@pytest.mark.parametrize(("search", "fixed", "words"), MISTAKES)
def test_a_mistake_in_a_space_is_told_with_its_remedy(search, fixed, words):
    fixed = {key: value for key, value in {**FIXED, **fixed}.items() if value is not None}
    with pytest.raises(UserError) as caught:
        space(search, fixed).check()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_pool_and_number_of_students_need_each_other():
    with pytest.raises(UserError, match="'pool' without 'num_students'"):
        space({"t": [1, 2]}, pool=["resnet8"])
    with pytest.raises(UserError, match="counts networks of 'pool"):
        space({"num_students": [1, 2]}, {})
    with pytest.raises(UserError, match="0 is no number of students"):
        space({"num_students": [0, 2]}, {}, pool=["resnet8"])


def test_unknown_parts_are_named():
    with pytest.raises(UserError, match=r"unknown part 'serach'.*did you mean search"):
        read_space({"serach": {}})


def test_epochs_are_searched_when_that_is_what_is_asked():
    read = read_space(
        {"search": {"epochs": [4, 8]}, "fixed": {"students": "resnet8"}}, search_epochs=True
    )
    assert [c.epochs for c in read.check()] == [4, 8]


def test_a_space_survives_being_written_down():
    read = space(
        {
            "t": [2.5, 3],
            "lr": {"uniform": [0.1, 0.2]},
            "tin": {"lograndint": [1, 9]},
            "ema": [None, 0.9],
        }
    )
    assert read_space(read.to_dict()) == read


def test_placed_paths_hold_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    read = space({"t": [2, 3]}, {**FIXED, "data_dir": "data", "dataset": "folder:photos"})
    fixed = read.placed().fixed
    assert fixed["data_dir"] == str(tmp_path / "data")
    assert fixed["dataset"] == f"folder:{tmp_path}/photos"
    assert fixed.keys() == read.fixed.keys()


def test_what_may_not_be_searched_are_settings_that_exist():
    assert NOT_SEARCHED.keys() <= {entry.name for entry in dataclasses.fields(FitConfig)}


@pytest.mark.parametrize("name", ["default", "imagenet", "quick"])
def test_the_spaces_that_come_along_are_right(name):
    checked, configs = read_checked_space(read_flags(["--space", f"tuning/spaces/{name}.yaml"]))
    assert len(configs) > 4
    assert "epochs" in checked.fixed


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        load_space(str(tmp_path / "nowhere.yaml"))
    path = tmp_path / "space.yaml"
    path.write_text("t: [1, 2")
    with pytest.raises(UserError, match="not valid YAML"):
        load_space(str(path))
    path.write_text("- t")
    with pytest.raises(UserError, match="search, pool, fixed"):
        load_space(str(path))
