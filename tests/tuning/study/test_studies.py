"""Studies as data: what is in them, that every point can be run, and what they cost."""

from pathlib import Path

import pytest

from raymd.distillation.methods import METHODS
from raymd.errors import UserError
from raymd.storage import Storage
from tuning.study import numbers as paper
from tuning.study.costs import cost_lines, point_cost, study_cost
from tuning.study.groups import ALONE, DOUBLED
from tuning.study.points import Point, config_of
from tuning.study.scales import FULL, SCALES, SMALL, SMOKE, Data, check_has_data, choose_data
from tuning.study.studies import STUDIES, build_study

EVERY = [(name, scale) for name in STUDIES for scale in SCALES.values()]


def study_of(name, scale, *, said=None, dataset=None, stands_for=None):
    papers = STUDIES[name].papers
    data = choose_data(scale, papers, dataset=dataset, stands_for=stands_for)
    return build_study(name, scale, data, said=said)


@pytest.mark.parametrize(("name", "scale"), EVERY, ids=lambda x: getattr(x, "name", x))
def test_every_point_of_every_scale_is_a_run_that_raymd_takes(name, scale):
    study = study_of(name, scale)
    assert study.groups
    for point in study.points():
        assert point.settings["method"] in METHODS
        config = config_of(point, 3, base=Storage.at("runs"))
        assert (config.seed, config.name, config.resume) == (3, "seed-3", "auto")
        assert config.students == point.students
        assert config.storage.endswith(f"points/{point.slug}")


@pytest.mark.parametrize(("name", "scale"), EVERY, ids=lambda x: getattr(x, "name", x))
def test_every_group_has_independent_students_of_equal_epochs_and_networks(name, scale):
    for group in study_of(name, scale).groups:
        assert group.alone.settings["method"] == "independent"
        if name != "figure2":
            doubled = group.variants[DOUBLED].settings
            assert doubled == {**group.alone.settings, "loss_scale": 2.0}
        for point in group.variants.values():
            assert point.students == group.alone.students
            for key in ("epochs", "dataset", "val_fraction"):
                assert point.settings[key] == group.alone.settings[key]
        for line in group.lines:
            assert max(line.places) < len(group.variants[line.variant].students)


def papers_of(study):
    return [
        line.paper for group in study.groups for line in group.lines if line.variant != ALONE
    ]  # fmt: skip


def test_full_scale_has_every_number_of_the_paper():
    table1 = study_of("table1", FULL)
    together = [n for table in paper.TABLE1.values() for row in table for n in row.together]
    assert set(papers_of(table1)) == set(together)
    assert len(table1.groups) == 2 * (6 + 1)  # and resnet164 x 2
    assert len(papers_of(study_of("table4", FULL))) == 4 * 8
    assert papers_of(study_of("table5", FULL)) == [
        n for both in zip(*paper.TABLE5, strict=True) for n in both
    ]
    assert len(study_of("figure4", FULL).groups) == 6
    assert [g.key for g in study_of("figure5", FULL).groups] == [
        (network, n) for network in ("alexnet", "vgg19") for n in (2, 3, 4, 5)
    ]


def test_full_scale_is_the_papers_setting():
    (point, *_) = study_of("table1", FULL).points()
    expected = {"tin": 10, "td": 30, "epochs": 320, "t": 3.0, "val_fraction": 0.0}
    assert expected.items() <= point.settings.items()
    (point, *_) = study_of("table2", FULL).points()
    assert {"tin": 5, "td": 10, "epochs": 120}.items() <= point.settings.items()
    (point, *_) = study_of("figure4", FULL).points()
    assert {"epochs": 360, "val_fraction": 0.05}.items() <= point.settings.items()


def test_methods_of_tables_3_and_6():
    names = [point.settings["method"] for point in study_of("table3", FULL).points()[:5]]
    assert names == ["independent", "dml", "ec-dnn", "md", "independent"]
    names = [point.settings["method"] for point in study_of("table6", FULL).points()[:4]]
    assert names == ["independent", "fmd", "md", "independent"]


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_tables_share_their_points(scale):
    alone = {study_of(name, scale).groups[0].alone for name in ("table5", "table6", "table3")}
    assert len(alone) == 1


def test_learning_rate_drops_fall_on_cycle_boundaries():
    for scale in SCALES.values():
        settings = scale.settings
        cycle = settings["tin"] + settings["td"]
        drops = (settings["epochs"] / 2, settings["epochs"] * 3 / 4)
        # smoke has two cycles, so its second drop cannot
        assert all(drop % cycle == 0 for drop in drops[: 1 if scale is SMOKE else 2])


def test_own_data_stands_for_what_its_name_says_or_for_the_first():
    assert choose_data(SMALL, ("cifar10", "cifar100"), dataset=None, stands_for=None) == (
        Data("cifar10", "cifar10"),
    )
    for dataset, stands_for, papers in [
        ("cifar100", None, "cifar100"),
        ("parquet:/x", None, "cifar10"),
        ("parquet:/x", "cifar100", "cifar100"),
    ]:
        found = choose_data(
            FULL, ("cifar10", "cifar100"), dataset=dataset, stands_for=stands_for
        )  # fmt: skip
        assert found == (Data(papers, dataset),)
    with pytest.raises(UserError, match=r"cifar100.*--stands_for"):
        choose_data(FULL, ("cifar10", "cifar100"), dataset=None, stands_for="cifar1000")


def test_imagenet_has_to_be_named_before_it_is_run():
    data = choose_data(FULL, ("imagenet",), dataset=None, stands_for=None)
    with pytest.raises(UserError, match=r"--dataset folder:DIR.*--dry_run"):
        check_has_data(data)
    check_has_data(choose_data(FULL, ("imagenet",), dataset="folder:/x", stands_for=None))


def test_what_a_study_varies_cannot_be_fixed():
    with pytest.raises(UserError, match=r"table4 varies t itself.*--t"):
        study_of("table4", SMOKE, said={"t": 4.0})
    study = study_of("table1", SMOKE, said={"t": 4.0, "epochs": 8})
    assert {point.settings["t"] for point in study.points()} == {4.0}
    assert {point.settings["epochs"] for point in study.points()} == {8}


def test_unknown_study_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean table4"):
        build_study("tabel4", SMOKE, ())


def test_slug_follows_from_what_decides_the_weights_alone():
    one = Point({"method": "md", "students": ("a", "b"), "dataset": "digits", "t": 3.0})
    elsewhere = {"device": "cuda", "data_dir": "/x", "data_cache": "z", "storage": "y"}
    assert one.slug == one.with_settings(**elsewhere).slug
    assert one.slug == Point(dict(reversed(one.settings.items()))).slug
    assert one.slug != one.with_settings(t=4.0).slug
    assert one.slug != one.with_settings(students=("b", "a")).slug
    odd = one.with_settings(students=("timm:convnext_atto",), dataset="parquet:/a b/c")
    assert Path(odd.slug).name == odd.slug
    assert ":" not in odd.slug


def test_cost_is_images_times_epochs_over_speed():
    study = study_of("table5", FULL)
    alone, md = study.groups[0].alone, study.groups[0].variants["md td=30"]
    epochs_s = 2 * 50_000 * 320 / FULL.images_per_s["alexnet"]
    assert point_cost(alone, study).device_s == pytest.approx(epochs_s + FULL.overhead_s)
    assert point_cost(alone, study).written_bytes == 0
    # 8 cycles, each a forward pass of a third of a step, float16 rows of 10 classes, two students
    # and their teacher
    publishing_s = 2 * 50_000 * (8 / 3) / FULL.images_per_s["alexnet"]
    assert point_cost(md, study).device_s == pytest.approx(
        epochs_s + publishing_s + FULL.overhead_s
    )
    assert point_cost(md, study).peak_bytes == 50_000 * 10 * 2 * 3
    assert point_cost(md, study).written_bytes == 8 * 50_000 * 10 * 2 * 3


def test_cost_of_a_study_is_that_of_its_points_and_seeds_and_says_what_it_assumes():
    study = study_of("table1", FULL)
    one, five = study_cost(study, seeds=1), study_cost(study, seeds=5)
    assert five.runs == 5 * len(study.points()) == 5 * one.runs
    assert five.device_s == pytest.approx(5 * one.device_s)
    text = "\n".join(cost_lines(study, seeds=5))
    assert "GPU-hours" in text
    assert "assumed, measured by nobody here" in text
    assert "densenet100 1,200" in text
