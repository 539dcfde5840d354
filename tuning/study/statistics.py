"""Means over seeds and paired differences.

A point's numbers by seed enter, what can be said of them leaves. Seeds are paired: under each
method a seed gives the same first weights and the same order of images, so the difference is taken
seed by seed before it is averaged.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Summary:
    """Numbers of several seeds.

    Attributes:
        n: How many.
        mean: Of them.
        sd: Standard deviation of one seed (n - 1 in the denominator); None for one seed.
        interval: 95 % interval of the mean (Student's t); None for one seed.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None


def summary(values: Sequence[float]) -> Summary | None:
    """Mean, standard deviation and interval of numbers of several seeds; None of none."""
    if not values:
        return None
    mean, n = fmean(values), len(values)
    if n == 1:
        return Summary(1, mean, None, None)
    sd = stdev(values)
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(n, mean, sd, (mean - half, mean + half))


def t_quantile(degrees: int) -> float:
    """Student's t that 95 % lie within, of so many degrees of freedom."""
    from scipy.stats import t  # scikit-learn brings it along; it takes a while to import

    return float(t.ppf((1 + CONFIDENCE) / 2, degrees))


def differences(ours: BySeed, baseline: BySeed) -> dict[int, float]:
    """Ours minus the baseline, for the seeds that both have."""
    return {seed: ours[seed] - baseline[seed] for seed in sorted(ours.keys() & baseline.keys())}


def paired(ours: BySeed, baseline: BySeed) -> Summary | None:
    """The paired difference; None where no seed has both."""
    return summary(list(differences(ours, baseline).values()))
