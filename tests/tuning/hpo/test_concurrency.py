"""How many points train at a time, and halving: pure numbers."""

import pytest

from raymd.config import FitConfig
from raymd.errors import UserError
from tuning.hpo.concurrency import choose_concurrency
from tuning.hpo.halving import Halving, rungs


def chosen(nodes, *, workers, points=100, most=None, **settings):
    config = FitConfig(students=("resnet8",), **settings)
    found = choose_concurrency(
        config, num_workers=workers, widest=1, nodes=nodes, num_points=points, most=most
    )
    return found.points, found.cpus_per_worker


CPUS = [{"CPU": 16.0}]
GPUS = [{"CPU": 64.0, "GPU": 8.0}]


def test_points_train_beside_each_other_before_workers_get_more_cpus():
    assert chosen(CPUS, workers=2) == (8, 1.0)
    assert chosen(CPUS, workers=3) == (5, 1.0)
    assert chosen(CPUS, workers=2, points=2) == (2, 4.0)
    assert chosen(CPUS, workers=2, most=2) == (2, 4.0)


def test_gpus_bound_points_and_cpus_are_shared_among_them():
    assert chosen(GPUS, workers=2) == (4, 8.0)
    assert chosen(GPUS, workers=2, gpus_per_worker=0.5) == (8, 4.0)
    assert chosen(GPUS, workers=3) == (2, 10.0)


def test_what_the_user_says_of_cpus_and_slots_holds():
    assert chosen(CPUS, workers=2, cpus_per_worker=4) == (2, 4.0)
    assert chosen(CPUS, workers=4, slots=2) == (8, 1.0)


def test_a_point_larger_than_the_cluster_trains_alone_in_turns():
    assert chosen([{"CPU": 2.0}], workers=6) == (1, 1.0)
    config = FitConfig(students=("resnet8",))
    found = choose_concurrency(config, num_workers=6, widest=1, nodes=[{"CPU": 2.0}], num_points=9)
    assert "take turns" in found.why


def test_rungs_begin_after_the_first_cycle_and_never_lie_at_the_end():
    assert rungs(grace=4, epochs=40) == (4, 12, 36)
    assert rungs(grace=4, epochs=36) == (4, 12)


def test_a_budget_of_one_cycle_leaves_nothing_to_halve():
    with pytest.raises(UserError, match=r"takes 6 of 6 epochs.*--epochs"):
        rungs(grace=6, epochs=6)


def test_the_best_third_goes_on():
    halving = Halving((3, 9))
    values = [0.5, 0.6, 0.4, 0.7, 0.55]
    went_on = [halving.goes_on(str(i), epochs=3, value=v) for i, v in enumerate(values)]
    # against the two-thirds quantile of those before: none, .5, .567, .533, .6
    assert went_on == [True, True, False, True, False]


def test_epochs_between_rungs_decide_nothing():
    halving = Halving((3,))
    assert halving.goes_on("a", epochs=3, value=0.9)
    assert halving.goes_on("b", epochs=2, value=0.1)
    assert halving.goes_on("b", epochs=4, value=0.1)


def test_a_point_that_was_resumed_is_not_judged_twice():
    halving = Halving((3,))
    assert halving.goes_on("a", epochs=3, value=0.2)
    assert halving.goes_on("b", epochs=3, value=0.9)
    again = Halving((3,))
    again.recall(halving.to_dict())
    assert again.goes_on("a", epochs=3, value=0.2)
    assert not again.goes_on("c", epochs=3, value=0.1)
