"""What a study would cost, reckoned before anything runs.

    Study, seeds -> Cost: runs, device-hours, bytes of soft labels

Reckoned from an assumed or measured speed of each network (scales.py), which is printed beside.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from raymd.distillation.methods import get_method
from raymd.view.text import count_of, duration, num_bytes
from tuning.study.groups import Study
from tuning.study.points import Point
from tuning.study.scales import NUM_CLASSES, Scale

LABEL_BYTES = 2  # float16
FORWARD_PART = 1 / 3  # of a training step, about; publishing is one forward pass
UNKNOWN_IMAGES = 50_000


@dataclass(frozen=True)
class Cost:
    """Of a point and a seed, or of many.

    Attributes:
        runs: Runs of raymd.
        device_s: Seconds of devices, training and publishing.
        peak_bytes: Soft labels that lie in the storage at once, at most.
        written_bytes: Soft labels written in all.
    """

    runs: int
    device_s: float
    peak_bytes: int
    written_bytes: int


def num_images(point: Point, study: Study) -> int:
    """Images that a student of the point trains on, as far as can be known."""
    data = next(d for d in study.data if d.dataset == point.settings["dataset"])
    images = data.num_images(point.settings.get("subset")) or UNKNOWN_IMAGES
    return round(images * (1 - float(point.settings.get("val_fraction") or 0)))


def point_cost(point: Point, study: Study) -> Cost:
    """Of one seed."""
    settings, scale = point.settings, study.scale
    images, students = num_images(point, study), len(point.students)
    epochs = _num(settings["epochs"])
    method = get_method(settings["method"])
    cycles = 0
    if method.exchanges:
        cycles = -(-epochs // (_num(settings["tin"]) + _num(settings["td"])))
    passes = epochs + FORWARD_PART * cycles
    if method.is_cohort:  # all but one student predict anew after their update
        passes += FORWARD_PART * epochs * (students - 1) / students
    seconds = sum(images * passes / speed_of(network, scale) for network in point.students)
    classes = next(
        NUM_CLASSES.get(d.papers, 10) for d in study.data if d.dataset == settings["dataset"]
    )
    one_cycle = images * classes * LABEL_BYTES * (students + 1) if cycles else 0
    return Cost(1, seconds + scale.overhead_s, one_cycle, one_cycle * cycles)


def speed_of(network: str, scale: Scale) -> float:
    """images/s of a network; of one that has no number the slowest of the scale's."""
    return scale.images_per_s.get(network, min(scale.images_per_s.values()))


def study_cost(study: Study, *, seeds: int) -> Cost:
    """Of all points and seeds."""
    return total([point_cost(point, study) for point in study.points()] * seeds)


def total(costs: Iterable[Cost]) -> Cost:
    """Of several."""
    every = list(costs)
    return Cost(
        runs=sum(cost.runs for cost in every),
        device_s=sum(cost.device_s for cost in every),
        peak_bytes=max((cost.peak_bytes for cost in every), default=0),
        written_bytes=sum(cost.written_bytes for cost in every),
    )


def _num(value: object) -> int:
    assert isinstance(value, int)
    return value


def cost_lines(study: Study, *, seeds: int) -> list[str]:
    """What a study is expected to take, and what that is reckoned from, in lines for people."""
    cost, scale = study_cost(study, seeds=seeds), study.scale
    networks = sorted({network for point in study.points() for network in point.students})
    speeds = ", ".join(f"{network} {speed_of(network, scale):,.0f}" for network in networks)
    points = count_of(len(study.points()), "point")
    lines = [
        f"expected: {count_of(cost.runs, 'run')} ({points}, {count_of(seeds, 'seed')}),"
        f" {cost.device_s / 3600:,.1f} {scale.device}-hours",
        f"reckoned from images/s of one {scale.device}: {speeds}; {scale.speed_note}; and"
        f" {scale.overhead_s:g} s to begin and end a run",
    ]
    if cost.written_bytes:
        lines.append(
            f"soft labels: at most {num_bytes(cost.peak_bytes)} of a run at once,"
            f" {num_bytes(cost.written_bytes)} written in all"
        )
    return lines


def point_lines(study: Study) -> list[str]:
    """Every point with its settings and what one seed of it takes, a line each."""
    return [
        f"{point.slug}  {describe(point)}  {duration(point_cost(point, study).device_s)}"
        for point in study.points()
    ]


def describe(point: Point) -> str:
    """A point in words: method, networks, epochs, and what else is said of it."""
    settings = point.settings
    words = [
        f"{settings['method']} {' + '.join(point.students)} on {settings['dataset']},"
        f" {settings['epochs']} epochs of {settings['tin']}+{settings['td']}"
    ]
    told = ("method", "students", "dataset", "epochs", "tin", "td")
    words += [f"{key} {_text(value)}" for key, value in settings.items() if key not in told]
    return ", ".join(words)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
