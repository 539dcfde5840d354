"""The paper's tables and figures as data: groups of runs, and the lines that are printed of them.

    name, Scale, Data -> Study

A *group* trains the same networks under several methods, always beside independent students of
equal epochs and seeds, once with the loss doubled. A *line* is one printed number: the accuracy of
one student of a point, or the mean of several, beside the paper's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raymd.errors import UserError, unknown_name
from tuning import paper_numbers as paper
from tuning.paper_numbers import PairRow, label
from tuning.points import Point
from tuning.scales import Data, Scale

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
        title = f"{self.data.title}: {_together(networks)}"
        return Group(title=title, variants=variants, lines=tuple(lines), key=key)


def _together(networks: tuple[str, ...]) -> str:
    """``VGG19 + ResNet-110``, ``AlexNet x 2``."""
    if len(set(networks)) == 1 and len(networks) > 1:
        return f"{label(networks[0])} x {len(networks)}"
    return " + ".join(map(label, networks))


def _each(networks: tuple[str, ...], place: int) -> str:
    """The network at a place, numbered where it is not the only one of its kind."""
    name = label(networks[place])
    number = networks[: place + 1].count(networks[place])
    return name if networks.count(networks[place]) == 1 else f"{name}, {number} of 2"


def _lines(
    variant: str, networks: tuple[str, ...], papers: Iterable[float | None], *, name: str = ""
) -> Iterator[Line]:
    """A line for each student of a variant."""
    for place, number in enumerate(papers):
        text = f"{name or label(variant)}: {_each(networks, place)}"
        yield Line(label=text, variant=variant, places=(place,), paper=number)


def _mean_line(variant: str, networks: tuple[str, ...], number: float | None) -> Line:
    places = tuple(range(len(networks)))
    text = f"{label(variant)}: mean of {len(networks)}"
    return Line(label=text, variant=variant, places=places, paper=number)


# -- the studies ----------------------------------------------------------------------------

Groups = Iterator[Group | None]
SAME_PAPER_NUMBER = {"resnet110": "resnet164", "squeezenet1_0": "squeezenet1_1"}


def _also(networks: tuple[str, ...]) -> tuple[str, ...]:
    """The same with what the paper's name may have stood for."""
    return tuple(SAME_PAPER_NUMBER.get(name, name) for name in networks)


def _pairs(maker: Maker, rows: Iterable[PairRow]) -> Groups:
    """Tables 1 and 2."""
    for row in rows:
        uncertain = row.networks in (("resnet110", "resnet110"), ("resnet18", "squeezenet1_0"))
        for networks in (row.networks, _also(row.networks))[: 2 if uncertain else 1]:
            lines = [*_lines(ALONE, networks, row.alone), *_lines("md", networks, row.together)]
            yield maker.group(networks, {"md": ("md", {})}, lines)


def table1(maker: Maker) -> Groups:
    """Pairs of networks on CIFAR-10 and CIFAR-100."""
    return _pairs(maker, paper.TABLE1[maker.data.papers])


def table2(maker: Maker) -> Groups:
    """Pairs of networks on ImageNet."""
    return _pairs(maker, paper.TABLE2[maker.data.papers])


def _methods(maker: Maker, table: Mapping[str, Any]) -> Groups:
    """Tables 3 and 6: two of a network under several methods, the mean of the two printed."""
    for network, by_dataset in table.items():
        numbers = by_dataset[maker.data.papers]
        methods = {name: (name, dict[str, Any]()) for name in numbers if name != ALONE}
        for one in dict.fromkeys((network, *_also((network,)))):
            pair = (one, one)
            lines = [_mean_line(variant, pair, number) for variant, number in numbers.items()]
            yield maker.group(pair, methods, lines)


def table3(maker: Maker) -> Groups:
    """DML and EC-DNN beside MD."""
    return _methods(maker, paper.TABLE3)


def table4(maker: Maker) -> Groups:
    """MD at several temperatures."""
    chosen = maker.scale.t or paper.TABLE4_T
    alone = {row.networks: row.alone for row in paper.TABLE1["cifar10"]}
    for networks, rows in paper.TABLE4.items():
        single = alone.get(networks, (paper.TABLE3["alexnet"]["cifar10"][ALONE],) * 2)
        lines = [*_lines(ALONE, networks, single)]
        for t in chosen:
            numbers = [row[paper.TABLE4_T.index(t)] for row in rows]
            lines += _lines(f"md t={t:g}", networks, numbers, name=f"MD, t = {t:g}")
        methods = {f"md t={t:g}": ("md", {"t": t}) for t in chosen}
        yield maker.group(networks, methods, lines)


def table5(maker: Maker) -> Groups:
    """MD with distillation phases of several lengths."""
    networks = ("alexnet", "alexnet")
    chosen = maker.scale.td or {td: td for td in paper.TABLE5_TD}
    single = paper.TABLE3["alexnet"]["cifar10"][ALONE]
    lines = [*_lines(ALONE, networks, (single, single))]
    for papers, td in chosen.items():
        numbers = [row[paper.TABLE5_TD.index(papers)] for row in paper.TABLE5]
        name = f"MD, Td = {td}" + ("" if td == papers else f" (paper {papers})")
        lines += _lines(f"md td={td}", networks, numbers, name=name)
    methods = {f"md td={td}": ("md", {"td": td}) for td in chosen.values()}
    yield maker.group(networks, methods, lines)


def table6(maker: Maker) -> Groups:
    """Gradual loss weights (md) beside fixed ones (fmd)."""
    return _methods(maker, paper.TABLE6)


def figure2(maker: Maker) -> Groups:
    """One network on MNIST, whose softmax is drawn at two temperatures."""
    if maker.scale.network("alexnet") is not None:
        point = maker.point("independent", ("alexnet",))
        lines = _lines(ALONE, ("alexnet",), (None,))
        title = f"{maker.data.title}: {label('alexnet')}"
        yield Group(title=title, variants={ALONE: point}, lines=tuple(lines))


def figure4(maker: Maker) -> Groups:
    """Accuracy against epochs under four methods."""
    methods = {name: (name, dict[str, Any]()) for name in ("ec-dnn", "dml", "md")}
    for network in ("alexnet", "vgg19", "resnet110"):
        pair = (network, network)
        lines = [_mean_line(variant, pair, None) for variant in (ALONE, *methods)]
        yield maker.group(pair, methods, lines, key=(maker.data.papers, network))


def figure5(maker: Maker) -> Groups:
    """Accuracy against the number of students."""
    for network in ("alexnet", "vgg19"):
        for number in maker.scale.students:
            networks = (network,) * number
            lines = [_mean_line(variant, networks, None) for variant in (ALONE, "md")]
            yield maker.group(networks, {"md": ("md", {})}, lines, key=(network, number))


@dataclass(frozen=True)
class Entry:
    """A study as the command knows it: its title, the paper's data sets, what makes its groups."""

    title: str
    papers: tuple[str, ...]
    groups: Callable[[Maker], Groups]


BOTH = ("cifar10", "cifar100")
STUDIES = {
    "table1": Entry("Table 1: pairs of networks", BOTH, table1),
    "table2": Entry("Table 2: ImageNet", ("imagenet",), table2),
    "table3": Entry("Table 3: against DML and EC-DNN", BOTH, table3),
    "table4": Entry("Table 4: temperature", ("cifar10",), table4),
    "table5": Entry("Table 5: distillation epochs", ("cifar10",), table5),
    "table6": Entry("Table 6: fixed or gradual loss weights", BOTH, table6),
    "figure2": Entry("Figure 2: one digit's soft labels", ("mnist",), figure2),
    "figure4": Entry("Figure 4: accuracy against epochs", BOTH, figure4),
    "figure5": Entry("Figure 5: number of students", ("cifar10",), figure5),
}


def check_study(name: str) -> None:
    """UserError with the nearest name if there is no such study."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES, flag="python -m tuning.paper STUDY")


def build_study(
    name: str, scale: Scale, data: tuple[Data, ...], *, said: Mapping[str, Any] | None = None
) -> Study:
    """A study at a scale.

    Args:
        name: Of STUDIES.
        scale: Its size.
        data: Our data sets beside the paper's (scales.choose_data).
        said: Settings of the user's, over the scale's.

    Raises:
        UserError: no such study, or it varies a setting that the user fixed.
    """
    check_study(name)
    entry, changed = STUDIES[name], {"figure4": scale.figure4, "figure2": scale.figure2}
    groups: list[Group] = []
    for one in data:
        maker = Maker(scale, one, changed.get(name, {}), said or {})
        groups += [group for group in entry.groups(maker) if group is not None]
    study = Study(
        name=name,
        title=entry.title,
        scale=scale,
        data=data,
        groups=tuple(groups[:1] if scale.few and name != "figure5" else groups),
        cautions=paper.CAUTIONS[name],
    )
    if scale.few and name == "figure5":
        study = replace(study, groups=tuple(g for g in groups if g.key[0] == "alexnet"))
    _check_said(study, said or {})
    return study


def _check_said(study: Study, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if any(point.settings.get(key) != value for point in study.points()):
            raise UserError(f"{study.name} varies {key} itself, so it cannot be {value} (--{key})")
