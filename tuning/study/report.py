"""A study and its outcomes as one document of plain values: what is printed, drawn and kept.

Study, outcomes by point and seed -> dict, as study.json holds it
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from statistics import fmean
from typing import Any

from raymd.result import Result
from raymd.run_folder import PLAN
from raymd.storage import Storage
from tuning.study import measures
from tuning.study.groups import ALONE, Group, Line, Study
from tuning.study.measures import Outcomes, by_seed, num_diverged
from tuning.study.numbers import SOURCE, label
from tuning.study.points import Outcome, Point
from tuning.study.statistics import BySeed, Summary, paired, summary

SCHEMA_VERSION = 1
NOT_COMPARABLE = (
    "At this scale networks, images and epochs are not the paper's: our numbers do not compare with"
    " its in size, and a difference here says nothing of one there."
)
FEW_SEEDS = 5


@dataclass(frozen=True)
class StudyOutcomes:
    """All outcomes of a study so far.

    Attributes:
        by_point: By seed, for each point's slug.
        seeds: Those that the study asks for.
    """

    by_point: Mapping[str, Outcomes]
    seeds: tuple[int, ...]

    def of(self, point: Point) -> Outcomes:
        """Of one point, by seed."""
        return self.by_point.get(point.slug, {})

    def results(self) -> list[Result]:
        """Of every run that finished."""
        return [o.result for o in self.every() if o.result is not None]

    def every(self) -> Iterator[Outcome]:
        """All there are."""
        for outcomes in self.by_point.values():
            yield from outcomes.values()


def document(study: Study, outcomes: StudyOutcomes) -> dict[str, Any]:
    """Everything that is to be said of a study, as JSON takes it."""
    wanted = len(study.points()) * len(outcomes.seeds)
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "title": study.title,
        "scale": study.scale.name,
        "paper": SOURCE,
        "seeds": list(outcomes.seeds),
        "runs": {"done": sum(1 for _ in outcomes.every()), "of": wanted},
        "about": about(study, outcomes),
        "cautions": cautions(study, outcomes),
        "groups": [_group(group, outcomes) for group in study.groups],
        "points": {point.slug: _plain(point) for point in study.points()},
    }


def _plain(point: Point) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in point.settings.items()}


# -- what the numbers are of ----------------------------------------------------------------


def about(study: Study, outcomes: StudyOutcomes) -> list[str]:
    """Scale, networks, data and hardware, in lines for people."""
    scale = study.scale
    lines = [f"scale {scale.name}: {scale.about}", *scale.mapping_lines()]
    lines += [f"data: {text}" for text in _distinct(map(_images, outcomes.results()))]
    epochs = _distinct(str(p.settings["epochs"]) for p in study.points())
    cycles = _distinct(f"{p.settings['tin']}+{p.settings['td']}" for p in study.points())
    lines.append(f"epochs: {', '.join(epochs)}, in cycles of {', '.join(cycles)}")
    lines.append(f"seeds: n = {len(outcomes.seeds)}")
    lines += [f"hardware: {text}" for text in _distinct(map(_machine, outcomes.every())) if text]
    return lines


def _distinct(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))


def _images(result: Result) -> str:
    name = result.dataset
    return (
        f"{name}, {result.num_train:,} to train on, {result.num_val:,} held out,"
        f" {result.num_test:,} to test"
    )


def _machine(outcome: Outcome) -> str:
    if outcome.result is None:
        return ""
    machine = outcome.result.environment
    plan = Storage.at(outcome.run).record(PLAN) or {}
    device = f", device {plan['device']}" if plan.get("device") else ""
    return f"{machine.get('cpu')}, {machine.get('cores')} cores{device}"


def cautions(study: Study, outcomes: StudyOutcomes) -> list[str]:
    """What has to be said beside the numbers."""
    own = [] if study.scale.is_papers else [NOT_COMPARABLE]
    if len(outcomes.seeds) < FEW_SEEDS:
        own.append(f"n = {len(outcomes.seeds)}: a claim needs at least {FEW_SEEDS} seeds.")
    for one in study.data:
        if one.dataset.partition(":")[0] != one.papers:
            own.append(f"{one.dataset} stands for {label(one.papers)}.")
    if any(result.num_val == 0 for result in outcomes.results()):
        own.append(
            "Nothing was held out (val_fraction 0, as the paper's setting needs): no best weights,"
            " and 'best of S' is the first student."
        )
    return [*own, *study.cautions]


# -- the numbers ----------------------------------------------------------------------------


def _group(group: Group, outcomes: StudyOutcomes) -> dict[str, Any]:
    return {
        "title": group.title,
        "key": list(group.key),
        "students": list(group.alone.students),
        "lines": [_line(line, group, outcomes) for line in group.lines],
        "equal_compute": [_equal_compute(variant, group, outcomes) for variant in group.variants],
    }


def _line(line: Line, group: Group, outcomes: StudyOutcomes) -> dict[str, Any]:
    point = group.variants[line.variant]
    of_point = outcomes.of(point)
    last = by_seed(of_point, measures.last_accuracy(point, line.places))
    baseline = by_seed(outcomes.of(group.alone), measures.last_accuracy(group.alone, line.places))
    best = by_seed(of_point, measures.best_accuracy(point, line.places))
    is_alone = line.variant == ALONE
    return {
        "label": line.label,
        "variant": line.variant,
        "point": point.slug,
        "paper": _paper(line.paper),
        "paper_difference": _paper_difference(line, group),
        "last": _numbers(last),
        "best": _numbers(best),
        "difference": None if is_alone else _summary(paired(last, baseline)),
        "diverged": num_diverged(of_point),
        "seeds": len(of_point),
    }


def _paper(number: float | None) -> float | str | None:
    """JSON has no nan."""
    return "NaN" if number is not None and isnan(number) else number


def _paper_difference(line: Line, group: Group) -> float | None:
    """The paper's own difference to its baseline, where both are numbers."""
    if line.variant == ALONE or line.paper is None or isnan(line.paper):
        return None
    same = (x for x in group.lines if x.variant == ALONE and x.places == line.places)
    baseline = next(same, None)
    if baseline is None or baseline.paper is None:
        return None
    return round(line.paper - baseline.paper, 2)


def _equal_compute(variant: str, group: Group, outcomes: StudyOutcomes) -> dict[str, Any]:
    """What the same devices give otherwise: the best and the ensemble of as many students, and the
    seconds that it took."""
    of_point, of_alone = outcomes.of(group.variants[variant]), outcomes.of(group.alone)
    best, alone_best = (by_seed(o, measures.best_of_all) for o in (of_point, of_alone))
    ensemble = by_seed(of_point, measures.ensemble_accuracy)
    alone_ensemble = by_seed(of_alone, measures.ensemble_accuracy)
    seconds, alone_seconds = (_seconds(o) for o in (of_point, of_alone))
    is_alone = variant == ALONE
    return {
        "variant": variant,
        "best_of_all": _numbers(best),
        "best_difference": None if is_alone else _summary(paired(best, alone_best)),
        "best_against_ensemble": _summary(paired(best, alone_ensemble)),
        "ensemble": _numbers(ensemble),
        "ensemble_difference": None if is_alone else _summary(paired(ensemble, alone_ensemble)),
        "device_seconds": _numbers(seconds),
        "device_seconds_ratio": None if is_alone else _ratio(seconds, alone_seconds),
    }


def _seconds(outcomes: Outcomes) -> BySeed:
    found = {seed: measures.device_seconds(outcome) for seed, outcome in outcomes.items()}
    return {seed: seconds for seed, seconds in found.items() if seconds is not None}


def _ratio(ours: BySeed, baseline: BySeed) -> float | None:
    """Median would hide one slow hour; means over the seeds that both have."""
    seeds: Sequence[int] = sorted(ours.keys() & baseline.keys())
    if not seeds:
        return None
    return fmean(ours[s] for s in seeds) / fmean(baseline[s] for s in seeds)


def _numbers(values: BySeed) -> dict[str, Any] | None:
    """A summary with the seeds' own numbers."""
    found = _summary(summary(list(values.values())))
    return None if found is None else {**found, "by_seed": {str(s): v for s, v in values.items()}}


def _summary(found: Summary | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
