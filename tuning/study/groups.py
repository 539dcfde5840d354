"""What a study is made of: groups of runs, and the lines that are printed of them.

    networks of the paper, methods, Scale, Data -> Maker -> Group -> Study

A *group* trains the same networks under several methods, always beside independent students of
equal epochs and seeds, once with the loss doubled. A *line* is one printed number: the accuracy of
one student of a point, or the mean of several, beside the paper's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuning.study.numbers import label
from tuning.study.points import Point
from tuning.study.scales import Data, Scale

ALONE, DOUBLED = "independent", "independent, doubled loss"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number of a study.

    Attributes:
        label: What it is of, for people.
        variant: The method of its group that it belongs to.
        places: Places of the students whose mean accuracy it is.
        paper: The paper's, in %; None: it has none; nan: it diverged there.
    """

    label: str
    variant: str
    places: tuple[int, ...]
    paper: float | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The same networks under several methods.

    Attributes:
        title: For people.
        variants: A point for each method, by name; ALONE and DOUBLED are among them.
        lines: What is printed of them.
        key: What figures need to know of it.
    """

    title: str
    variants: Mapping[str, Point]
    lines: tuple[Line, ...]
    key: tuple[Any, ...] = ()

    @property
    def alone(self) -> Point:
        """The independent students that all is compared with."""
        return self.variants[ALONE]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table or figure of the paper.

    Attributes:
        name, title: As the command takes it, and for people.
        scale: Its size.
        data: Our data sets beside the paper's.
        groups: Its runs and lines.
        cautions: What has to be said beside its numbers.
    """

    name: str
    title: str
    scale: Scale
    data: tuple[Data, ...]
    groups: tuple[Group, ...]
    cautions: tuple[str, ...]

    def points(self) -> tuple[Point, ...]:
        """Every point once, in order."""
        every = (point for group in self.groups for point in group.variants.values())
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True)
class Maker:
    """Makes the points and groups of a study at a scale on one data set.

    Attributes:
        scale, data: Which.
        settings: What the study changes of the scale's settings.
        said: What the user said, over those.
    """

    scale: Scale
    data: Data
    settings: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)

    def point(self, method: str, networks: Iterable[str], **varied: Any) -> Point:
        """A point of our networks for the paper's."""
        sizes = self.scale.imagenet if self.data.papers == "imagenet" else {}
        return Point(
            {
                "method": method,
                "students": tuple(self.scale.networks[name] for name in networks),
                "dataset": self.data.dataset,
                **self.scale.settings,
                **sizes,
                **self.settings,
                **self.said,
                **varied,
            }
        )

    def group(
        self,
        networks: tuple[str, ...],
        methods: Mapping[str, tuple[str, Mapping[str, Any]]],
        lines: Iterable[Line],
        *,
        key: tuple[Any, ...] = (),
    ) -> Group | None:
        """A group of these networks; None where the scale has nothing in place of one of them.

        Args:
            networks: The paper's.
            methods: (method, settings that it varies) by variant; the baselines are added.
            lines: What is printed of it.
            key: For figures.
        """
        if any(self.scale.network(name) is None for name in networks):
            return None
        variants = {ALONE: self.point("independent", networks)}
        for variant, (method, varied) in methods.items():
            variants[variant] = self.point(method, networks, **varied)
        variants[DOUBLED] = self.point("independent", networks, loss_scale=2.0)
        title = f"{self.data.title}: {self.together(networks)}"
        return Group(title=title, variants=variants, lines=tuple(lines), key=key)

    def name(self, network: str) -> str:
        """The paper's name of one of its networks, with what stands for it here."""
        ours = self.scale.network(network)
        return label(network) if ours in (None, network) else f"{ours} for {label(network)}"

    def together(self, networks: tuple[str, ...]) -> str:
        """``VGG19 + ResNet-110``, ``AlexNet x 2``."""
        if len(set(networks)) == 1 and len(networks) > 1:
            return f"{label(networks[0])} x {len(networks)}"
        return " + ".join(map(label, networks))

    def each_line(
        self,
        variant: str,
        networks: tuple[str, ...],
        papers: Iterable[float | None],
        *,
        name: str = "",
    ) -> Iterator[Line]:
        """A line for each student of a variant, with the paper's number of each."""
        for place, number in enumerate(papers):
            network = networks[place]
            same, nth = networks.count(network), networks[: place + 1].count(network)
            which = "" if same == 1 else f", {nth} of {same}"
            text = f"{name or label(variant)}: {self.name(network)}{which}"
            yield Line(label=text, variant=variant, places=(place,), paper=number)

    def mean_line(self, variant: str, networks: tuple[str, ...], number: float | None) -> Line:
        """A line for the mean of a variant's students."""
        places = tuple(range(len(networks)))
        text = f"{label(variant)}: mean of {len(networks)} {self.name(networks[0])}"
        return Line(label=text, variant=variant, places=places, paper=number)
