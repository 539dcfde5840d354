"""Which run is begun or gone on with, and what a resume takes from it."""

from pathlib import Path

import pytest

from raymd.config import FitConfig, from_yaml
from raymd.errors import UserError
from raymd.resolve import resolve
from raymd.runs import (
    IDENTITY,
    begin,
    check_same_science,
    choose_run,
    latest_run,
    new_run_name,
    saved_settings,
)
from raymd.settings import Settings
from raymd.storage import Storage


def config(**changes: object) -> FitConfig:
    return FitConfig(**{"students": "resnet8,resnet20", "dataset": "cifar10", **changes})


def settings(**changes: object) -> Settings:
    return resolve(config(**changes), num_train=50_000, image_size=32)[0]


def begun(folder: Path, name: str, **changes: object) -> Storage:
    storage = Storage.at(folder).sub(name)
    said = config(name=name, storage=str(folder), **changes)
    begin(storage, config=said, settings=settings(**changes), fingerprint="f00d")
    return storage


def test_new_names_sort_by_time_and_differ() -> None:
    names = [new_run_name() for _ in range(20)]
    assert len(set(names)) == 20
    assert [name[:15] for name in names] == sorted(name[:15] for name in names)


def test_resume_without_a_name_takes_the_run_begun_last(tmp_path: Path) -> None:
    begun(tmp_path, "z-older")
    begun(tmp_path, "a-newer")
    (tmp_path / "not-a-run").mkdir()
    assert latest_run(Storage.at(tmp_path)) == "a-newer"
    assert choose_run(config(resume=True), Storage.at(tmp_path)) == ("a-newer", True)


def test_resume_auto_goes_on_with_what_is_unfinished_and_else_begins(tmp_path: Path) -> None:
    base = Storage.at(tmp_path)
    assert choose_run(config(resume="auto"), base)[1] is False
    assert choose_run(config(resume="auto", name="job"), base) == ("job", False)
    storage = begun(tmp_path, "job")
    assert choose_run(config(resume="auto", name="job"), base) == ("job", True)
    assert choose_run(config(resume="auto"), base) == ("job", True)
    storage.write("result.json", b"{}")
    assert choose_run(config(resume="auto", name="job"), base) == ("job", True)
    assert choose_run(config(resume="auto"), base)[1] is False


def test_resume_auto_takes_the_unfinished_runs_settings_and_no_others(tmp_path: Path) -> None:
    given = {"resume": "auto", "storage": str(tmp_path), "students": "resnet8"}
    assert saved_settings(dict(given)) == given
    begun(tmp_path, "one", t=5)
    merged = saved_settings(dict(given))
    assert (merged["t"], merged["name"], merged["students"]) == (5.0, "one", "resnet8")


def test_resume_where_there_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run in .*--storage"):
        choose_run(config(resume=True), Storage.at(tmp_path))
    begun(tmp_path, "one")
    with pytest.raises(UserError, match=r"no run 'two' .*--name"):
        choose_run(config(resume=True, name="two"), Storage.at(tmp_path))


def test_a_name_that_exists_needs_resume(tmp_path: Path) -> None:
    begun(tmp_path, "one")
    with pytest.raises(UserError, match=r"'one' exists .*--resume"):
        choose_run(config(name="one"), Storage.at(tmp_path))


def test_a_run_is_there_only_once_its_identity_is_committed(tmp_path: Path) -> None:
    storage = begun(tmp_path, "one")
    storage.delete(IDENTITY)
    assert choose_run(config(name="one"), Storage.at(tmp_path)) == ("one", False)


def test_same_science_goes_on_and_another_is_named(tmp_path: Path) -> None:
    storage = begun(tmp_path, "one")
    check_same_science(storage, settings=settings(), fingerprint="f00d")
    with pytest.raises(UserError, match=r"t: 3\.0 in the run, 4\.0 asked for \(--t\)"):
        check_same_science(storage, settings=settings(t=4), fingerprint="f00d")
    with pytest.raises(UserError, match=r"images or labels .*--data_dir.*memory.*imagenet"):
        check_same_science(storage, settings=settings(), fingerprint="beef")


def test_resume_alone_takes_the_runs_own_settings(tmp_path: Path) -> None:
    storage = begun(tmp_path, "one", t=5, seed=9)
    merged = saved_settings({"resume": "true", "storage": str(tmp_path), "verbose": "true"})
    resumed = FitConfig.from_mapping(merged)
    said = from_yaml(storage.read("config.yaml").to_pybytes().decode())
    assert (resumed.t, resumed.seed, resumed.name) == (5.0, 9, "one")
    assert resumed.students == said.students
    assert resumed.resume
    assert resumed.verbose


def test_flags_go_over_the_runs_own_settings(tmp_path: Path) -> None:
    begun(tmp_path, "one", t=5)
    merged = saved_settings({"resume": "true", "storage": str(tmp_path), "t": "6"})
    assert FitConfig.from_mapping(merged).t == 6.0


def test_options_of_one_student_leave_the_runs_options_of_another(tmp_path: Path) -> None:
    begun(tmp_path, "one", student={"resnet8": {"lr": 0.05, "ema": 0.9}, "resnet20": {"lr": 0.2}})
    over = {"resnet8": {"lr": "0.07"}}
    merged = saved_settings({"resume": "true", "storage": str(tmp_path), "student": over})
    said = {student: own.said() for student, own in FitConfig.from_mapping(merged).student.items()}
    assert said == {"resnet8": {"lr": 0.07, "ema": 0.9}, "resnet20": {"lr": 0.2}}


def test_files_beside_the_runs_are_no_runs(tmp_path: Path) -> None:
    base = Storage.at(tmp_path)
    (tmp_path / "notes.txt").write_text("not a run")
    with pytest.raises(UserError, match="no run in"):
        latest_run(base)
    begun(tmp_path, "one")
    assert latest_run(base) == "one"
    with pytest.raises(UserError, match=r"no run 'notes\.txt'"):
        choose_run(config(resume=True, name="notes.txt"), base)


def test_a_missing_run_leaves_the_settings_to_the_check_that_names_it(tmp_path: Path) -> None:
    given = {"resume": "true", "storage": str(tmp_path), "name": "none"}
    assert saved_settings(given) == given
