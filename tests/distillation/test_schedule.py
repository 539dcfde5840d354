"""The list of epochs: cycles, phases, Eq. 11's weights, learning-rate drops, barriers."""

from itertools import pairwise

import pytest

from raymd.distillation.methods import get_method
from raymd.distillation.schedule import Position, Schedule, build_schedule, drop_epochs
from raymd.errors import UserError


def schedule(
    method: str = "md", *, epochs: int = 320, tin: int = 10, td: int = 30, lr_drop: str = "exact"
) -> Schedule:
    return build_schedule(method=get_method(method), epochs=epochs, tin=tin, td=td, lr_drop=lr_drop)


def drops(plan: Schedule) -> list[int]:
    """Epochs at which the learning rate is lower than the epoch before."""
    return [b.index for a, b in pairwise(plan.epochs) if b.lr_factor < a.lr_factor]


def test_cifar_budget_is_eight_cycles_of_ten_and_thirty() -> None:
    plan = schedule()
    assert [epoch.index for epoch in plan.epochs] == list(range(320))
    assert plan.epochs[-1].cycle == 7
    for cycle in range(8):
        phases = [epoch.phase for epoch in plan.epochs if epoch.cycle == cycle]
        assert phases == ["independent"] * 10 + ["distillation"] * 30
    assert plan.barriers == tuple(range(10, 320, 40))
    assert [plan.epochs[barrier].cycle for barrier in plan.barriers] == list(range(8))


def test_imagenet_budget_is_eight_cycles_of_five_and_ten() -> None:
    plan = schedule(epochs=120, tin=5, td=10)
    assert plan.barriers == tuple(range(5, 120, 15))
    assert drops(plan) == [60, 90]
    assert plan.first_drop_inside_distillation() is None


@pytest.mark.parametrize("cycle", [0, 3, 7])
@pytest.mark.parametrize(("r", "alpha"), [(0, 1.0), (15, 0.5), (29, 1 / 30)])
def test_alpha_and_beta_restart_in_each_cycle(cycle: int, r: int, alpha: float) -> None:
    epoch = schedule().epochs[40 * cycle + 10 + r]
    assert (epoch.phase, epoch.cycle, epoch.r) == ("distillation", cycle, r)
    assert (epoch.alpha, epoch.beta) == pytest.approx((alpha, 2 - alpha), rel=1e-12)


def test_independent_epochs_weigh_the_labels_alone() -> None:
    independent = [epoch for epoch in schedule().epochs if epoch.phase == "independent"]
    assert {(epoch.alpha, epoch.beta) for epoch in independent} == {(1.0, 0.0)}
    assert [epoch.r for epoch in independent[:20]] == [*range(10), *range(10)]


def test_fmd_keeps_its_weights_fixed() -> None:
    distilling = [e for e in schedule("fmd").epochs if e.phase == "distillation"]
    assert {(epoch.alpha, epoch.beta) for epoch in distilling} == {(1.0, 2.0)}


def test_publishing_comes_before_the_first_distillation_epoch_only() -> None:
    for epoch in schedule().epochs:
        assert epoch.publishes == (epoch.phase == "distillation" and epoch.r == 0)


def test_last_cycle_may_be_cut_short() -> None:
    plan = schedule(epochs=95)
    assert len(plan.epochs) == 95
    assert plan.barriers == (10, 50, 90)
    last = plan.epochs[-1]
    assert (last.cycle, last.phase, last.r) == (2, "distillation", 4)
    assert last.alpha == pytest.approx(1 - 4 / 30, rel=1e-12)  # td is the setting, not what is left


@pytest.mark.parametrize("epochs", [1, 9, 10])
def test_budget_that_ends_inside_the_first_tin_publishes_nothing(epochs: int) -> None:
    plan = schedule(epochs=epochs)
    assert len(plan.epochs) == epochs
    assert plan.barriers == ()
    assert {epoch.phase for epoch in plan.epochs} == {"independent"}


def test_budget_that_ends_inside_a_later_tin_publishes_nothing_more() -> None:
    assert schedule(epochs=50).barriers == (10,)
    assert schedule(epochs=51).barriers == (10, 50)


def test_a_barrier_is_the_position_before_a_cycles_first_distillation_step() -> None:
    plan = schedule(epochs=50)
    barrier = plan.barrier_at(Position(10))
    assert barrier == plan.epochs[10]
    others = [Position(0), Position(9), Position(10, 1), Position(11), plan.end]
    assert [plan.barrier_at(position) for position in others] == [None] * 5


@pytest.mark.parametrize("lr_drop", ["exact", "cycle"])
def test_learning_rate_drops_at_half_and_three_quarters(lr_drop: str) -> None:
    plan = schedule(lr_drop=lr_drop)
    assert drops(plan) == [160, 240]
    factors = [plan.epochs[index].lr_factor for index in (0, 159, 160, 239, 240, 319)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_exact_drops_follow_the_budget_and_cycle_drops_the_next_boundary() -> None:
    assert drop_epochs(epochs=120, cycle_epochs=40, lr_drop="exact") == (60, 90)
    assert drop_epochs(epochs=120, cycle_epochs=40, lr_drop="cycle") == (80, 120)
    assert drop_epochs(epochs=7, cycle_epochs=3, lr_drop="exact") == (4, 6)
    assert drops(schedule(epochs=200, lr_drop="cycle")) == [120, 160]


def test_two_drops_moved_to_one_boundary_both_count() -> None:
    plan = schedule(epochs=100, tin=20, td=60, lr_drop="cycle")
    assert drops(plan) == [80]
    assert plan.epochs[80].lr_factor == pytest.approx(0.01, rel=1e-12)


def test_independent_equals_md_but_for_the_distillation_epochs() -> None:
    md, alone = schedule("md", epochs=130), schedule("independent", epochs=130)
    assert alone.barriers == ()
    assert len(alone.epochs) == len(md.epochs)
    for own, other in zip(alone.epochs, md.epochs, strict=True):
        assert (own.index, own.cycle, own.lr_factor) == (other.index, other.cycle, other.lr_factor)
        assert own.phase == "independent"
        assert (own == other) == (other.phase == "independent")


@pytest.mark.parametrize(
    ("plan", "inside"),
    [
        (schedule(), None),  # 160 and 240 are cycle boundaries
        (schedule(epochs=60, tin=5, td=15), 30),  # cycles of 20: r = 5 of the second
        (schedule(epochs=60, tin=5, td=15, lr_drop="cycle"), None),  # moved to 40 and 60
        (schedule(epochs=90), 68),  # 45 is in an independent phase, 68 is not
    ],
    ids=["on boundaries", "first", "moved away", "second"],
)
def test_first_drop_inside_distillation_is_named(plan: Schedule, inside: int | None) -> None:
    assert plan.first_drop_inside_distillation() == inside


def test_a_drop_at_the_barrier_counts_for_its_teacher_was_made_before_it() -> None:
    plan = schedule(epochs=100)
    assert (drops(plan)[0], plan.barriers[1]) == (50, 50)
    assert plan.first_drop_inside_distillation() == 50


def test_independent_method_has_no_drop_inside_distillation() -> None:
    plan = schedule("independent", epochs=60, tin=5, td=15)
    assert drops(plan) == [30, 45]
    assert plan.first_drop_inside_distillation() is None


def test_positions_are_ordered_and_the_end_lies_behind_all() -> None:
    plan = schedule(epochs=12)
    assert plan.start == Position(0, 0)
    assert plan.end == Position(12, 0)
    assert plan.start < Position(0, 1) < Position(1, 0) < Position(11, 10**6) < plan.end


def test_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="did you mean md"):
        schedule("mdd")
