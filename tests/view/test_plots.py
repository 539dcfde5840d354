"""What the run's figure holds."""

import pytest

from raymd.result import EnsembleResult
from raymd.view.plots import distillation_phases, plot
from tests.view.examples import epoch, published, result, scores, student

IDS = ("densenet100-2", "vgg19")


def history(**changes):
    return [epoch(student, index, **changes) for index in range(12) for student in IDS]


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_every_student_has_accuracy_and_both_losses():
    found = traces(plot(result(), history()))
    assert set(found) == {
        *(f"{i}{what}" for i in IDS for what in ("", " task loss", " kd loss")),
        "ensemble, last weights (held-out images)",
    }
    line = found["vgg19"]
    assert list(line.x) == list(range(1, 13))
    assert list(line.y) == [0.951] * 12
    assert line.line.color == found["vgg19 kd loss"].line.color
    assert line.line.color != found["densenet100-2"].line.color


def test_distillation_loss_has_gaps_where_there_was_no_teacher():
    y = traces(plot(result(), history()))["vgg19 kd loss"].y
    assert list(y) == [None, None, 0.133, 0.133, 0.133, 0.133] * 2


def test_phases_with_a_teacher_are_shaded_in_both_plots():
    shapes = plot(result(), history()).layout.shapes
    assert sorted({(shape.x0, shape.x1) for shape in shapes}) == [(2.5, 6.5), (8.5, 12.5)]
    assert {shape.xref for shape in shapes} == {"x", "x2"}


@pytest.mark.parametrize(
    ("indices", "phases"),
    [([], []), ([0, 1], []), ([2], [(2, 2)]), ([4, 5, 8, 9], [(4, 5), (8, 9)])],
)
def test_phases_are_stretches_within_a_cycle(indices, phases):
    assert distillation_phases([epoch(index=index) for index in indices]) == phases


def test_phases_of_adjoining_cycles_stay_apart():
    events = [epoch(index=i, phase="distillation", cycle=i // 2) for i in range(4)]
    assert distillation_phases(events) == [(0, 1), (2, 3)]


def test_ensemble_is_a_line_across_all_epochs():
    line = traces(plot(result(), history()))["ensemble, last weights (held-out images)"]
    assert list(line.x) == [1, 24]
    assert list(line.y) == [141 / 144] * 2


def test_without_held_out_images_curves_are_of_training_and_the_ensemble_of_test_images():
    ensemble = EnsembleResult(
        members=("vgg19",), weights=(1.0,), last=scores(3, None), best=scores(3, None)
    )
    whole = result(
        students=(student("vgg19", val=None),), ensemble=ensemble, best_student="vgg19", num_val=0
    )
    figure = plot(whole, history(val_accuracy=None))
    found = traces(figure)
    assert list(found["vgg19"].y) == [0.9] * 12
    assert list(found["ensemble, last weights (test images)"].y) == [3 / 360] * 2
    assert figure.layout.yaxis.title.text == "training accuracy"


def test_method_without_teachers_has_one_loss_and_no_shade():
    alone = [epoch("vgg19", 6 * cycle) for cycle in range(4)]
    figure = plot(result(method="independent"), [*alone, published()])
    assert "vgg19 kd loss" not in traces(figure)
    assert figure.layout.shapes == ()


def test_order_of_the_history_does_not_matter():
    assert plot(result(), history()[::-1]).data[0].x == plot(result(), history()).data[0].x
