"""The paper's tables and figures as data: which groups of runs each has, with the paper's numbers.

name, Scale, Data -> Study
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raymd.errors import UserError, unknown_name
from tuning.study import numbers as paper
from tuning.study.groups import ALONE, Group, Maker, Study
from tuning.study.numbers import PairRow, label
from tuning.study.scales import Data, Scale

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
            lines = [
                *maker.each_line(ALONE, networks, row.alone),
                *maker.each_line("md", networks, row.together),
            ]
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
            lines = [maker.mean_line(variant, pair, number) for variant, number in numbers.items()]
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
        lines = [*maker.each_line(ALONE, networks, single)]
        for t in chosen:
            numbers = [row[paper.TABLE4_T.index(t)] for row in rows]
            lines += maker.each_line(f"md t={t:g}", networks, numbers, name=f"MD, t = {t:g}")
        methods = {f"md t={t:g}": ("md", {"t": t}) for t in chosen}
        yield maker.group(networks, methods, lines)


def table5(maker: Maker) -> Groups:
    """MD with distillation phases of several lengths."""
    networks = ("alexnet", "alexnet")
    chosen = maker.scale.td or {td: td for td in paper.TABLE5_TD}
    single = paper.TABLE3["alexnet"]["cifar10"][ALONE]
    lines = [*maker.each_line(ALONE, networks, (single, single))]
    for papers, td in chosen.items():
        numbers = [row[paper.TABLE5_TD.index(papers)] for row in paper.TABLE5]
        name = f"MD, Td = {td}" + ("" if td == papers else f" (paper {papers})")
        lines += maker.each_line(f"md td={td}", networks, numbers, name=name)
    methods = {f"md td={td}": ("md", {"td": td}) for td in chosen.values()}
    yield maker.group(networks, methods, lines)


def table6(maker: Maker) -> Groups:
    """Gradual loss weights (md) beside fixed ones (fmd)."""
    return _methods(maker, paper.TABLE6)


def figure2(maker: Maker) -> Groups:
    """One network on MNIST, whose softmax is drawn at two temperatures."""
    if maker.scale.network("alexnet") is not None:
        point = maker.point("independent", ("alexnet",))
        lines = maker.each_line(ALONE, ("alexnet",), (None,))
        title = f"{maker.data.title}: {label('alexnet')}"
        yield Group(title=title, variants={ALONE: point}, lines=tuple(lines))


def figure4(maker: Maker) -> Groups:
    """Accuracy against epochs under four methods."""
    methods = {name: (name, dict[str, Any]()) for name in ("ec-dnn", "dml", "md")}
    for network in ("alexnet", "vgg19", "resnet110"):
        pair = (network, network)
        lines = [maker.mean_line(variant, pair, None) for variant in (ALONE, *methods)]
        yield maker.group(pair, methods, lines, key=(maker.data.papers, network))


def figure5(maker: Maker) -> Groups:
    """Accuracy against the number of students."""
    for network in ("alexnet", "vgg19"):
        for number in maker.scale.students:
            networks = (network,) * number
            lines = [maker.mean_line(variant, networks, None) for variant in (ALONE, "md")]
            yield maker.group(networks, {"md": ("md", {})}, lines, key=(network, number))


@dataclass(frozen=True)
class Entry:
    """A study as the command knows it.

    Attributes:
        title: For people.
        papers: The paper's data sets.
        groups: What makes its groups.
        a_curve: The smallest scale needs as many groups as it has numbers of students; of others
            it takes the first.
    """

    title: str
    papers: tuple[str, ...]
    groups: Callable[[Maker], Groups]
    a_curve: bool = False


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
    "figure5": Entry("Figure 5: number of students", ("cifar10",), figure5, a_curve=True),
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
    few = len(scale.students) if entry.a_curve else 1
    study = Study(
        name=name,
        title=entry.title,
        scale=scale,
        data=data,
        groups=tuple(groups[:few] if scale.few else groups),
        cautions=paper.CAUTIONS[name],
    )
    _check_said(study, said or {})
    return study


def _check_said(study: Study, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if any(point.settings.get(key) != value for point in study.points()):
            raise UserError(f"{study.name} varies {key} itself, so it cannot be {value} (--{key})")
